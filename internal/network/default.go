package network

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/containerd/errdefs"
	"github.com/containernetworking/cni/libcni"
)

// defaultUse orders the coming and going of the default network on the node.
type defaultUse struct {
	turn   slots                 // one; held while the network is ensured or removed
	failed atomic.Pointer[error] // of the last try to ensure it; nil pointer: not tried

	// By the holder of turn:
	removed bool   // it has nothing on the node
	refusal string // why it could not be removed, as last logged
}

// usesDefault tells whether a sandbox is, or would be next, on the default network.
func (n *Network) usesDefault() bool {
	if n.cfg.Default == nil {
		return false
	}
	if chosen := n.snap.Load().chosen; chosen != nil && chosen.file == "" {
		return true
	}
	return len(n.onDefault()) > 0
}

// onDefault returns the records of the sandboxes on the default network, in the order
// of their pods' names.
func (n *Network) onDefault() []record {
	n.mu.Lock()
	defer n.mu.Unlock()
	var on []record
	for _, rec := range n.records {
		if rec.ConfigFile == "" {
			on = append(on, rec)
		}
	}
	slices.SortFunc(on, func(a, b record) int { return strings.Compare(a.Pod, b.Pod) })
	return on
}

// settleDefault makes the node ready for a sandbox whose record is written but that is
// on no network yet: with the default network if it is to be on that one, and without
// it if that has had its day, as it may have the same subnet.
//
// Both need the record to be seen first: removeDefault does nothing then, and of two
// sandboxes that are to be on different networks, at least one sees the other.
func (n *Network) settleDefault(ctx context.Context, rec record) error {
	if rec.ConfigFile == "" {
		if chosen := n.snap.Load().chosen; chosen == nil || chosen.file != "" {
			return fmt.Errorf("%s: it was given up just now, try again: %w", rec.origin(), errdefs.ErrUnavailable)
		}
		if err := n.ensureDefault(ctx); err != nil {
			return fmt.Errorf("%s: %w", rec.origin(), err)
		}
		return nil
	}
	list, err := rec.list()
	if err != nil {
		return err
	}
	if err := n.overlap(&network{rec.ConfigFile, list}); err != nil {
		return fmt.Errorf("%w: %w", err, errdefs.ErrFailedPrecondition)
	}
	n.removeDefault(ctx)
	return nil
}

func (n *Network) ensureDefault(ctx context.Context) error {
	release, err := n.defaultNet.turn.take(ctx)
	if err != nil {
		return err
	}
	defer release()
	n.defaultNet.removed = false
	err = n.cfg.Default.Ensure(ctx)
	before := n.defaultNet.failed.Swap(&err)
	if err != nil && (before == nil || *before == nil) {
		n.cfg.Logger.Warn("the default network can't be set up", "error", err)
	}
	return err
}

// removeDefault takes the default network's bridge and rules off the node where they
// serve nobody. What can't be removed is tried again later.
func (n *Network) removeDefault(ctx context.Context) {
	if n.cfg.Default == nil {
		return
	}
	release, err := n.defaultNet.turn.take(ctx)
	if err != nil {
		return
	}
	defer release()
	if n.defaultNet.removed || n.usesDefault() {
		return
	}
	if err := n.cfg.Default.Remove(ctx); err != nil {
		if n.defaultNet.refusal != err.Error() {
			n.cfg.Logger.Warn("the default network, which is not used any more, can't be removed", "error", err)
		}
		n.defaultNet.refusal = err.Error()
		return
	}
	n.defaultNet.removed, n.defaultNet.refusal = true, ""
}

// podsNamed is how many pods an error names.
const podsNamed = 3

// overlap is why sandboxes can't be attached to net yet: others are on the default
// network still, and the node can't have the same subnet on two bridges.
func (n *Network) overlap(net *network) error {
	if net.file == "" {
		return nil
	}
	on := n.onDefault()
	if len(on) == 0 {
		return nil
	}
	taken := n.subnetsOnDefault(on)
	for _, subnet := range n.subnetsFor(net) {
		for _, other := range taken {
			if subnet.Overlaps(other) {
				return fmt.Errorf("%s: its subnet %s overlaps %s of the embedded default network, which pods are on still (%s): remove those first",
					origin(net.list.Name, net.file), subnet, other, podNames(on))
			}
		}
	}
	return nil
}

func podNames(on []record) string {
	var names []string
	for _, rec := range on[:min(podsNamed, len(on))] {
		names = append(names, rec.Pod)
	}
	if more := len(on) - podsNamed; more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	return strings.Join(names, ", ")
}

// subnetsOnDefault are those of the configurations that on were attached by.
func (n *Network) subnetsOnDefault(on []record) []netip.Prefix {
	var all []netip.Prefix
	var last []byte
	for _, rec := range on {
		if bytes.Equal(rec.Config, last) {
			continue // nearly all are the same
		}
		last = rec.Config
		if list, err := rec.list(); err == nil { // it was read before
			all = append(all, parsePrefixes(subnetsOf(list))...)
		}
	}
	return all
}

// subnetsFor are those that net gives addresses from, as far as it tells.
func (n *Network) subnetsFor(net *network) []netip.Prefix {
	subnets := parsePrefixes(subnetsOf(net.list))
	if net.declares(capIPRanges) {
		subnets = append(subnets, n.podCIDRs()...)
	}
	return subnets
}

// parsePrefixes leaves out what is no prefix.
func parsePrefixes(texts []string) []netip.Prefix {
	var prefixes []netip.Prefix
	for _, text := range texts {
		if prefix, err := netip.ParsePrefix(text); err == nil {
			prefixes = append(prefixes, prefix.Masked())
		}
	}
	return prefixes
}

// subnetsOf returns the subnets that the IPAM sections of list name, as host-local
// and those that copy it write them.
func subnetsOf(list *libcni.NetworkConfigList) []string {
	var subnets []string
	for _, plugin := range list.Plugins {
		var conf struct {
			IPAM struct {
				Subnet string `json:"subnet"`
				Ranges [][]struct {
					Subnet string `json:"subnet"`
				} `json:"ranges"`
			} `json:"ipam"`
		}
		if err := json.Unmarshal(plugin.Bytes, &conf); err != nil {
			continue // another IPAM, whose keys mean something else
		}
		if conf.IPAM.Subnet != "" {
			subnets = append(subnets, conf.IPAM.Subnet)
		}
		for _, set := range conf.IPAM.Ranges {
			for _, r := range set {
				subnets = append(subnets, r.Subnet)
			}
		}
	}
	return subnets
}
