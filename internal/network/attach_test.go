package network

import (
	"net/netip"
	"os/exec"
	"strings"
	"testing"
)

func TestAttachAndDetach(t *testing.T) {
	n := newNode(t)
	n.write("10-bridge.conflist", n.bridge())
	n.start()
	req := n.sandbox("a")

	a := n.attach(req)

	if want := []netip.Addr{netip.MustParseAddr("10.88.0.2")}; len(a.IPs) != 1 || a.IPs[0] != want[0] {
		t.Errorf("IPs are %v, want %v", a.IPs, want)
	}
	out, err := exec.Command("ip", "netns", "exec", strings.TrimPrefix(a.NetnsPath, "/run/netns/"), "ip", "addr").CombinedOutput()
	t.Logf("%s %v", out, err)
	n.detach(req.SandboxID)
	n.nothingLeft(req.SandboxID)
}
