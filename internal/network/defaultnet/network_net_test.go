package defaultnet

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mascri/mascri/internal/network/firewall/netlab"
)

const masqueradeName = "mascri_1a2b3c4d"

// newNetwork returns a Network with its log. pools are the engine's.
func newNetwork(file string, pools ...string) (*Network, *bytes.Buffer) {
	var log bytes.Buffer
	return New(Options{
		StateFile:   file,
		EnginePools: func(context.Context) ([]netip.Prefix, error) { return prefixes(pools...), nil },
		Masquerade:  masqueradeName,
		Logger:      slog.New(slog.NewTextHandler(&log, nil)),
	}), &log
}

func chosen(t *testing.T, n *Network) []netip.Prefix {
	t.Helper()
	if _, err := n.Conflist(t.Context()); err != nil {
		t.Fatalf("Conflist: %v", err)
	}
	return n.Subnets()
}

func TestChoiceOnAHost(t *testing.T) {
	if !netlab.Isolate(t) {
		return
	}
	tests := []struct {
		name  string
		setup string
		pools []string
		want  string
	}{
		{"an idle host", ":", nil, "10.88.0.0/16"},
		{"an address on another interface", "ip addr add 10.88.9.1/24 dev d0", nil, "10.89.0.0/16"},
		{"an address on an interface that is down", "ip link set d0 down; ip addr add 10.88.9.1/24 dev d0", nil, "10.89.0.0/16"},
		{"a route", "ip route add 10.88.128.0/17 dev d0", nil, "10.89.0.0/16"},
		{"a route in a table of its own", "ip route add 10.88.128.0/17 dev d0 table 77", nil, "10.89.0.0/16"},
		{"a route that leads nowhere", "ip route add blackhole 10.88.7.0/24", nil, "10.89.0.0/16"},
		{"default routes, whole and in halves", "ip route add default dev d0; ip route add 0.0.0.0/1 dev d0", nil, "10.88.0.0/16"},
		{"the engine's pools", ":", []string{"10.88.0.0/14"}, "10.92.0.0/16"},
		{"our own bridge with the preferred subnet", "ip link add mascri0 type bridge; ip addr add 10.88.0.1/16 dev mascri0; ip link set mascri0 up", nil, "10.88.0.0/16"},
		{"our own bridge with another subnet", "ip link add mascri0 type bridge; ip addr add 10.99.16.1/20 dev mascri0; ip link set mascri0 up", nil, "10.99.16.0/20"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			netlab.Run(t, "ip link add d0 type veth peer name d1; ip link set d1 up; ip link set d0 up\n"+test.setup)
			defer netlab.Run(t, "ip link del d0; ip link del mascri0 2>/dev/null || true; ip route flush table all type blackhole")
			n, _ := newNetwork(filepath.Join(t.TempDir(), "state"), test.pools...)
			if got := chosen(t, n); len(got) != 2 || got[0].String() != test.want || !validIPv6(got[1]) {
				t.Errorf("chose %v, want %s and a unique local /64", got, test.want)
			}
		})
	}
}

func TestChoiceIsKept(t *testing.T) {
	if !netlab.Isolate(t) {
		return
	}
	file := filepath.Join(t.TempDir(), "state")
	n, _ := newNetwork(file, "10.88.0.0/16")
	first := chosen(t, n)
	if first[0].String() != "10.89.0.0/16" {
		t.Fatalf("chose %v", first)
	}
	n, _ = newNetwork(file)
	if got := chosen(t, n); !cmp.Equal(got, first, cmp.Comparer(samePrefix)) {
		t.Errorf("after a restart, with the preferred subnet free: %v, want %v", got, first)
	}

	if err := n.Ensure(t.Context()); err != nil {
		t.Fatalf("Ensure: %v", err)
	}
	netlab.Run(t, "ip addr add 10.89.0.1/16 dev mascri0; ip addr add "+first[1].Addr().Next().String()+"/64 dev mascri0; ip link set mascri0 up")
	n, _ = newNetwork(file, "10.88.0.0/15")
	if got := chosen(t, n); !cmp.Equal(got, first, cmp.Comparer(samePrefix)) {
		t.Errorf("taken meanwhile, but the bridge carries it: %v, want %v", got, first)
	}

	if err := os.WriteFile(file, []byte(`{"ipv4":`), 0o600); err != nil {
		t.Fatal(err)
	}
	n, log := newNetwork(file)
	if got := chosen(t, n); !cmp.Equal(got, first, cmp.Comparer(samePrefix)) {
		t.Errorf("state lost, but the bridge carries it: %v, want %v", got, first)
	}
	if !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), "file="+file) {
		t.Errorf("log: %s", log)
	}

	netlab.Run(t, "ip link del mascri0")
	n, _ = newNetwork(file, "10.88.0.0/15")
	got := chosen(t, n)
	if got[0].String() != "10.90.0.0/16" || got[1] != first[1] {
		t.Errorf("taken meanwhile, and no bridge: %v, want 10.90.0.0/16 and %s", got, first[1])
	}
}

