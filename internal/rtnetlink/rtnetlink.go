// Package rtnetlink reads the kernel's network tables: what github.com/vishvananda/netlink
// leaves to those who call it.
package rtnetlink

import (
	"errors"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// dumps is how often an interrupted dump is begun again.
const dumps = 10

// Dump reads a table, again where that changed meanwhile. Where it never stands still,
// it returns what the last attempt gave, and netlink.ErrDumpInterrupted.
func Dump[T any](read func() ([]T, error)) (list []T, err error) {
	for range dumps {
		if list, err = read(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return list, err
		}
	}
	return list, err
}

// Prefix turns an address and its mask into a prefix, whose address may have host bits.
// It is false for nil, as netlink may give a default route.
func Prefix(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(n.IP)
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), ones), ok
}
