package netview

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/mascri/mascri/internal/golden"
	"github.com/mascri/mascri/internal/network/firewall/netlab"
	"github.com/mascri/mascri/internal/table"
)

func TestProbingAsText(t *testing.T) {
	p := Probing{Steps: []Step{
		{Step: "eth0", Verdict: Passed, Message: "up, connected to veth1a2b3c4d on cni0"},
		{Step: "gateway", Verdict: Failed, Message: "nobody answers for 10.88.0.1 on the link: no interface of the node has it; cni0 should", Hop: "cni0"},
		{Step: "pod", Verdict: Skipped, Message: "there is no other pod on this node"},
	}}
	var b, coloured bytes.Buffer
	for w, colour := range map[*bytes.Buffer]bool{&b: false, &coloured: true} {
		if err := p.WriteText(w, colour); err != nil {
			t.Fatal(err)
		}
	}
	golden.Compare(t, "probe.txt", b.Bytes())
	fits(t, b.String())
	if !strings.Contains(coloured.String(), table.Red+"fail"+table.Plain) || strings.Contains(b.String(), "\x1b") {
		t.Errorf("in colour:\n%q", coloured.String())
	}
}

// probed runs a probe and returns its steps, one a line.
func (l *lab) probed(aim Aim) string {
	l.t.Helper()
	p, err := Probe(l.t.Context(), l.state, "default/web", aim)
	if err != nil {
		l.t.Fatal(err)
	}
	var lines []string
	failed := false
	for _, s := range p.Steps {
		lines = append(lines, fmt.Sprintf("%s %s: %s @%s", s.Verdict, s.Step, s.Message, s.Hop))
		failed = failed || s.Verdict == Failed
		if s.Verdict == Failed && s.Hop == "" {
			l.t.Errorf("no hop: %+v", s)
		}
	}
	if p.OK == failed {
		l.t.Errorf("OK is %t", p.OK)
	}
	return strings.Join(lines, "\n")
}

// want fails the test unless each part begins a line, and the rest of the part is in it.
func want(t *testing.T, what, steps string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		head, words, _ := strings.Cut(part, ": ")
		found := false
		for line := range strings.SplitSeq(steps, "\n") {
			all := strings.HasPrefix(line, head+":")
			for word := range strings.SplitSeq(words, " … ") {
				all = all && strings.Contains(line, word)
			}
			found = found || all
		}
		if !found {
			t.Errorf("%s: no %q in\n%s", what, part, steps)
		}
	}
}

