package network

import (
	"fmt"
	"slices"

	"github.com/mascri/mascri/internal/pod"
)

// Status tells whether a sandbox could be attached now, and if not, why and what
// to do. Memory only.
func (n *Network) Status() pod.NetworkStatus {
	snap := n.snap.Load()
	status := pod.NetworkStatus{
		Passed:    snap.passed,
		Plugins:   snap.found,
		ConfigDir: n.cfg.ConfigDir,
		BinDirs:   n.cfg.BinDirs,
		Dirty:     n.dirty(),
	}
	for _, cidr := range n.podCIDRs() {
		status.PodCIDRs = append(status.PodCIDRs, cidr.String())
	}
	if forwarding := n.forwarding.Load(); forwarding != nil {
		status.Forwarding = *forwarding
	}
	if net := snap.chosen; net != nil {
		status.Network, status.ConfigFile, status.DefaultNetwork = net.list.Name, net.file, net.file == ""
		status.Subnets = subnetsOf(net.list)
		status.Pools = poolsOf(net.list, n.podCIDRs())
		status.Links = linksOf(net.list)
		status.CNIVersion = net.list.CNIVersion
	}
	if left := n.leaks.Load(); left != nil {
		status.Leaks = *left
	}
	if aside := n.aside.Load(); aside != nil {
		status.Quarantined = *aside
	}
	if problem := n.problem(snap); problem != nil {
		status.Reason, status.Message = problem.Reason, problem.Message
		return status
	}
	status.Ready = true
	status.Message = snap.message()
	return status
}

// problem is why no sandbox could be attached now; nil: one could.
func (n *Network) problem(snap *snapshot) *pod.Problem {
	if snap.none != nil {
		return &pod.Problem{Reason: "NoNetworkConfig", Message: snap.none.Error()}
	}
	name := origin(snap.chosen.list.Name, snap.chosen.file)
	if err := missing(snap.found); err != nil {
		return &pod.Problem{Reason: "PluginMissing", Message: fmt.Sprintf("%s: %v; install it there, or name its directory", name, err)}
	}
	if err := n.noPodCIDR(snap.chosen); err != nil {
		return &pod.Problem{Reason: "NoPodCIDR", Message: err.Error()}
	}
	if err := n.overlap(snap.chosen); err != nil {
		return &pod.Problem{Reason: "NetworksOverlap", Message: err.Error()}
	}
	if failed := n.defaultNet.failed.Load(); snap.chosen.file == "" && failed != nil && *failed != nil {
		return &pod.Problem{Reason: "MasqueradeFailed", Message: fmt.Sprintf("%s: %v", name, *failed)}
	}
	if v := n.verdict.Load(); v != nil && v.err != nil && v.net.same(snap.chosen) {
		return &pod.Problem{Reason: "PluginNotReady", Message: fmt.Sprintf("%s: %v", name, v.err)}
	}
	return nil
}

// message is what to know of a network that is ready.
func (snap *snapshot) message() string {
	text := origin(snap.chosen.list.Name, snap.chosen.file)
	if snap.notice != "" {
		text += "; " + snap.notice
	}
	if snap.chosen.file != "" {
		return text
	}
	for _, passed := range snap.passed {
		if passed.Invalid {
			return text + "; invalid: " + passed.Reason
		}
	}
	return text
}

// logChange tells of a network that took another's place, and of each problem once.
func (n *Network) logChange(before, after *snapshot) {
	if after.none != nil {
		if before == nil || before.none == nil || before.none.Error() != after.none.Error() {
			n.cfg.Logger.Warn("no network for pods", "error", after.none)
		}
		return
	}
	if before == nil || before.chosen == nil || !before.chosen.same(after.chosen) || before.notice != after.notice {
		n.cfg.Logger.Info("network for pods", "network", after.chosen.list.Name, "file", after.chosen.file, "notice", after.notice)
	}
	for _, passed := range after.passed {
		if passed.Invalid && (before == nil || !slices.Contains(before.passed, passed)) {
			n.cfg.Logger.Warn("network configuration is invalid", "file", passed.File, "error", passed.Reason)
		}
	}
}
