package firewall

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mascri/mascri/internal/network/firewall/netlab"
	"github.com/mascri/mascri/internal/pod"
)

const (
	chainName = "MASCRI-1a2b3c4d"
	port      = 8080
	wait      = 5 * time.Second // for what has to work
	shortWait = time.Second     // for what must not
)

var podSubnets = []netip.Prefix{netip.MustParsePrefix("10.88.0.0/16"), netip.MustParsePrefix("fd00:88::/64")}

// world is a host with two pods on a bridge and a node beyond.
type world struct {
	a, b, outside netlab.Node
}

func newWorld(t *testing.T) world {
	t.Helper()
	netlab.Bridge(t)
	w := world{a: netlab.Pod(t, "a", 2), b: netlab.Pod(t, "b", 3), outside: netlab.Outside(t)}
	for _, n := range []netlab.Node{w.a, w.b, w.outside} {
		n.Serve(t, port)
	}
	return w
}

// routed lets the outside answer pods without masquerade.
func (w world) routed(t *testing.T) world {
	t.Helper()
	netlab.Run(t, `
		ip -n outside route add 10.88.0.0/16 via 192.0.2.1
		ip -n outside route add fd00:88::/64 via 2001:db8::1`)
	return w
}

// connections tries every direction that has to work, and returns which did.
func (w world) connections(wait time.Duration) map[string]bool {
	tries := []struct {
		name string
		from netlab.Node
		to   []string
	}{
		{"a to b", w.a, []string{"10.88.0.3", "fd00:88::3"}},
		{"b to a", w.b, []string{"10.88.0.2", "fd00:88::2"}},
		{"a to outside", w.a, []string{"192.0.2.2", "2001:db8::2"}},
		{"outside to b", w.outside, []string{"10.88.0.3", "fd00:88::3"}},
	}
	worked := map[string]bool{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, try := range tries {
		for _, to := range try.to {
			wg.Go(func() {
				_, err := try.from.Dial(to, port, wait)
				mu.Lock()
				defer mu.Unlock()
				worked[try.name+" at "+to] = err == nil
			})
		}
	}
	wg.Wait()
	return worked
}

func wantConnections(t *testing.T, w world, when string, want bool) {
	t.Helper()
	patience := shortWait
	if want {
		patience = wait
	}
	for name, worked := range w.connections(patience) {
		if worked != want {
			t.Errorf("%s: %s: connected %t, want %t", when, name, worked, want)
		}
	}
}

// dockerRules is what dockerd makes at its start in one flavour.
func dockerRules(t *testing.T, flavour string) {
	t.Helper()
	inBoth(t, flavour, `
		$T -P FORWARD DROP
		$T -N DOCKER-USER
		$T -A DOCKER-USER -j RETURN
		$T -I FORWARD -j DOCKER-USER`)
}

// inBoth runs a script with iptables and ip6tables for $T.
func inBoth(t *testing.T, flavour, script string) {
	t.Helper()
	for _, command := range []string{"iptables-", "ip6tables-"} {
		netlab.Run(t, "T="+command+flavour+"\n"+script)
	}
}

// filterRules is the filter table of both families, without counters and comments.
func filterRules(t *testing.T, flavour string) string {
	t.Helper()
	return netlab.Run(t, "for T in iptables ip6tables; do $T-"+flavour+"-save -t filter | sed -e '/^#/d' -e 's/ \\[.*//'; done")
}

func TestForwardNFT(t *testing.T) {
	if netlab.Isolate(t) {
		testForward(t, "nft")
	}
}

func TestForwardLegacy(t *testing.T) {
	if netlab.Isolate(t) {
		testForward(t, "legacy")
	}
}

func testForward(t *testing.T, flavour string) {
	w := newWorld(t).routed(t)
	dockerRules(t, flavour)
	before := filterRules(t, flavour)
	wantConnections(t, w, "with Docker's rules alone", false)

	f := NewForward(chainName)
	want := pod.Forwarding{OK: true, Message: fmt.Sprintf("DOCKER-USER (iptables-%[1]s, ip6tables-%[1]s)", flavour)}
	if got := f.Ensure(t.Context(), podSubnets); got != want {
		t.Fatalf("Ensure: %+v, want %+v", got, want)
	}
	wantConnections(t, w, "after Ensure", true)
	placed := filterRules(t, flavour)
	t.Logf("rules:\n%s", placed)

	if got := f.Ensure(t.Context(), podSubnets); got != want {
		t.Errorf("second Ensure: %+v, want %+v", got, want)
	}
	if diff := cmp.Diff(placed, filterRules(t, flavour)); diff != "" {
		t.Errorf("Ensure changed rules that were in place (-placed +now):\n%s", diff)
	}
	for _, harm := range []string{
		"$T -F " + chainName,
		"$T -D " + chainName + " 1",
		"$T -R " + chainName + " 1 -j DROP",
		"$T -D DOCKER-USER -j " + chainName,
		"$T -F DOCKER-USER; $T -A DOCKER-USER -j RETURN; $T -F " + chainName + "; $T -X " + chainName,
		"$T -D FORWARD -j DOCKER-USER",
		"$T -F",
	} {
		f.Ensure(t.Context(), podSubnets) // finds all as it should be
		inBoth(t, flavour, harm)
		if filterRules(t, flavour) == placed {
			t.Fatalf("%q changed nothing", harm)
		}
		if got := f.Verify(t.Context(), podSubnets); got != want {
			t.Errorf("Verify after %q: %+v, want %+v", harm, got, want)
		}
		if harm == "$T -F" { // Docker's own RETURN is Docker's to restore
			inBoth(t, flavour, "$T -A DOCKER-USER -j RETURN")
		}
		if diff := cmp.Diff(placed, filterRules(t, flavour)); diff != "" {
			t.Errorf("after %q and Verify (-placed +now):\n%s", harm, diff)
		}
	}
	wantConnections(t, w, "after it was mended", true)

	want = pod.Forwarding{OK: true, Message: "not needed"}
	for range 2 {
		later(f)
		if got := f.Verify(t.Context(), nil); got != want {
			t.Errorf("Verify without subnets: %+v, want %+v", got, want)
		}
		if diff := cmp.Diff(before, filterRules(t, flavour)); diff != "" {
			t.Errorf("after Verify without subnets (-before +now):\n%s", diff)
		}
	}
}

func TestForwardLeavesAloneWhatDockerDoesNotDrop(t *testing.T) {
	if !netlab.Isolate(t) {
		return
	}
	tests := []struct {
		name  string
		setup string
		want  pod.Forwarding
	}{
		{"no rules at all", ":", pod.Forwarding{OK: true, Message: "not needed"}},
		{"Docker without a drop", `
			iptables-nft -N DOCKER-USER; iptables-nft -I FORWARD -j DOCKER-USER
			ip6tables-nft -N DOCKER-USER; ip6tables-nft -I FORWARD -j DOCKER-USER`,
			pod.Forwarding{OK: true, Message: "not needed"}},
		{"a drop that is not Docker's", "iptables-nft -P FORWARD DROP", pod.Forwarding{Message: "the policy of FORWARD is DROP in iptables-nft, " +
			"and not by Docker, which has no chain DOCKER-USER there: accept the pod subnets in the firewall that drops, " +
			"or restart Docker if its chains were flushed"}},
		{"Docker's nftables backend, accepting", `
			nft 'table ip docker-bridges { chain filter-FORWARD { type filter hook forward priority filter; policy accept; }; }'`,
			pod.Forwarding{OK: true, Message: "not needed"}},
		{"Docker's nftables backend, dropping", `
			nft 'table ip docker-bridges { chain filter-FORWARD { type filter hook forward priority filter; policy drop; }; }'`,
			pod.Forwarding{Message: "Docker's nftables backend drops what is forwarded (table ip docker-bridges, policy drop), " +
				"and an accept elsewhere cannot undo that: set net.ipv4.ip_forward=1 in /etc/sysctl.d, " +
				`or "ip-forward-no-drop": true in /etc/docker/daemon.json, and restart Docker`}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			netlab.Run(t, "nft flush ruleset")
			netlab.Run(t, test.setup)
			before := netlab.Run(t, "nft list ruleset")
			if got := NewForward(chainName).Ensure(t.Context(), podSubnets); got != test.want {
				t.Errorf("Ensure: %+v, want %+v", got, test.want)
			}
			if diff := cmp.Diff(before, netlab.Run(t, "nft list ruleset")); diff != "" {
				t.Errorf("rules changed (-before +now):\n%s", diff)
			}
		})
	}
}