func TestProbeNamesTheFailingHop(t *testing.T) {
	l := newLab(t, bridgeList)
	if l == nil {
		return
	}
	netlab.Outside(t)
	netlab.Run(t, "ip -n outside route add 10.88.0.0/24 via 192.0.2.1")
	web := l.run("web")
	steps := l.probed(Aim{})
	want(t, "alone", steps, "ok eth0: up … on cni0", "ok gateway: 10.88.0.1 answers", "skip pod: no other pod", "skip DNS: names no server", "ok MTU: 1500 bytes … 10.88.0.1")

	client := l.run("client")
	l.resolv(web.IPs[0].String(), "nameserver 10.88.0.1\n")
	serveDNS(t)
	steps = l.probed(Aim{Name: "web.example.com"})
	want(t, "healthy", steps, "ok gateway: fd00:88::1 answers", "ok pod: default/client (10.88.0.3) answers", "ok pod: default/client (fd00:88::3)",
		"ok DNS: 10.88.0.1 answers … web.example.com is 198.51.100.7", "ok MTU: 10.88.0.3")
	want(t, "healthy", l.probed(Aim{}), "ok DNS: 10.88.0.1 answers")
	want(t, "unknown name", l.probed(Aim{Name: "none.example.com"}), "fail DNS: no address of none.example.com (NXDOMAIN … @10.88.0.1")
	want(t, "outside", l.probed(Aim{To: "192.0.2.2"}), "ok address: 192.0.2.2 answers", "ok MTU: 192.0.2.2")

	node, err := Look(t.Context(), l.sources())
	if err != nil {
		t.Fatal(err)
	}
	veth := node.Pods[0].Host.Link // the client's
	for _, tt := range []struct {
		name, spoil, mend string
		aim               Aim
		want              []string
	}{
		{"eth0 is down", "ip -n WEB link set eth0 down", "ip -n WEB link set eth0 up; ip -n WEB route add default via 10.88.0.1; ip -n WEB addr replace fd00:88::2/64 dev eth0 nodad", Aim{},
			[]string{"fail eth0: eth0 of the pod is down @eth0"}},
		{"the bridge is down", "ip link set cni0 down", "ip link set cni0 up; ip addr replace fd00:88::1/64 dev cni0 nodad; ip route replace 10.88.0.0/24 dev cni0", Aim{},
			[]string{"fail eth0: cni0 is down … @cni0"}},
		{"an address is gone", "ip -n WEB addr del 10.88.0.2/24 dev eth0", "ip -n WEB addr add 10.88.0.2/24 dev eth0; ip -n WEB route add default via 10.88.0.1", Aim{},
			[]string{"fail eth0: 10.88.0.2 … @eth0"}},
		{"the gateway's address is gone", "ip addr del 10.88.0.1/24 dev cni0; ip -n WEB neigh flush dev eth0", "ip addr add 10.88.0.1/24 dev cni0", Aim{},
			[]string{"fail gateway: nobody answers for 10.88.0.1 … no interface of the node has it … @cni0", "ok pod: default/client (10.88.0.3)"}},
		{"a firewall drops ping", "iptables -I INPUT -p icmp -j DROP", "iptables -D INPUT -p icmp -j DROP", Aim{},
			[]string{"fail gateway: 10.88.0.1 is there … a firewall drops it … @10.88.0.1"}},
		{"the other pod's link is down", "ip link set " + veth + " down", "ip link set " + veth + " up", Aim{To: "default/client"},
			[]string{"ok gateway: 10.88.0.1", "fail pod: @default/client, " + veth}},
		{"FORWARD drops on the bridge", "echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables; iptables -P FORWARD DROP", "iptables -P FORWARD ACCEPT", Aim{},
			[]string{"ok gateway: 10.88.0.1", "fail pod: default/client (10.88.0.3) does not answer … a firewall drops … @cni0"}},
		{"FORWARD drops on the way out", "iptables -P FORWARD DROP", "iptables -P FORWARD ACCEPT", Aim{To: "192.0.2.2"},
			[]string{"fail address: 192.0.2.2 does not answer … @after 10.88.0.1"}},
		{"a narrow port of the bridge", "ip link set " + veth + " mtu 1300", "ip link set " + veth + " mtu 1500", Aim{},
			[]string{"fail MTU: 1500 bytes, and only 1300 get through to 10.88.0.3 @between the pod and 10.88.0.3", "ok MTU: 10.88.0.1"}},
		{"a narrow link behind the node", "ip link set up0 mtu 1400", "ip link set up0 mtu 1500", Aim{To: "192.0.2.2"},
			[]string{"fail MTU: only 1400 … @after 10.88.0.1, whose next link takes 1400"}},
		{"nobody has the address", "true", "true", Aim{To: "10.88.0.99"}, []string{"fail address: nobody answers for it on the link … @cni0"}},
	} {
		shell := strings.NewReplacer("WEB", filepath.Base(web.NetnsPath)).Replace
		netlab.Run(t, shell(tt.spoil))
		want(t, tt.name, l.probed(tt.aim), tt.want...)
		netlab.Run(t, shell(tt.mend))
	}

	l.resolv(web.IPs[0].String(), "search a.b\nnameserver 127.0.0.53\nnameserver 192.0.2.2\nnameserver 192.0.2.77\n")
	want(t, "bad servers", l.probed(Aim{}), "fail DNS: 127.0.0.53 is the pod's own loopback", "fail DNS: 192.0.2.2 can't be asked … refused … @192.0.2.2",
		"fail DNS: 192.0.2.77 does not answer … @after 10.88.0.1")

	netlab.Run(t, "umount "+client.NetnsPath)
	if _, err := Probe(t.Context(), l.state, "default/client", Aim{}); err == nil || !strings.Contains(err.Error(), "not pinned") {
		t.Errorf("error %v", err)
	}
	if _, err := Probe(t.Context(), l.state, "default/web", Aim{To: "default/none"}); err == nil {
		t.Error("a pod that there is not is probed")
	}
}

// resolv writes the files that a daemon keeps for the sandbox with the given IP.
func (l *lab) resolv(ip, text string) {
	l.t.Helper()
	dir := filepath.Join(l.state, "sandboxes", "x")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		l.t.Fatal(err)
	}
	for name, text := range map[string]string{"hosts": ip + "\tweb\n", "resolv.conf": text} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			l.t.Fatal(err)
		}
	}
}

// serveDNS answers on the node, for web.example.com only.
func serveDNS(t *testing.T) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "10.88.0.1:53")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buffer := make([]byte, 1500)
		for {
			n, peer, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buffer[:n]) != nil {
				continue
			}
			m.Response = true
			switch q := m.Questions[0]; q.Name.String() {
			case "web.example.com.":
				m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class}, Body: &dnsmessage.AResource{A: [4]byte{198, 51, 100, 7}}}}
			case ".":
			default:
				m.RCode = dnsmessage.RCodeNameError
			}
			if packet, err := m.Pack(); err == nil {
				_, _ = conn.WriteTo(packet, peer)
			}
		}
	}()
}
