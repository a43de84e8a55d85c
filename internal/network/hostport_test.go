package network

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/netns"
	"github.com/mascri/mascri/internal/pod"
)

const portmap = `{"type": "portmap", "snat": true, "capabilities": {"portMappings": true}}`

func TestHostPortsThatOverlap(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want bool
	}{
		{" 80/tcp", " 80/tcp", true},
		{" 80/tcp", " 80/udp", false},
		{" 80/tcp", " 81/tcp", false},
		{" 80/tcp", "127.0.0.1 80/tcp", true},
		{" 80/tcp", "::1 80/tcp", true},
		{" 80/tcp", "0.0.0.0 80/tcp", true},
		{"0.0.0.0 80/tcp", "127.0.0.1 80/tcp", true},
		{"0.0.0.0 80/tcp", "::1 80/tcp", false},
		{":: 80/tcp", "::1 80/tcp", true},
		{":: 80/tcp", "0.0.0.0 80/tcp", false},
		{"::ffff:127.0.0.1 80/tcp", "127.0.0.1 80/tcp", true},
		{"127.0.0.1 80/tcp", "127.0.0.1 80/tcp", true},
		{"127.0.0.1 80/tcp", "127.0.0.2 80/tcp", false},
		{" 80/sctp", "0.0.0.0 80/sctp", true},
	} {
		ports := func(text string) hostPort {
			t.Helper()
			addr, rest, _ := strings.Cut(text, " ")
			var p portMapping
			if _, err := fmt.Sscanf(strings.Replace(rest, "/", " ", 1), "%d %s", &p.HostPort, &p.Protocol); err != nil {
				t.Fatal(err)
			}
			p.HostIP = addr
			rec := goodRecord()
			rec.Capabilities[capPortMappings] = encode(t, []portMapping{p})
			got, err := rec.hostPorts()
			if err != nil || len(got) != 1 {
				t.Fatalf("%q: %v, %v", text, got, err)
			}
			return got[0]
		}
		a, b := ports(tc.a), ports(tc.b)
		if a.overlaps(b) != tc.want || b.overlaps(a) != tc.want {
			t.Errorf("%q and %q: %v and %v, want %v", tc.a, tc.b, a.overlaps(b), b.overlaps(a), tc.want)
		}
	}
}

// asking is a sandbox that asks for a host port.
func (n *node) asking(id string, m *cri.PortMapping) pod.AttachRequest {
	n.t.Helper()
	req := n.sandbox(id)
	req.PortMappings = []*cri.PortMapping{m}
	return req
}

// A host port that is taken is refused before ADD, in the owner's name, also after a
// restart, and is free again with its owner's end.
func TestAHostPortThatIsTaken(t *testing.T) {
	n := newNode(t)
	n.write("10-bridge.conflist", n.bridge(portmap))
	n.start()
	owner := n.attach(n.asking("owner", &cri.PortMapping{HostPort: 8080, ContainerPort: 80, HostIp: "10.88.0.1"}))
	n.start()
	n.cfg.Step = func(name string) { t.Errorf("step %s is done", name) }
	n.start()
	req := n.asking("late", &cri.PortMapping{HostPort: 8080, ContainerPort: 81, HostIp: "0.0.0.0"})

	_, err := n.Attach(t.Context(), req)

	if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "host port 8080/tcp on 0.0.0.0 is taken by pod default/pod-owner") || !strings.Contains(err.Error(), owner.SandboxID) {
		t.Errorf("error is %v", err)
	}
	if _, ok := n.Attachment(req.SandboxID); ok {
		t.Error("the refused one has an attachment")
	}
	n.cfg.Step = nil
	n.start()
	udp := n.attach(n.asking("udp", &cri.PortMapping{HostPort: 8080, ContainerPort: 81, Protocol: cri.Protocol_UDP}))
	n.detach(owner.SandboxID)
	late := n.attach(req)
	n.detach(udp.SandboxID)
	n.detach(late.SandboxID)
	n.nothingLeft()
}

// Of many that ask for one port at the same time, one gets it.
func TestAHostPortIsGivenOnce(t *testing.T) {
	n := newNode(t)
	n.write("10-bridge.conflist", n.bridge(portmap))
	n.start()
	const many = 8
	var reqs []pod.AttachRequest
	for i := range many {
		reqs = append(reqs, n.asking(fmt.Sprint(i), &cri.PortMapping{HostPort: 8080, ContainerPort: 80}))
	}
	errs := make([]error, many)
	var group sync.WaitGroup
	for i, req := range reqs {
		group.Go(func() { _, errs[i] = n.Attach(t.Context(), req) })
	}
	group.Wait()
	given := 0
	for i, err := range errs {
		switch {
		case err == nil:
			given++
		case !errdefs.IsFailedPrecondition(err):
			t.Errorf("error is %v", err)
		}
		n.detach(reqs[i].SandboxID)
	}
	if given != 1 {
		t.Errorf("%d got the port", given)
	}
	n.nothingLeft()
}

