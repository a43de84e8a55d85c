package doctor

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/mascri/mascri/internal/rtnetlink"
)

// procSys is where the kernel's settings are.
const procSys = "/proc/sys"

// kernel is what the kernel has of networks and settings. Where it does not tell, there
// is nothing to be judged.
type kernel struct {
	links   []link
	uplinks []uplink
	routes  []route           // those that somebody has set, but for default ones
	sysctls map[string]string // by name with slashes; those that the kernel has
}

// link is an interface of the host.
type link struct {
	name  string
	kind  string // such as bridge
	mtu   int
	ports int // of a bridge
}

// uplink is the way of a default route.
type uplink struct {
	link     string
	mtu      int
	ipv6     bool
	byRouter bool // it was learned from a router's advertisement
}

// route leads to a network by a link.
type route struct {
	link   string
	prefix netip.Prefix
}

// Settings that are judged.
const (
	bridgeNF    = "net/bridge/bridge-nf-call-iptables"
	bridgeNF6   = "net/bridge/bridge-nf-call-ip6tables"
	rpFilter    = "net/ipv4/conf/all/rp_filter"
	disableIPv6 = "net/ipv6/conf/all/disable_ipv6"
)

func acceptRA(link string) string     { return "net/ipv6/conf/" + link + "/accept_ra" }
func linkRPFilter(link string) string { return "net/ipv4/conf/" + link + "/rp_filter" }

// dotted is a setting's name as sysctl(8) writes it.
func dotted(name string) string {
	parts := strings.Split(name, "/")
	for i, part := range parts {
		parts[i] = strings.ReplaceAll(part, ".", "/") // eth0.7, as sysctl.d(5) says
	}
	return strings.Join(parts, ".")
}

func lookAtKernel() kernel {
	k := kernel{sysctls: map[string]string{}}
	links, err := rtnetlink.Dump(netlink.LinkList)
	if err != nil {
		return k
	}
	names := map[int]string{}
	for _, l := range links {
		a := l.Attrs()
		names[a.Index] = a.Name
		found := link{name: a.Name, kind: l.Type(), mtu: a.MTU}
		for _, port := range links {
			if l.Type() == "bridge" && port.Attrs().MasterIndex == a.Index {
				found.ports++
			}
		}
		k.links = append(k.links, found)
	}
	routes, err := rtnetlink.Dump(func() ([]netlink.Route, error) { return netlink.RouteList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		routes = nil
	}
	for _, r := range routes {
		k.addRoute(r, names[r.LinkIndex])
	}
	settings := []string{bridgeNF, bridgeNF6, rpFilter, disableIPv6}
	for _, u := range k.uplinks {
		settings = append(settings, acceptRA(u.link), linkRPFilter(u.link))
	}
	for _, name := range settings {
		if text, err := os.ReadFile(filepath.Join(procSys, name)); err == nil {
			k.sysctls[name] = strings.TrimSpace(string(text))
		}
	}
	return k
}

func (k *kernel) addRoute(r netlink.Route, name string) {
	ones := 0
	if r.Dst != nil {
		ones, _ = r.Dst.Mask.Size()
	}
	switch {
	case name == "" || r.Type != unix.RTN_UNICAST:
	case ones == 0 && !slices.ContainsFunc(k.uplinks, func(u uplink) bool { return u.link == name && u.ipv6 == (r.Family == netlink.FAMILY_V6) }):
		u := uplink{link: name, ipv6: r.Family == netlink.FAMILY_V6, byRouter: int(r.Protocol) == unix.RTPROT_RA}
		if i := slices.IndexFunc(k.links, func(l link) bool { return l.name == name }); i >= 0 {
			u.mtu = k.links[i].mtu
		}
		k.uplinks = append(k.uplinks, u)
	case ones > 0 && int(r.Protocol) != unix.RTPROT_KERNEL: // those of addresses are judged by these
		if prefix, ok := prefixOf(r.Dst); ok {
			k.routes = append(k.routes, route{name, prefix})
		}
	}
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	addr, ok := netip.AddrFromSlice(n.IP)
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), ones), ok
}

// setSysctl sets one of the kernel's settings until the next start of the node.
func setSysctl(name, value string) error {
	if strings.Contains(name, "..") {
		return errors.New(name + " is no setting")
	}
	if err := os.WriteFile(filepath.Join(procSys, name), []byte(value), 0); err != nil {
		return fmt.Errorf("set %s: %w", dotted(name), err)
	}
	return nil
}
