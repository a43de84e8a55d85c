package firewall

import (
	"context"
	"crypto/sha512"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/userdata"
)

// Owner is an attachment whose rules CNI plugins may have made: bridge and ptp for
// masquerading, portmap for host ports.
type Owner struct {
	Network   string
	SandboxID string
	IfName    string
}

// PluginRules are rules that a plugin made for one attachment.
type PluginRules struct {
	Owner Owner
	Where string // such as "chain CNI-DN-0123456789abcdef01234 of iptables-nft, table nat"

	remove func(context.Context) error
}

// Remove deletes the rules. Its error may be that somebody else has done so meanwhile.
func (r PluginRules) Remove(ctx context.Context) error { return r.remove(ctx) }

// FindPluginRules returns what the standard plugins made for owners, in both flavours of
// iptables and in nftables. It reads, and changes nothing.
func FindPluginRules(ctx context.Context, owners []Owner) ([]PluginRules, error) {
	if len(owners) == 0 {
		return nil, nil
	}
	chains, err := nftChains()
	if err != nil && !errors.Is(err, errNoNFTables) {
		return nil, err
	}
	found, err := findNFT(chains, owners)
	errs := []error{err}
	tools, err := toolsInUse(chains, nat)
	errs = append(errs, err)
	for _, t := range tools {
		more, err := t.findChains(ctx, owners)
		found, errs = append(found, more...), append(errs, err)
	}
	return found, errors.Join(errs...)
}

// toolsInUse are the flavours of iptables that have table in the kernel. chains are all of
// nftables.
func toolsInUse(chains []*nftables.Chain, table string) ([]tool, error) {
	var tools []tool
	var errs []error
	for _, v6 := range []bool{false, true} {
		if slices.ContainsFunc(chains, func(c *nftables.Chain) bool {
			return c.Table.Family == nftFamily(v6) && c.Table.Name == table
		}) {
			tools = append(tools, tool{v6: v6})
		}
		legacy := tool{v6: v6, legacy: true}
		used, err := legacy.registered(table)
		if errs = append(errs, err); used {
			tools = append(tools, legacy)
		}
	}
	return tools, errors.Join(errs...)
}

// nat is the table of iptables that the plugins write to.
const nat = "nat"

// hash is how the plugins make names of texts: their utils.MustFormatHashWithPrefix.
func hash(length int, prefix, text string) string {
	return fmt.Sprintf("%s%x", prefix, sha512.Sum512([]byte(text)))[:length]
}

// chainNames are the iptables chains of the plugins bridge and ptp, of portmap, and of
// portmap's versions before 0.8.
func chainNames(o Owner) []string {
	const length = 28 // the most that iptables takes
	return []string{
		hash(length, "CNI-", o.Network+o.SandboxID),
		hash(length, "CNI-DN-", o.Network+o.SandboxID),
		hash(length, "CNI-SN-", o.Network+o.SandboxID),
	}
}

func (t tool) findChains(ctx context.Context, owners []Owner) ([]PluginRules, error) {
	have, err := t.save(ctx, nat)
	if err != nil {
		return nil, err
	}
	var found []PluginRules
	for _, owner := range owners {
		for _, chain := range chainNames(owner) {
			if have.has(chain) {
				found = append(found, PluginRules{owner, fmt.Sprintf("chain %s of %s, table %s", chain, t, nat), func(ctx context.Context) error {
					return t.removePluginChain(ctx, chain)
				}})
			}
		}
	}
	return found, nil
}

// removePluginChain deletes a chain of the nat table and every rule that leads to it, in
// one transaction. It is nil where there is none.
func (t tool) removePluginChain(ctx context.Context, chain string) error {
	have, err := t.save(ctx, nat)
	if err != nil || !have.has(chain) {
		return err
	}
	var b strings.Builder
	for from, rules := range have.rules {
		for _, rule := range rules {
			if leadsTo(rule, chain) {
				fmt.Fprintf(&b, "-D %s %s\n", from, rule)
			}
		}
	}
	fmt.Fprintf(&b, "-F %s\n-X %s\n", chain, chain)
	return t.restore(ctx, transaction(nat, b.String()))
}

// leadsTo tells whether a rule in the form of iptables-save jumps to chain. In a comment
// it could be text only: no target follows.
func leadsTo(rule, chain string) bool {
	return strings.HasSuffix(rule, "-j "+chain) || strings.HasSuffix(rule, "-g "+chain)
}

// isPlugins tells whether chain is one of those of plugins that were told to use nftables.
func isPlugins(chain *nftables.Chain) bool {
	switch chain.Table.Name {
	case "cni_plugins_masquerade":
		return chain.Name == "masq_checks"
	case "cni_hostport":
		return slices.Contains([]string{"hostports", "hostip_hostports", "masquerading"}, chain.Name)
	}
	return false
}

// owns tells whether a rule of nftables with that comment is of o: portmap's is the
// sandbox's id, that for masquerading begins with hashes.
func (o Owner) owns(comment string) bool {
	masquerade := hash(16, "", o.Network) + "-" + hash(16, "", o.IfName+":"+o.SandboxID)
	return comment == o.SandboxID || strings.HasPrefix(comment, masquerade)
}

func findNFT(chains []*nftables.Chain, owners []Owner) ([]PluginRules, error) {
	var found []PluginRules
	for _, chain := range chains {
		if !isPlugins(chain) {
			continue
		}
		rules, err := commented(chain)
		if err != nil {
			return found, err
		}
		for _, owner := range owners {
			if !slices.ContainsFunc(rules, func(r commentedRule) bool { return owner.owns(r.comment) }) {
				continue
			}
			where := fmt.Sprintf("rules of nftables, table %s, chain %s", chain.Table.Name, chain.Name)
			found = append(found, PluginRules{owner, where, func(context.Context) error { return removeNFTRules(chain, owner) }})
		}
	}
	return found, nil
}

type commentedRule struct {
	*nftables.Rule
	comment string
}

func commented(chain *nftables.Chain) ([]commentedRule, error) {
	conn, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	rules, err := conn.GetRules(chain.Table, chain)
	if err != nil {
		return nil, fmt.Errorf("read nftables table %s: %w", chain.Table.Name, err)
	}
	var list []commentedRule
	for _, rule := range rules {
		if comment, ok := userdata.GetString(rule.UserData, userdata.TypeComment); ok {
			list = append(list, commentedRule{rule, comment})
		}
	}
	return list, nil
}

func removeNFTRules(chain *nftables.Chain, owner Owner) error {
	rules, err := commented(chain)
	if err != nil {
		return err
	}
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	for _, rule := range rules {
		if owner.owns(rule.comment) {
			if err := conn.DelRule(rule.Rule); err != nil {
				return fmt.Errorf("delete rule of nftables table %s: %w", chain.Table.Name, err)
			}
		}
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("delete rules of nftables table %s: %w", chain.Table.Name, err)
	}
	return nil
}
