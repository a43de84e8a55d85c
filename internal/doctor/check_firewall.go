package doctor

import (
	"fmt"
	"strings"

	"github.com/mascri/mascri/internal/network/firewall"
)

// checkForwardPolicy tells who drops what pods send through this machine, and what
// the daemon does about it.
func checkForwardPolicy(s seen) []Result {
	const check = "FORWARD"
	switch {
	case s.firewallErr != nil:
		return []Result{{check, Fail, oneLine(s.firewallErr), "mend what the error names"}}
	case s.daemon.network != nil && s.network.Forwarding.Message != "" && !s.network.Forwarding.OK:
		return []Result{{check, Fail, s.network.Forwarding.Message, "see what the message names; pods reach nobody beyond their own bridge until then"}}
	}
	var results []Result
	if s.daemon.network != nil && s.network.Forwarding.OK {
		results = append(results, Result{check, OK, "the daemon accepts pod subnets: " + s.network.Forwarding.Message, ""})
	}
	for _, c := range s.firewall.Chains {
		switch {
		case !c.Drops:
			results = append(results, Result{check, OK, c.Flavour + " lets packets pass", ""})
		case c.DockerUser:
			results = append(results, Result{check, OK, fmt.Sprintf("%s drops, as %s sets it; MasCRI lets pod subnets pass by way of DOCKER-USER", c.Flavour, setBy(c)), ""})
		default:
			results = append(results, Result{check, Fail, fmt.Sprintf("%s drops by policy, set by %s, and Docker has no chain DOCKER-USER there for MasCRI's rules", c.Flavour, setBy(c)),
				"restart Docker if its chains were flushed; else accept the pod subnets in the firewall that sets the policy"})
		}
	}
	for _, place := range s.firewall.Drops {
		results = append(results, dropElsewhere(check, place))
	}
	if len(results) == 0 {
		results = []Result{{check, OK, "nothing filters forwarded packets", ""}}
	}
	return results
}

// setBy names who may have set the policy of a chain.
func setBy(c firewall.ForwardChain) string {
	if len(c.By) == 0 {
		return "a program unknown here"
	}
	return strings.Join(c.By, " or ")
}

// dropElsewhere judges an nftables chain that drops by policy, which no accept in
// another table can undo.
func dropElsewhere(check, place string) Result {
	r := Result{check, Warn, place + " drops what it does not know, and an accept elsewhere can't undo that", "accept the pod subnets there"}
	if !strings.Contains(place, "docker-bridges") {
		return r
	}
	sysctl := "net.ipv4.ip_forward"
	if strings.HasPrefix(place, "table ip6 ") {
		sysctl = "net.ipv6.conf.all.forwarding"
	}
	r.Level = Fail
	r.Fix = fmt.Sprintf(`set %s=1 in /etc/sysctl.d, or "ip-forward-no-drop": true in /etc/docker/daemon.json, and restart Docker`, sysctl)
	return r
}

func checkIPTables(s seen) []Result {
	const check = "iptables"
	var results []Result
	switch {
	case s.commands.iptables != "":
		text := s.commands.iptables
		if s.commands.nft {
			text += "; nft is there too"
		}
		results = append(results, Result{check, OK, text, ""})
	case s.commands.nft:
		results = append(results, Result{check, Warn, "there is nft but no iptables, which Docker and plugins with ipMasq or host ports run unless told otherwise",
			"install iptables"})
	default:
		results = append(results, Result{check, Warn, "there is neither iptables nor nft, of which Docker and plugins with ipMasq or host ports need one",
			"install iptables"})
	}
	var nft, legacy bool
	for _, c := range s.firewall.Chains {
		nft = nft || strings.HasSuffix(c.Flavour, "-nft")
		legacy = legacy || strings.HasSuffix(c.Flavour, "-legacy")
	}
	if nft && legacy {
		results = append(results, Result{check, Warn, "rules are in both iptables-nft and iptables-legacy, and a packet must pass both",
			"let all programs use one (update-alternatives --config iptables) and reboot, or flush the other"})
	}
	return results
}
