package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/mascri/mascri/internal/pod"
)

// hostPort is a port of the node that leads to a pod.
type hostPort struct {
	addr     netip.Addr // the zero Addr: every address of both families
	protocol string     // in lower case
	port     int32
}

func (p hostPort) String() string {
	if !p.addr.IsValid() {
		return fmt.Sprintf("%d/%s", p.port, p.protocol)
	}
	return fmt.Sprintf("%d/%s on %s", p.port, p.protocol, p.addr)
}

// overlaps tells whether a packet could be meant for both. As for the plugin portmap, an
// unspecified address is every address of its own family.
func (p hostPort) overlaps(other hostPort) bool {
	switch {
	case p.protocol != other.protocol || p.port != other.port:
		return false
	case !p.addr.IsValid() || !other.addr.IsValid():
		return true
	case p.addr.Is4() != other.addr.Is4():
		return false
	}
	return p.addr == other.addr || p.addr.IsUnspecified() || other.addr.IsUnspecified()
}

// hostPorts are those that rec holds. The record is their only home.
func (rec record) hostPorts() ([]hostPort, error) {
	if rec.Capabilities[capPortMappings] == nil || rec.Dirt != nil && rec.Dirt.PortsFree {
		return nil, nil
	}
	var mappings []portMapping
	if err := json.Unmarshal(rec.Capabilities[capPortMappings], &mappings); err != nil {
		return nil, fmt.Errorf("recorded host ports: %w", err)
	}
	var ports []hostPort
	for _, m := range mappings {
		p := hostPort{protocol: m.Protocol, port: m.HostPort}
		if m.HostIP != "" {
			addr, err := netip.ParseAddr(m.HostIP)
			if err != nil {
				return nil, fmt.Errorf("recorded host ports: %w", err)
			}
			p.addr = addr.Unmap()
		}
		ports = append(ports, p)
	}
	return ports, nil
}

// claim makes rec visible, and its host ports its own, unless another attachment in any
// phase has one of them: the plugin portmap would set up both in silence. Of two at the
// same time, one is refused.
func (n *Network) claim(rec record) error {
	wanted, err := rec.hostPorts()
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(wanted) > 0 {
		for _, other := range n.records {
			if err := refusePorts(wanted, other); err != nil {
				return err
			}
		}
	}
	n.records[rec.SandboxID] = rec
	return nil
}

func refusePorts(wanted []hostPort, owner record) error {
	taken, err := owner.hostPorts()
	if err != nil {
		return fmt.Errorf("pod %s: %w", owner.Pod, err)
	}
	for _, want := range wanted {
		for _, have := range taken {
			if !want.overlaps(have) {
				continue
			}
			if owner.Phase == pod.Dirty {
				return fmt.Errorf("host port %s is still mapped to pod %s (sandbox %s), which was removed, but can't be detached: %s: %w",
					want, owner.Pod, owner.SandboxID, owner.Dirt.Error, errdefs.ErrFailedPrecondition)
			}
			return fmt.Errorf("host port %s is taken by pod %s (sandbox %s, port %s): remove that pod, or give this one another port or node: %w",
				want, owner.Pod, owner.SandboxID, have, errdefs.ErrFailedPrecondition)
		}
	}
	return nil
}

// forgetConnections makes the kernel forget the UDP connections to the host ports of a pod
// that is gone: while a client keeps sending, they would lead to its address for ever, even
// to the next pod that gets it. TCP and SCTP clients notice by themselves.
func (n *Network) forgetConnections(rec record) {
	filters, err := connectionFilters(rec)
	for family, list := range filters {
		if _, e := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, list...); e != nil {
			err = errors.Join(err, e)
		}
	}
	if err != nil {
		n.cfg.Logger.Warn("clients that go on sending to a former pod's host port may get no answer for a while", "sandbox", rec.SandboxID, "pod", rec.Pod, "error", err)
	}
}

// connectionFilters match the UDP connections to rec's host ports that were led to its
// addresses. Where those are unknown, as ADD failed, the ports have to do.
func connectionFilters(rec record) (map[netlink.InetFamily][]netlink.CustomConntrackFilter, error) {
	ports, err := rec.hostPorts()
	filters := map[netlink.InetFamily][]netlink.CustomConntrackFilter{}
	ips := rec.IPs
	if len(ips) == 0 {
		ips = []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	}
	for _, p := range ports {
		for _, ip := range ips {
			if p.protocol != "udp" || p.addr.IsValid() && p.addr.Is4() != ip.Is4() {
				continue
			}
			filter := &netlink.ConntrackFilter{}
			err = errors.Join(err, filter.AddProtocol(unix.IPPROTO_UDP), filter.AddPort(netlink.ConntrackOrigDstPort, uint16(p.port)))
			if !ip.IsUnspecified() {
				err = errors.Join(err, filter.AddIP(netlink.ConntrackReplySrcIP, ip.AsSlice()))
			}
			family := netlink.InetFamily(unix.AF_INET)
			if ip.Is6() {
				family = unix.AF_INET6
			}
			filters[family] = append(filters[family], filter)
		}
	}
	return filters, err
}
