package network

import (
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/google/go-cmp/cmp"

	"github.com/mascri/mascri/internal/pod"
)

func TestPoolsAndTheirOccupancy(t *testing.T) {
	dir := t.TempDir()
	reserved := []string{
		"10.1.0.2", "10.1.0.3", "10.1.0.250", "10.2.0.9", "fd00:1::2", "fd00:1::3",
		"last_reserved_ip.0", "lock", // host-local's own
	}
	for _, name := range reserved {
		if err := os.MkdirAll(filepath.Join(dir, "net"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "net", name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	type glance struct {
		First, Last, Gateway string
		Used, Free           uint64
	}
	for _, tt := range []struct {
		name, plugin string
		cidrs        []netip.Prefix
		want         []glance
	}{
		{"a subnet", `{"type": "bridge", "ipam": {"type": "host-local", "dataDir": "DIR", "subnet": "10.1.0.0/24"}}`, nil,
			[]glance{{"10.1.0.1", "10.1.0.254", "10.1.0.1", 3, 250}}},
		{"a range without the gateway", `{"type": "ptp", "ipam": {"type": "host-local", "dataDir": "DIR", "subnet": "10.1.0.7/24", "rangeStart": "10.1.0.2", "rangeEnd": "10.1.0.4", "gateway": "10.1.0.254"}}`, nil,
			[]glance{{"10.1.0.2", "10.1.0.4", "10.1.0.254", 2, 1}}},
		{"two families", `{"type": "bridge", "ipam": {"type": "host-local", "dataDir": "DIR", "ranges": [[{"subnet": "10.2.0.0/28"}], [{"subnet": "fd00:1::/64"}]]}}`, nil,
			[]glance{{"10.2.0.1", "10.2.0.14", "10.2.0.1", 1, 12}, {"fd00:1::1", "fd00:1::ffff:ffff:ffff:ffff", "fd00:1::1", 2, math.MaxUint64 - 2}}},
		{"more than can be counted", `{"type": "bridge", "ipam": {"type": "host-local", "dataDir": "DIR", "subnet": "fd00:1::/48"}}`, nil,
			[]glance{{"fd00:1::1", "fd00:1:0:ffff:ffff:ffff:ffff:ffff", "fd00:1::1", 2, math.MaxUint64 - 2}}},
		{"full", `{"type": "bridge", "ipam": {"type": "host-local", "dataDir": "DIR", "subnet": "10.1.0.0/30", "gateway": "10.1.0.1"}}`, nil,
			[]glance{{"10.1.0.1", "10.1.0.2", "10.1.0.1", 1, 0}}},
		{"pod CIDRs for who wants them", `{"type": "bridge", "capabilities": {"ipRanges": true}, "ipam": {"type": "host-local", "dataDir": "DIR"}}`,
			[]netip.Prefix{netip.MustParsePrefix("10.1.0.0/24")}, []glance{{"10.1.0.1", "10.1.0.254", "10.1.0.1", 3, 250}}},
		{"pod CIDRs that nobody asked for", `{"type": "bridge", "ipam": {"type": "host-local", "dataDir": "DIR"}}`,
			[]netip.Prefix{netip.MustParsePrefix("10.1.0.0/24")}, nil},
		{"another IPAM", `{"type": "bridge", "ipam": {"type": "static", "subnet": "10.1.0.0/24"}}`, nil, nil},
		{"a range whose end comes first", `{"type": "bridge", "ipam": {"type": "host-local", "dataDir": "DIR", "subnet": "10.1.0.0/24", "rangeStart": "10.1.0.9", "rangeEnd": "10.1.0.4"}}`, nil,
			[]glance{{"10.1.0.9", "10.1.0.4", "10.1.0.1", 0, 0}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []glance
			for _, pool := range poolsOf(listOf(t, tt.plugin, dir), tt.cidrs) {
				used, free, err := Occupancy(pool)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, glance{pool.First.String(), pool.Last.String(), pool.Gateway.String(), used, free})
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("pools (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPoolThatNobodyUsedYet(t *testing.T) {
	pools := poolsOf(listOf(t, `{"type": "bridge", "ipam": {"type": "host-local", "subnet": "10.1.0.0/24"}}`, ""), nil)
	if len(pools) != 1 || pools[0].Dir != "/var/lib/cni/networks/net" {
		t.Fatalf("pools %+v", pools)
	}
	pools[0].Dir = filepath.Join(t.TempDir(), "none")
	if used, free, err := Occupancy(pools[0]); used != 0 || free != 253 || err != nil {
		t.Errorf("%d used, %d free, error %v", used, free, err)
	}
}

func TestLinksOfAChain(t *testing.T) {
	list := listOf(t, `{"type": "bridge", "mtu": 1400}, {"type": "macvlan", "master": "eth1"}, {"type": "tuning", "mtu": 1300}, {"type": "ptp", "bridge": 7}`, "")
	want := []pod.Link{{Name: "cni0", Plugin: "bridge", MTU: 1400}, {Name: "eth1", Plugin: "macvlan"}}
	if diff := cmp.Diff(want, linksOf(list)); diff != "" {
		t.Errorf("links (-want +got):\n%s", diff)
	}
}

func listOf(t *testing.T, plugins, dir string) *libcni.NetworkConfigList {
	t.Helper()
	text := `{"cniVersion": "1.0.0", "name": "net", "plugins": [` + strings.ReplaceAll(plugins, "DIR", dir) + `]}`
	list, err := libcni.NetworkConfFromBytes([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return list
}
