package firewall

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"slices"
	"strings"

	"github.com/google/nftables"
)

// Report is what decides on forwarded packets on this host.
type Report struct {
	Chains []ForwardChain `json:"chains"` // of the flavours in use; none: nothing is filtered by iptables
	// Drops are the nftables base chains beside iptables' that drop by policy, such
	// as "table ip docker-bridges chain filter-FORWARD".
	Drops []string `json:"drops,omitempty"`
	IPv4  bool     `json:"ipv4"` // net.ipv4.ip_forward
	IPv6  bool     `json:"ipv6"` // net.ipv6.conf.all.forwarding; false without IPv6
}

// ForwardChain is the chain FORWARD in one flavour of iptables.
type ForwardChain struct {
	Flavour    string `json:"flavour"` // such as ip6tables-nft
	Drops      bool   `json:"drops"`   // the policy is DROP
	DockerUser bool   `json:"dockerUser"`
	// By are the programs that set policies of FORWARD and have chains in its table.
	By []string `json:"by,omitempty"`
}

// setters returns the programs that are known to set the policy of FORWARD and that
// have chains of these names.
func setters(chains iter.Seq[string]) []string {
	var by []string
	for chain := range chains {
		program := ""
		switch chain {
		case dockerUser:
			program = "Docker"
		case "ufw-before-forward", "ufw6-before-forward":
			program = "ufw"
		case "KUBE-FORWARD":
			program = "kube-proxy"
		}
		if program != "" && !slices.Contains(by, program) {
			by = append(by, program)
		}
	}
	slices.Sort(by)
	return by
}

// Describe reads, and changes nothing.
func Describe(ctx context.Context) (Report, error) {
	var r Report
	var errs []error
	for _, v6 := range []bool{false, true} {
		seen, err := inspect(ctx, v6, "")
		errs = append(errs, err)
		for _, c := range seen.chains {
			r.Chains = append(r.Chains, ForwardChain{Flavour: c.tool.String(), Drops: c.drops, DockerUser: c.dockerUser, By: c.by})
		}
	}
	drops, err := otherDrops()
	r.Drops = drops
	errs = append(errs, err)
	r.IPv4, err = enabled("/proc/sys/net/ipv4/ip_forward")
	errs = append(errs, err)
	r.IPv6, err = enabled("/proc/sys/net/ipv6/conf/all/forwarding")
	errs = append(errs, err)
	return r, errors.Join(errs...)
}

// otherDrops lists what drops by policy and is not iptables-nft.
func otherDrops() ([]string, error) {
	chains, err := nftChains()
	if errors.Is(err, errNoNFTables) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	families := map[nftables.TableFamily]string{
		nftables.TableFamilyIPv4: "ip", nftables.TableFamilyIPv6: "ip6", nftables.TableFamilyINet: "inet",
	}
	var drops []string
	for _, c := range chains {
		family, routed := families[c.Table.Family]
		iptables := c.Table.Name == "filter" && c.Name == "FORWARD"
		if routed && !iptables && dropsForwarded(c) {
			drops = append(drops, fmt.Sprintf("table %s %s chain %s", family, c.Table.Name, c.Name))
		}
	}
	return drops, nil
}

// enabled reads a sysctl that is 0 or 1; one that the kernel does not have is 0.
func enabled(file string) (bool, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read sysctl: %w", err)
	}
	return strings.TrimSpace(string(text)) != "0", nil
}
