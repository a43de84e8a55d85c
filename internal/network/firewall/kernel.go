package firewall

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// Names that Docker gives.
const (
	dockerUser    = "DOCKER-USER"    // its chain for rules that come before its own
	dockerBridges = "docker-bridges" // the tables of its nftables backend
)

// errNoNFTables tells of a kernel without nf_tables.
var errNoNFTables = errors.New("the kernel has no nf_tables")

// nftChains lists the chains of all nftables tables; those of iptables-nft are among
// them, in tables named as in iptables.
func nftChains() ([]*nftables.Chain, error) {
	conn, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	chains, err := conn.ListChains()
	// nfnetlink answers EINVAL for a subsystem that it does not have.
	if errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EINVAL) {
		return nil, errNoNFTables
	}
	if err != nil {
		return nil, fmt.Errorf("list nftables chains: %w", err)
	}
	return chains, nil
}

func nftFamily(v6 bool) nftables.TableFamily {
	if v6 {
		return nftables.TableFamilyIPv6
	}
	return nftables.TableFamilyIPv4
}

// dropsForwarded tells whether c is a base chain that drops forwarded packets by
// its policy.
func dropsForwarded(c *nftables.Chain) bool {
	return c.Type == nftables.ChainTypeFilter && c.Hooknum != nil && *c.Hooknum == *nftables.ChainHookForward &&
		c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop
}

// forwardChain is the built-in FORWARD chain of one flavour of iptables.
type forwardChain struct {
	tool       tool
	drops      bool // by policy
	dockerUser bool // the chain DOCKER-USER is there
	own        bool // the chain that was asked for is there
	by         []string
}

// forwarding is who decides on the forwarded packets of one IP family.
type forwarding struct {
	chains    []forwardChain // of the flavours that the kernel has in use
	dockerNFT bool           // Docker's nftables backend drops by policy
}

// inspect reads who drops, and whether the chain of the given name is there. Without
// legacy rules it takes one netlink call and starts no process.
func inspect(ctx context.Context, v6 bool, own string) (forwarding, error) {
	var f forwarding
	chains, err := nftChains()
	if err != nil && !errors.Is(err, errNoNFTables) {
		return f, err
	}
	nft := forwardChain{tool: tool{v6: v6}}
	inUse := false
	for _, c := range chains {
		if c.Table.Family != nftFamily(v6) {
			continue
		}
		switch {
		case c.Table.Name == "filter" && c.Name == "FORWARD":
			inUse, nft.drops = true, dropsForwarded(c)
		case c.Table.Name == "filter" && c.Name == dockerUser:
			nft.dockerUser = true
		case c.Table.Name == "filter" && c.Name == own:
			nft.own = true
		case c.Table.Name == dockerBridges && dropsForwarded(c):
			f.dockerNFT = true
		}
	}
	if inUse {
		nft.by = setters(func(yield func(string) bool) {
			for _, c := range chains {
				if c.Table.Family == nftFamily(v6) && c.Table.Name == "filter" && !yield(c.Name) {
					return
				}
			}
		})
		f.chains = append(f.chains, nft)
	}
	legacy, inUse, err := inspectLegacy(ctx, tool{v6: v6, legacy: true}, own)
	if inUse {
		f.chains = append(f.chains, legacy)
	}
	return f, err
}

// inspectLegacy returns false where the flavour is not in use.
func inspectLegacy(ctx context.Context, t tool, own string) (forwardChain, bool, error) {
	registered, err := t.registered("filter")
	if err != nil || !registered {
		return forwardChain{}, false, err
	}
	have, err := t.save(ctx, "filter")
	if err != nil {
		return forwardChain{}, false, err
	}
	return forwardChain{
		tool:       t,
		drops:      have.policies["FORWARD"] == "DROP",
		dockerUser: have.has(dockerUser),
		own:        have.has(own),
		by:         setters(maps.Keys(have.rules)),
	}, true, nil
}
