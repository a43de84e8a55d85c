package e2e

import (
	"strings"
	"testing"

	"github.com/mascri/mascri/internal/engine/enginetest"
	"github.com/mascri/mascri/test/chaos"
)

// The walk of every run of the tests finds bugs of the kind that it is for. They are put
// into builds of their own, and are in no source file.
func TestChaosFindsSeededBugs(t *testing.T) {
	seed, _ := chaosSettings(t)
	for name, bug := range map[string]edit{
		"DEL by today's config": {"internal/network/detach.go",
			"	// After a reboot the namespace is gone",
			"	if net := n.snap.Load().chosen; net != nil {\n\t\tlist = net.list\n\t}\n	// After a reboot the namespace is gone"},
		"no pin": {"internal/network/attach.go",
			"	*rec = complete\n",
			"	*rec = complete\n	if err := unpin(rec.NetnsPath); err != nil {\n\t\treturn err\n\t}\n"},
		"undo skipped": {"internal/network/attach.go",
			"n.undo(context.WithoutCancel(ctx), n.dels, rec, hasEnded)",
			"n.leave(rec)"},
	} {
		t.Run(name, func(t *testing.T) {
			binary := buildWith(t, append(clockEdits(t), bug)...)
			c, wrong := walk(t, binary, enginetest.Engine28, seed, chaos.UsualSteps)
			if wrong == "" {
				t.Fatalf("not found within %d steps", chaos.UsualSteps)
			}
			t.Logf("found: %s", wrong)
			c.kill(t)
			for _, id := range strings.Fields(c.docker(t, "ps", "-aq")) {
				c.docker(t, "rm", "-f", id)
			}
			sweepNode(t)
		})
	}
}