// What the dirty queue still has mapped is not given away; what it has not, is.
func TestHostPortsOfTheDirtyQueue(t *testing.T) {
	for name, behind := range map[string]bool{"portmap is done": true, "portmap is missing": false} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			bin := t.TempDir()
			goes := filepath.Join(bin, "goes")
			target := filepath.Join(n.cfg.BinDirs[0], "portmap")
			plugins := []string{portmap, `{"type": "goes"}`}
			if behind {
				target = filepath.Join(n.cfg.BinDirs[1], "chaosplugin")
			} else {
				plugins = []string{strings.Replace(portmap, `"portmap"`, `"goes"`, 1)}
			}
			if err := os.Symlink(target, goes); err != nil {
				t.Fatal(err)
			}
			n.cfg.BinDirs = append(n.cfg.BinDirs, bin)
			n.write("10-bridge.conflist", n.bridge(plugins...))
			n.start()
			mapping := &cri.PortMapping{HostPort: 8080, ContainerPort: 80}
			first := n.attach(n.asking("first", mapping))
			if err := os.Remove(goes); err != nil {
				t.Fatal(err)
			}
			n.detach(first.SandboxID)
			n.wantDirty(first, `"goes" not found`)
			n.write("10-bridge.conflist", n.bridge(portmap))
			n.start()

			_, err := n.Attach(t.Context(), n.asking("second", mapping))

			if behind != (err == nil) || err != nil && (!errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "was removed, but can't be detached")) {
				t.Errorf("error is %v", err)
			}
			if err := os.Symlink(target, goes); err != nil {
				t.Fatal(err)
			}
			n.detach(sandboxID("second"))
			n.start().run()
			n.nothingLeft()
		})
	}
}

// within runs do in the network namespace of an attachment.
func (n *node) within(a pod.Attachment, do func() error) error {
	return netns.At(a.NetnsPath, do)
}

// serve answers in the pod with its name, until the test ends.
func (n *node) serve(a pod.Attachment, network, address string) {
	n.t.Helper()
	name := []byte(a.Pod)
	err := n.within(a, func() error {
		if network == "udp" {
			conn, err := net.ListenPacket(network, address)
			if err != nil {
				return err
			}
			n.t.Cleanup(func() { conn.Close() })
			go func() {
				buffer := make([]byte, 100)
				for {
					_, from, err := conn.ReadFrom(buffer)
					if err != nil {
						return
					}
					_, _ = conn.WriteTo(name, from)
				}
			}()
			return nil
		}
		listener, err := net.Listen(network, address)
		if err != nil {
			return err
		}
		n.t.Cleanup(func() { listener.Close() })
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				_, _ = conn.Write(name)
				conn.Close()
			}
		}()
		return nil
	})
	if err != nil {
		n.t.Fatal(err)
	}
}

