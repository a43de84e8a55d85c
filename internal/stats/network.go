package stats

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/mascri/mascri/internal/pod"
)

// networkUsage reads the counters of the interfaces in the network namespace that is
// mounted at path.
func networkUsage(path string) (*pod.NetworkUsage, error) {
	ns, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	usage := &pod.NetworkUsage{At: time.Now()}
	err = inside(ns, func() error {
		handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer handle.Close()
		links, err := handle.LinkList()
		if err != nil {
			return err
		}
		for _, link := range links {
			attributes := link.Attrs()
			if attributes.Flags&net.FlagLoopback != 0 || attributes.Statistics == nil {
				continue
			}
			c := attributes.Statistics
			usage.Interfaces = append(usage.Interfaces, pod.InterfaceUsage{
				Name:     attributes.Name,
				Receive:  pod.Traffic{Bytes: c.RxBytes, Packets: c.RxPackets, Errors: c.RxErrors, Dropped: c.RxDropped},
				Transmit: pod.Traffic{Bytes: c.TxBytes, Packets: c.TxPackets, Errors: c.TxErrors, Dropped: c.TxDropped},
			})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("interfaces in %s: %w", path, err)
	}
	return usage, nil
}

// inside runs do on a thread in ns. A thread that can't return home is given up.
func inside(ns *os.File, do func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			runtime.UnlockOSThread()
			done <- err
			return
		}
		defer home.Close()
		if err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			runtime.UnlockOSThread()
			done <- err
			return
		}
		err = do()
		back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET)
		if back == nil {
			runtime.UnlockOSThread()
		}
		done <- errors.Join(err, back)
	}()
	return <-done
}
