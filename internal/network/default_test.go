package network

import (
	"errors"
	"os/exec"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

// userBridge is a network on another bridge than that of the default one.
func (n *node) userBridge(subnet string) string {
	n.t.Cleanup(func() { _ = exec.Command("ip", "link", "delete", "cni1").Run() })
	return strings.NewReplacer("podnet", "mynet", "cni0", "cni1", "10.88.0.0/16", subnet).Replace(n.bridge())
}

// A user's network may have the subnet of the default one. The two are never on the
// node at once.
func TestANetworkThatOverlapsTheDefaultOne(t *testing.T) {
	n := newNode(t)
	def := &fakeDefault{text: n.bridge()}
	n.cfg.Default = def
	n.start()
	old := n.attach(n.sandbox("old"))
	n.write("10-user.conflist", n.userBridge("10.88.128.0/20"))

	for _, when := range []string{"at once", "after a restart"} {
		_, err := n.Attach(t.Context(), n.sandbox("new"))
		for _, text := range []string{`network "mynet"`, "10-user.conflist", "10.88.128.0/20", "10.88.0.0/16", "embedded default network", "default/pod-old", "remove"} {
			if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), text) {
				t.Errorf("%s: error is %v, want one that says %q", when, err, text)
			}
			if status := n.Status(); status.Ready || status.Reason != "NetworksOverlap" || !strings.Contains(status.Message, text) {
				t.Errorf("%s: status is %+v, want one that says %q", when, status, text)
			}
		}
		if all := n.Attachments(); len(all) != 1 {
			t.Errorf("%s: attached are %v", when, all)
		}
		n.start()
		n.look(t.Context())
	}
	n.detach(old.SandboxID)
	if status := n.Status(); !status.Ready || def.removed != 0 {
		t.Errorf("status is %+v, removed %d times", status, def.removed)
	}
	a := n.attach(n.sandbox("new"))
	if a.Network != "mynet" || def.removed != 1 {
		t.Errorf("attachment is %+v, the default network was removed %d times", a, def.removed)
	}
	n.detach(a.SandboxID)
	n.nothingLeft()
}

func TestANetworkBesideTheDefaultOne(t *testing.T) {
	n := newNode(t)
	def := &fakeDefault{text: n.bridge()}
	n.cfg.Default = def
	n.start()
	old := n.attach(n.sandbox("old"))
	n.write("10-user.conflist", n.userBridge("10.99.0.0/16"))
	a := n.attach(n.sandbox("new"))
	if a.Network != "mynet" || !n.Status().Ready || def.removed != 0 {
		t.Errorf("attachment is %+v, status %+v, removed %d times", a, n.Status(), def.removed)
	}
	n.detach(a.SandboxID)
	n.detach(old.SandboxID)
	n.nothingLeft()
}

// Off, it is there for those that are on it still, and then goes.
func TestTheDefaultNetworkTurnedOff(t *testing.T) {
	n := newNode(t)
	def := &fakeDefault{text: n.bridge()}
	n.cfg.Default = def
	n.start()
	old := n.attach(n.sandbox("old"))
	n.cfg.DefaultOff = true
	n.start()
	before := def.ensured
	if n.Reassert(t.Context()); def.ensured == before || def.removed != 0 {
		t.Errorf("with a sandbox on it: asserted %d times, removed %d times", def.ensured-before, def.removed)
	}
	_, err := n.Attach(t.Context(), n.sandbox("new"))
	if status := n.Status(); !errdefs.IsFailedPrecondition(err) || status.Ready || status.Reason != "NoNetworkConfig" {
		t.Errorf("error is %v, status %+v", err, status)
	}
	n.detach(old.SandboxID)
	def.err = errors.New("boom")
	for range 2 {
		n.Reassert(t.Context())
	}
	if told := strings.Count(n.log.String(), "can't be removed"); told != 1 || def.removed != 2 {
		t.Errorf("removal that fails: tried %d times, told %d times", def.removed, told)
	}
	def.err = nil
	if n.Reassert(t.Context()); def.removed != 3 {
		t.Errorf("removed %d times", def.removed)
	}
	n.nothingLeft()
}

// A sandbox that is about to go onto the default network meets its end.
func TestTheDefaultNetworkGoesMeanwhile(t *testing.T) {
	n := newNode(t)
	n.cfg.Default = &fakeDefault{text: n.bridge()}
	n.cfg.Step = func(name string) {
		if name == "pin" {
			n.write("10-user.conflist", goodList)
			n.look(t.Context())
		}
	}
	n.start()
	_, err := n.Attach(t.Context(), n.sandbox("a"))
	if !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "try again") {
		t.Errorf("error is %v", err)
	}
	n.nothingLeft()
}
