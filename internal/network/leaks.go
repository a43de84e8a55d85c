package network

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"time"

	"github.com/containernetworking/cni/libcni"

	"github.com/mascri/mascri/internal/network/firewall"
	"github.com/mascri/mascri/internal/network/leaks"
	"github.com/mascri/mascri/internal/pod"
)

// FindLeaks returns what is on the node of attachments that are over, and the records of
// sandboxes that the engine does not have. sandboxes are the ids of all that it has; a
// list that may be incomplete would make leaks of what is in use. It changes nothing.
func (n *Network) FindLeaks(ctx context.Context, sandboxes []string) ([]pod.Leak, error) {
	found, err := leaks.Find(ctx, n.leakScope(sandboxes))
	list := plainLeaks(found)
	for _, a := range n.Attachments() {
		if !slices.Contains(sandboxes, a.SandboxID) {
			list = append(list, pod.Leak{Kind: pod.LeakRecord, Network: a.Network, SandboxID: a.SandboxID, What: filepath.Join(n.recordDir(), recordFile(a.SandboxID))})
		}
	}
	if err != nil {
		return list, fmt.Errorf("find leaks: %w", err)
	}
	return list, nil
}

// MendLeaks mends what FindLeaks finds, but for records: Detach does that. It returns what
// it found; Status tells what could not be mended.
func (n *Network) MendLeaks(ctx context.Context, sandboxes []string) ([]pod.Leak, error) {
	found, err := leaks.Find(ctx, n.leakScope(sandboxes))
	list := plainLeaks(found)
	if n.detachCached(ctx, list) {
		var left []leaks.Leak
		if left, err = leaks.Find(ctx, n.leakScope(sandboxes)); err == nil {
			found = left
		}
	}
	for i := range list {
		at := slices.IndexFunc(found, func(l leaks.Leak) bool { return l.What == list[i].What && l.Kind == list[i].Kind })
		if at < 0 { // DEL was enough, or will be
			if list[i].Mended = !n.isDirty(list[i].SandboxID); !list[i].Mended {
				list[i].Error = "CNI DEL fails; it is on the dirty queue"
			}
			continue
		}
		mended, err := n.mendLeak(ctx, found[at])
		list[i].Mended = mended
		if err != nil {
			list[i].Error = err.Error()
		}
	}
	n.noteLeaks(list)
	if err != nil {
		return list, fmt.Errorf("find leaks: %w", err)
	}
	return list, nil
}

// detachCached runs CNI DEL for what libcni's cache still tells of: plugins know best what
// they made. It tells whether there was any.
func (n *Network) detachCached(ctx context.Context, found []pod.Leak) (any bool) {
	for _, l := range found {
		if l.Kind != pod.LeakCache {
			continue
		}
		any = true
		if err := n.detachPast(ctx, l.SandboxID); err != nil {
			n.cfg.Logger.Warn("what is left of a sandbox can't be detached; it is mended by hand", "sandbox", l.SandboxID, "error", err)
		}
	}
	return any
}

// detachPast is for a sandbox that was seen to have no record. One that has one by now is
// attached again, and left alone.
func (n *Network) detachPast(ctx context.Context, sandboxID string) error {
	unlock, err := n.lockPast(ctx, sandboxID)
	if err != nil {
		return err
	}
	defer unlock()
	if _, known := n.record(sandboxID); known {
		return nil
	}
	return n.detachLost(context.WithoutCancel(ctx), sandboxID, hasEnded)
}

// mendWait is how long a sandbox may be worked on by others, such as a Detach that came
// by an event, before what it left is looked at next time.
const mendWait = 20 * time.Second

func (n *Network) lockPast(ctx context.Context, sandboxID string) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, mendWait)
	defer cancel()
	if unlock, err = n.locks.Lock(ctx, sandboxID); err != nil {
		return nil, fmt.Errorf("somebody is at work on the sandbox: %w", err)
	}
	return unlock, nil
}

// mendLeak works on a sandbox alone, as all else does.
func (n *Network) mendLeak(ctx context.Context, l leaks.Leak) (mended bool, err error) {
	if l.SandboxID != "" {
		unlock, err := n.lockPast(ctx, l.SandboxID)
		if err != nil {
			return false, err
		}
		defer unlock()
		rec, known := n.record(l.SandboxID)
		if whole := known && rec.Phase == pod.Attached; known && l.Kind != pod.LeakUnreserved || l.Kind == pod.LeakUnreserved && !whole {
			return false, nil
		}
	}
	if l.Kind == pod.LeakLink && n.mayHaveLink(l.Link) {
		return false, errors.New("a sandbox has it, or is being attached and may be given it")
	}
	err = l.Mend(ctx)
	return err == nil, err
}

