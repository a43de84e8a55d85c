// Package defaultnet is the network that MasCRI brings itself, for a host on which
// nobody has written a CNI config: a bridge with a private IPv4 subnet and, where
// the kernel has IPv6, a unique local one, behind the host's addresses.
package defaultnet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"

	"golang.org/x/sync/semaphore"

	"github.com/mascri/mascri/internal/network/firewall"
)

const (
	// Name is that of the CNI network.
	Name = "mascri"
	// Bridge is the interface that the pods are connected to.
	Bridge = "mascri0"
)

// Options are what a Network needs to know.
type Options struct {
	// StateFile keeps the chosen subnets. Its directory must exist.
	StateFile string
	// EnginePools returns the subnets that the engine uses or may give to networks
	// of its own.
	EnginePools func(ctx context.Context) ([]netip.Prefix, error)
	// Masquerade is the name of this daemon's own nftables tables, of up to 28 bytes.
	Masquerade string
	Logger     *slog.Logger
}

// Network is the embedded default network. It may be used by many goroutines; its
// subnets are chosen at the first use that succeeds, and again at the first one after
// Remove.
type Network struct {
	options    Options
	masquerade *firewall.Masquerade
	turn       *semaphore.Weighted // held to choose and to change the host; one slot

	mu     sync.Mutex // guards the following field
	chosen []netip.Prefix
}

// New returns a Network that has done nothing yet.
func New(options Options) *Network {
	return &Network{
		options:    options,
		masquerade: firewall.NewMasquerade(options.Masquerade),
		turn:       semaphore.NewWeighted(1),
	}
}

// Subnets returns the chosen subnets, IPv4 first; nil before Conflist or Ensure
// has succeeded, and after Remove.
func (n *Network) Subnets() []netip.Prefix {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.chosen
}

// Conflist returns the network's CNI configuration list. It changes nothing but the
// state file, at the first call. Its error is errdefs.ErrFailedPrecondition where
// no private subnet is free.
func (n *Network) Conflist(ctx context.Context) ([]byte, error) {
	if err := n.turn.Acquire(ctx, 1); err != nil {
		return nil, fmt.Errorf("default network: %w", err)
	}
	defer n.turn.Release(1)
	subnets, err := n.choose(ctx)
	if err != nil {
		return nil, fmt.Errorf("default network: %w", err)
	}
	return conflist(subnets)
}

// Ensure makes the host ready for pods on the network: the bridge is there, and
// what leaves the subnets is masqueraded. It leaves alone what is in place.
func (n *Network) Ensure(ctx context.Context) error {
	if err := n.turn.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("default network: %w", err)
	}
	defer n.turn.Release(1)
	if err := n.ensure(ctx); err != nil {
		return fmt.Errorf("default network: %w", err)
	}
	return nil
}

