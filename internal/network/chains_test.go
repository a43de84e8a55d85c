package network

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mascri/mascri/internal/netns"
	"github.com/mascri/mascri/internal/network/firewall/netlab"
	"github.com/mascri/mascri/internal/pod"
)

// chain is a conflist of standard plugins, and what a pod on it must have and reach.
type chain struct {
	name    string
	plugins string
	needs   string // a kind of interface that the kernel may lack
	ips     string
	node    string // the node as the pod reaches it; "": it must not, as with macvlan
	seen    string // the pod as the outside sees it; "": the outside is not reached
	check   string // run in the pod, prints "ok"
}

// Addresses in the lab: 192.0.2.1 is the node's on up0, 192.0.2.2 the outside.
func chains(ipam string) []chain {
	local := func(subnets ...string) string {
		var ranges []string
		for _, s := range subnets {
			ranges = append(ranges, fmt.Sprintf(`[{"subnet": %q}]`, s))
		}
		return fmt.Sprintf(`{"type": "host-local", "dataDir": %q, "ranges": [%s], "routes": [{"dst": "0.0.0.0/0"}]}`, ipam, strings.Join(ranges, ", "))
	}
	const static = `{"type": "static", "addresses": [{"address": "192.0.2.50/24", "gateway": "192.0.2.2"}], "routes": [{"dst": "0.0.0.0/0"}]}`
	bridge := func(ipam string) string {
		return `{"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "ipam": ` + ipam + `}`
	}
	subnet := local("10.88.0.0/24")
	return []chain{
		{name: "bridge", plugins: bridge(subnet), ips: "10.88.0.2", node: "10.88.0.1", seen: "192.0.2.1"},
		{name: "bridge, dual stack", plugins: bridge(local("10.88.0.0/24", "fd00:88::/64")), ips: "10.88.0.2 fd00:88::2", node: "10.88.0.1", seen: "192.0.2.1"},
		{name: "bridge with static", plugins: `{"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "ipam": {"type": "static", "addresses": [{"address": "10.88.0.77/24", "gateway": "10.88.0.1"}], "routes": [{"dst": "0.0.0.0/0"}]}}`,
			ips: "10.88.0.77", node: "10.88.0.1", seen: "192.0.2.1"},
		{name: "bridge, tuning", plugins: bridge(subnet) + `, {"type": "tuning", "mtu": 1400, "mac": "02:00:00:00:00:09", "sysctl": {"net.ipv4.conf.IFNAME.arp_notify": "1"}}`,
			ips: "10.88.0.2", node: "10.88.0.1", seen: "192.0.2.1",
			check: `cd /sys/class/net/eth0; [ "$(cat mtu address /proc/sys/net/ipv4/conf/eth0/arp_notify | xargs)" = "1400 02:00:00:00:00:09 1" ] && echo ok`},
		{name: "bridge, portmap, bandwidth, firewall, tuning",
			plugins: bridge(subnet) + `, {"type": "portmap", "capabilities": {"portMappings": true}}, {"type": "bandwidth", "ingressRate": 100000000, "ingressBurst": 10000000, "egressRate": 100000000, "egressBurst": 10000000},
				{"type": "firewall", "backend": "iptables"}, {"type": "tuning", "mtu": 1450}`,
			ips: "10.88.0.2", node: "10.88.0.1", seen: "192.0.2.1", check: `[ "$(cat /sys/class/net/eth0/mtu)" = 1450 ] && echo ok`},
		{name: "bridge, sbr", plugins: bridge(subnet) + `, {"type": "sbr"}`, ips: "10.88.0.2", node: "10.88.0.1", seen: "192.0.2.1",
			check: `ip rule | grep -q "from 10.88.0.2 lookup 100" && ip route show table 100 | grep -q "default via 10.88.0.1" && echo ok`},
		{name: "ptp", plugins: `{"type": "ptp", "ipMasq": true, "ipam": ` + subnet + `}`, ips: "10.88.0.2", node: "10.88.0.1", seen: "192.0.2.1"},
		{name: "ptp, portmap, firewall", plugins: `{"type": "ptp", "ipMasq": true, "mtu": 1300, "ipam": ` + subnet + `}, {"type": "portmap", "capabilities": {"portMappings": true}}, {"type": "firewall", "backend": "iptables"}`,
			ips: "10.88.0.2", node: "10.88.0.1", seen: "192.0.2.1", check: `[ "$(cat /sys/class/net/eth0/mtu)" = 1300 ] && echo ok`},
		{name: "macvlan with static", needs: "macvlan", plugins: `{"type": "macvlan", "master": "up0", "mode": "bridge", "ipam": ` + static + `}`, ips: "192.0.2.50", seen: "192.0.2.50"},
		{name: "macvlan, tuning, sbr", needs: "macvlan", plugins: `{"type": "macvlan", "master": "up0", "ipam": ` + static + `}, {"type": "tuning", "sysctl": {"net.ipv4.conf.all.arp_filter": "1"}}, {"type": "sbr"}`,
			ips: "192.0.2.50", seen: "192.0.2.50", check: `ip rule | grep -q "from 192.0.2.50 lookup 100" && [ "$(cat /proc/sys/net/ipv4/conf/all/arp_filter)" = 1 ] && echo ok`},
		{name: "ipvlan", needs: "ipvlan", plugins: `{"type": "ipvlan", "master": "up0", "ipam": ` + static + `}`, ips: "192.0.2.50", seen: "192.0.2.50"},
		{name: "ipvlan, tuning, sbr", needs: "ipvlan", plugins: `{"type": "ipvlan", "master": "up0", "mode": "l2", "ipam": ` + static + `}, {"type": "tuning", "mtu": 1400}, {"type": "sbr"}`, ips: "192.0.2.50", seen: "192.0.2.50"},
		{name: "vlan", needs: "vlan id 7", plugins: `{"type": "vlan", "master": "up0", "vlanId": 7, "ipam": {"type": "host-local", "dataDir": "` + ipam + `", "subnet": "10.77.0.0/24", "rangeStart": "10.77.0.10", "gateway": "10.77.0.2", "routes": [{"dst": "192.0.2.2/32", "gw": "10.77.0.2"}]}}`,
			ips: "10.77.0.10", seen: "10.77.0.10"},
	}
}