// ask returns what answers at an address of TCP.
func ask(address string) (answer string, err error) {
	conn, err := net.DialTimeout("tcp", address, 2*time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	err = conn.SetDeadline(time.Now().Add(2 * time.Second))
	text, e := io.ReadAll(conn)
	return string(text), errors.Join(err, e)
}

// A host port is reached from the node, by loopback too, from other pods and from the pod
// itself, in both families.
func TestHostPortsAreReached(t *testing.T) {
	n := newNode(t)
	dual := strings.Replace(n.bridge(portmap), `"subnet": "10.88.0.0/16"`, `"ranges": [[{"subnet": "10.88.0.0/16"}], [{"subnet": "fd88::/64"}]]`, 1)
	n.write("10-bridge.conflist", strings.Replace(dual, `{"dst": "0.0.0.0/0"}`, `{"dst": "0.0.0.0/0"}, {"dst": "::/0"}`, 1))
	n.start()
	a := n.attach(n.asking("a", &cri.PortMapping{HostPort: 8080, ContainerPort: 80}))
	b := n.attach(n.sandbox("b"))
	n.serve(a, "tcp", ":80")
	for name, from := range map[string]func(func() error) error{
		"the node":       func(do func() error) error { return do() },
		"another pod":    func(do func() error) error { return n.within(b, do) },
		"the pod itself": func(do func() error) error { return n.within(a, do) },
	} {
		addresses := []string{"10.88.0.1:8080", "[fd88::1]:8080"}
		if name == "the node" {
			addresses = append(addresses, "127.0.0.1:8080")
		}
		for _, address := range addresses {
			var answer string
			var err error
			for range 20 { // IPv6 addresses are held back by the kernel for a second or two
				if err = from(func() (err error) { answer, err = ask(address); return err }); err == nil {
					break
				}
				time.Sleep(200 * time.Millisecond)
			}
			if answer != a.Pod {
				t.Errorf("from %s, %s answers %q, %v", name, address, answer, err)
			}
		}
	}
	n.detach(a.SandboxID)
	n.detach(b.SandboxID)
	n.nothingLeft()
}

// SCTP is mapped where the kernel has it.
func TestHostPortsOfSCTP(t *testing.T) {
	n := newNode(t)
	n.write("10-bridge.conflist", n.bridge(portmap))
	n.start()
	a, err := n.Attach(t.Context(), n.asking("a", &cri.PortMapping{HostPort: 8080, ContainerPort: 80, Protocol: cri.Protocol_SCTP}))
	if err != nil {
		if out, e := exec.Command("iptables", "-t", "nat", "-A", "OUTPUT", "-p", "sctp", "--dport", "1", "-j", "RETURN").CombinedOutput(); e != nil {
			t.Skipf("the kernel has no SCTP: %s", out)
		}
		t.Fatal(err)
	}
	rules, err := exec.Command("iptables-save", "-t", "nat").Output()
	if err != nil || !strings.Contains(string(rules), "-p sctp -m sctp --dport 8080 -j DNAT --to-destination "+a.IPs[0].String()+":80") {
		t.Errorf("rules are %s, %v", rules, err)
	}
	n.detach(a.SandboxID)
	n.nothingLeft()
}

// A client that never stops sending must not be led to a pod that is gone.
func TestUDPConnectionsAreForgotten(t *testing.T) {
	n := newNode(t)
	n.write("10-bridge.conflist", n.bridge(portmap))
	n.start()
	mapping := &cri.PortMapping{HostPort: 5353, ContainerPort: 53, Protocol: cri.Protocol_UDP}
	a := n.attach(n.asking("a", mapping))
	n.serve(a, "udp", ":53")
	bystander := n.attach(n.asking("b", &cri.PortMapping{HostPort: 5354, ContainerPort: 53, Protocol: cri.Protocol_UDP}))
	n.serve(bystander, "udp", ":53")
	client := n.attach(n.sandbox("client"))
	for _, address := range []string{"10.88.0.1:5353", "10.88.0.1:5354"} {
		var conn net.Conn
		if err := n.within(client, func() (err error) { conn, err = net.Dial("udp", address); return err }); err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		buffer := make([]byte, 100)
		if err := errors.Join(conn.SetDeadline(time.Now().Add(5*time.Second)), send(conn)); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(buffer); err != nil {
			t.Fatalf("%s: %v", address, err)
		}
	}
	if n.connectionsTo(a) == 0 || n.connectionsTo(bystander) == 0 {
		t.Fatal("the kernel tracks no connection: this test shows nothing")
	}

	n.detach(a.SandboxID)

	if got := n.connectionsTo(a); got != 0 {
		t.Errorf("%d connections lead to the pod that is gone", got)
	}
	if n.connectionsTo(bystander) == 0 {
		t.Error("the connection to another pod is forgotten, too")
	}
	n.detach(bystander.SandboxID)
	n.detach(client.SandboxID)
	n.nothingLeft()
}

func send(conn net.Conn) error {
	_, err := conn.Write([]byte("x"))
	return err
}

// connectionsTo counts the tracked UDP connections that are answered by a pod.
func (n *node) connectionsTo(a pod.Attachment) (count int) {
	n.t.Helper()
	flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
	if err != nil {
		n.t.Fatal(err)
	}
	for _, flow := range flows {
		if from, ok := netip.AddrFromSlice(flow.Reverse.SrcIP); ok && from.Unmap() == a.IPs[0] && flow.Forward.Protocol == unix.IPPROTO_UDP {
			count++
		}
	}
	return count
}

// ADD may fail after portmap did its part: nobody knows the address then.
func TestConnectionsOfAFailedAdd(t *testing.T) {
	rec := goodRecord()
	rec.IPs = nil
	rec.Capabilities[capPortMappings] = encode(t, []portMapping{{HostPort: 53, Protocol: "udp"}, {HostPort: 54, Protocol: "tcp"}, {HostPort: 55, Protocol: "udp", HostIP: "::1"}})
	filters, err := connectionFilters(rec)
	if err != nil || len(filters[unix.AF_INET]) != 1 || len(filters[unix.AF_INET6]) != 2 {
		t.Errorf("filters are %v, %v", filters, err)
	}
}
