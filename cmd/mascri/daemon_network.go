package main

import (
	"log/slog"
	"path/filepath"

	"github.com/mascri/mascri/internal/config"
	"github.com/mascri/mascri/internal/engine"
	"github.com/mascri/mascri/internal/metrics"
	"github.com/mascri/mascri/internal/network"
	"github.com/mascri/mascri/internal/network/defaultnet"
	"github.com/mascri/mascri/internal/network/firewall"
	"github.com/mascri/mascri/internal/pod"
)

// netnsDir is where `ip netns` looks, so that an operator can use it on pods.
const netnsDir = "/run/netns"

// newNetwork counts in counted, if that is set.
func newNetwork(cfg config.Config, instance string, eng *engine.Engine, step func(string), counted *metrics.Metrics, log *slog.Logger) (*network.Network, error) {
	config := network.Config{
		ConfigDir:  cfg.Network.ConfigDir,
		BinDirs:    cfg.Network.BinDirs,
		StateDir:   cfg.StateDir,
		NetnsDir:   netnsDir,
		Default:    newDefaultNetwork(cfg, instance, eng, log),
		DefaultOff: !cfg.Network.DefaultNetwork,
		Forward:    newForward(instance),
		Logger:     log,
		Step:       step,
	}
	if counted != nil {
		config.Ran = counted.Plugin
		config.FoundLeak = func(kind pod.LeakKind) { counted.Leak(string(kind)) }
	}
	return network.New(config)
}

func newDefaultNetwork(cfg config.Config, instance string, eng *engine.Engine, log *slog.Logger) *defaultnet.Network {
	return defaultnet.New(defaultnet.Options{
		StateFile:   filepath.Join(cfg.StateDir, "default-network.json"),
		EnginePools: eng.Pools,
		Masquerade:  "mascri_" + instance[:8],
		Logger:      log,
	})
}

func newForward(instance string) *firewall.Forward {
	return firewall.NewForward("MASCRI-" + instance[:8])
}