func samePrefix(a, b netip.Prefix) bool { return a == b }

func TestWithoutIPv6(t *testing.T) {
	if !netlab.Isolate(t) {
		return
	}
	file := filepath.Join(t.TempDir(), "state")
	netlab.Run(t, "echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6")
	n, _ := newNetwork(file)
	if err := n.Ensure(t.Context()); err != nil {
		t.Errorf("Ensure: %v", err)
	}
	list, err := n.Conflist(t.Context())
	if err != nil {
		t.Fatalf("Conflist: %v", err)
	}
	want := `{"cniVersion":"1.0.0","name":"mascri","plugins":[` +
		`{"type":"bridge","bridge":"mascri0","isGateway":true,"hairpinMode":true,` +
		`"ipam":{"type":"host-local","ranges":[[{"subnet":"10.88.0.0/16"}]],"routes":[{"dst":"0.0.0.0/0"}]}},` +
		`{"type":"portmap","capabilities":{"portMappings":true},"snat":true},` +
		`{"type":"bandwidth","capabilities":{"bandwidth":true}}]}`
	if diff := cmp.Diff(want, string(list)); diff != "" {
		t.Errorf("Conflist (-want +got):\n%s", diff)
	}
	netlab.Run(t, "echo 0 > /proc/sys/net/ipv6/conf/default/disable_ipv6")
	n, _ = newNetwork(file)
	if got := chosen(t, n); len(got) != 2 || got[0].String() != "10.88.0.0/16" || !validIPv6(got[1]) {
		t.Errorf("with IPv6 at the next start: %v", got)
	}
}

func TestEngineThatDoesNotAnswer(t *testing.T) {
	if !netlab.Isolate(t) {
		return
	}
	file := filepath.Join(t.TempDir(), "state")
	n, _ := newNetwork(file)
	gone := errors.New("engine is gone")
	n.options.EnginePools = func(context.Context) ([]netip.Prefix, error) { return nil, gone }
	if _, err := n.Conflist(t.Context()); !errors.Is(err, gone) {
		t.Errorf("Conflist: %v", err)
	}
	if err := n.Ensure(t.Context()); !errors.Is(err, gone) {
		t.Errorf("Ensure: %v", err)
	}
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) || n.Subnets() != nil {
		t.Errorf("something was chosen: %v, %v", err, n.Subnets())
	}
	n.options.EnginePools = func(context.Context) ([]netip.Prefix, error) { return nil, nil }
	if got := chosen(t, n); len(got) != 2 {
		t.Errorf("once it answers: %v", got)
	}
}

func TestEnsureFromManyGoroutines(t *testing.T) {
	if !netlab.Isolate(t) {
		return
	}
	n, log := newNetwork(filepath.Join(t.TempDir(), "state"))
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if err := n.Ensure(t.Context()); err != nil {
				t.Errorf("Ensure: %v", err)
			}
			if _, err := n.Conflist(t.Context()); err != nil {
				t.Errorf("Conflist: %v", err)
			}
		})
	}
	wg.Wait()
	if count := strings.Count(log.String(), "chosen"); count != 1 {
		t.Errorf("chosen %d times:\n%s", count, log)
	}
	if rules := netlab.Run(t, "nft list ruleset"); strings.Count(rules, "masquerade") != 2 {
		t.Errorf("want one rule for each IP family:\n%s", rules)
	}
}

