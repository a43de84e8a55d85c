package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine/enginetest"
	"github.com/mascri/mascri/internal/golden"
	"github.com/mascri/mascri/test/critest"
)

// outputLost is in an engine's log after it lost what a container wrote: a container that
// ends at once may be deleted before the engine's end of its pipe is open, on a busy
// machine. No specs but those are run twice.
const outputLost = "reading from a closed fifo"

// What Kubernetes' own suite for container runtimes says: all of it on a recent engine,
// and what it calls conformance on the oldest one.
func TestCritest(t *testing.T) {
	digest := critest.Serve(t)
	reports := filepath.Join(filepath.Dir(repo(t, "go.mod")), "out/critest")
	if err := os.RemoveAll(reports); err != nil { // none of an earlier run is taken for this one's
		t.Fatal(err)
	}
	var results []string
	bothEngines(t, func(t *testing.T, version enginetest.Version) {
		focus, report := "", "junit.xml"
		if version != enginetest.Engine28 {
			focus, report = `\[Conformance\]`, fmt.Sprintf("junit-%s.xml", version)
		}
		n := newNode(t, version, map[string]string{"10-dual.conf": dualStackConf})
		suite := critest.Run{
			Binary: repo(t, "bin/critest"), Endpoint: "unix://" + n.socket, Digest: digest,
			Focus: focus, JUnit: filepath.Join(reports, report),
		}
		specs := suite.Specs(t)
		result := critest.Judge(t, specs)
		if len(result.Faults) > 0 && n.engine.Logged(t, outputLost) {
			t.Logf("once more, as the engine lost output: %s", strings.Join(result.Faults, "\n"))
			result = critest.Judge(t, suite.Again(t, specs))
		}
		for _, fault := range result.Faults {
			t.Error(fault)
		}
		golden.CompareBy(t, fmt.Sprintf("critest-%s.txt", version), result.Table, critest.Diff)
		n.wantWhole(t, 0)
		n.terminate(t) // the race detector tells of what it found by the exit code
		results = append(results, fmt.Sprintf("engine %s: %v", version, result))
	})
	fmt.Println("critest:", strings.Join(results, "; ")) // for test/all.sh
}

// critest's spec of a pod off the host network reads the container's log at once, and
// passes as long as there is nothing in it. This waits for all of the log.
func TestPodSeesNoPortsOfTheHost(t *testing.T) {
	critest.Serve(t)
	listener, err := net.Listen("tcp4", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	port := fmt.Sprintf(":%d ", listener.Addr().(*net.TCPAddr).Port)
	bothEngines(t, func(t *testing.T, version enginetest.Version) {
		n := newNode(t, version, userConf())
		busybox := &cri.ImageSpec{Image: "registry.k8s.io/e2e-test-images/busybox:1.29-2"}
		if _, err := n.image.PullImage(t.Context(), &cri.PullImageRequest{Image: busybox}); err != nil {
			t.Fatal(err)
		}
		for network, want := range map[cri.NamespaceMode]bool{cri.NamespaceMode_POD: false, cri.NamespaceMode_NODE: true} {
			options := &cri.NamespaceOption{Network: network}
			pod := config(strings.ToLower(network.String()))
			pod.LogDirectory = t.TempDir()
			pod.Linux = &cri.LinuxPodSandboxConfig{SecurityContext: &cri.LinuxSandboxSecurityContext{NamespaceOptions: options}}
			sandbox := n.runPod(t, pod)
			log := n.runContainer(t, &cri.CreateContainerRequest{PodSandboxId: sandbox.id, SandboxConfig: pod, Config: &cri.ContainerConfig{
				Metadata: &cri.ContainerMetadata{Name: "netstat"}, Image: busybox, LogPath: "log", Command: []string{"netstat", "-ln"},
				Linux: &cri.LinuxContainerConfig{SecurityContext: &cri.LinuxContainerSecurityContext{NamespaceOptions: options}},
			}}).output(t)
			if strings.Contains(log, port) != want {
				t.Errorf("network %v: netstat shows the host's port %s: %t, want %t\n%s", network, port, !want, want, log)
			}
			n.removePod(t, sandbox.id)
		}
	})
}
