package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/mascri/mascri/internal/pod"
)

// bridgePorts is how many a bridge of the kernel has at most (BR_MAX_PORTS, with 0 kept).
const bridgePorts = 1023

// fewShare is the part of all addresses or ports below which an operator wants to know
// that few are left: a tenth.
const fewShare = 10

// checkBridgeNF tells whether packets between pods of one bridge pass iptables.
func checkBridgeNF(s seen) []Result {
	const check = "bridge-nf"
	if !slices.ContainsFunc(s.network.Links, func(l pod.Link) bool { return l.Plugin == "bridge" }) {
		return nil
	}
	value, there := s.kernel.sysctls[bridgeNF]
	switch {
	case !there:
		return []Result{{check, Warn, "the kernel module br_netfilter is not loaded: packets between pods of one bridge pass no iptables rule, so Services and network policies miss them",
			"modprobe br_netfilter, and its name into a file in /etc/modules-load.d"}}
	case value == "0":
		return []Result{{check, Warn, dotted(bridgeNF) + " is 0: packets between pods of one bridge pass no iptables rule, so Services and network policies miss them",
			fmt.Sprintf("sysctl -w %s=1, and the same in /etc/sysctl.d", dotted(bridgeNF))}}
	case usesIPv6(s.network.Subnets) && s.kernel.sysctls[bridgeNF6] == "0":
		return []Result{{check, Warn, dotted(bridgeNF6) + " is 0: the same holds for IPv6 alone", fmt.Sprintf("sysctl -w %s=1, and the same in /etc/sysctl.d", dotted(bridgeNF6))}}
	}
	return []Result{{check, OK, "packets between pods of one bridge pass iptables", ""}}
}

// checkRPFilter looks for strict filtering by the way back where ways differ.
func checkRPFilter(s seen) []Result {
	const check = "rp_filter"
	value, ok := s.kernel.sysctls[rpFilter]
	if !ok {
		return nil
	}
	var ways, strict []string
	for _, u := range s.kernel.uplinks {
		if u.ipv6 {
			continue
		}
		ways = append(ways, u.link)
		// The greater of the two values holds, of 0: off, 1: strict, 2: loose.
		if max(value, s.kernel.sysctls[linkRPFilter(u.link)]) == "1" {
			strict = append(strict, u.link)
		}
	}
	sbr := slices.ContainsFunc(s.network.Plugins, func(p pod.Plugin) bool { return p.Type == "sbr" })
	if len(strict) > 0 && (len(ways) > 1 || sbr) {
		return []Result{{check, Warn, fmt.Sprintf("%s filters strictly by the way back, and ways differ on this node: what comes in where answers would not go out is dropped", strings.Join(strict, ", ")),
			fmt.Sprintf("sysctl -w %s=2 (loose), and the same in /etc/sysctl.d", dotted(rpFilter))}}
	}
	return []Result{{check, OK, "nothing is dropped by its way back that should not be", ""}}
}

// checkIPv6 looks at what keeps IPv6 from pods, or from the node once it forwards.
func checkIPv6(s seen) []Result {
	const check = "IPv6"
	if !usesIPv6(s.network.Subnets) {
		return nil
	}
	var results []Result
	switch {
	case !s.ipv6:
		results = append(results, Result{check, Fail, "the network has an IPv6 subnet, and the kernel has no IPv6", "boot without ipv6.disable=1, or take the subnet out of the CNI config"})
	case s.kernel.sysctls[disableIPv6] == "1":
		results = append(results, Result{check, Fail, dotted(disableIPv6) + " is 1, and the network has an IPv6 subnet: pods have no way out of the node by IPv6",
			fmt.Sprintf("sysctl -w %s=0, and the same in /etc/sysctl.d; or take the subnet out of the CNI config", dotted(disableIPv6))})
	}
	for _, u := range s.kernel.lostUplinks() {
		results = append(results, Result{check, Warn, fmt.Sprintf("%s has its default route from a router, and %s is %s: once the node forwards IPv6, it takes no more of them and the route expires", u.link, dotted(acceptRA(u.link)), s.kernel.sysctls[acceptRA(u.link)]),
			fmt.Sprintf("sysctl -w %s=2, and the same in /etc/sysctl.d", dotted(acceptRA(u.link)))})
	}
	if results == nil {
		results = []Result{{check, OK, "pods and node have IPv6", ""}}
	}
	return results
}

// lostUplinks are those whose IPv6 default route a node that forwards would lose. With accept_ra
// 0, the route is not of the kernel's but of a daemon such as systemd-networkd, which keeps it.
func (k kernel) lostUplinks() []uplink {
	var lost []uplink
	for _, u := range k.uplinks {
		if ra := k.sysctls[acceptRA(u.link)]; u.ipv6 && u.byRouter && ra == "1" {
			lost = append(lost, u)
		}
	}
	return lost
}

