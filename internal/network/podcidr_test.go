package network

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

// A pod that is attached before the kubelet told the pod CIDR would get no address, and
// host-local could not even be asked to give it back.
func TestNoPodIsAttachedBeforeThePodCIDR(t *testing.T) {
	n := newNode(t)
	own := n.bridge()
	awaiting := strings.Replace(strings.Replace(own, `"subnet": "10.88.0.0/16", `, "", 1), `"isGateway"`, `"capabilities": {"ipRanges": true}, "isGateway"`, 1)
	n.write("10-bridge.conflist", awaiting)
	n.start()
	if status := n.Status(); status.Ready || status.Reason != "NoPodCIDR" || !strings.Contains(status.Message, "--allocate-node-cidrs") {
		t.Errorf("before: %+v", status)
	}
	req := n.sandbox("a")
	if _, err := n.Attach(t.Context(), req); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "pod CIDR") {
		t.Errorf("attach: %v", err)
	}
	n.nothingLeft()
	if dirty := len(n.Status().Dirty); dirty != 0 {
		t.Errorf("%d are to be cleaned up", dirty)
	}

	n.write("10-bridge.conflist", strings.Replace(own, `"isGateway"`, `"capabilities": {"ipRanges": true}, "isGateway"`, 1))
	if n.look(t.Context()); !n.Status().Ready {
		t.Errorf("with a range of its own: %+v", n.Status())
	}

	n.write("10-bridge.conflist", awaiting)
	n.look(t.Context())
	if err := n.SetPodCIDRs([]netip.Prefix{netip.MustParsePrefix("10.99.0.0/24")}); err != nil {
		t.Fatal(err)
	}
	if status := n.Status(); !status.Ready {
		t.Errorf("after: %+v", status)
	}
	if a := n.attach(req); !netip.MustParsePrefix("10.99.0.0/24").Contains(a.IPs[0]) {
		t.Errorf("attached: %+v", a)
	}
	n.detach(req.SandboxID)
	n.nothingLeft()
}
