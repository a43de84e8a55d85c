package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine/enginetest"
)

// Commands whose client lost them by a kill -9 of the daemon are ended when it is back, with
// their descendants. Those of others, and the container's own, go on.
func TestCommandsEndAfterTheDaemonWasKilled(t *testing.T) {
	bothEngines(t, func(t *testing.T, version enginetest.Version) {
		b := newStreams(t, version)
		c := b.runContainer(t, b.request("box", ""))
		b.docker(t, "exec", "-d", c.id, "sleep", "2000")
		within(t, "two processes run", func() bool { return c.commands(t) == "sleep 1000 \nsleep 2000 " })
		before := c.commands(t)
		for _, timeout := range []int64{0, 600} {
			go func() {
				_, _ = b.cri.ExecSync(t.Context(), &cri.ExecSyncRequest{ContainerId: c.id, Cmd: []string{"sh", "-c", "sleep 301 & sleep 302; true"}, Timeout: timeout})
			}()
		}
		b.webSocketExec(t, &cri.ExecRequest{ContainerId: c.id, Cmd: []string{"sleep", "303"}, Stdout: true, Stdin: true})
		b.stream(t, "exec", "-i", c.id, "sleep", "304")
		running := func(seconds string) bool { return strings.Contains(c.commands(t), "sleep "+seconds+" ") }
		within(t, "the commands run", func() bool { return running("301") && running("302") && running("303") && running("304") })
		b.kill(t)
		if !running("301") || !running("302") {
			t.Fatal("nothing runs after the kill: this test shows nothing")
		}
		b.start(t)
		within(t, "only what others started runs", func() bool { return c.commands(t) == before })
		within(t, "no notes are left", func() bool {
			left, err := filepath.Glob(filepath.Join(b.state, "execs", "*"))
			return err == nil && len(left) == 0
		})
		resp, err := b.cri.ExecSync(t.Context(), &cri.ExecSyncRequest{ContainerId: c.id, Cmd: []string{"echo", "x"}, Timeout: 20})
		if err != nil || string(resp.GetStdout()) != "x\n" {
			t.Errorf("%v, %v", resp, err)
		}
		if left := files(t, filepath.Join(b.state, "execs")); len(left) > 0 {
			t.Errorf("notes of commands that ended: %q", left)
		}
	})
}