func TestForwardWithoutIptables(t *testing.T) {
	if !netlab.Isolate(t) {
		return
	}
	path := t.TempDir()
	f := NewForward(chainName)
	t.Run("nothing drops", func(t *testing.T) {
		t.Setenv("PATH", path)
		if got, want := f.Ensure(t.Context(), podSubnets), (pod.Forwarding{OK: true, Message: "not needed"}); got != want {
			t.Errorf("Ensure: %+v, want %+v", got, want)
		}
	})
	dockerRules(t, "nft")
	t.Run("Docker drops", func(t *testing.T) {
		t.Setenv("PATH", path)
		got := f.Ensure(t.Context(), podSubnets)
		if got.OK || !strings.Contains(got.Message, "no command for iptables-nft found, install iptables") {
			t.Errorf("Ensure: %+v", got)
		}
	})
	if got := f.Ensure(t.Context(), podSubnets); !got.OK {
		t.Errorf("Ensure once iptables is there: %+v", got)
	}
	f.Ensure(t.Context(), podSubnets)                                                          // looks once more, at what it has written
	netlab.Run(t, "iptables-nft -t nat -N CNI-1; iptables-nft -t nat -A POSTROUTING -j CNI-1") // as a plugin does
	t.Run("what was found right needs no process", func(t *testing.T) {
		t.Setenv("PATH", path)
		if got := f.Ensure(t.Context(), podSubnets); !got.OK {
			t.Errorf("Ensure: %+v", got)
		}
		if got := f.Ensure(t.Context(), []netip.Prefix{netip.MustParsePrefix("10.99.0.0/16")}); got.OK {
			t.Errorf("Ensure of other subnets started no process: %+v", got)
		}
	})
}

