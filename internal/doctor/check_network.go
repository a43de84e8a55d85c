package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/mascri/mascri/internal/pod"
)

func checkConfig(s seen) []Result {
	const check = "CNI config"
	if s.networkErr != nil {
		return []Result{{check, Fail, oneLine(s.networkErr), "mend what the error names"}}
	}
	n := s.network
	var results []Result
	switch {
	case n.ConfigFile != "":
		results = append(results, Result{check, OK, fmt.Sprintf("network %q from %s%s", n.Network, n.ConfigFile, subnets(n.Subnets)), ""})
	case n.DefaultNetwork:
		results = append(results, Result{check, OK, fmt.Sprintf("none in %s: the default network is used", n.ConfigDir), ""})
	}
	switch {
	case n.Ready || anyMissing(n.Plugins): // the latter is said by checkPlugins
	case n.ConfigFile == "" && !n.DefaultNetwork:
		results = append(results, Result{check, Fail, n.Reason + ": " + n.Message,
			fmt.Sprintf("put a valid CNI config into %s; pods on the host network run all the same", n.ConfigDir)})
	default:
		results = append(results, Result{check, Fail, n.Reason + ": " + n.Message, "mend what the message names"})
	}
	for _, p := range n.Passed {
		if p.Invalid {
			results = append(results, Result{check, Warn, "passed over: " + p.Reason, "mend or remove " + p.File})
			continue
		}
		results = append(results, Result{check, OK, fmt.Sprintf("passed over: %s: %s", p.File, p.Reason), ""})
	}
	return results
}

func anyMissing(plugins []pod.Plugin) bool {
	return slices.ContainsFunc(plugins, func(p pod.Plugin) bool { return p.Err != "" })
}

func checkPlugins(s seen) []Result {
	const check = "CNI plugins"
	var found []string
	var results []Result
	for _, p := range s.network.Plugins {
		if p.Err != "" {
			results = append(results, Result{check, Fail, p.Err,
				fmt.Sprintf("install the CNI plugins (Debian: containernetworking-plugins, in /usr/lib/cni) or put %s into %s",
					p.Type, strings.Join(s.network.BinDirs, " or "))})
			continue
		}
		found = append(found, p.Path)
	}
	if len(found) > 0 {
		results = append([]Result{{check, OK, strings.Join(found, ", "), ""}}, results...)
	}
	return results
}

func checkDefaultNetwork(s seen) []Result {
	const check = "default network"
	n := s.network
	switch {
	case s.networkErr != nil:
		return nil // said by checkConfig
	case n.DefaultNetwork && n.Ready && s.daemon.network != nil:
		return []Result{{check, OK, "in use" + subnets(n.Subnets), ""}}
	case n.DefaultNetwork && n.Ready:
		// The first start chooses, and by chance where it is IPv6.
		return []Result{{check, OK, "used once the daemon runs, with subnets such as " + strings.Join(n.Subnets, " and "), ""}}
	case n.DefaultNetwork:
		return nil // said by checkConfig
	case !s.defaultNetwork:
		return []Result{{check, OK, "off by default_network = false", ""}}
	case len(n.PodCIDRs) > 0:
		return []Result{{check, OK, "off, as the cluster gave the pod CIDR " + strings.Join(n.PodCIDRs, ", "), ""}}
	case n.ConfigFile != "":
		return []Result{{check, OK, "not used, as there is a CNI config", ""}}
	}
	return nil // said by checkConfig
}

// checkSubnets finds interfaces that compete for the addresses of pods, such as the
// bridges of two networks. An address without a subnet (/32) leads no packets astray.
func checkSubnets(s seen) []Result {
	const check = "subnet"
	var results []Result
	for _, text := range s.network.Subnets {
		subnet, err := netip.ParsePrefix(text)
		if err != nil {
			continue // said by the plugin
		}
		var links []string
		for _, a := range s.addresses {
			if !a.prefix.IsSingleIP() && subnet.Overlaps(a.prefix) && !slices.Contains(links, a.link) {
				links = append(links, a.link)
			}
		}
		if len(links) > 1 {
			results = append(results, Result{check, Fail, fmt.Sprintf("%s are both in %s: what is meant for a pod may be sent to the wrong one", strings.Join(links, " and "), text),
				"give one of them another subnet, or remove the one that no pod uses any more with ip link delete"})
		}
	}
	return results
}

// checkForwarding looks at the kernel's switches. The plugin bridge turns them on
// with the first pod where it is a gateway, so that off is no failure.
func checkForwarding(s seen) []Result {
	const check = "ip_forward"
	if s.firewallErr != nil {
		return nil // said by checkForwardPolicy
	}
	var results []Result
	for _, family := range []struct {
		name, sysctl string
		on, used     bool
	}{
		{"IPv4", "net.ipv4.ip_forward", s.firewall.IPv4, true},
		{"IPv6", "net.ipv6.conf.all.forwarding", s.firewall.IPv6, s.ipv6 && usesIPv6(s.network.Subnets)},
	} {
		switch {
		case !family.used:
		case family.on:
			results = append(results, Result{check, OK, family.name + " packets are forwarded", ""})
		case s.network.DefaultNetwork:
			results = append(results, Result{check, OK, family.sysctl + " is 0, and is set with the first pod of the default network", ""})
		default:
			results = append(results, Result{check, Warn, fmt.Sprintf("%s is 0: pods reach nothing beyond their own bridge unless a CNI plugin sets it", family.sysctl),
				fmt.Sprintf("sysctl -w %s=1, and the same in /etc/sysctl.d", family.sysctl)})
		}
	}
	return results
}

func usesIPv6(subnets []string) bool {
	return slices.ContainsFunc(subnets, func(s string) bool { return strings.Contains(s, ":") })
}

func subnets(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return ", subnet " + strings.Join(list, " and ")
}
