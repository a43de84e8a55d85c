package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine/enginetest"
)

// The containers of a pod share one containerd shim, and nothing is lost by that: not
// when its leader, the sandbox, is removed first, not when the engine or its containerd
// is killed. Where the shim itself is killed, the pod has ended and says so.
func TestSharedShim(t *testing.T) {
	const containers, rounds = 3, 3
	n := newNodeOn(t, enginetest.StartDaemon(t, enginetest.Engine28, "--live-restore"), userConf())
	n.importShell(t)
	for round := range rounds {
		name := fmt.Sprint("leader-", round)
		s, ids := n.runWorkload(t, name, containers)
		if got := shims(t, append(ids, s.id)...); len(got) != 1 {
			t.Fatalf("%d shims for a sandbox and %d containers, want 1", len(got), containers)
		}
		n.engine.Kill(t)
		n.engine.Start(t)
		n.waitRuntimeReady(t, true)
		n.docker(t, "rm", "-f", s.id) // the leader, behind our back
		n.engine.Kill(t)
		n.engine.Start(t)
		n.waitRuntimeReady(t, true)
		for _, id := range ids {
			n.docker(t, "exec", id, "true") // it is alive
			n.crictl(t, "stop", id)
			n.crictl(t, "rm", id)
		}
		within(t, "no shim is left", func() bool { return len(shims(t, append(ids, s.id)...)) == 0 })

		s, ids = n.runWorkload(t, fmt.Sprint("shim-", round), containers)
		for _, pid := range shims(t, append(ids, s.id)...) {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
		for _, id := range ids {
			within(t, "the container has ended", func() bool {
				return n.look(t, id).status.GetState() == cri.ContainerState_CONTAINER_EXITED
			})
		}
		within(t, "the sandbox has ended", func() bool {
			return n.inspect(t, s.id).status.GetState() == cri.PodSandboxState_SANDBOX_NOTREADY
		})
		n.removePod(t, s.id)
		if got := n.docker(t, "ps", "-aq"); got != "" {
			t.Errorf("left behind: %s", got)
		}
	}
	n.wantWhole(t, 0)
}

func TestShimOfItsOwn(t *testing.T) {
	n := newNode(t, enginetest.Engine28, userConf(), "--shared-shims=false")
	n.importShell(t)
	s, ids := n.runWorkload(t, "web", 2)
	if got := shims(t, append(ids, s.id)...); len(got) != 3 {
		t.Errorf("%d shims for a sandbox and 2 containers, want 3", len(got))
	}
	n.removePod(t, s.id)
	n.wantWhole(t, 0)
}

// shims returns the pids of the containerd shims that were started for one of ids.
func shims(t *testing.T, ids ...string) (pids []int) {
	t.Helper()
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range processes {
		text, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(text), "containerd-shim") {
			continue
		}
		for _, id := range ids {
			if strings.Contains(string(text), id) {
				pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
				if err != nil {
					t.Fatal(err)
				}
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// runWorkload runs a pod with containers that do nothing, and returns their ids.
func (n *node) runWorkload(t *testing.T, name string, containers int) (sandbox, []string) {
	t.Helper()
	s := n.runPod(t, config(name))
	var ids []string
	for i := range containers {
		id := n.newShell(t, s.id, nil, fmt.Sprint("c", i), "sleep 1000")
		n.startContainer(t, id)
		ids = append(ids, id)
	}
	return s, ids
}

// within waits for what happens by itself.
func within(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}
