package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine/enginetest"
	"github.com/mascri/mascri/internal/golden"
	"github.com/mascri/mascri/test/critest"
)

// What Kubernetes' own suite for container runtimes says: all of it on a recent engine,
// and what it calls conformance on the oldest one.
func TestCritest(t *testing.T) {
	digest := critest.Serve(t)
	var results []string
	bothEngines(t, func(t *testing.T, version enginetest.Version) {
		focus, report := "", "junit.xml"
		if version != enginetest.Engine28 {
			focus, report = `\[Conformance\]`, fmt.Sprintf("junit-%s.xml", version)
		}
		n := newNode(t, version, map[string]string{"10-dual.conf": dualStackConf})
		specs := critest.Run{
			Binary: repo(t, "bin/critest"), Endpoint: "unix://" + n.socket, Digest: digest,
			Focus: focus, JUnit: filepath.Join(filepath.Dir(repo(t, "go.mod")), "out/critest", report),
		}.Specs(t)
		result := critest.Judge(t, specs)
		for _, fault := range result.Faults {
			t.Error(fault)
		}
		golden.CompareBy(t, fmt.Sprintf("critest-%s.txt", version), result.Table, critest.Diff)
		n.wantWhole(t, 0)
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
		for network, want := range map[cri.NamespaceMode]bool{cri.NamespaceMode_POD: false, cri.NamespaceMode_NODE: true} {
			options := &cri.NamespaceOption{Network: network}
			pod := config(strings.ToLower(network.String()))
			pod.LogDirectory = t.TempDir()
			pod.Linux = &cri.LinuxPodSandboxConfig{SecurityContext: &cri.LinuxSandboxSecurityContext{NamespaceOptions: options}}
			log := n.logOf(t, pod, &cri.ContainerConfig{
				Metadata: &cri.ContainerMetadata{Name: "netstat"},
				Image:    &cri.ImageSpec{Image: "registry.k8s.io/e2e-test-images/busybox:1.29-2"},
				Command:  []string{"sh", "-c", "netstat -ln; echo that is all"},
				LogPath:  "log",
				Linux:    &cri.LinuxContainerConfig{SecurityContext: &cri.LinuxContainerSecurityContext{NamespaceOptions: options}},
			}, "that is all")
			if strings.Contains(log, port) != want {
				t.Errorf("network %v: netstat shows the host's port %s: %t, want %t\n%s", network, port, !want, want, log)
			}
		}
	})
}

// logOf runs a pod with a container and returns the container's log once last is in it.
func (n *node) logOf(t *testing.T, pod *cri.PodSandboxConfig, container *cri.ContainerConfig, last string) (log string) {
	t.Helper()
	sandbox := n.runPod(t, pod)
	defer n.removePod(t, sandbox.id)
	if _, err := n.image.PullImage(t.Context(), &cri.PullImageRequest{Image: container.GetImage()}); err != nil {
		t.Fatal(err)
	}
	created, err := n.cri.CreateContainer(t.Context(), &cri.CreateContainerRequest{PodSandboxId: sandbox.id, Config: container, SandboxConfig: pod})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.cri.StartContainer(t.Context(), &cri.StartContainerRequest{ContainerId: created.GetContainerId()}); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		text, err := os.ReadFile(filepath.Join(pod.GetLogDirectory(), container.GetLogPath()))
		if err != nil {
			t.Fatal(err)
		}
		if log = string(text); strings.Contains(log, last) {
			return log
		}
	}
	t.Fatalf("the log does not come to %q:\n%s", last, log)
	return ""
}
