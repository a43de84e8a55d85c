package firewall

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// pluginForward is where the plugin firewall accepts the packets of single addresses.
const pluginForward = "CNI-FORWARD"

// ForwardRules are the plugin firewall's rules for one address in one flavour of iptables.
type ForwardRules struct {
	IP    netip.Addr
	Where string

	remove func(context.Context) error
}

// Remove deletes the rules. It is nil where there are none any more.
func (r ForwardRules) Remove(ctx context.Context) error { return r.remove(ctx) }

// FindForwardRules returns what the plugin firewall made for ips with its iptables backend.
// It reads, and changes nothing.
func FindForwardRules(ctx context.Context, ips []netip.Addr) ([]ForwardRules, error) {
	if len(ips) == 0 {
		return nil, nil
	}
	chains, err := nftChains()
	if err != nil && !errors.Is(err, errNoNFTables) {
		return nil, err
	}
	tools, err := toolsInUse(chains, "filter")
	errs := []error{err}
	var found []ForwardRules
	for _, t := range tools {
		have, err := t.save(ctx, "filter")
		errs = append(errs, err)
		for _, ip := range ips {
			if ip.Is6() != t.v6 || !slices.ContainsFunc(have.rules[pluginForward], func(rule string) bool { return accepts(rule, ip) }) {
				continue
			}
			where := fmt.Sprintf("rules for %s in chain %s of %s, table filter", ip, pluginForward, t)
			found = append(found, ForwardRules{ip, where, func(ctx context.Context) error { return t.removeForwards(ctx, ip) }})
		}
	}
	return found, errors.Join(errs...)
}

// accepts tells whether a rule in the form of iptables-save is one that the plugin made for ip.
func accepts(rule string, ip netip.Addr) bool {
	one := netip.PrefixFrom(ip, ip.BitLen()).String()
	return rule == "-s "+one+" -j ACCEPT" || rule == "-d "+one+" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
}

func (t tool) removeForwards(ctx context.Context, ip netip.Addr) error {
	have, err := t.save(ctx, "filter")
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, rule := range have.rules[pluginForward] {
		if accepts(rule, ip) {
			fmt.Fprintf(&b, "-D %s %s\n", pluginForward, rule)
		}
	}
	if b.Len() == 0 {
		return nil
	}
	return t.restore(ctx, transaction("filter", b.String()))
}
