package stats

import (
	"fmt"
	"net"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/mascri/mascri/internal/netns"
	"github.com/mascri/mascri/internal/pod"
	"github.com/mascri/mascri/internal/rtnetlink"
)

// networkUsage reads the counters of the interfaces in the network namespace that is
// mounted at path.
func networkUsage(path string) (*pod.NetworkUsage, error) {
	usage := &pod.NetworkUsage{At: time.Now()}
	err := netns.At(path, func() error {
		handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer handle.Close()
		links, err := rtnetlink.Dump(handle.LinkList)
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
