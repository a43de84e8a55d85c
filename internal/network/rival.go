package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/containernetworking/cni/libcni"
	"github.com/vishvananda/netlink"

	"github.com/mascri/mascri/internal/netns"
	"github.com/mascri/mascri/internal/network/leaks"
	"github.com/mascri/mascri/internal/rtnetlink"
)

// Two records may claim one address of a network, as where a state directory was restored
// from a backup: that of a sandbox which is long gone, and that of the one which was given
// the address since. CNI DEL by the former would free the address, or take the rules for it
// away, of the latter: some plugins go by the address alone. The kernel knows which is true.

// claim is an address on a network.
type claim struct {
	network string
	ip      netip.Addr
}

func (rec record) claims() []claim {
	var list []claim
	for _, ip := range rec.IPs {
		list = append(list, claim{rec.Network, ip})
	}
	return list
}

// quarantineRivals moves aside the records whose address another sandbox has, and they
// have not. What they left is then found as that of any lost record. Where both have it, both are kept
// until one is detached.
func (n *Network) quarantineRivals() error {
	claimants := map[claim][]record{}
	for _, rec := range n.records {
		for _, c := range rec.claims() {
			claimants[c] = append(claimants[c], rec)
		}
	}
	for c, rivals := range claimants {
		if len(rivals) == 1 {
			continue
		}
		at := slices.IndexFunc(rivals, func(rec record) bool { return n.holds(rec, c.ip) })
		if at < 0 {
			continue // all are gone: each gives back what is its own
		}
		for i, rec := range rivals {
			if _, known := n.records[rec.SandboxID]; i == at || !known {
				continue
			}
			if n.holds(rec, c.ip) {
				n.cfg.Logger.Error("two sandboxes have the same address: remove one of the pods", "sandbox", rec.SandboxID, "pod", rec.Pod, "other", rivals[at].SandboxID, "ip", c.ip)
				continue
			}
			if err := n.quarantine(rec.SandboxID, rec.refuted(rivals[at], c.ip)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (rec record) refuted(rival record, ip netip.Addr) error {
	return fmt.Errorf("it gives %s of network %q to pod %s, but the one that has it is pod %s (sandbox %s)", ip, rec.Network, rec.Pod, rival.Pod, rival.SandboxID)
}

// rivalOf returns the record of another sandbox that has an address which rec claims.
func (n *Network) rivalOf(rec record) (contest, bool) {
	var rivals []contest
	n.mu.Lock()
	for _, other := range n.records {
		for _, c := range other.claims() {
			if other.SandboxID != rec.SandboxID && slices.Contains(rec.claims(), c) {
				rivals = append(rivals, contest{other, c.ip})
			}
		}
	}
	n.mu.Unlock()
	at := slices.IndexFunc(rivals, func(c contest) bool { return n.holds(c.rival, c.ip) })
	if at < 0 {
		return contest{}, false
	}
	return rivals[at], true
}

// contest is an address that a rival has.
type contest struct {
	rival record
	ip    netip.Addr
}

// holds asks the kernel whether the sandbox of rec has ip. Where that can't be told, it has:
// then nothing of anybody is given up.
func (n *Network) holds(rec record, ip netip.Addr) bool {
	if rec.BootID != n.bootID || !pinned(rec.NetnsPath, rec.NetnsInode) {
		return false
	}
	held := false
	err := netns.At(rec.NetnsPath, func() error {
		link, err := netlink.LinkByName(rec.IfName)
		if err != nil {
			return err
		}
		addresses, err := rtnetlink.Dump(func() ([]netlink.Addr, error) { return netlink.AddrList(link, netlink.FAMILY_ALL) })
		held = slices.ContainsFunc(addresses, func(a netlink.Addr) bool {
			have, _ := netip.AddrFromSlice(a.IP)
			return have.Unmap() == ip
		})
		return err
	})
	return held || err != nil && !errors.As(err, new(netlink.LinkNotFoundError)) && !errors.Is(err, os.ErrNotExist)
}

// setAside is in place of CNI DEL for a record whose address another sandbox has: what
// carries the sandbox's own id goes, and nothing that goes by the address.
func (n *Network) setAside(ctx context.Context, rec record, c contest, ended func() error) error {
	if err := ended(); err != nil {
		return err
	}
	if err := n.quarantine(rec.SandboxID, rec.refuted(c.rival, c.ip)); err != nil {
		return err
	}
	n.noteQuarantine()
	found, err := leaks.Find(ctx, leaks.Scope{
		Past:     []leaks.Past{{Owner: rec.owner(), Pin: rec.NetnsPath, Links: n.ownLinks(rec)}},
		CacheDir: n.cacheDir(),
	})
	for _, l := range found {
		err = errors.Join(err, l.Mend(ctx))
	}
	n.forgetConnections(rec)
	if err != nil { // the next look for leaks goes on with it
		n.cfg.Logger.Warn("what a sandbox left could not all be removed", "sandbox", rec.SandboxID, "error", err)
	}
	return nil
}

// ownLinks are the node's interfaces that rec tells of, and no other record.
func (n *Network) ownLinks(rec record) []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	links := hostLinks(rec.Result)
	for id, other := range n.records {
		if id != rec.SandboxID {
			shared := hostLinks(other.Result)
			links = slices.DeleteFunc(links, func(name string) bool { return slices.Contains(shared, name) })
		}
	}
	return links
}

// cachedIPs are the addresses that libcni's cache has of an attachment. None where it is
// damaged or ADD did not end.
func (n *Network) cachedIPs(c *libcni.NetworkAttachment, netnsPath string) []netip.Addr {
	var cached struct {
		Result json.RawMessage `json:"result"`
	}
	text, err := os.ReadFile(n.cacheFile(c.Network, c.ContainerID, c.IfName))
	if err != nil || json.Unmarshal(text, &cached) != nil {
		return nil
	}
	addresses, err := podAddresses(cached.Result, netnsPath)
	if err != nil {
		return nil
	}
	var ips []netip.Addr
	for _, address := range addresses {
		ips = append(ips, address.Addr())
	}
	return ips
}
