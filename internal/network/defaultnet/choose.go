package defaultnet

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"iter"
	"net/netip"
	"slices"

	"github.com/containerd/errdefs"
)

// preferred is the subnet that most documentation of CNI uses.
var preferred = netip.MustParsePrefix("10.88.0.0/16")

// privateBlocks are those of RFC 1918, the largest first.
var privateBlocks = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.168.0.0/16"),
}

// chooseIPv4 returns the preferred subnet or, where that overlaps taken, the first
// private /16 that does not, then /20, then /24.
func chooseIPv4(taken []netip.Prefix) (netip.Prefix, error) {
	for _, bits := range []int{16, 20, 24} {
		for _, block := range privateBlocks {
			for subnet := range subnets(block, bits) {
				if !overlaps(subnet, taken) {
					return subnet, nil
				}
			}
		}
	}
	return netip.Prefix{}, fmt.Errorf("no private IPv4 subnet is free of the host's routes and the engine's address pools, "+
		"so a CNI config of your own is needed in the config directory: %w", errdefs.ErrFailedPrecondition)
}

// subnets yields all subnets of block with the given prefix length, in order; in
// the block of the preferred one from there on and around, for what lies at a
// block's beginning is the most likely to be used somewhere behind the routers.
func subnets(block netip.Prefix, bits int) iter.Seq[netip.Prefix] {
	base := toUint(block.Addr())
	count := uint32(1) << (bits - block.Bits())
	size := uint32(1) << (32 - bits)
	first := uint32(0)
	if block.Contains(preferred.Addr()) {
		first = (toUint(preferred.Addr()) - base) / size
	}
	return func(yield func(netip.Prefix) bool) {
		for i := range count {
			var b [4]byte
			binary.BigEndian.PutUint32(b[:], base+(first+i)%count*size)
			if !yield(netip.PrefixFrom(netip.AddrFrom4(b), bits)) {
				return
			}
		}
	}
}

func toUint(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

// chooseIPv6 returns the first /64 of a random unique local prefix (RFC 4193).
func chooseIPv6(taken []netip.Prefix) netip.Prefix {
	for {
		b := [16]byte{0xfd}
		rand.Read(b[1:6]) // the global id; it never fails
		subnet := netip.PrefixFrom(netip.AddrFrom16(b), 64)
		if !overlaps(subnet, taken) {
			return subnet
		}
	}
}

// keep returns the subnet that is in use already, if any. What the bridge carries
// wins, for pods may be on it; without it, what was chosen before, unless it has
// been taken meanwhile.
func keep(stored netip.Prefix, onBridge, taken []netip.Prefix) (netip.Prefix, bool) {
	switch {
	case len(onBridge) > 0 && slices.Contains(onBridge, stored):
		return stored, true
	case len(onBridge) > 0:
		return onBridge[0], true
	case stored.IsValid() && !overlaps(stored, taken):
		return stored, true
	default:
		return netip.Prefix{}, false
	}
}

func overlaps(subnet netip.Prefix, taken []netip.Prefix) bool {
	return slices.ContainsFunc(taken, subnet.Overlaps)
}
