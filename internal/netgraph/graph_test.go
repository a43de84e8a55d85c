package netgraph

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"

	"github.com/mascri/mascri/internal/golden"
	"github.com/mascri/mascri/internal/netview"
	"github.com/mascri/mascri/internal/network"
	"github.com/mascri/mascri/internal/pod"
)

// busy is a node that has one of everything.
func busy() netview.Node {
	prefix, addr := netip.MustParsePrefix, netip.MustParseAddr
	cni0 := netview.Link{Name: "cni0", Kind: "bridge", MTU: 1500, Up: true, Ports: 4, Addresses: []netip.Prefix{prefix("10.88.0.1/16"), prefix("fd7c:5a:1:2::1/64"), prefix("fe80::1/64")}}
	eth0 := netview.Link{Name: "eth0", Kind: "device", MTU: 1500, Up: true, Addresses: []netip.Prefix{prefix("192.0.2.7/24"), prefix("2001:db8::7/64")}}
	bridged := func(name, veth, ip string, in, out uint64, ports ...network.Port) netview.Pod {
		return netview.Pod{
			ID: fmt.Sprintf("%064d", 1), Pod: name, Phase: pod.Attached, Network: "podnet", IPs: []netip.Addr{addr(ip)}, MAC: "6a:cc:3e:15:18:a1", Kind: "veth",
			Host: netview.HostSide{Link: veth, Bridge: "cni0"}, Ports: ports, Received: netview.Traffic{Bytes: in}, Sent: netview.Traffic{Bytes: out},
		}
	}
	web := bridged("default/web", "veth1a2b3c4d", "10.88.0.2", 1_890_000_000, 66_000_000,
		network.Port{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"}, network.Port{HostIP: "2001:db8::7", HostPort: 53, ContainerPort: 5353, Protocol: "udp"})
	web.IPs = append(web.IPs, addr("fd7c:5a:1:2::2"))
	return netview.Node{
		Uplinks: []netview.Link{eth0},
		Networks: []netview.Network{
			{Name: "podnet", Links: []netview.Link{cni0}},
			{Name: "lan", Links: []netview.Link{eth0, {Name: "gone0"}}},
			{Name: "spare", Links: []netview.Link{{Name: "br-spare", Kind: "bridge", MTU: 1400}}},
		},
		Pods: []netview.Pod{
			bridged("default/client", "veth5e6f7a8b", "10.88.0.3", 0, 726),
			web,
			bridged("kube-system/coredns-5d78c9869d-with-a-long-name-abcde", "veth9c0d1e2f", "10.88.0.4", 12_000, 9_000),
			{Pod: "default/lan", Phase: pod.Attached, IPs: []netip.Addr{addr("192.0.2.88")}, Kind: "macvlan", Host: netview.HostSide{Link: "eth0"}, Sent: netview.Traffic{Bytes: 5_000_000}},
			{Pod: "default/ptp", Phase: pod.Attached, IPs: []netip.Addr{addr("10.90.0.2")}, Kind: "veth", Host: netview.HostSide{Link: "veth33445566"}},
			{Pod: "default/old <&\"'>", Phase: pod.Detaching, IPs: []netip.Addr{addr("10.88.0.9")}, Problem: "the network namespace is not pinned at /run/netns/cni-5e0a6419b12f7ce6feb53bdcdd154c49"},
		},
	}
}

func TestSVGIsWellFormedAndHoldsTheFacts(t *testing.T) {
	var b bytes.Buffer
	if err := WriteSVG(&b, busy()); err != nil {
		t.Fatal(err)
	}
	golden.Compare(t, "busy.svg", b.Bytes())
	text := textOf(t, b.Bytes())
	for _, want := range []string{
		"eth0", "192.0.2.7/24", "2001:db8::7/64", "cni0", "bridge, 4 ports, mtu 1500", "10.88.0.1/16", "br-spare", "DOWN",
		"default/web", "10.88.0.2 fd7c:5a:1:2::2", "veth1a2b3c4d", "in 1.9 GB, out 66.0 MB", "*:8080 -> 80/tcp", "[2001:db8::7]:53 -> 5353/udp",
		"default/client", "in 0 B, out 726 B", "kube-system/coredns-5d78c9869d-with-a-long-name-abcde", // whole, as a tooltip
		"macvlan", routed, "veth33445566", `default/old <&"'>`, "detaching", "not pinned",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in the picture's text:\n%s", want, text)
		}
	}
	for _, not := range []string{"gone0", "fe80::1"} {
		if strings.Contains(text, not) {
			t.Errorf("%q is in the picture", not)
		}
	}
}

// textOf parses XML to its end and returns its text, a space between parts.
func textOf(t *testing.T, data []byte) string {
	t.Helper()
	var b strings.Builder
	decoder := xml.NewDecoder(bytes.NewReader(data))
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return strings.Join(strings.Fields(b.String()), " ")
		}
		if err != nil {
			t.Fatalf("not well-formed: %v", err)
		}
		if text, ok := token.(xml.CharData); ok {
			b.Write(text)
			b.WriteByte(' ')
		}
	}
}

func TestMermaid(t *testing.T) {
	var b bytes.Buffer
	if err := WriteMermaid(&b, busy()); err != nil {
		t.Fatal(err)
	}
	golden.Compare(t, "busy.mmd", b.Bytes())
}

func TestEmptyNode(t *testing.T) {
	var svg, mermaid bytes.Buffer
	if err := errors.Join(WriteSVG(&svg, netview.Node{}), WriteMermaid(&mermaid, netview.Node{})); err != nil {
		t.Fatal(err)
	}
	if text := textOf(t, svg.Bytes()); !strings.Contains(text, emptyText) {
		t.Errorf("text %s", text)
	}
	if !strings.HasPrefix(mermaid.String(), "flowchart LR\n") {
		t.Errorf("mermaid %s", mermaid.String())
	}
}

// Boxes of one column are apart, however many there are.
func TestBoxesDoNotOverlap(t *testing.T) {
	node := busy()
	for i := range 40 {
		p := node.Pods[i%6]
		p.Pod = fmt.Sprintf("many/pod-%d", i)
		node.Pods = append(node.Pods, p)
	}
	var p picture
	g := plan(node)
	bottom := p.pods(g)
	p.uplinks(g, head, bottom)
	for i, a := range p.boxes {
		if a.y+a.high > bottom || a.y < head {
			t.Errorf("%s is outside", a.title)
		}
		for _, b := range p.boxes[:i] {
			if a.x == b.x && a.y < b.y+b.high && b.y < a.y+a.high {
				t.Errorf("%s and %s overlap", a.title, b.title)
			}
		}
	}
}
