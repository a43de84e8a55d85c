package doctor

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mascri/mascri/internal/network/firewall"
	"github.com/mascri/mascri/internal/network/firewall/netlab"
	"github.com/mascri/mascri/internal/pod"
)

func TestOnlyWhatIsSafeIsMended(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*seen)
		want   []string
	}{
		{"healthy", func(*seen) {}, nil},
		{"open socket", func(s *seen) { s.daemon.mode |= 0o006 }, []string{"set the mode of /run/mascri/mascri.sock to 0660"}},
		{"another runtime's socket", func(s *seen) { s.daemon.mode |= 0o006; s.daemon.name = "containerd" }, nil},
		{"no forwarding", func(s *seen) { s.firewall.IPv4 = false }, []string{"set net.ipv4.ip_forward to 1, until the node's next start"}},
		{"no forwarding, and no network of the user's", func(s *seen) { s.firewall.IPv4, s.network.ConfigFile = false, "" }, nil},
		{"forwarding is not known", func(s *seen) { s.firewall.IPv4, s.firewallErr = false, fs.ErrPermission }, nil},
		{"IPv6 beside a route from a router", func(s *seen) {
			s.network.Subnets = []string{"fd00::/64"}
			s.firewall.IPv4 = false
			s.kernel.uplinks = []uplink{{link: "eth0", ipv6: true, byRouter: true}, {link: "eth1", ipv6: true}}
			s.kernel.sysctls[acceptRA("eth0")], s.kernel.sysctls[acceptRA("eth1")] = "1", "1"
		}, []string{
			"set net.ipv6.conf.eth0.accept_ra to 2, until the node's next start",
			"set net.ipv6.conf.all.forwarding to 1, until the node's next start",
		}},
		{"what ends connections or changes others' traffic", func(s *seen) {
			s.kernel.sysctls[bridgeNF], s.kernel.sysctls[rpFilter] = "0", "1"
			s.firewall.Chains[0].DockerUser = false
			s.firewall.Drops = []string{"table inet x chain y"}
			s.pools[0].free = 0
		}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := healthy()
			tt.change(&s)
			var got []string
			for _, r := range repairs(s) {
				if r.Why == "" {
					t.Errorf("no reason: %+v", r)
				}
				got = append(got, r.What)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("repairs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMendingANode(t *testing.T) {
	if !netlab.Isolate(t) {
		return
	}
	netlab.Run(t, "echo 0 > /proc/sys/net/ipv4/ip_forward")
	socket := serve(t, server{name: "mascri"})
	if err := os.Chmod(socket, 0o666); err != nil {
		t.Fatal(err)
	}
	src := sources(t, socket)
	src.Firewall = firewall.Describe
	src.Network = nil // the daemon answers
	var told []string
	list := Mend(t.Context(), src, func(r Repair) { told = append(told, r.What) })
	for _, r := range list {
		if r.Err != "" {
			t.Errorf("%+v", r)
		}
	}
	if mode := mustStat(t, socket).Mode().Perm(); mode != 0o660 {
		t.Errorf("the socket has mode %#o", mode)
	}
	if len(told) != len(list) || len(list) == 0 {
		t.Errorf("told %q, did %+v", told, list)
	}

	// The daemon's network has no file; that of one which does not run has.
	src = sources(t, filepath.Join(t.TempDir(), "none"))
	src.Firewall = firewall.Describe
	src.Network = func(context.Context) (pod.NetworkStatus, error) {
		return pod.NetworkStatus{ConfigFile: "/etc/cni/net.d/10.conf", Subnets: []string{"10.88.0.0/16"}}, nil
	}
	if list := Mend(t.Context(), src, func(Repair) {}); len(list) != 1 || list[0].Err != "" {
		t.Errorf("did %+v", list)
	}
	if text := strings.TrimSpace(netlab.Run(t, "cat /proc/sys/net/ipv4/ip_forward")); text != "1" {
		t.Errorf("ip_forward is %s", text)
	}
	if list := Mend(t.Context(), src, func(Repair) {}); len(list) != 0 {
		t.Errorf("did once more %+v", list)
	}
}

func mustStat(t *testing.T, path string) fs.FileInfo {
	t.Helper()
	stat, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return stat
}

func TestKernelOfALabIsSeen(t *testing.T) {
	if !netlab.Isolate(t) {
		return
	}
	netlab.Outside(t)
	netlab.Run(t, `
		ip link add cni0 type bridge; ip link set cni0 up
		ip link add p0 type veth peer name p1; ip link set p0 master cni0
		ip route add default via 192.0.2.2
		ip route add 10.88.128.0/17 via 192.0.2.2
		ip link set up0 mtu 1400`)
	k := lookAtKernel()
	if want := []uplink{{link: "up0", mtu: 1400}}; !slices.Equal(k.uplinks, want) {
		t.Errorf("uplinks %+v, want %+v", k.uplinks, want)
	}
	if len(k.routes) != 1 || k.routes[0].link != "up0" || k.routes[0].prefix.String() != "10.88.128.0/17" {
		t.Errorf("routes %+v", k.routes)
	}
	if l, ok := k.link("cni0"); !ok || l.kind != "bridge" || l.ports != 1 {
		t.Errorf("bridge %+v", l)
	}
	if _, ok := k.sysctls[linkRPFilter("up0")]; !ok || k.sysctls[disableIPv6] == "" {
		t.Errorf("settings %v", k.sysctls)
	}
}

func TestPluginsTellTheirVersions(t *testing.T) {
	bin, err := filepath.Abs("../../bin/cni")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	scripts := map[string]string{
		"silent": "exit 1", "garbage": "echo hello", "hangs": "sleep 60",
		"mute": `[ "$CNI_COMMAND" = VERSION ] || exit 1; echo '{"cniVersion": "1.0.0", "supportedVersions": ["1.0.0"]}'`,
	}
	for name, text := range scripts {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	versions := askVersions(t.Context(), []pod.Plugin{
		{Type: "bridge", Path: bin + "/bridge"}, {Type: "bridge", Path: bin + "/bridge"}, {Type: "none"},
		{Type: "silent", Path: dir + "/silent"}, {Type: "garbage", Path: dir + "/garbage"}, {Type: "hangs", Path: dir + "/hangs"}, {Type: "mute", Path: dir + "/mute"},
	})
	if len(versions) != 5 {
		t.Fatalf("versions %+v", versions)
	}
	if v := versions[0]; v.err != nil || !strings.HasPrefix(v.release, "CNI bridge plugin v") || !slices.Contains(v.supported, "1.0.0") {
		t.Errorf("bridge: %+v", v)
	}
	for _, v := range versions[1:4] {
		if v.err == nil || !strings.Contains(v.err.Error(), v.plugin) {
			t.Errorf("%s: %+v", v.plugin, v)
		}
	}
	if v := versions[4]; v.err != nil || v.release != "" {
		t.Errorf("mute: %+v", v)
	}
}
