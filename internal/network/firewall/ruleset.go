package firewall

import (
	"fmt"
	"slices"
	"strings"
)

// savedTable is one table as iptables-save prints it.
type savedTable struct {
	policies map[string]string   // of the built-in chains: ACCEPT, DROP
	rules    map[string][]string // of every chain that exists, without the leading "-A CHAIN "
}

func parseSave(text string) savedTable {
	t := savedTable{policies: map[string]string{}, rules: map[string][]string{}}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if declared, ok := strings.CutPrefix(line, ":"); ok {
			// :FORWARD DROP [0:0], and with "-" for a policy where the chain is not built in
			fields := strings.Fields(declared)
			if len(fields) < 2 {
				continue
			}
			t.rules[fields[0]] = nil
			if fields[1] != "-" {
				t.policies[fields[0]] = fields[1]
			}
			continue
		}
		if rule, ok := strings.CutPrefix(line, "-A "); ok {
			chain, rule, _ := strings.Cut(rule, " ")
			t.rules[chain] = append(t.rules[chain], rule)
		}
	}
	return t
}

func (t savedTable) has(chain string) bool {
	_, ok := t.rules[chain]
	return ok
}

// jump is the unconditional rule that leads from one chain to another.
type jump struct{ from, to string }

func (j jump) rule() string { return "-j " + j.to }

// ownedChain is a chain that belongs to this daemon alone.
type ownedChain struct {
	table string
	name  string
	rules []string // in order, in the form of iptables-save
	jumps []jump   // that lead to it from a built-in chain, each once
}

// script returns what makes the chain stand in a table that is as have, or "" if
// it does. Applied by iptables-restore --noflush it is one transaction: no packet
// sees half of it. A missing jump goes to the front of its chain; one that exists
// stays where it is, so that rules which an operator has put before it stay there.
func (c ownedChain) script(have savedTable) string {
	var b strings.Builder
	if !have.has(c.name) || !slices.Equal(have.rules[c.name], c.rules) {
		fmt.Fprintf(&b, ":%s - [0:0]\n", c.name) // creates or empties it
		for _, rule := range c.rules {
			fmt.Fprintf(&b, "-A %s %s\n", c.name, rule)
		}
	}
	for _, j := range c.jumps {
		if !slices.Contains(have.rules[j.from], j.rule()) {
			fmt.Fprintf(&b, "-I %s 1 %s\n", j.from, j.rule())
		}
	}
	return transaction(c.table, b.String())
}

// removal returns what deletes the chain, which must exist, and every jump to it.
func (c ownedChain) removal(have savedTable) string {
	var b strings.Builder
	for from, rules := range have.rules {
		for _, rule := range rules {
			if j := (jump{from, c.name}); rule == j.rule() {
				fmt.Fprintf(&b, "-D %s %s\n", from, rule)
			}
		}
	}
	fmt.Fprintf(&b, "-F %s\n-X %s\n", c.name, c.name)
	return transaction(c.table, b.String())
}

func transaction(table, commands string) string {
	if commands == "" {
		return ""
	}
	return "*" + table + "\n" + commands + "COMMIT\n"
}
