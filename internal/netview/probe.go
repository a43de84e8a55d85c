package netview

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/mascri/mascri/internal/netns"
	"github.com/mascri/mascri/internal/network"
)

// Verdict is how a step of a probe ended.
type Verdict string

// The verdicts of a step.
const (
	Passed  Verdict = "ok"
	Failed  Verdict = "fail"
	Skipped Verdict = "skip"
)

// Step is one question of a probe, and its answer.
type Step struct {
	Step    string  `json:"step"` // eth0, gateway, pod, address, DNS or MTU
	Verdict Verdict `json:"verdict"`
	Message string  `json:"message"`
	Hop     string  `json:"hop,omitempty"` // where it fails
}

// Probing is a probe's outcome.
type Probing struct {
	Pod   string `json:"pod"`
	ID    string `json:"id"`
	OK    bool   `json:"ok"`
	Steps []Step `json:"steps"`
}

// Aim is what a probe tries to reach beside the gateway.
type Aim struct {
	To   string // a pod or an address; "": another pod of the node, if there is one
	Name string // to resolve
}

// Probe finds out what a pod reaches, from within its network namespace, with nothing
// from its image. It sends a few packets and changes nothing. Errors are those of
// Inspect, and of a network namespace that is gone.
func Probe(ctx context.Context, stateDir, name string, aim Aim) (Probing, error) {
	records, _, err := network.ReadRecords(stateDir)
	if err != nil {
		return Probing{}, err
	}
	rec, err := find(records, name)
	if err != nil {
		return Probing{}, err
	}
	links, err := hostLinks()
	if err != nil {
		return Probing{}, err
	}
	p := probe{rec: rec, links: links, out: Probing{Pod: rec.Pod, ID: rec.SandboxID}}
	var problem string
	if p.interfaces, problem = podInterfaces(rec, links); problem != "" {
		return Probing{}, fmt.Errorf("pod %s can't be probed: %s", rec.Pod, problem)
	}
	target, err := p.aimAt(records, aim.To)
	if err != nil {
		return Probing{}, err
	}
	if p.connected() {
		p.gateways()
		p.target(target)
		_, resolv := resolvConf(stateDir, rec)
		p.dns(ctx, resolv, aim.Name)
		p.mtu()
	}
	p.out.OK = !slices.ContainsFunc(p.out.Steps, func(s Step) bool { return s.Verdict == Failed })
	return p.out, nil
}

// probe is one under way.
type probe struct {
	rec        network.Record
	links      []hostLink
	interfaces []Interface
	eth0       Interface
	alive      []netip.Addr // that have answered
	out        Probing
}

// target is what is aimed at.
type target struct {
	step string // pod or address
	name string
	ips  []netip.Addr
	rec  *network.Record // of a pod of this node
}

func (p *probe) note(step string, verdict Verdict, hop, format string, args ...any) {
	p.out.Steps = append(p.out.Steps, Step{Step: step, Verdict: verdict, Hop: hop, Message: fmt.Sprintf(format, args...)})
}

// aimAt finds the target. Without a name it is the first other pod, rather one on the
// same network.
func (p *probe) aimAt(records []network.Record, to string) (target, error) {
	if ip, err := netip.ParseAddr(to); err == nil {
		return target{step: "address", name: to, ips: []netip.Addr{ip.Unmap()}}, nil
	}
	if to != "" {
		rec, err := find(records, to)
		if err != nil {
			return target{}, err
		}
		return target{"pod", rec.Pod, rec.IPs, &rec}, nil
	}
	var best *network.Record
	for i, rec := range records {
		if rec.SandboxID == p.rec.SandboxID || rec.Phase != "attached" || absent(rec) != "" {
			continue
		}
		if best == nil || (best.Network != p.rec.Network && rec.Network == p.rec.Network) {
			best = &records[i]
		}
	}
	if best == nil {
		return target{step: "pod"}, nil
	}
	return target{"pod", best.Pod, best.IPs, best}, nil
}

// connected looks at the pod's own end, and at the node's.
func (p *probe) connected() bool {
	i := slices.IndexFunc(p.interfaces, func(i Interface) bool { return i.Name == podInterface })
	if i < 0 {
		p.note("eth0", Failed, podInterface, "the pod has no eth0 any more: something removed it")
		return false
	}
	p.eth0 = p.interfaces[i]
	for _, ip := range p.rec.IPs {
		if !slices.ContainsFunc(p.eth0.Addresses, func(a netip.Prefix) bool { return a.Addr() == ip }) {
			p.note("eth0", Failed, podInterface, "eth0 does not have the address %s that the plugins gave it", ip)
			return false
		}
	}
	if hop, why := cut(p.eth0, p.links); hop != "" {
		p.note("eth0", Failed, hop, "%s", why)
		return false
	}
	text := "up"
	if p.eth0.Host.Link != "" {
		text += ", connected to " + p.eth0.Host.text()
	}
	p.note("eth0", Passed, "", "%s", text)
	return true
}

