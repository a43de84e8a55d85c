package firewall

import (
	"errors"
	"fmt"
	"strings"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// standing says all in nftables that settle's findings depend on: the chains that decide on
// forwarded packets, with their policies, and the rules that lead to the chain own or stand
// in it. As long as it is the same, so are they. It starts no process, and what plugins change
// for each pod, rules of other tables, is not in it.
func standing(own string) ([]string, error) {
	chains, err := nftChains()
	if errors.Is(err, errNoNFTables) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	defer conn.Close()
	var all []string
	for _, c := range chains {
		iptables := c.Table.Name == "filter" && (c.Name == "FORWARD" || c.Name == dockerUser || c.Name == own)
		if !iptables && c.Table.Name != dockerBridges {
			continue
		}
		all = append(all, fmt.Sprint(c.Table.Family, c.Table.Name, c.Name, dropsForwarded(c)))
		if !iptables {
			continue // its rules are not looked at either
		}
		rules, err := rawRules(conn, c)
		if err != nil {
			return nil, fmt.Errorf("read the rules of chain %s: %w", c.Name, err)
		}
		all = append(all, rules...)
	}
	return all, nil
}

// rawRules returns a chain's rules in order, each as the kernel has it, but for its counters.
// Handles would not do: a rule that replaces another takes its handle.
func rawRules(conn *netlink.Conn, c *nftables.Chain) ([]string, error) {
	of, err := netlink.MarshalAttributes([]netlink.Attribute{
		{Type: unix.NFTA_RULE_TABLE, Data: append([]byte(c.Table.Name), 0)},
		{Type: unix.NFTA_RULE_CHAIN, Data: append([]byte(c.Name), 0)},
	})
	if err != nil {
		return nil, err
	}
	answers, err := conn.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETRULE, Flags: netlink.Request | netlink.Dump},
		Data:   append([]byte{byte(c.Table.Family), 0, 0, 0}, of...), // version 0, no resource
	})
	if err != nil {
		return nil, err
	}
	var rules []string
	for _, answer := range answers {
		if answer.Header.Flags&netlink.DumpInterrupted != 0 {
			return nil, errors.New("they were changed meanwhile")
		}
		if len(answer.Data) < nfgenmsgSize {
			return nil, fmt.Errorf("an answer of %d bytes", len(answer.Data))
		}
		rule, err := rawRule(answer.Data[nfgenmsgSize:])
		if err != nil {
			return nil, err
		}
		rules = append(rules, rule)
	}
	return rules, nil
}

func rawRule(data []byte) (string, error) {
	rule, err := netlink.NewAttributeDecoder(data)
	if err != nil {
		return "", err
	}
	var raw strings.Builder
	for rule.Next() {
		if rule.Type() != unix.NFTA_RULE_EXPRESSIONS {
			continue
		}
		rule.Nested(func(expressions *netlink.AttributeDecoder) error {
			for expressions.Next() {
				name := ""
				expressions.Nested(func(parts *netlink.AttributeDecoder) error {
					for parts.Next() {
						if parts.Type() == unix.NFTA_EXPR_NAME {
							name = parts.String()
						}
					}
					return nil
				})
				if name != "counter" {
					raw.Write(expressions.Bytes())
				}
			}
			return nil
		})
	}
	return raw.String(), rule.Err()
}
