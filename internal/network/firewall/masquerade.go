package firewall

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"reflect"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sync/semaphore"
)

// Masquerade gives packets that leave a subnet the address of the host's interface
// they leave by: one rule for each subnet, whatever the number of pods. Multicast
// keeps its source.
//
// The rules stand in nftables tables of its own, which iptables does not disturb;
// where the kernel has no nf_tables, in a chain of iptables' nat tables.
type Masquerade struct {
	name string
	turn *semaphore.Weighted // held to read and write the rules; one slot
}

// postrouting is the one chain of each of its tables.
const postrouting = "postrouting"

// NewMasquerade returns a Masquerade whose nftables tables, or iptables chains, have
// the given name of up to 28 bytes. Two daemons on one host need different ones.
func NewMasquerade(name string) *Masquerade {
	return &Masquerade{name: name, turn: semaphore.NewWeighted(1)}
}

// Ensure makes the rules stand for subnets, at most one of each IP family. Rules that
// do are left alone, which costs one netlink call and one more for each family.
func (m *Masquerade) Ensure(ctx context.Context, subnets []netip.Prefix) error {
	if err := m.turn.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("masquerade: %w", err)
	}
	defer m.turn.Release(1)
	chains, err := nftChains()
	if err != nil && !errors.Is(err, errNoNFTables) {
		return fmt.Errorf("masquerade: %w", err)
	}
	hasNFT := err == nil
	for _, subnet := range subnets {
		if hasNFT {
			err = m.ensureNFT(chains, subnet)
		} else {
			err = m.ensureLegacy(ctx, subnet)
		}
		if err != nil {
			return fmt.Errorf("masquerade %s: %w", subnet, err)
		}
	}
	return nil
}

// Remove takes the rules away, those of an earlier process as well. Without any it
// costs one netlink call.
func (m *Masquerade) Remove(ctx context.Context) error {
	if err := m.turn.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("masquerade: %w", err)
	}
	defer m.turn.Release(1)
	chains, err := nftChains()
	switch {
	case errors.Is(err, errNoNFTables):
		err = m.removeLegacy(ctx)
	case err == nil:
		err = m.removeNFT(chains)
	}
	if err != nil {
		return fmt.Errorf("masquerade: %w", err)
	}
	return nil
}

// ensureNFT makes the table of subnet's family hold its one rule, in one transaction.
func (m *Masquerade) ensureNFT(chains []*nftables.Chain, subnet netip.Prefix) error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	table := &nftables.Table{Name: m.name, Family: nftFamily(subnet.Addr().Is6())}
	accept := nftables.ChainPolicyAccept
	chain := &nftables.Chain{Name: postrouting, Table: table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource, Policy: &accept}
	want := masquerade(subnet)

	if contains(chains, chain) {
		have, err := conn.GetRules(table, chain)
		if err != nil {
			return fmt.Errorf("read table %s: %w", m.name, err)
		}
		if len(have) == 1 && reflect.DeepEqual(have[0].Exprs, want) {
			return nil
		}
	}
	conn.AddTable(table)
	conn.AddChain(chain)
	conn.FlushChain(chain)
	conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: want})
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("write table %s: %w", m.name, err)
	}
	return nil
}

func (m *Masquerade) removeNFT(chains []*nftables.Chain) error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	for _, c := range chains {
		if c.Table.Name == m.name && c.Name == postrouting {
			conn.DelTable(c.Table)
		}
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("delete table %s: %w", m.name, err)
	}
	return nil
}

func contains(chains []*nftables.Chain, want *nftables.Chain) bool {
	for _, c := range chains {
		if c.Table.Family == want.Table.Family && c.Table.Name == want.Table.Name && c.Name == want.Name {
			return true
		}
	}
	return false
}

// masquerade is: saddr in subnet, daddr not in subnet, daddr not multicast, masquerade.
func masquerade(subnet netip.Prefix) []expr.Any {
	source, dest := uint32(12), uint32(16) // offsets in the IP header
	if subnet.Addr().Is6() {
		source, dest = 8, 24
	}
	var e []expr.Any
	e = append(e, match(source, expr.CmpOpEq, subnet)...)
	e = append(e, match(dest, expr.CmpOpNeq, subnet)...)
	e = append(e, match(dest, expr.CmpOpNeq, multicast(subnet))...)
	// Fully random ports: two connections that start at once then don't clash in
	// conntrack, which would drop the first packet of one.
	return append(e, &expr.Masq{FullyRandom: true})
}

// match compares the address at offset in the IP header with prefix.
func match(offset uint32, op expr.CmpOp, prefix netip.Prefix) []expr.Any {
	size := prefix.Addr().BitLen() / 8
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(size)},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: uint32(size),
			Mask: net.CIDRMask(prefix.Bits(), size*8), Xor: make([]byte, size)},
		&expr.Cmp{Op: op, Register: 1, Data: prefix.Masked().Addr().AsSlice()},
	}
}

// multicast is the multicast range of subnet's IP family.
func multicast(subnet netip.Prefix) netip.Prefix {
	if subnet.Addr().Is6() {
		return netip.MustParsePrefix("ff00::/8")
	}
	return netip.MustParsePrefix("224.0.0.0/4")
}

// ensureLegacy makes the chain in the nat table of subnet's family hold its rules.
func (m *Masquerade) ensureLegacy(ctx context.Context, subnet netip.Prefix) error {
	own := m.ownLegacy()
	own.rules = []string{
		"-d " + multicast(subnet).String() + " -j RETURN",
		"-s " + subnet.String() + " ! -d " + subnet.String() + " -j MASQUERADE --random-fully",
	}
	return tool{v6: subnet.Addr().Is6(), legacy: true}.ensure(ctx, own)
}

func (m *Masquerade) removeLegacy(ctx context.Context) error {
	for _, v6 := range []bool{false, true} {
		t, own := tool{v6: v6, legacy: true}, m.ownLegacy()
		registered, err := t.registered(own.table)
		if err != nil {
			return err
		}
		if !registered {
			continue
		}
		have, err := t.save(ctx, own.table)
		if err != nil {
			return err
		}
		if !have.has(own.name) {
			continue
		}
		if err := t.restore(ctx, own.removal(have)); err != nil {
			return err
		}
	}
	return nil
}

// ownLegacy is the chain without its rules.
func (m *Masquerade) ownLegacy() ownedChain {
	return ownedChain{table: "nat", name: m.name, jumps: []jump{{"POSTROUTING", m.name}}}
}