func TestStandingIsOfRulesAndNotOfTraffic(t *testing.T) {
	if !netlab.Isolate(t) {
		return
	}
	dockerRules(t, "nft")
	NewForward(chainName).Ensure(t.Context(), podSubnets)
	last := []string{}
	look := func() (changed bool) {
		now, err := standing(chainName)
		if err != nil {
			t.Fatal(err)
		}
		changed = !slices.Equal(last, now)
		last = now
		return changed
	}
	if !look() {
		t.Fatal("there is nothing")
	}
	for change, counts := range map[string]bool{
		":": false,
		"iptables-nft -Z; iptables-nft -I FORWARD 1 -c 7 700 -j DOCKER-USER; iptables-nft -D FORWARD 2":                      false,
		"iptables-nft -A INPUT -j DROP; iptables-nft -N OTHER; iptables-nft -A OTHER -j DROP":                                false,
		"iptables-nft -t nat -N CNI-1; iptables-nft -t nat -A POSTROUTING -j CNI-1":                                          false,
		"iptables-nft -R " + chainName + " 1 -s 10.89.0.0/16 -j ACCEPT":                                                      true,
		"iptables-nft -P FORWARD ACCEPT":                                                                                     true,
		"iptables-nft -A DOCKER-USER -s 10.88.0.2 -j DROP":                                                                   true,
		"ip6tables-nft -I FORWARD 1 -p tcp -m tcp --dport 1":                                                                 true,
		"ip6tables-nft -F " + chainName:                                                                                      true,
		"nft 'table ip docker-bridges { chain filter-FORWARD { type filter hook forward priority filter; policy drop; }; }'": true,
	} {
		netlab.Run(t, change)
		if changed := look(); changed != counts {
			t.Errorf("after %q: changed %t, want %t; it is %q", change, changed, counts, last)
		}
	}
}

// One family's last subnet may go while the other's stay.
func TestForwardGivesUpOneFamily(t *testing.T) {
	if !netlab.Isolate(t) {
		return
	}
	dockerRules(t, "nft")
	before := netlab.Run(t, "nft list table ip6 filter")
	f := NewForward(chainName)
	f.Ensure(t.Context(), podSubnets)
	later(f)
	want := pod.Forwarding{OK: true, Message: "DOCKER-USER (iptables-nft)"}
	if got := f.Verify(t.Context(), podSubnets[:1]); got != want {
		t.Errorf("Verify: %+v, want %+v", got, want)
	}
	wantChain(t, podSubnets[:1])
	if diff := cmp.Diff(before, netlab.Run(t, "nft list table ip6 filter")); diff != "" {
		t.Errorf("IPv6 rules (-before +now):\n%s", diff)
	}
}

