package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/mascri/mascri/internal/rtnetlink"
)

// inNetns runs f in the network namespace at path. Sockets that f opens stay in there.
func inNetns(t *testing.T, path string, f func()) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		// Not unlocked: the thread ends with this goroutine, in whatever namespace it is.
		runtime.LockOSThread()
		done <- func() error {
			ns, err := netns.GetFromPath(path)
			if err != nil {
				return fmt.Errorf("netns %s: %w", path, err)
			}
			defer ns.Close()
			if err := netns.Set(ns); err != nil {
				return fmt.Errorf("enter netns %s: %w", path, err)
			}
			f()
			return nil
		}()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// nodeNetns is the path of the node's own network namespace, which is the tests': pid 1
// stays in there, whatever threads of this process do.
const nodeNetns = "/proc/1/ns/net"

// server answers every TCP connection to it with the client's address as it sees it.
func server(t *testing.T, netnsPath string, port int) {
	t.Helper()
	// One for each family: whether a single one can have both, Go asks once for the whole
	// process, and maybe in a network namespace without IPv6.
	for _, network := range []string{"tcp4", "tcp6"} {
		var listener net.Listener
		var err error
		inNetns(t, netnsPath, func() { listener, err = net.Listen(network, fmt.Sprintf(":%d", port)) })
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { listener.Close() })
		go answer(listener)
	}
}

// answer tells each client its address, until listener is closed.
func answer(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		fmt.Fprintln(conn, conn.RemoteAddr().(*net.TCPAddr).IP)
		conn.Close()
	}
}

// dial connects from one network namespace to an address and returns what the server
// there sees as the client's.
func dial(t *testing.T, netnsPath string, to netip.Addr, port int) (seen string, err error) {
	t.Helper()
	var conn net.Conn
	inNetns(t, netnsPath, func() {
		conn, err = net.DialTimeout("tcp", netip.AddrPortFrom(to, uint16(port)).String(), 3*time.Second)
	})
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(3 * time.Second)); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if errors.Is(err, io.EOF) && line != "" {
		err = nil
	}
	return strings.TrimSpace(line), err
}

// wantDial checks that from can connect to an address and is seen there as client.
func wantDial(t *testing.T, what, from string, to netip.Addr, port int, client netip.Addr) {
	t.Helper()
	seen, err := dial(t, from, to, port)
	if err != nil {
		t.Errorf("%s: %v", what, err)
		return
	}
	if got, err := netip.ParseAddr(seen); err != nil || got.Unmap() != client {
		t.Errorf("%s: the server sees %q, want %s", what, seen, client)
	}
}

// outside is another host: a network namespace behind a veth, with no route to any pod.
type outside struct {
	netns      string
	v4, v6     netip.Addr // its own addresses
	node4      netip.Addr // the node's addresses on the link
	node6      netip.Addr
	linkOnNode string
}

func newOutside(t *testing.T) outside {
	t.Helper()
	o := outside{
		netns: filepath.Join("/run/netns", "outside"),
		v4:    netip.MustParseAddr("198.51.100.2"), node4: netip.MustParseAddr("198.51.100.1"),
		v6: netip.MustParseAddr("2001:db8::2"), node6: netip.MustParseAddr("2001:db8::1"),
		linkOnNode: "uplink0",
	}
	for _, args := range [][]string{
		{"netns", "add", "outside"},
		{"link", "add", o.linkOnNode, "type", "veth", "peer", "name", "eth0", "netns", "outside"},
		{"addr", "add", o.node4.String() + "/24", "dev", o.linkOnNode},
		{"addr", "add", o.node6.String() + "/64", "dev", o.linkOnNode, "nodad"},
		{"link", "set", o.linkOnNode, "up"},
		{"-n", "outside", "addr", "add", o.v4.String() + "/24", "dev", "eth0"},
		{"-n", "outside", "addr", "add", o.v6.String() + "/64", "dev", "eth0", "nodad"},
		{"-n", "outside", "link", "set", "eth0", "up"},
		{"-n", "outside", "link", "set", "lo", "up"},
	} {
		run(t, "ip", args...)
	}
	t.Cleanup(func() {
		run(t, "ip", "link", "del", o.linkOnNode) // at once, unlike by the end of the netns
		run(t, "ip", "netns", "del", "outside")
	})
	return o
}

// veths returns the names of the node's veths that are ports of a bridge.
func veths(t *testing.T) (names []string) {
	t.Helper()
	links, err := rtnetlink.Dump(netlink.LinkList)
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if link.Type() == "veth" && link.Attrs().MasterIndex != 0 {
			names = append(names, link.Attrs().Name)
		}
	}
	return names
}

// files returns the names in a directory; one that does not exist is empty.
func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

// waitDial waits until from can connect to an address.
func waitDial(t *testing.T, what, from string, to netip.Addr, port int) {
	t.Helper()
	var err error
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); {
		if _, err = dial(t, from, to, port); err == nil {
			return
		}
	}
	t.Errorf("%s: %v", what, err)
}
