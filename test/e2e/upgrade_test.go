package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine/enginetest"
)

// previousSkip is how many commits of the main line the previous build lies back where no
// version is tagged.
const previousSkip = "30"

// previousBuild builds the last version that was tagged before this one, from its own
// sources.
func previousBuild(t *testing.T) string {
	t.Helper()
	git := func(args ...string) (string, error) {
		out, err := exec.CommandContext(t.Context(), "git", append([]string{"-c", "safe.directory=*", "-C", repo(t, ".")}, args...)...).Output()
		return strings.TrimSpace(string(out)), err
	}
	revision, err := git("describe", "--tags", "--abbrev=0", "--match", "v*", "HEAD^")
	if err != nil {
		revision, err = git("rev-list", "--first-parent", "--max-count=1", "--skip="+previousSkip, "HEAD")
	}
	if err != nil || revision == "" {
		t.Skip("there is no history of sources here to build an earlier version from")
	}
	dir := filepath.Join(t.TempDir(), "previous")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, "sh", "-c", "git -c safe.directory='*' -C "+repo(t, ".")+" archive "+revision+" | tar -x -C "+dir)
	run(t, "cp", "-r", repo(t, "internal/sandboximage/rootfs"), dir+"/internal/sandboximage/")
	binary := filepath.Join(dir, "mascri")
	run(t, "sh", "-c", "cd "+dir+" && CGO_ENABLED=0 go build -buildvcs=false -trimpath -o "+binary+" ./cmd/mascri")
	return binary
}

// node as pods see it.
type life struct {
	Pid   int
	IPs   []string
	State string
}

func (n *node) lives(t *testing.T, pods []sandbox, containers []string) (all []life) {
	t.Helper()
	for _, p := range pods {
		s := n.inspect(t, p.id)
		l := life{Pid: s.pid(t), State: s.status.GetState().String()}
		for _, ip := range s.ips {
			l.IPs = append(l.IPs, ip.String())
		}
		all = append(all, l)
	}
	for _, id := range containers {
		c := n.look(t, id)
		all = append(all, life{Pid: c.pid(t), State: c.status.GetState().String()})
	}
	return all
}

// Pods and their containers neither notice an upgrade nor a downgrade, and each version
// removes what the other has made.
func TestUpgradeAndDowngradeWithPodsRunning(t *testing.T) {
	previous, current := previousBuild(t), daemonBinary(t)
	n := idleNode(t, enginetest.StartDaemon(t, enginetest.Engine28), userConf())
	n.importShell(t)
	become := func(binary string) {
		t.Helper()
		n.terminate(t)
		n.binary = binary
		n.start(t)
	}

	n.binary = previous
	n.start(t)
	old, oldContainers := n.runWorkload(t, "old", 1)
	other := n.runPod(t, config("other"))
	want := n.lives(t, []sandbox{old, other}, oldContainers)

	become(current)
	if diff := cmp.Diff(want, n.lives(t, []sandbox{old, other}, oldContainers)); diff != "" {
		t.Errorf("after the upgrade (-want +got):\n%s", diff)
	}
	n.removePod(t, other.id)
	fresh, freshContainers := n.runWorkload(t, "fresh", 1)
	pods, containers := []sandbox{old, fresh}, append(oldContainers, freshContainers...)
	want = n.lives(t, pods, containers)
	n.wantWhole(t, 2)

	become(previous)
	if diff := cmp.Diff(want, n.lives(t, pods, containers)); diff != "" {
		t.Errorf("after the downgrade (-want +got):\n%s", diff)
	}
	n.removePod(t, fresh.id)

	become(current)
	want = append(want[:1:1], want[2])
	if diff := cmp.Diff(want, n.lives(t, []sandbox{old}, oldContainers)); diff != "" {
		t.Errorf("after the second upgrade (-want +got):\n%s", diff)
	}
	n.removePod(t, old.id)
	n.wantWhole(t, 0)
}

// A downgrade below what wrote the state is refused, whichever file tells; the pods run on, and
// nothing of the state is lost.
func TestStateOfANewerVersionIsRefused(t *testing.T) {
	n := newNode(t, enginetest.Engine28, nil)
	b := newBench(t, n)
	c := b.runContainer(t, b.request("box", "echo line; exec sleep 1000"))
	if _, err := n.cri.UpdateContainerResources(t.Context(), &cri.UpdateContainerResourcesRequest{ContainerId: c.id, Linux: &cri.LinuxContainerResources{OomScoreAdj: 500}}); err != nil {
		t.Fatal(err)
	}
	within(t, "the line is in the log", func() bool {
		text, err := os.ReadFile(c.status.GetLogPath())
		return err == nil && strings.Contains(string(text), "line")
	})
	want := n.lives(t, []sandbox{b.pod}, []string{c.id})
	n.terminate(t)
	// As a kubelet's would; a node on the default network has none.
	runtime := filepath.Join(n.state, "runtime.json")
	if err := os.WriteFile(runtime, []byte(`{"version":1,"podCIDRs":null}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"attachments/" + b.pod.id + ".json", "runtime.json", "default-network.json", "updates/" + c.id + ".json", "logs/" + c.id} {
		file := filepath.Join(n.state, name)
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		newer := strings.Replace(string(text), `"version":1`, `"version":2`, 1)
		if newer == string(text) {
			t.Fatalf("no version in %s: %s", name, text)
		}
		if err := os.WriteFile(file, []byte(newer), 0o600); err != nil {
			t.Fatal(err)
		}
		out := n.wantNoDaemon(t, nil, "--state-dir", n.state, "--socket", n.socket)
		if !strings.Contains(out, file+": version 2, this build knows version 1: written by a newer mascri") {
			t.Errorf("it says %q", out)
		}
		if left, err := os.ReadFile(file); err != nil || string(left) != newer {
			t.Errorf("%s: %q, %v", name, left, err)
		}
		if err := os.WriteFile(file, text, 0o600); err != nil { // as by the newer one
			t.Fatal(err)
		}
	}
	n.start(t)
	if diff := cmp.Diff(want, n.lives(t, []sandbox{b.pod}, []string{c.id})); diff != "" {
		t.Errorf("the pod (-want +got):\n%s", diff)
	}
	if got := n.look(t, c.id).status.GetResources().GetLinux().GetOomScoreAdj(); got != 500 {
		t.Errorf("its oom_score_adj is %d", got)
	}
	n.removePod(t, b.pod.id)
	n.wantWhole(t, 0)
}
