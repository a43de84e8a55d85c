package e2e

import (
	"testing"

	"github.com/mascri/mascri/internal/engine/enginetest"
	"github.com/mascri/mascri/test/chaos"
)

// The walk of every run of the tests finds bugs of the kind that it is for. They are put
// into builds of their own, and are in no source file.
func TestChaosFindsSeededBugs(t *testing.T) {
	for name, bug := range map[string]edit{
		"DEL by today's config": {"internal/network/detach.go",
			"	// After a reboot the namespace is gone",
			"	if net := n.snap.Load().chosen; net != nil {\n\t\tlist = net.list\n\t}\n	// After a reboot the namespace is gone"},
		"no pin": {"internal/network/pin.go",
			`err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", ns.Fd()), path, "none", unix.MS_BIND, "")`,
			`err := error(nil)`},
		"undo skipped": {"internal/network/attach.go",
			"n.undo(context.WithoutCancel(ctx), n.dels, rec, hasEnded)",
			"n.leave(rec)"},
	} {
		t.Run(name, func(t *testing.T) {
			binary := buildWith(t, append(clockEdits(t), bug)...)
			c, wrong := walk(t, binary, enginetest.Engine28, chaos.UsualSeed, chaos.UsualSteps)
			if wrong == "" {
				t.Fatalf("not found within %d steps", chaos.UsualSteps)
			}
			t.Logf("found: %s", wrong)
			c.kill(t)
			sweepNode(t)
		})
	}
}
