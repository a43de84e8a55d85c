package engine

import (
	"context"
	"encoding/json"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/client"

	"github.com/mascri/mascri/internal/engine/translate"
	"github.com/mascri/mascri/internal/pod"
)

// Facts asks the engine what it is and can do. Sandboxes are made by the facts that
// were read last.
func (e *Engine) Facts(ctx context.Context) (pod.EngineFacts, error) {
	c, err := e.dial(ctx)
	if err != nil {
		return pod.EngineFacts{}, err
	}
	return c.facts, nil
}

func facts(info system.Info, apiVersion string) pod.EngineFacts {
	f := pod.EngineFacts{
		Version:        info.ServerVersion,
		APIVersion:     apiVersion,
		CgroupDriver:   info.CgroupDriver,
		CgroupVersion:  info.CgroupVersion,
		RootDir:        info.DockerRootDir,
		Kernel:         info.KernelVersion,
		DefaultRuntime: info.DefaultRuntime,
		Runtimes:       slices.Sorted(maps.Keys(info.Runtimes)),
		SELinux:        hasSecurityOption(info, "selinux"),
		AppArmor:       hasSecurityOption(info, "apparmor"),
		Seccomp:        hasSecurityOption(info, "seccomp"),
		LiveRestore:    info.LiveRestoreEnabled,
		Swarm:          info.Swarm.LocalNodeState == swarm.LocalNodeStateActive,
		SwapLimit:      info.SwapLimit,
		CDI:            len(info.CDISpecDirs) > 0,
		RecursiveRO:    recursiveReadOnly(info, apiVersion),
	}
	if info.FirewallBackend != nil {
		// Such as iptables+firewalld, where firewalld only manages zones.
		f.FirewallDriver, _, _ = strings.Cut(info.FirewallBackend.Driver, "+")
	}
	return f
}

// featuresKey is where an engine from 25 on keeps what "runc features" prints, see the
// OCI runtime specification's features.md.
const featuresKey = "org.opencontainers.runtime-spec.features"

// recursiveReadOnly returns the runtimes that make mounts recursively read-only.
func recursiveReadOnly(info system.Info, apiVersion string) (runtimes []string) {
	if !translate.KnowsRecursiveReadOnly(apiVersion) {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(info.Runtimes)) {
		var features struct {
			MountOptions []string `json:"mountOptions"`
		}
		text := info.Runtimes[name].Status[featuresKey]
		if json.Unmarshal([]byte(text), &features) == nil && slices.Contains(features.MountOptions, "rro") {
			runtimes = append(runtimes, name)
		}
	}
	return runtimes
}

// hasSecurityOption looks for name=<name> at the head of a comma-separated list.
func hasSecurityOption(info system.Info, name string) bool {
	return slices.ContainsFunc(info.SecurityOptions, func(option string) bool {
		head, _, _ := strings.Cut(option, ",")
		return head == "name="+name
	})
}

// builtinPools are what an engine takes its networks from where its settings name no
// default-address-pools.
var builtinPools = []netip.Prefix{
	netip.MustParsePrefix("172.17.0.0/16"), netip.MustParsePrefix("172.18.0.0/16"), netip.MustParsePrefix("172.19.0.0/16"),
	netip.MustParsePrefix("172.20.0.0/14"), netip.MustParsePrefix("172.24.0.0/14"), netip.MustParsePrefix("172.28.0.0/14"),
	netip.MustParsePrefix("192.168.0.0/16"),
}

// Pools returns the addresses that the engine gives to networks of its own: the pools
// it draws from and the subnets of the networks that exist.
func (e *Engine) Pools(ctx context.Context) ([]netip.Prefix, error) {
	c, err := e.connection(ctx)
	if err != nil {
		return nil, err
	}
	networks, err := c.api.NetworkList(ctx, client.NetworkListOptions{})
	if err != nil {
		return nil, e.failed("list the engine's networks", err)
	}
	pools := slices.Clone(builtinPools)
	if len(c.info.DefaultAddressPools) > 0 {
		pools = nil
		for _, pool := range c.info.DefaultAddressPools {
			pools = append(pools, pool.Base.Masked())
		}
	}
	for _, network := range networks.Items {
		for _, config := range network.IPAM.Config {
			if config.Subnet.IsValid() && !slices.Contains(pools, config.Subnet) {
				pools = append(pools, config.Subnet)
			}
		}
	}
	return pools, nil
}