func TestEnsureRestoresWhatWasFlushed(t *testing.T) {
	if !netlab.Isolate(t) {
		return
	}
	n, _ := newNetwork(filepath.Join(t.TempDir(), "state"))
	if err := n.Ensure(t.Context()); err != nil {
		t.Fatalf("Ensure: %v", err)
	}
	before := netlab.Run(t, "nft list ruleset; cat /proc/sys/net/ipv6/conf/mascri0/accept_dad")
	netlab.Run(t, "nft flush ruleset; ip link del mascri0")
	if err := n.Ensure(t.Context()); err != nil {
		t.Errorf("Ensure after a flush: %v", err)
	}
	if diff := cmp.Diff(before, netlab.Run(t, "nft list ruleset; cat /proc/sys/net/ipv6/conf/mascri0/accept_dad")); diff != "" {
		t.Errorf("after a flush and Ensure (-before +now):\n%s", diff)
	}
	netlab.Run(t, "ip link del mascri0; ip link add mascri0 type veth peer name d1")
	if err := n.Ensure(t.Context()); err == nil || !strings.Contains(err.Error(), "interface mascri0 is in the way, it is a veth and not a bridge") {
		t.Errorf("with another interface of that name: %v", err)
	}
}

// A user's network may have the same subnet: once that one is used, the host must
// have no route to it by our bridge.
func TestRemoveMakesWay(t *testing.T) {
	if !netlab.Isolate(t) {
		return
	}
	const list = "ip link; ip route show table all; nft list ruleset"
	before := netlab.Run(t, list)
	file := filepath.Join(t.TempDir(), "state")
	n, _ := newNetwork(file)
	if err := n.Remove(t.Context()); err != nil {
		t.Errorf("Remove of nothing: %v", err)
	}
	first := chosen(t, n)
	if err := n.Ensure(t.Context()); err != nil {
		t.Fatalf("Ensure: %v", err)
	}
	netlab.Run(t, "ip addr add 10.88.0.1/16 dev mascri0; ip link set mascri0 up; ip link add p0 type veth peer name p1; ip link set p0 master mascri0")
	rules := netlab.Run(t, "nft list ruleset")
	if err := n.Remove(t.Context()); err == nil || !strings.Contains(err.Error(), "has ports: p0") || netlab.Run(t, "nft list ruleset") != rules {
		t.Errorf("with a port: %v", err)
	}
	netlab.Run(t, "ip link del p0")
	n, _ = newNetwork(file) // after a restart
	if err := n.Remove(t.Context()); err != nil {
		t.Errorf("Remove: %v", err)
	}
	if diff := cmp.Diff(before, netlab.Run(t, list)); diff != "" {
		t.Errorf("after Remove (-before Ensure +now):\n%s", diff)
	}
	if got := chosen(t, n); !cmp.Equal(got, first, cmp.Comparer(samePrefix)) {
		t.Errorf("afterwards: %v, want %v as before", got, first)
	}
	if err := n.Remove(t.Context()); err != nil {
		t.Errorf("Remove: %v", err)
	}
	netlab.Run(t, "ip link add cni0 type bridge; ip addr add 10.88.0.1/16 dev cni0")
	if got := chosen(t, n); got[0].String() != "10.89.0.0/16" {
		t.Errorf("after another network took the subnet: %v, want 10.89.0.0/16", got)
	}
}

func TestHostKeepsItsIPv6DefaultRoute(t *testing.T) {
	if !netlab.Isolate(t) {
		return
	}
	acceptRA := func() string {
		return strings.TrimSpace(netlab.Run(t, "cat /proc/sys/net/ipv6/conf/lan/accept_ra /proc/sys/net/ipv6/conf/idle/accept_ra"))
	}
	netlab.Run(t, `
		for i in lan idle; do ip link add $i type veth peer name $i-peer; ip link set $i-peer up; ip link set $i up; echo 1 > /proc/sys/net/ipv6/conf/$i/accept_ra; done
		ip -6 route add default via fe80::1 dev lan proto ra`)
	n, _ := newNetwork(filepath.Join(t.TempDir(), "state"))
	if err := n.Ensure(t.Context()); err != nil {
		t.Fatalf("Ensure: %v", err)
	}
	if got := acceptRA(); got != "2\n1" {
		t.Errorf("accept_ra of lan and idle: %q, want 2 and 1", got)
	}
}

// The daemon may have been killed right after it made the bridge.
func TestABridgeLeftHalfMade(t *testing.T) {
	if !netlab.Isolate(t) {
		return
	}
	netlab.Run(t, "ip link add mascri0 type bridge; echo 1 >/proc/sys/net/ipv6/conf/mascri0/accept_dad")
	n, _ := newNetwork(filepath.Join(t.TempDir(), "state"))
	if err := n.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(netlab.Run(t, "cat /proc/sys/net/ipv6/conf/mascri0/accept_dad")); got != "0" {
		t.Errorf("accept_dad is %s", got)
	}
}