func TestChainsOfStandardPlugins(t *testing.T) {
	if !netlab.Isolate(t) {
		return
	}
	netlab.Outside(t).Serve(t, 8080)
	netlab.Host().Serve(t, 8081)
	for _, c := range chains("IPAM") {
		t.Run(c.name, func(t *testing.T) {
			if c.needs != "" {
				if out, err := exec.Command("sh", "-c", "ip link add link up0 name probe0 type "+c.needs+" && ip link delete probe0").CombinedOutput(); err != nil {
					t.Skipf("this kernel has no %s: %s", c.needs, out)
				}
			}
			if strings.HasPrefix(c.needs, "vlan") {
				netlab.Run(t, "ip -n outside link add link eth0 name eth0.7 type vlan id 7; ip -n outside addr add 10.77.0.2/24 dev eth0.7; ip -n outside link set eth0.7 up")
			}
			n := newPlainNode(t)
			plugins := strings.ReplaceAll(c.plugins, "IPAM", n.ipam)
			n.write("10-chain.conflist", fmt.Sprintf(`{"cniVersion": "1.0.0", "name": "podnet", "plugins": [%s]}`, plugins))
			n.start()
			// What the first pod of a network makes for all stays: bridge, common chains.
			n.attach(n.sandbox("first"))
			n.detach(sandboxID("first"))
			// It gets the address that the first pod had, as the range is small enough to be
			// begun anew.
			if err := os.RemoveAll(n.ipam); err != nil {
				t.Fatal(err)
			}
			before, state := n.left(), snapshotOfHost(t)
			a := n.attach(n.sandbox("a"))
			c.verify(t, a)
			n.detach(a.SandboxID)
			var diff string
			for range 20 { // an interface goes in the kernel's own time
				if diff = cmp.Diff(before, n.left(a.SandboxID)) + cmp.Diff(state, snapshotOfHost(t)); diff == "" {
					return
				}
				time.Sleep(100 * time.Millisecond)
			}
			t.Errorf("left by the pod (-before +after):\n%s", diff)
		})
	}
}

func (c chain) verify(t *testing.T, a pod.Attachment) {
	t.Helper()
	var ips []string
	for _, ip := range a.IPs {
		ips = append(ips, ip.String())
	}
	if got := strings.Join(ips, " "); got != c.ips {
		t.Errorf("IPs %s, want %s", got, c.ips)
	}
	for _, ip := range ips {
		if out := inPod(t, a, "ip", "-o", "addr", "show", "eth0"); !strings.Contains(out, " "+ip+"/") {
			t.Errorf("eth0 lacks %s: %s", ip, out)
		}
	}
	if c.node != "" {
		if seen, err := dialFrom(a, c.node+":8081"); err != nil || seen != ips[0] {
			t.Errorf("the node sees %q, want %s; error %v", seen, ips[0], err)
		}
	}
	if seen, err := dialFrom(a, "192.0.2.2:8080"); err != nil || seen != c.seen {
		t.Errorf("the outside sees %q, want %s; error %v", seen, c.seen, err)
	}
	if c.check != "" {
		if out := inPod(t, a, "sh", "-c", c.check); strings.TrimSpace(out) != "ok" {
			t.Errorf("%s: %s", c.check, out)
		}
	}
}

