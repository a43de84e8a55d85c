package netview

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/mascri/mascri/internal/netns"
	"github.com/mascri/mascri/internal/network"
	"github.com/mascri/mascri/internal/rtnetlink"
)

// podInterface is the interface that a pod is known by.
const podInterface = "eth0"

// Interface is one of a pod's.
type Interface struct {
	Name      string         `json:"name"`
	Kind      string         `json:"kind"` // such as veth; "device" where it has none
	MAC       string         `json:"mac,omitempty"`
	MTU       int            `json:"mtu"`
	Up        bool           `json:"up"`
	Addresses []netip.Prefix `json:"addresses"`
	Host      HostSide       `json:"host,omitzero"`
	Received  Traffic        `json:"received"`
	Sent      Traffic        `json:"sent"`

	index  int
	other  int  // index of the peer or parent
	abroad bool // which is in another network namespace
}

// hostLink is an interface of the node.
type hostLink struct {
	Link
	index  int
	other  int
	master int // index of the bridge that it is a port of
}

// hostLinks lists the interfaces of the namespace that the command runs in.
func hostLinks() ([]hostLink, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	defer handle.Close()
	links, addresses, err := read(handle)
	if err != nil {
		return nil, fmt.Errorf("interfaces of the node: %w", err)
	}
	all := make([]hostLink, 0, len(links))
	ports := map[int]int{}
	for _, link := range links {
		a := link.Attrs()
		ports[a.MasterIndex]++
		all = append(all, hostLink{
			Link:  Link{Name: a.Name, Kind: link.Type(), MTU: a.MTU, Up: a.Flags&net.FlagUp != 0, Addresses: addresses[a.Index]},
			index: a.Index, other: a.ParentIndex, master: a.MasterIndex,
		})
	}
	for i := range all {
		if all[i].Kind == "bridge" {
			all[i].Ports = ports[all[i].index]
		}
	}
	return all, nil
}

// uplinks are those of the node's default routes; none where the kernel does not tell.
func uplinks(links []hostLink) []Link {
	routes, err := rtnetlink.Dump(func() ([]netlink.Route, error) { return netlink.RouteList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return []Link{}
	}
	ways := []Link{}
	for _, link := range links {
		leaves := slices.ContainsFunc(routes, func(r netlink.Route) bool {
			dst, ok := rtnetlink.Prefix(r.Dst)
			return r.LinkIndex == link.index && (!ok || dst.Bits() == 0)
		})
		if leaves {
			ways = append(ways, link.Link)
		}
	}
	return ways
}

// podInterfaces lists those of a pod, or says why it can't.
func podInterfaces(rec network.Record, links []hostLink) (list []Interface, problem string) {
	if problem = absent(rec); problem != "" {
		return nil, problem
	}
	err := netns.At(rec.NetnsPath, func() error {
		handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return fmt.Errorf("open netlink: %w", err)
		}
		defer handle.Close()
		list, err = interfaces(handle)
		return err
	})
	if err != nil {
		return nil, err.Error()
	}
	for i := range list {
		list[i].Host = hostSide(list[i], links)
	}
	return list, ""
}

// absent is why the network namespace of a record can't be looked into.
func absent(rec network.Record) string {
	inode, ok := netns.Inode(rec.NetnsPath)
	switch {
	case rec.Rebooted:
		return "the node was started anew since the pod was attached"
	case !ok:
		return "the network namespace is not pinned at " + rec.NetnsPath
	case inode != rec.NetnsInode:
		return fmt.Sprintf("another network namespace (%d) is at %s", inode, rec.NetnsPath)
	}
	return ""
}

func interfaces(handle *netlink.Handle) ([]Interface, error) {
	links, addresses, err := read(handle)
	if err != nil {
		return nil, err
	}
	list := make([]Interface, 0, len(links))
	for _, link := range links {
		a := link.Attrs()
		i := Interface{
			Name: a.Name, Kind: link.Type(), MAC: a.HardwareAddr.String(), MTU: a.MTU, Up: a.Flags&net.FlagUp != 0,
			Addresses: addresses[a.Index], index: a.Index, other: a.ParentIndex, abroad: a.NetNsID >= 0 && a.ParentIndex > 0,
		}
		if a.Flags&net.FlagLoopback != 0 {
			i.MAC = ""
		}
		if c := a.Statistics; c != nil {
			i.Received = Traffic{Packets: c.RxPackets, Bytes: c.RxBytes, Errors: c.RxErrors, Dropped: c.RxDropped}
			i.Sent = Traffic{Packets: c.TxPackets, Bytes: c.TxBytes, Errors: c.TxErrors, Dropped: c.TxDropped}
		}
		list = append(list, i)
	}
	return list, nil
}

// read lists interfaces, and their addresses by index.
func read(handle *netlink.Handle) ([]netlink.Link, map[int][]netip.Prefix, error) {
	links, err := rtnetlink.Dump(handle.LinkList)
	if err != nil {
		return nil, nil, fmt.Errorf("list interfaces: %w", err)
	}
	all, err := rtnetlink.Dump(func() ([]netlink.Addr, error) { return handle.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, nil, fmt.Errorf("list addresses: %w", err)
	}
	addresses := map[int][]netip.Prefix{}
	for _, link := range links {
		addresses[link.Attrs().Index] = []netip.Prefix{}
	}
	for _, a := range all {
		if prefix, ok := rtnetlink.Prefix(a.IPNet); ok {
			addresses[a.LinkIndex] = append(addresses[a.LinkIndex], prefix)
		}
	}
	return links, addresses, nil
}

// hostSide finds what i is connected to. Only a veth's peer points back: a parent has
// many children.
func hostSide(i Interface, links []hostLink) HostSide {
	if !i.abroad {
		return HostSide{}
	}
	for _, link := range links {
		if link.index != i.other || (i.Kind == "veth") != (link.Kind == "veth" && link.other == i.index) {
			continue
		}
		side := HostSide{Link: link.Name}
		for _, master := range links {
			if link.master != 0 && master.index == link.master && i.Kind == "veth" {
				side.Bridge = master.Name
			}
		}
		return side
	}
	return HostSide{}
}
