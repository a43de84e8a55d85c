package firewall

import (
	"context"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mascri/mascri/internal/network/firewall/netlab"
)

func TestMasqueradeNFT(t *testing.T) {
	if !netlab.Isolate(t) {
		return
	}
	m := NewMasquerade("mascri_1a2b3c4d")
	// Handles show that a rule is the same one as before.
	testMasquerade(t, m.Ensure, m.Remove, "nft -a list ruleset", "nft flush ruleset",
		"nft flush chain ip mascri_1a2b3c4d postrouting; nft add rule ip6 mascri_1a2b3c4d postrouting drop")
}

func TestMasqueradeLegacy(t *testing.T) {
	if !netlab.Isolate(t) {
		return
	}
	m := NewMasquerade("mascri_1a2b3c4d")
	ensure := func(ctx context.Context, subnets []netip.Prefix) error {
		for _, s := range subnets {
			if err := m.ensureLegacy(ctx, s); err != nil {
				return err
			}
		}
		return nil
	}
	testMasquerade(t, ensure, m.removeLegacy, "iptables-legacy -t nat -S; ip6tables-legacy -t nat -S",
		"iptables-legacy -t nat -F; ip6tables-legacy -t nat -F",
		"iptables-legacy -t nat -D POSTROUTING 1; ip6tables-legacy -t nat -D POSTROUTING 1")
}

func testMasquerade(t *testing.T, ensure func(context.Context, []netip.Prefix) error, remove func(context.Context) error, list string, harms ...string) {
	w := newWorld(t)
	before := netlab.Run(t, list)
	for _, to := range []string{"192.0.2.2", "2001:db8::2"} {
		if seen, err := w.a.Dial(to, port, shortWait); err == nil {
			t.Fatalf("without masquerade %s answered, it saw %s", to, seen)
		}
	}
	if err := ensure(t.Context(), podSubnets); err != nil {
		t.Fatalf("Ensure: %v", err)
	}
	wantSources(t, w)
	placed := netlab.Run(t, list)
	t.Logf("rules:\n%s", placed)
	if err := ensure(t.Context(), podSubnets); err != nil {
		t.Errorf("second Ensure: %v", err)
	}
	if diff := cmp.Diff(placed, netlab.Run(t, list)); diff != "" {
		t.Errorf("Ensure changed rules that were in place (-placed +now):\n%s", diff)
	}
	for _, harm := range harms {
		netlab.Run(t, harm)
		if netlab.Run(t, list) == placed {
			t.Fatalf("%q changed nothing", harm)
		}
		if err := ensure(t.Context(), podSubnets); err != nil {
			t.Errorf("Ensure after %q: %v", harm, err)
		}
		wantSources(t, w)
	}
	for range 2 {
		if err := remove(t.Context()); err != nil {
			t.Errorf("Remove: %v", err)
		}
		if diff := cmp.Diff(before, netlab.Run(t, list)); diff != "" {
			t.Errorf("after Remove (-before Ensure +now):\n%s", diff)
		}
	}
}

// wantSources checks whom the servers see: the host outside, the pod itself inside.
func wantSources(t *testing.T, w world) {
	t.Helper()
	for _, test := range []struct{ to, want string }{
		{"192.0.2.2", "192.0.2.1"},
		{"2001:db8::2", "2001:db8::1"},
		{"10.88.0.3", "10.88.0.2"},
		{"fd00:88::3", "fd00:88::2"},
	} {
		if seen, err := w.a.Dial(test.to, port, wait); err != nil || seen != test.want {
			t.Errorf("%s sees %q (%v), want %s", test.to, seen, err, test.want)
		}
	}
}
