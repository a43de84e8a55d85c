package defaultnet

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/mascri/mascri/internal/network/firewall"
	"github.com/mascri/mascri/internal/network/firewall/netlab"
)

const (
	port     = 8080
	hostPort = 18080
	wait     = 5 * time.Second
)

// pluginDir is where make build puts the CNI plugins.
func pluginDir(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("MASCRI_TEST_CNI_BIN")
	if dir == "" {
		dir = "../../../bin/cni"
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, plugin := range []string{"bridge", "host-local", "portmap", "bandwidth"} {
		if _, err := os.Stat(filepath.Join(dir, plugin)); err != nil {
			t.Fatalf("%v: run make build, or set MASCRI_TEST_CNI_BIN to a directory of CNI plugins", err)
		}
	}
	return dir
}

// attached is a pod on the default network.
type attached struct {
	netlab.Node
	v4, v6 netip.Addr
	took   time.Duration // CNI ADD
	detach func() error
}

// attach adds a pod with the real plugins and serves on its port.
func attach(t *testing.T, cni *libcni.CNIConfig, list *libcni.NetworkConfigList, name string, capabilities map[string]any) attached {
	t.Helper()
	p := attached{Node: netlab.NewNode(t, name)}
	args := &libcni.RuntimeConf{ContainerID: name, NetNS: p.Path(), IfName: "eth0", CapabilityArgs: capabilities}
	p.detach = func() error { return cni.DelNetworkList(t.Context(), list, args) }
	start := time.Now()
	answer, err := cni.AddNetworkList(t.Context(), list, args)
	p.took = time.Since(start)
	if err != nil {
		t.Fatalf("CNI ADD of %s: %v", name, err)
	}
	result, err := types100.NewResultFromResult(answer)
	if err != nil || len(result.IPs) != 2 {
		t.Fatalf("CNI ADD of %s: %v, %v", name, answer, err)
	}
	for i, addr := range []*netip.Addr{&p.v4, &p.v6} {
		*addr, _ = netip.AddrFromSlice(result.IPs[i].Address.IP)
		*addr = addr.Unmap()
	}
	p.Serve(t, port)
	return p
}

// What pods on the default network must be able to do, on a host where Docker has
// set FORWARD to DROP.
func TestPods(t *testing.T) {
	bin := pluginDir(t)
	if !netlab.Isolate(t) {
		return
	}
	outside := netlab.Outside(t)
	outside.Serve(t, port)
	netlab.Run(t, `
		for T in iptables ip6tables; do
			$T-nft -P FORWARD DROP
			$T-nft -N DOCKER-USER
			$T-nft -I FORWARD -j DOCKER-USER
		done
		echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables
		echo 1 > /proc/sys/net/bridge/bridge-nf-call-ip6tables`)
	n, _ := newNetwork(filepath.Join(t.TempDir(), "state"))
	text, err := n.Conflist(t.Context())
	if err != nil {
		t.Fatalf("Conflist: %v", err)
	}
	list, err := libcni.NetworkConfFromBytes(text)
	if err != nil {
		t.Fatalf("libcni: %v in %s", err, text)
	}
	cni := libcni.NewCNIConfigWithCacheDir([]string{bin}, t.TempDir(), nil)
	if _, err := cni.ValidateNetworkList(t.Context(), list); err != nil {
		t.Fatalf("validate: %v", err)
	}
	for range 2 { // for a pod, and again by the clock
		if err := n.Ensure(t.Context()); err != nil {
			t.Fatalf("Ensure: %v", err)
		}
	}
	if state := firewall.NewForward("MASCRI-1a2b3c4d").Ensure(t.Context(), n.Subnets()); !state.OK {
		t.Fatalf("forwarding: %+v", state)
	}

	a := attach(t, cni, list, "a", nil)
	// Without duplicate address detection, which takes a second, the kernel still has to get to it.
	for end := time.Now().Add(800 * time.Millisecond); ; time.Sleep(10 * time.Millisecond) {
		tentative := netlab.Run(t, "ip -6 addr show dev mascri0 tentative")
		if tentative == "" {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the first pod's gateway is not there yet:\n%s", tentative)
		}
	}
	b := attach(t, cni, list, "b", map[string]any{
		"portMappings": []map[string]any{{"hostPort": hostPort, "containerPort": port, "protocol": "tcp"}},
		"bandwidth":    map[string]any{"ingressRate": 1 << 30, "ingressBurst": 1 << 30, "egressRate": 1 << 30, "egressBurst": 1 << 30},
	})
	t.Logf("CNI ADD took %s, with a host port and bandwidth limits %s", a.took, b.took)
	for _, p := range []attached{a, b} {
		if !n.Subnets()[0].Contains(p.v4) || !n.Subnets()[1].Contains(p.v6) {
			t.Errorf("%s and %s are not of %v", p.v4, p.v6, n.Subnets())
		}
		if p.took > time.Second {
			t.Errorf("CNI ADD took %s: does it wait for duplicate address detection?", p.took)
		}
	}

	for _, try := range []struct {
		name string
		from netlab.Node
		to   string
		port int
		want string // whom the server must see, "" for anybody
	}{
		{"pod to pod", a.Node, b.v4.String(), port, a.v4.String()},
		{"pod to pod, back", b.Node, a.v4.String(), port, b.v4.String()},
		{"pod to pod, IPv6", a.Node, b.v6.String(), port, a.v6.String()},
		{"pod to outside", a.Node, "192.0.2.2", port, "192.0.2.1"},
		{"pod to outside, IPv6", b.Node, "2001:db8::2", port, "2001:db8::1"},
		{"outside to host port", outside, "192.0.2.1", hostPort, "192.0.2.2"},
		{"outside to host port, IPv6", outside, "2001:db8::1", hostPort, "2001:db8::2"},
		{"host to host port on localhost", netlab.Host(), "127.0.0.1", hostPort, ""},
		{"pod to host port", a.Node, "192.0.2.1", hostPort, ""},
		{"pod to its own host port", b.Node, "192.0.2.1", hostPort, ""},
	} {
		if seen, err := try.from.Dial(try.to, try.port, wait); err != nil || try.want != "" && seen != try.want {
			t.Errorf("%s at %s: the server saw %q (%v), want %q", try.name, try.to, seen, err, try.want)
		}
	}
	if qdiscs := netlab.Run(t, "tc qdisc"); strings.Count(qdiscs, "qdisc tbf") != 2 {
		t.Errorf("want a limit for each direction:\n%s", qdiscs)
	}
	wantNothingLeft(t, a, b)
}

// wantNothingLeft detaches the pods and looks for what they leave.
func wantNothingLeft(t *testing.T, pods ...attached) {
	t.Helper()
	for _, p := range pods {
		if err := p.detach(); err != nil {
			t.Errorf("CNI DEL: %v", err)
		}
	}
	files, err := os.ReadDir("/var/lib/cni/networks/" + Name)
	if err != nil {
		t.Errorf("host-local: %v", err)
	}
	files = slices.DeleteFunc(files, func(f os.DirEntry) bool {
		return f.Name() == "lock" || strings.HasPrefix(f.Name(), "last_reserved_ip.")
	})
	if len(files) > 0 {
		t.Errorf("addresses left: %v", files)
	}
	if links := netlab.Run(t, "ip -o link show master mascri0; ip -o link show type ifb"); links != "" {
		t.Errorf("interfaces left:\n%s", links)
	}
	if rules := netlab.Run(t, "nft list ruleset"); strings.Contains(rules, "dport 18080") || strings.Count(rules, "masquerade fully-random") != 2 {
		t.Errorf("want our two masquerade rules and no port:\n%s", rules)
	}
}