// checkMTU compares what pods send with what leaves the node.
func checkMTU(s seen) []Result {
	const check = "MTU"
	narrowest := uplink{}
	for _, u := range s.kernel.uplinks {
		if u.mtu > 0 && (narrowest.mtu == 0 || u.mtu < narrowest.mtu) {
			narrowest = u
		}
	}
	if narrowest.mtu == 0 {
		return nil // no way out, or none that tells
	}
	var results []Result
	for _, asked := range s.network.Links {
		mtu := asked.MTU
		if l, ok := s.kernel.link(asked.Name); ok && mtu == 0 {
			mtu = l.mtu
		}
		switch {
		case mtu == 0: // the kernel's default, with the first pod
		case mtu > narrowest.mtu:
			results = append(results, Result{check, Warn, fmt.Sprintf("pods on %s send packets of up to %d bytes, and %s takes %d: transfers to the outside hang where routers don't tell", asked.Name, mtu, narrowest.link, narrowest.mtu),
				fmt.Sprintf(`"mtu": %d for the plugin %s in the CNI config; pods get it when they are made anew`, narrowest.mtu, asked.Plugin)})
		default:
			results = append(results, Result{check, OK, fmt.Sprintf("%d on %s, %d on %s", mtu, asked.Name, narrowest.mtu, narrowest.link), ""})
		}
	}
	return results
}

func (k kernel) link(name string) (link, bool) {
	i := slices.IndexFunc(k.links, func(l link) bool { return l.name == name })
	if i < 0 {
		return link{}, false
	}
	return k.links[i], true
}

// checkRoom tells how many pods there is room for.
func checkRoom(s seen) []Result {
	const check = "room"
	var results []Result
	for _, p := range s.pools {
		text := fmt.Sprintf("%s: %d addresses in use, %d free", p.pool.Subnet, p.used, p.free)
		switch {
		case p.err != nil:
			results = append(results, Result{check, Warn, fmt.Sprintf("%s: the addresses in use can't be counted: %s", p.pool.Subnet, oneLine(p.err)), "mend what the error names"})
		case p.free == 0:
			results = append(results, Result{check, Fail, text + ": no pod can be attached", "remove pods; or see mascri net leaks for addresses that no pod has; or give the network a larger subnet"})
		case p.free < (p.used+p.free)/fewShare:
			results = append(results, Result{check, Warn, text, "see mascri net leaks for addresses that no pod has, or give the network a larger subnet"})
		case p.free > 1<<32:
			results = append(results, Result{check, OK, fmt.Sprintf("%s: %d addresses in use, plenty free", p.pool.Subnet, p.used), ""})
		default:
			results = append(results, Result{check, OK, text, ""})
		}
	}
	for _, asked := range s.network.Links {
		l, ok := s.kernel.link(asked.Name)
		if !ok || l.kind != "bridge" {
			continue
		}
		text := fmt.Sprintf("bridge %s: %d of %d ports in use", l.name, l.ports, bridgePorts)
		switch {
		case l.ports >= bridgePorts:
			results = append(results, Result{check, Fail, text + ": no pod can be attached", "remove pods; a bridge takes no more"})
		case bridgePorts-l.ports < bridgePorts/fewShare:
			results = append(results, Result{check, Warn, text, "the kubelet's maxPods should be less than a bridge takes"})
		default:
			results = append(results, Result{check, OK, text, ""})
		}
	}
	return results
}

// widest are the prefix lengths below which a route is no network but a way for
// everything else, as 0.0.0.0/1 of a VPN.
const widest = 8

// checkOverlaps finds routes and networks of the engine that have addresses of pods.
// Those of interfaces are judged by checkSubnets.
func checkOverlaps(s seen) []Result {
	const check = "subnet"
	var results []Result
	for _, text := range s.network.Subnets {
		subnet, err := netip.ParsePrefix(text)
		if err != nil {
			continue // said by the plugin
		}
		for _, r := range s.kernel.routes {
			own := slices.ContainsFunc(s.network.Links, func(l pod.Link) bool { return l.Name == r.link })
			if own || r.prefix.IsSingleIP() || r.prefix.Bits() < widest || !r.prefix.Overlaps(subnet) {
				continue
			}
			results = append(results, Result{check, Warn, fmt.Sprintf("a route leads to %s by %s, and pods have %s: one of them can't be reached", r.prefix, r.link, text),
				"give the pods another subnet, or remove the route"})
		}
		for _, pool := range s.enginePools {
			if pool.Overlaps(subnet) {
				results = append(results, Result{check, Warn, fmt.Sprintf("Docker has or gives %s to networks of its own, and pods have %s", pool, text),
					`give the pods another subnet, or Docker others by "default-address-pools" in /etc/docker/daemon.json`})
			}
		}
	}
	return results
}

// checkVersions tells which releases the plugins are of, and whether they know the
// config's version of the spec.
func checkVersions(s seen) []Result {
	const check = "CNI versions"
	var results []Result
	var known []string
	for _, v := range s.versions {
		switch {
		case v.err != nil:
			results = append(results, Result{check, Warn, oneLine(v.err), "reinstall the plugin"})
			continue
		case s.network.CNIVersion != "" && !slices.Contains(v.supported, s.network.CNIVersion):
			results = append(results, Result{check, Fail, fmt.Sprintf("plugin %q does not know version %s of the CNI spec, which the config has", v.plugin, s.network.CNIVersion),
				fmt.Sprintf(`"cniVersion": %q in the config, or newer plugins`, newest(v.supported))})
		}
		release := v.release
		if i := strings.LastIndexByte(release, ' '); i >= 0 {
			release = release[i+1:]
		}
		if release == "" {
			release = "of an unknown release"
		}
		known = append(known, v.plugin+" "+release)
	}
	if len(known) > 0 {
		results = append([]Result{{check, OK, strings.Join(known, ", "), ""}}, results...)
	}
	return results
}

// newest is the last: plugins list versions in their order.
func newest(versions []string) string {
	if len(versions) == 0 {
		return ""
	}
	return versions[len(versions)-1]
}
