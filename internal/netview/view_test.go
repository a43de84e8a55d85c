package netview

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/containerd/errdefs"

	"github.com/mascri/mascri/internal/golden"
	"github.com/mascri/mascri/internal/network"
	"github.com/mascri/mascri/internal/pod"
	"github.com/mascri/mascri/internal/table"
)

const (
	webID    = "c18523ad5313a95a0d626b514b854792c18523ad5313a95a0d626b514b854792"
	clientID = "c1ba6419b12f7ce6feb53bdcdd154c4980ba6419b12f7ce6feb53bdcdd154c49"
	otherID  = "5e0a6419b12f7ce6feb53bdcdd154c4980ba6419b12f7ce6feb53bdcdd154c49"
)

// busy is a node with two networks.
func busy() Node {
	prefix, addr := netip.MustParsePrefix, netip.MustParseAddr
	return Node{
		Networks: []Network{
			{
				Name: "podnet", File: "/etc/cni/net.d/10-podnet.conflist", Next: true, Plugins: []string{"bridge", "portmap", "bandwidth", "firewall", "tuning"}, Pods: 2,
				Pools: []Pool{
					{Pool: pod.Pool{Subnet: prefix("10.88.0.0/16")}, Used: 2, Free: 65531},
					{Pool: pod.Pool{Subnet: prefix("fd7c:5a:1:2::/64")}, Used: 2, Free: 1<<63 + 1},
				},
				Links: []Link{{Name: "cni0", Kind: "bridge", MTU: 1500, Up: true, Ports: 2, Addresses: []netip.Prefix{prefix("10.88.0.1/16")}}},
			},
			{
				Name: "lan", File: "/etc/cni/net.d/90-lan.conf", Plugins: []string{"macvlan"}, Pods: 1,
				Pools: []Pool{{Pool: pod.Pool{Subnet: prefix("192.168.100.0/24")}, Error: "permission denied"}},
				Links: []Link{{Name: "enp0s31f6", Kind: "device", Up: true}, {Name: "gone0"}},
			},
		},
		Pods: []Pod{
			{
				ID: webID, Pod: "kube-system/coredns-5d78c9869d-very-long-name-abcde", Phase: pod.Attached, Network: "podnet",
				IPs: []netip.Addr{addr("10.88.0.2"), addr("fd7c:5a:1:2::2")}, MAC: "6a:cc:3e:15:18:a1", Host: HostSide{Link: "veth1a2b3c4d", Bridge: "cni0"},
				Ports:    []network.Port{{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"}, {HostIP: "127.0.0.1", HostPort: 5353, ContainerPort: 53, Protocol: "udp"}},
				Received: Traffic{Packets: 1200, Bytes: 1_890_000}, Sent: Traffic{Packets: 900, Bytes: 66_000},
			},
			{
				ID: clientID, Pod: "default/client", Phase: pod.Attached, Network: "podnet",
				IPs: []netip.Addr{addr("fd7c:5a:1:2:abcd:abcd:abcd:abcd")}, MAC: "6a:cc:3e:15:18:a2", Host: HostSide{Link: "veth5e6f7a8b", Bridge: "cni0"},
			},
			{
				ID: otherID, Pod: "default/old", Phase: pod.Detaching, Network: "lan", ConfigFile: "/etc/cni/net.d/90-lan.conf",
				IPs: []netip.Addr{addr("192.168.100.77")}, Problem: "the network namespace is not pinned at /run/netns/cni-5e0a6419b12f7ce6feb53bdcdd154c49",
			},
		},
		Damaged: []network.Damaged{{File: "/var/lib/mascri/attachments/x.json", Why: "unexpected end of JSON input"}},
		Problem: `network "podnet" (/etc/cni/net.d/10-podnet.conflist): plugin "firewall" not found in /opt/cni/bin, /usr/lib/cni`,
	}
}

func TestNodeAsText(t *testing.T) {
	for name, write := range map[string]func(Node, *bytes.Buffer, bool) error{
		"status.txt": func(n Node, b *bytes.Buffer, colour bool) error { return n.WriteText(b, colour) },
		"ls.txt":     func(n Node, b *bytes.Buffer, colour bool) error { return n.WritePods(b, colour) },
	} {
		var b, coloured bytes.Buffer
		if err := errors.Join(write(busy(), &b, false), write(busy(), &coloured, true)); err != nil {
			t.Fatal(err)
		}
		golden.Compare(t, name, b.Bytes())
		fits(t, b.String())
		bare := strings.NewReplacer(table.Bold, "", table.Red, "", table.Plain, "").Replace(coloured.String())
		if bare != b.String() || !strings.Contains(coloured.String(), table.Red) {
			t.Errorf("%s in colour:\n%q", name, coloured.String())
		}
	}
}

// fits fails the test where a line is wider than a terminal and could be broken.
func fits(t *testing.T, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		if utf8.RuneCountInString(strings.TrimSpace(line)) > width && strings.Contains(strings.TrimSpace(line), " ") {
			t.Errorf("a line of more than %d columns: %s", width, line)
		}
	}
}

func TestEmptyNodeAsText(t *testing.T) {
	var b bytes.Buffer
	if err := (Node{}).WriteText(&b, false); err != nil {
		t.Fatal(err)
	}
	golden.Compare(t, "empty.txt", b.Bytes())
}

func TestTableIsNeverTooWide(t *testing.T) {
	n := busy()
	n.Pods[1].Host.Link, n.Pods[1].Pod = strings.Repeat("l", 15), strings.Repeat("n", 63)+"/"+strings.Repeat("ö", 253)
	n.Pods[1].IPs = []netip.Addr{netip.MustParseAddr("255.255.255.255")}
	n.Networks[0].Name = strings.Repeat("w", 70)
	var b bytes.Buffer
	if err := n.WriteText(&b, false); err != nil {
		t.Fatal(err)
	}
	fits(t, b.String())
	if text := b.String(); !strings.Contains(text, "255.255.255.255") || !strings.Contains(text, strings.Repeat("l", 15)) {
		t.Errorf("addresses and links are cut:\n%s", text)
	}
}

func TestPodIsFoundByWhatItIsCalled(t *testing.T) {
	record := func(id, name string) network.Record {
		return network.Record{Attachment: pod.Attachment{SandboxID: id, Pod: name}}
	}
	records := []network.Record{record(webID, "default/web"), record(clientID, "default/client"), record(otherID, "default/old"), record("5e", "default/old")}
	for _, tt := range []struct {
		name, want string
		err        error
	}{
		{webID, webID, nil},
		{"c18", webID, nil},
		{"default/client", clientID, nil},
		{"5e", "5e", nil}, // whole, although the beginning of another
		{"c1", "", errdefs.ErrInvalidArgument},
		{"default/old", "", errdefs.ErrInvalidArgument},
		{"web", "", errdefs.ErrNotFound},
		{"", "", errdefs.ErrNotFound},
	} {
		got, err := find(records, tt.name)
		if got.SandboxID != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("%q: got %q, %v, want %q, %v", tt.name, got.SandboxID, err, tt.want, tt.err)
		}
	}
	if _, err := find(records, "c1"); !strings.Contains(err.Error(), "c18523ad5313 (default/web), c1ba6419b12f (default/client)") {
		t.Errorf("error %v", err)
	}
}
