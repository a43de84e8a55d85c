package netview

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// cut finds an interface on the way from a pod to the node that is down or missing.
func cut(i Interface, links []hostLink) (hop, why string) {
	if !i.Up {
		return i.Name, i.Name + " of the pod is down"
	}
	if i.Kind == "veth" && i.Host.Link == "" {
		return "host side of " + i.Name, "the other end of " + i.Name + " is not on the node: somebody moved it"
	}
	for _, name := range []string{i.Host.Link, i.Host.Bridge} {
		at := slices.IndexFunc(links, func(l hostLink) bool { return l.Name == name })
		if name != "" && at >= 0 && !links[at].Up {
			return name, name + " is down: ip link set " + name + " up"
		}
	}
	return "", ""
}

// between finds where on the way to a target that is silent packets get lost.
func (p *probe) between(t target, ip netip.Addr, pinger *pinger) (hop, why string) {
	if t.rec != nil {
		interfaces, problem := podInterfaces(*t.rec, p.links)
		at := slices.IndexFunc(interfaces, func(i Interface) bool { return i.Name == podInterface })
		if problem != "" || at < 0 {
			return t.name, "its eth0 is gone; " + problem
		}
		other := interfaces[at]
		if hop, why := cut(other, p.links); hop != "" {
			return t.name + ", " + hop, why
		}
		if other.Host.Bridge != "" && other.Host.Bridge == p.eth0.Host.Bridge {
			if p.resolved(ip) {
				return other.Host.Bridge, "its link answers, so that a firewall drops IP between pods of the bridge; see mascri doctor, FORWARD and bridge-nf"
			}
			return other.Host.Bridge, "nobody answers for it on the bridge"
		}
	}
	if slices.ContainsFunc(p.eth0.Addresses, func(a netip.Prefix) bool { return a.Masked().Contains(ip) }) && !p.resolved(ip) {
		return cmp.Or(p.eth0.Host.Bridge, p.eth0.Host.Link, podInterface), "nobody answers for it on the link"
	}
	if last := pinger.lastHop(ip); last.IsValid() {
		return "after " + last.String(), "the last that answers on the way is " + last.String() + "; see mascri doctor, FORWARD and ip_forward"
	}
	return cmp.Or(p.eth0.Host.Bridge, p.eth0.Host.Link, podInterface), "nothing on the way answers"
}

// mtu sends packets as large as eth0 takes to all that has answered.
func (p *probe) mtu() {
	if len(p.alive) == 0 {
		p.note("MTU", Skipped, "", "nothing answers that large packets could be sent to")
		return
	}
	var fine []string
	for _, ip := range p.alive {
		pinger, err := p.pinger(ip)
		if err != nil {
			p.note("MTU", Failed, podInterface, "%s can't be asked: %v", ip, err)
			continue
		}
		e, err := pinger.reach(ip, p.eth0.MTU)
		if err == nil && e.reply {
			fine = append(fine, ip.String())
			pinger.close()
			continue
		}
		hop := "between the pod and " + ip.String()
		if err == nil && e.mtu > 0 {
			hop = fmt.Sprintf("after %s, whose next link takes %d", e.from, e.mtu)
		}
		size := pinger.largest(ip, ipv6Header+icmpHeader, p.eth0.MTU)
		pinger.close()
		p.note("MTU", Failed, hop, "eth0 sends packets of up to %d bytes, and only %d get through to %s", p.eth0.MTU, size, ip)
	}
	if len(fine) > 0 {
		p.note("MTU", Passed, "", "%d bytes get through to %s", p.eth0.MTU, strings.Join(fine, ", "))
	}
}
