package defaultnet

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/mascri/mascri/internal/rtnetlink"
)

// widest are the prefix lengths below which a route is no network but a way for
// everything else, as 0.0.0.0/1 of a VPN or fd00::/8: the largest private networks
// are 10.0.0.0/8 and a site's /48 (RFC 4193).
const (
	widestIPv4 = 8
	widestIPv6 = 48
)

// hostPrefixes returns the networks that the host has routes to, in any table, or
// addresses in, but for those of our own bridge.
func hostPrefixes() ([]netip.Prefix, error) {
	own := -1
	if link, err := netlink.LinkByName(Bridge); err == nil {
		own = link.Attrs().Index
	}
	routes, err := rtnetlink.Dump(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	addrs, err := rtnetlink.Dump(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	var taken []netip.Prefix
	for _, r := range routes {
		if p, ok := rtnetlink.Prefix(r.Dst); ok && r.LinkIndex != own && isNetwork(p) {
			taken = append(taken, p.Masked())
		}
	}
	for _, a := range addrs {
		if p, ok := rtnetlink.Prefix(a.IPNet); ok && a.LinkIndex != own {
			taken = append(taken, p.Masked())
		}
	}
	return taken, nil
}

func isNetwork(p netip.Prefix) bool {
	if p.Addr().Is4() {
		return p.Bits() >= widestIPv4
	}
	return p.Bits() >= widestIPv6
}

// bridgeSubnets returns the subnets that our bridge carries, if it exists.
func bridgeSubnets() (v4, v6 []netip.Prefix, err error) {
	link, err := netlink.LinkByName(Bridge)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("find bridge %s: %w", Bridge, err)
	}
	addrs, err := rtnetlink.Dump(func() ([]netlink.Addr, error) { return netlink.AddrList(link, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, nil, fmt.Errorf("list addresses of bridge %s: %w", Bridge, err)
	}
	for _, a := range addrs {
		p, ok := rtnetlink.Prefix(a.IPNet)
		switch p = p.Masked(); {
		case !ok || p.Addr().IsLinkLocalUnicast():
		case validIPv4(p):
			v4 = append(v4, p)
		case validIPv6(p):
			v6 = append(v6, p)
		}
	}
	return v4, v6, nil
}

// ensureBridge makes the bridge before the bridge plugin would. On a new bridge the
// kernel holds IPv6 addresses back for one to two seconds while it looks for
// duplicates (DAD), and the first pod could not reach its gateway; so that is off.
func ensureBridge(ipv6 bool) error {
	link, err := netlink.LinkByName(Bridge)
	switch {
	case errors.As(err, new(netlink.LinkNotFoundError)):
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: Bridge}}); err != nil {
			return fmt.Errorf("create bridge %s: %w", Bridge, err)
		}
	case err != nil:
		return fmt.Errorf("find bridge %s: %w", Bridge, err)
	case link.Type() != "bridge":
		return fmt.Errorf("interface %s is in the way, it is a %s and not a bridge", Bridge, link.Type())
	}
	if !ipv6 {
		return nil
	}
	// Also on one that exists: a crash may have come right after it was made.
	if err := os.WriteFile(ipv6Sysctl(Bridge, "accept_dad"), []byte("0"), 0); err != nil {
		return fmt.Errorf("turn off duplicate address detection: %w", err)
	}
	return nil
}

// removeBridge deletes the bridge, if it exists. One that has ports stays: whatever
// they belong to, it would be cut off.
func removeBridge() error {
	link, err := netlink.LinkByName(Bridge)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find bridge %s: %w", Bridge, err)
	}
	if link.Type() != "bridge" {
		return nil // not ours
	}
	links, err := rtnetlink.Dump(netlink.LinkList)
	if err != nil {
		return fmt.Errorf("list interfaces: %w", err)
	}
	var ports []string
	for _, l := range links {
		if l.Attrs().MasterIndex == link.Attrs().Index {
			ports = append(ports, l.Attrs().Name)
		}
	}
	if len(ports) > 0 {
		return fmt.Errorf("bridge %s stays, as it has ports: %s", Bridge, strings.Join(ports, ", "))
	}
	if err := netlink.LinkDel(link); err != nil {
		return fmt.Errorf("delete bridge %s: %w", Bridge, err)
	}
	return nil
}

// keepDefaultRoutes lets interfaces that got their IPv6 default route by router
// advertisement keep it: once the host forwards, as the bridge plugin makes it, the
// kernel drops such routes unless accept_ra is 2.
func keepDefaultRoutes(logger *slog.Logger) error {
	if sysctlIs(ipv6Sysctl("all", "forwarding"), "1") {
		return nil
	}
	routes, err := rtnetlink.Dump(func() ([]netlink.Route, error) { return netlink.RouteList(nil, netlink.FAMILY_V6) })
	if err != nil {
		return fmt.Errorf("list IPv6 routes: %w", err)
	}
	for _, r := range routes {
		if r.Protocol != unix.RTPROT_RA {
			continue
		}
		link, err := netlink.LinkByIndex(r.LinkIndex)
		if err != nil {
			continue // it went away, and its route with it
		}
		file := ipv6Sysctl(link.Attrs().Name, "accept_ra")
		if !sysctlIs(file, "1") {
			continue
		}
		if err := os.WriteFile(file, []byte("2"), 0); err != nil {
			return fmt.Errorf("keep the default route of %s: %w", link.Attrs().Name, err)
		}
		logger.Info("accept_ra set to 2, so that the host keeps its IPv6 default route while it forwards", "file", file)
	}
	return nil
}

// hasIPv6 tells whether new interfaces can have IPv6 addresses.
func hasIPv6() bool {
	return sysctlIs(ipv6Sysctl("default", "disable_ipv6"), "0") && sysctlIs(ipv6Sysctl("all", "disable_ipv6"), "0")
}

func ipv6Sysctl(link, name string) string {
	return filepath.Join("/proc/sys/net/ipv6/conf", link, name)
}

func sysctlIs(file, value string) bool {
	text, err := os.ReadFile(file)
	return err == nil && strings.TrimSpace(string(text)) == value
}