// dialFrom connects from a pod, and returns what the server there says.
//
// It binds its end to the pod's address, as the plugin sbr demands: its routes are only
// for what has that source.
func dialFrom(a pod.Attachment, address string) (string, error) {
	var text []byte
	err := netns.At(a.NetnsPath, func() error {
		dialer := net.Dialer{Timeout: 3 * time.Second, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(a.IPs[0], 0))}
		conn, err := dialer.Dial("tcp", address)
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(3 * time.Second)); err != nil {
			return err
		}
		text, err = io.ReadAll(conn)
		return err
	})
	return string(text), err
}

// Counters, and what a bridge without ports has of IPv6, change by themselves.
var fleeting = regexp.MustCompile(`(?m)^.*(fe80:|ff00:).*$|^(local|anycast) [0-9a-f:]+ dev cni0 .*$|tentative |dadfailed |linkdown |state \S+|<\S+>|link/ether \S+|\[\d+:\d+\]|^#.*$|(valid_lft|preferred_lft) \S+|qlen \d+|link-netns \S+|link-netnsid \d+|\(\S+ bytes?\)`)

// snapshotOfHost is all of the node's network that a pod may have changed.
func snapshotOfHost(t *testing.T) string {
	t.Helper()
	out := netlab.Run(t, `ip -o link; ip -o addr; ip route show table all; ip -6 route show table all; ip rule; iptables-save; ip6tables-save
		nft list tables; tc qdisc show | grep -v noqueue | grep -v pfifo || true; ls /run/netns`)
	var lines []string
	for line := range strings.Lines(fleeting.ReplaceAllString(out, "")) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

// The annotations shape what a pod receives and what it sends. The rates are low enough
// for any machine to be faster, and the same bytes are sent without them.
func TestBandwidthAnnotationsShapeTraffic(t *testing.T) {
	n := newNode(t)
	n.write("10-bridge.conflist", n.bridge(`{"type": "bandwidth", "capabilities": {"bandwidth": true}}`))
	n.start()
	free := n.attach(n.sandbox("free"))
	req := n.sandbox("shaped")
	req.Annotations = map[string]string{annotationIngress: "40M", annotationEgress: "20M"}
	shaped := n.attach(req)

	const size = 4 << 20
	for _, tt := range []struct {
		name string
		rate float64 // bits per second
		send bool
	}{
		{"ingress", 40e6, false},
		{"egress", 20e6, true},
	} {
		fast, slow := transfer(t, free, size, tt.send), transfer(t, shaped, size, tt.send)
		least := time.Duration(float64(size*8-burstOf(uint64(tt.rate))) / tt.rate * float64(time.Second))
		t.Logf("%s: %v unshaped, %v shaped, of which the rate demands %v", tt.name, fast, slow, least)
		if slow < 5*fast {
			t.Errorf("%s: shaped %v is not five times unshaped %v", tt.name, slow, fast)
		}
		if slow < least*9/10 || slow > 3*least {
			t.Errorf("%s: took %v, the rate demands %v", tt.name, slow, least)
		}
	}
	n.detach(free.SandboxID)
	n.detach(shaped.SandboxID)
	n.nothingLeft()
}

// transfer is how long it takes until the receiver has size bytes, of the node or the pod.
func transfer(t *testing.T, a pod.Attachment, size int64, send bool) time.Duration {
	t.Helper()
	listener, err := net.Listen("tcp", "10.88.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var inside net.Conn
	err = netns.At(a.NetnsPath, func() (err error) {
		inside, err = net.DialTimeout("tcp", listener.Addr().String(), 3*time.Second)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer inside.Close()
	outside, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer outside.Close()
	from, to := outside, inside
	if send {
		from, to = inside, outside
	}
	began := time.Now()
	wrote := make(chan error, 1)
	go func() {
		_, err := io.Copy(from, bytes.NewReader(make([]byte, size)))
		wrote <- err
	}()
	if _, err := io.CopyN(io.Discard, to, size); err != nil {
		t.Fatal(err)
	}
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	return time.Since(began)
}