// Remove takes back what Ensure does to the host, that of an earlier process as well.
// It is for when nobody is on the network: where interfaces are on the bridge, it is an
// error and both bridge and rules stay. The subnets are chosen again when they are next
// needed; they remain the same unless others have taken them meanwhile.
func (n *Network) Remove(ctx context.Context) error {
	if err := n.turn.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("default network: %w", err)
	}
	defer n.turn.Release(1)
	if err := removeBridge(); err != nil {
		return fmt.Errorf("default network: %w", err)
	}
	if err := n.masquerade.Remove(ctx); err != nil {
		return fmt.Errorf("default network: %w", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.chosen = nil
	return nil
}

func (n *Network) ensure(ctx context.Context) error {
	subnets, err := n.choose(ctx)
	if err != nil {
		return err
	}
	ipv6 := len(subnets) > 1
	if err := ensureBridge(ipv6); err != nil {
		return err
	}
	if ipv6 {
		if err := keepDefaultRoutes(n.options.Logger); err != nil {
			return err
		}
	}
	return n.masquerade.Ensure(ctx, subnets)
}

// choose returns the network's subnets, IPv4 first; the caller has the turn.
func (n *Network) choose(ctx context.Context) ([]netip.Prefix, error) {
	if chosen := n.Subnets(); chosen != nil {
		return chosen, nil
	}
	stored, err := readChoice(n.options.StateFile)
	if errors.Is(err, errCorrupt) {
		n.options.Logger.Warn("subnets of the default network are chosen anew", "file", n.options.StateFile, "error", err)
	} else if err != nil {
		return nil, err
	}
	taken, err := n.taken(ctx)
	if err != nil {
		return nil, err
	}
	c, err := decide(stored, taken)
	if err != nil {
		return nil, err
	}
	if c != stored {
		if err := writeChoice(n.options.StateFile, c); err != nil {
			return nil, err
		}
		n.options.Logger.Info("subnets of the default network chosen", "ipv4", c.IPv4, "ipv6", c.IPv6)
	}
	subnets := []netip.Prefix{c.IPv4}
	if hasIPv6() {
		subnets = append(subnets, c.IPv6)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.chosen = subnets
	return subnets, nil
}

// decide keeps what is in use and chooses what is missing.
func decide(stored choice, taken []netip.Prefix) (choice, error) {
	bridge4, bridge6, err := bridgeSubnets()
	if err != nil {
		return choice{}, err
	}
	c := stored
	var kept bool
	if c.IPv4, kept = keep(stored.IPv4, bridge4, taken); !kept {
		if c.IPv4, err = chooseIPv4(taken); err != nil {
			return choice{}, err
		}
	}
	if !hasIPv6() {
		return c, nil
	}
	if c.IPv6, kept = keep(stored.IPv6, bridge6, taken); !kept {
		c.IPv6 = chooseIPv6(taken)
	}
	return c, nil
}

// taken returns all that the network must not overlap.
func (n *Network) taken(ctx context.Context) ([]netip.Prefix, error) {
	taken, err := hostPrefixes()
	if err != nil {
		return nil, err
	}
	pools, err := n.options.EnginePools(ctx)
	if err != nil {
		return nil, fmt.Errorf("address pools of the engine: %w", err)
	}
	return append(taken, pools...), nil
}

type (
	list struct {
		CNIVersion string `json:"cniVersion"`
		Name       string `json:"name"`
		Plugins    []any  `json:"plugins"`
	}
	bridge struct {
		Type        string `json:"type"`
		Bridge      string `json:"bridge"`
		IsGateway   bool   `json:"isGateway"`
		HairpinMode bool   `json:"hairpinMode"`
		IPAM        ipam   `json:"ipam"`
	}
	ipam struct {
		Type   string    `json:"type"`
		Ranges [][]span  `json:"ranges"` // one address from each
		Routes []routeTo `json:"routes"`
	}
	span struct {
		Subnet netip.Prefix `json:"subnet"`
	}
	routeTo struct {
		Dst string `json:"dst"`
	}
	chained struct {
		Type         string          `json:"type"`
		Capabilities map[string]bool `json:"capabilities"`
		SNAT         bool            `json:"snat,omitempty"`
	}
)

// conflist asks for version 1.0.0, the newest that the plugins of Debian 12 know.
// The bridge plugin's ipMasq stays off, as Ensure does for all pods what that does
// for each; so does its enabledad, which would keep each pod waiting for 1.5 to 2
// seconds. The plugin portmap brings what host ports on localhost need (snat).
func conflist(subnets []netip.Prefix) ([]byte, error) {
	addresses := ipam{Type: "host-local"}
	for _, s := range subnets {
		everything := "0.0.0.0/0"
		if s.Addr().Is6() {
			everything = "::/0"
		}
		addresses.Ranges = append(addresses.Ranges, []span{{Subnet: s}})
		addresses.Routes = append(addresses.Routes, routeTo{Dst: everything})
	}
	text, err := json.Marshal(list{
		CNIVersion: "1.0.0",
		Name:       Name,
		Plugins: []any{
			bridge{Type: "bridge", Bridge: Bridge, IsGateway: true, HairpinMode: true, IPAM: addresses},
			chained{Type: "portmap", Capabilities: map[string]bool{"portMappings": true}, SNAT: true},
			chained{Type: "bandwidth", Capabilities: map[string]bool{"bandwidth": true}},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("encode the default network's config: %w", err)
	}
	return text, nil
}