func (p *probe) gateways() {
	if len(p.rec.Gateways) == 0 {
		p.note("gateway", Skipped, "", "the plugins gave none")
	}
	for _, gateway := range p.rec.Gateways {
		e, err := p.reach(gateway)
		switch {
		case err == nil && e.reply:
			p.note("gateway", Passed, "", "%s answers in %s", gateway, took(e))
			p.alive = append(p.alive, gateway)
		case err == nil:
			p.note("gateway", Failed, e.from.String(), "%s says of %s: %s", e.from, gateway, e.refused)
		case !errors.Is(err, os.ErrDeadlineExceeded):
			p.note("gateway", Failed, podInterface, "%s can't be asked: %v", gateway, err)
		case !p.resolved(gateway):
			p.note("gateway", Failed, cmp.Or(p.eth0.Host.Bridge, p.eth0.Host.Link, podInterface), "nobody answers for %s on the link%s", gateway, p.whoHas(gateway))
		default:
			p.note("gateway", Failed, gateway.String(), "%s is there, and does not answer to ping: a firewall drops it, or the answer", gateway)
		}
	}
}

func took(e echo) string { return fmt.Sprintf("%.2f ms", float64(e.took.Microseconds())/1000) }

// whoHas tells what the node knows of a gateway that is silent.
func (p *probe) whoHas(gateway netip.Addr) string {
	for _, link := range p.links {
		if slices.ContainsFunc(link.Addresses, func(a netip.Prefix) bool { return a.Addr() == gateway }) {
			return fmt.Sprintf(", although %s of the node has it", link.Name)
		}
	}
	if p.eth0.Host.Bridge == "" {
		return ""
	}
	return fmt.Sprintf(": no interface of the node has it; %s should", p.eth0.Host.Bridge)
}

func (p *probe) pinger(to netip.Addr) (*pinger, error) {
	return openPinger(p.rec.NetnsPath, to.Is6(), p.rec.IPs)
}

// reach pings with a small packet.
func (p *probe) reach(to netip.Addr) (echo, error) {
	pinger, err := p.pinger(to)
	if err != nil {
		return echo{}, err
	}
	defer pinger.close()
	return pinger.reach(to, 0)
}

// resolved tells whether the pod knows the link's address of a neighbour.
func (p *probe) resolved(ip netip.Addr) bool {
	var neighbours []netlink.Neigh
	err := netns.At(p.rec.NetnsPath, func() error {
		handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer handle.Close()
		neighbours, err = handle.NeighList(p.eth0.index, netlink.FAMILY_ALL)
		return err
	})
	return err == nil && slices.ContainsFunc(neighbours, func(n netlink.Neigh) bool {
		addr, ok := netip.AddrFromSlice(n.IP)
		return ok && addr.Unmap() == ip && n.State&(netlink.NUD_INCOMPLETE|netlink.NUD_FAILED) == 0
	})
}

// target pings the target's addresses of the families that the pod has.
func (p *probe) target(t target) {
	if t.name == "" {
		p.note(t.step, Skipped, "", "there is no other pod on this node")
		return
	}
	asked := false
	for _, ip := range t.ips {
		if !slices.ContainsFunc(p.rec.IPs, func(own netip.Addr) bool { return own.BitLen() == ip.BitLen() }) {
			continue
		}
		asked = true
		p.ask(t, ip)
	}
	if !asked {
		p.note(t.step, Skipped, "", "%s has no address of a family that the pod has", t.name)
	}
}

func (p *probe) ask(t target, ip netip.Addr) {
	label := t.name
	if t.rec != nil {
		label += " (" + ip.String() + ")"
	}
	pinger, err := p.pinger(ip)
	if err != nil {
		p.note(t.step, Failed, podInterface, "%s can't be asked: %v", label, err)
		return
	}
	defer pinger.close()
	e, err := pinger.reach(ip, 0)
	switch {
	case err == nil && e.reply:
		p.note(t.step, Passed, "", "%s answers in %s", label, took(e))
		p.alive = append(p.alive, ip)
	case err == nil:
		p.note(t.step, Failed, e.from.String(), "%s says of %s: %s", e.from, label, e.refused)
	case !errors.Is(err, os.ErrDeadlineExceeded):
		p.note(t.step, Failed, podInterface, "%s can't be asked: %v", label, err)
	default:
		hop, why := p.between(t, ip, pinger)
		p.note(t.step, Failed, hop, "%s does not answer: %s", label, why)
	}
}
