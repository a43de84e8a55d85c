package stats_test

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

// newNetns makes a network namespace, lets prepare work in it, and returns where it is
// mounted.
func newNetns(t *testing.T, prepare func() error) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	path := filepath.Join(t.TempDir(), "netns")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) })
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		done <- func() error {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return err
			}
			if err := unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
				return err
			}
			return prepare()
		}()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return path
}

// sendFrames sends three frames of 100 bytes from eth0 to net1, and nothing else.
func sendFrames() error {
	for _, which := range []string{"all", "default"} { // or the kernel would solicit routers
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+which+"/disable_ipv6", []byte("1"), 0); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "net1"}
	if err := netlink.LinkAdd(pair); err != nil {
		return err
	}
	index := 0
	for _, name := range []string{"net1", "eth0"} {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return err
		}
		index = link.Attrs().Index
	}
	socket, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	for range 3 {
		if err := unix.Sendto(socket, make([]byte, 100), 0, &unix.SockaddrLinklayer{Ifindex: index}); err != nil {
			return err
		}
	}
	return nil
}

func TestNetworkOfAPod(t *testing.T) {
	path := newNetns(t, sendFrames)
	home, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	s := newMachine(t).stats()
	sandbox := pod.Sandbox{ID: sandboxID, Config: &runtimeapi.PodSandboxConfig{}}
	got := s.Pod(sandbox, &pod.Attachment{NetnsPath: path}, nil)
	if got.Network == nil || got.Network.At.IsZero() {
		t.Fatalf("network %+v", got.Network)
	}
	frames := pod.Traffic{Bytes: 300, Packets: 3}
	byName := map[string]pod.InterfaceUsage{}
	for _, i := range got.Network.Interfaces {
		byName[i.Name] = i
	}
	want := map[string]pod.InterfaceUsage{"eth0": {Name: "eth0", Transmit: frames}, "net1": {Name: "net1", Receive: frames}}
	if diff := cmp.Diff(want, byName); diff != "" {
		t.Errorf("interfaces but for loopback (-want +got)\n%s", diff)
	}
	if got := s.Pod(sandbox, &pod.Attachment{NetnsPath: "/nowhere"}, nil); got.Network != nil {
		t.Errorf("network of a namespace that is gone: %+v", got.Network)
	}
	if got := s.Pod(sandbox, nil, nil); got.Network != nil {
		t.Errorf("network of a sandbox on the host's: %+v", got.Network)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if now, err := os.Readlink("/proc/thread-self/ns/net"); err != nil || now != home {
		t.Errorf("a thread was left in %s (%v)", now, err)
	}
}
