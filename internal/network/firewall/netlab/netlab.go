// Package netlab lets a test play with a host's network without touching the
// host's: the test runs in network and mount namespaces of its own, makes nodes in
// further ones, and connects them. All of it is gone with the test's process.
package netlab

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// isolated is set in the environment of a test that runs in its own namespaces.
const isolated = "MASCRI_NETLAB"

// Isolate runs the calling top-level test once more, in a process with new network
// and mount namespaces, empty /run and /var/lib, and lo up. There it returns true;
// in the original process it reports that run's result and returns false: the test
// has nothing left to do. Such tests run in parallel.
func Isolate(t *testing.T) bool {
	t.Helper()
	if os.Getenv(isolated) != "" {
		furnish(t)
		return true
	}
	if os.Getuid() != 0 {
		t.Fatal("needs root, for network namespaces: run the tests as root")
	}
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=2m")
	cmd.Env = append(os.Environ(), isolated+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = time.Second // for what the test may have left running
	// The kernel signals the death of the thread, not of the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("in its own namespaces: %v\n%s", err, out)
	}
	if testing.Verbose() {
		t.Logf("%s", out)
	}
	return false
}

func furnish(t *testing.T) {
	t.Helper()
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatalf("make mounts private: %v", err)
	}
	for _, dir := range []string{"/run", "/var/lib"} {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
			t.Fatalf("mount tmpfs on %s: %v", dir, err)
		}
	}
	Run(t, "ip link set lo up")
}

// Run executes a shell script, stops it at the first failing command, and returns
// what it wrote.
func Run(t *testing.T, script string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "sh", "-euc", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

// Node is a network namespace that sockets can be opened in.
type Node struct {
	path string
}

// Host is where the test itself runs.
func Host() Node { return Node{path: "/proc/thread-self/ns/net"} }

// NewNode makes a network namespace that ip netns knows by name, with lo up.
func NewNode(t *testing.T, name string) Node {
	t.Helper()
	Run(t, "ip netns add "+name+"; ip -n "+name+" link set lo up")
	return Node{path: filepath.Join("/run/netns", name)}
}

// Path is the file that holds the node's network namespace.
func (n Node) Path() string { return n.path }

// in runs f in the node's network namespace, on a thread that is thrown away.
func (n Node) in(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		handle, err := netns.GetFromPath(n.path)
		if err == nil {
			err = netns.Set(handle)
			handle.Close()
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// Serve answers each TCP connection to the node's port with the peer's address.
func (n Node) Serve(t *testing.T, port int) {
	t.Helper()
	var listener net.Listener
	err := n.in(func() (err error) {
		listener, err = net.Listen("tcp", fmt.Sprintf("[::]:%d", port))
		return err
	})
	if err != nil {
		t.Fatalf("listen in %s: %v", n.path, err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			peer := netip.MustParseAddrPort(conn.RemoteAddr().String())
			io.WriteString(conn, peer.Addr().Unmap().String())
			conn.Close()
		}
	}()
}

// Dial connects to a port that Serve answers, and returns the address that the
// server sees, or the error after wait. Where packets were dropped just before, the
// kernel may take a second until it asks again who has the address.
func (n Node) Dial(addr string, port int, wait time.Duration) (string, error) {
	var seen string
	err := n.in(func() error {
		conn, err := net.DialTimeout("tcp", net.JoinHostPort(addr, fmt.Sprint(port)), wait)
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(wait)); err != nil {
			return err
		}
		text, err := io.ReadAll(conn)
		seen = strings.TrimSpace(string(text))
		return err
	})
	return seen, err
}

// Outside makes the node "outside" on a network of its own, beyond the host: it is
// 192.0.2.2 and 2001:db8::2, the host 192.0.2.1 and 2001:db8::1 on its interface
// up0. The host forwards, and the node has no route to anything behind the host.
func Outside(t *testing.T) Node {
	t.Helper()
	n := NewNode(t, "outside")
	Run(t, `
		ip link add up0 type veth peer name eth0 netns outside
		echo 0 > /proc/sys/net/ipv6/conf/up0/accept_dad
		ip addr add 192.0.2.1/24 dev up0
		ip addr add 2001:db8::1/64 dev up0 nodad
		ip link set up0 up
		ip -n outside addr add 192.0.2.2/24 dev eth0
		ip -n outside addr add 2001:db8::2/64 dev eth0 nodad
		ip -n outside link set eth0 up
		echo 1 > /proc/sys/net/ipv4/ip_forward
		echo 1 > /proc/sys/net/ipv6/conf/all/forwarding`)
	return n
}

// Bridge makes the bridge br0 with 10.88.0.1/16 and fd00:88::1/64, whose packets
// iptables sees (br_netfilter), as on a Docker host.
func Bridge(t *testing.T) {
	t.Helper()
	Run(t, `
		ip link add br0 type bridge
		echo 0 > /proc/sys/net/ipv6/conf/br0/accept_dad
		ip addr add 10.88.0.1/16 dev br0
		ip addr add fd00:88::1/64 dev br0 nodad
		ip link set br0 up
		echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables
		echo 1 > /proc/sys/net/bridge/bridge-nf-call-ip6tables`)
}

// Pod makes a node on br0, with the addresses 10.88.0.host and fd00:88::host.
func Pod(t *testing.T, name string, host int) Node {
	t.Helper()
	n := NewNode(t, name)
	Run(t, fmt.Sprintf(`
		ip link add veth%[2]d type veth peer name eth0 netns %[1]s
		ip link set veth%[2]d master br0 up
		ip -n %[1]s addr add 10.88.0.%[2]d/16 dev eth0
		ip -n %[1]s addr add fd00:88::%[2]d/64 dev eth0 nodad
		ip -n %[1]s link set eth0 up
		ip -n %[1]s route add default via 10.88.0.1
		ip -n %[1]s route add default via fd00:88::1`, name, host))
	return n
}