func TestForwardWithOneFlavourInstalled(t *testing.T) {
	if !netlab.Isolate(t) {
		return
	}
	dockerRules(t, "nft")
	for _, test := range []struct {
		flavour string
		ok      bool
		message string
	}{
		{"legacy", false, "no command for iptables-nft found, iptables is iptables v"},
		{"nft", true, "DOCKER-USER (iptables-nft, ip6tables-nft)"},
	} {
		t.Run(test.flavour, func(t *testing.T) {
			dir := t.TempDir()
			for _, command := range []string{"iptables", "ip6tables"} {
				for _, end := range []string{"", "-save", "-restore"} {
					netlab.Run(t, fmt.Sprintf("ln -s $(command -v %[1]s-%[2]s%[3]s) %[4]s/%[1]s%[3]s", command, test.flavour, end, dir))
				}
			}
			t.Setenv("PATH", dir)
			got := NewForward(chainName).Ensure(t.Context(), podSubnets)
			if got.OK != test.ok || !strings.Contains(got.Message, test.message) {
				t.Errorf("Ensure: %+v, want %t and %q", got, test.ok, test.message)
			}
		})
	}
}

func TestForwardFromManyGoroutines(t *testing.T) {
	if !netlab.Isolate(t) {
		return
	}
	dockerRules(t, "nft")
	f, other := NewForward(chainName), NewForward("MASCRI-00000000")
	if got := other.Ensure(t.Context(), podSubnets); !got.OK {
		t.Fatalf("Ensure of another daemon: %+v", got)
	}
	foreign := filterRules(t, "nft")

	want := []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("10.2.0.0/16")}
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			// In another order, and as an address of a pod has it.
			if got := f.Ensure(t.Context(), []netip.Prefix{want[1], netip.MustParsePrefix("10.1.0.7/16"), want[1]}); !got.OK {
				t.Errorf("Ensure: %+v", got)
			}
		})
	}
	wg.Wait()
	wantChain(t, want)
	for _, subnets := range [][]netip.Prefix{want[:1], nil} {
		if got := f.Verify(t.Context(), subnets); !got.OK {
			t.Errorf("Verify: %+v", got)
		}
		wantChain(t, want) // a pod may have started just now
	}
	later(f)
	f.Ensure(t.Context(), want[1:])
	if got := f.Verify(t.Context(), nil); !got.OK {
		t.Errorf("Verify: %+v", got)
	}
	wantChain(t, want[1:])
	later(f)
	if got := f.Verify(t.Context(), nil); !got.OK {
		t.Errorf("Verify of none: %+v", got)
	}
	if diff := cmp.Diff(foreign, filterRules(t, "nft")); diff != "" {
		t.Errorf("what Verify of none left (-other daemon's +now):\n%s", diff)
	}
}

func TestDescribe(t *testing.T) {
	if !netlab.Isolate(t) {
		return
	}
	netlab.Run(t, "echo 0 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding")
	want := Report{IPv6: true}
	got, err := Describe(t.Context())
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("on an empty host: %v (-want +got):\n%s", err, diff)
	}
	if text := netlab.Run(t, "cat /proc/net/ip_tables_names; nft list ruleset"); text != "" {
		t.Errorf("Describe made tables:\n%s", text)
	}

	netlab.Run(t, `
		iptables-nft -P FORWARD DROP; iptables-nft -N DOCKER-USER
		ip6tables-legacy -P FORWARD DROP; ip6tables-legacy -N ufw6-before-forward
		nft 'table inet mine { chain f { type filter hook forward priority 10; policy drop; }; }'`)
	want = Report{
		Chains: []ForwardChain{
			{Flavour: "iptables-nft", Drops: true, DockerUser: true, By: []string{"Docker"}},
			{Flavour: "ip6tables-legacy", Drops: true, By: []string{"ufw"}},
		},
		Drops: []string{"table inet mine chain f"},
		IPv6:  true,
	}
	got, err = Describe(t.Context())
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

// wantChain compares the rules in iptables-nft that have to do with our chain.
func wantChain(t *testing.T, subnets []netip.Prefix) {
	t.Helper()
	want := []string{":" + chainName + " -", "-A DOCKER-USER -j " + chainName}
	for _, s := range subnets {
		want = append(want, fmt.Sprintf("-A %s -s %s -j ACCEPT", chainName, s), fmt.Sprintf("-A %s -d %s -j ACCEPT", chainName, s))
	}
	got := strings.Split(strings.TrimSpace(netlab.Run(t, "iptables-nft-save -t filter | sed -e 's/ \\[.*//' | grep "+chainName)), "\n")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
}

// later lets the time pass after which subnets may be given up.
func later(f *Forward) {
	for s, asked := range f.asked {
		f.asked[s] = asked.Add(-graceTime)
	}
}