// mayHaveLink tells whether an interface of that name on the node can be an attachment's. What
// an ADD under way makes is not known before its end. One that begins later is no matter:
// what it makes is not the interface that was found, even under the same name.
func (n *Network) mayHaveLink(name string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, rec := range n.records {
		if rec.Phase == pod.Attaching && rec.Result == nil || slices.Contains(hostLinks(rec.Result), name) {
			return true
		}
	}
	return false
}

// noteLeaks keeps for Status what could not be mended, and logs what is new.
func (n *Network) noteLeaks(list []pod.Leak) {
	var left []pod.Leak
	before := n.leaks.Load()
	for _, l := range list {
		if n.cfg.FoundLeak != nil && (before == nil || !slices.ContainsFunc(*before, func(b pod.Leak) bool { return b.Kind == l.Kind && b.What == l.What })) {
			n.cfg.FoundLeak(l.Kind)
		}
		if l.Mended {
			n.cfg.Logger.Warn("a leftover was mended", "kind", l.Kind, "sandbox", l.SandboxID, "what", l.What)
			continue
		}
		if left = append(left, l); before == nil || !slices.Contains(*before, l) {
			n.cfg.Logger.Warn("a leftover can't be mended", "kind", l.Kind, "sandbox", l.SandboxID, "what", l.What, "error", l.Error)
		}
	}
	n.leaks.Store(&left)
}

func plainLeaks(found []leaks.Leak) []pod.Leak {
	var list []pod.Leak
	for _, l := range found {
		list = append(list, l.Leak)
	}
	return list
}

// leakScope tells what is ours: over is what the ledger knows and neither has a record nor
// is a sandbox that the engine still has, which is for others to put right.
func (n *Network) leakScope(sandboxes []string) leaks.Scope {
	entries := n.ledger.all() // before the records, see note
	scope := leaks.Scope{CacheDir: n.cacheDir()}
	stores := map[string]bool{}
	add := func(list *libcni.NetworkConfigList) {
		for _, dir := range storesOf(list) {
			stores[dir] = true
		}
	}
	if net := n.snap.Load().chosen; net != nil {
		add(net.list)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	inUse := map[string]bool{}
	for _, id := range sandboxes {
		inUse[id] = true
	}
	taken := map[netip.Addr]bool{} // by attachments in any phase
	for id, rec := range n.records {
		inUse[id] = true
		for _, ip := range rec.IPs {
			taken[ip] = true
		}
		for _, link := range hostLinks(rec.Result) {
			inUse[link] = true
		}
		list, err := rec.list()
		if err != nil {
			continue // it was read before
		}
		add(list)
		if rec.Phase == pod.Attached {
			scope.Present = append(scope.Present, leaks.Present{Owner: rec.owner(), Reserved: reservedFor(rec, list)})
		}
	}
	for _, e := range entries {
		for _, dir := range e.Stores {
			stores[dir] = true
		}
		if inUse[e.SandboxID] {
			continue
		}
		links := slices.DeleteFunc(slices.Clone(e.Links), func(name string) bool { return inUse[name] })
		scope.Past = append(scope.Past, leaks.Past{
			Owner: firewall.Owner{Network: e.Network, SandboxID: e.SandboxID, IfName: ifName},
			Pin:   n.pinPath(e.SandboxID), Links: links, Stores: e.Stores,
			IPs: slices.DeleteFunc(slices.Clone(e.IPs), func(ip netip.Addr) bool { return taken[ip] }),
		})
	}
	for dir := range stores {
		scope.Stores = append(scope.Stores, dir)
	}
	return scope
}

func (rec record) owner() firewall.Owner {
	return firewall.Owner{Network: rec.Network, SandboxID: rec.SandboxID, IfName: rec.IfName}
}

// storesOf returns the directories that host-local keeps the reservations of list in.
func storesOf(list *libcni.NetworkConfigList) []string {
	var dirs []string
	for _, plugin := range list.Plugins {
		var conf struct {
			IPAM struct {
				Type    string `json:"type"`
				DataDir string `json:"dataDir"`
			} `json:"ipam"`
		}
		if json.Unmarshal(plugin.Bytes, &conf) == nil && conf.IPAM.Type == "host-local" {
			dirs = append(dirs, filepath.Join(cmp.Or(conf.IPAM.DataDir, hostLocalDir), list.Name))
		}
	}
	return dirs
}

// reservedFor returns the address files that must name rec. Where the configuration has
// more than one store, nobody knows which gave what.
func reservedFor(rec record, list *libcni.NetworkConfigList) []string {
	dirs := storesOf(list)
	if len(dirs) != 1 {
		return nil
	}
	var files []string
	for _, ip := range rec.IPs {
		files = append(files, filepath.Join(dirs[0], ip.String()))
	}
	return files
}
