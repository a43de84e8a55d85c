package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/mascri/mascri/internal/durable"
)

// runtimeFile keeps in the state directory what the kubelet tells only once.
const runtimeFile = "runtime.json"

// runtimeVersion is the form of that file that this build writes and reads.
const runtimeVersion = 1

type runtimeState struct {
	Version  int            `json:"version"`
	PodCIDRs []netip.Prefix `json:"podCIDRs"`
}

// SetPodCIDRs keeps the node's pod CIDRs, also over restarts: the kubelet does not
// repeat them. Plugins that declare the capability ipRanges are told of them, and
// the embedded default network is off from then on. An empty list changes nothing:
// the kubelet sends one while it does not know yet.
func (n *Network) SetPodCIDRs(cidrs []netip.Prefix) error {
	if len(cidrs) == 0 || slices.Equal(cidrs, n.podCIDRs()) {
		return nil
	}
	if err := n.keepPodCIDRs(slices.Clone(cidrs)); err != nil {
		return fmt.Errorf("keep pod CIDRs: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	n.look(ctx)
	return nil
}

func (n *Network) keepPodCIDRs(cidrs []netip.Prefix) error {
	data, err := json.Marshal(runtimeState{Version: runtimeVersion, PodCIDRs: cidrs})
	if err != nil {
		return err
	}
	n.cidrFile.Lock()
	defer n.cidrFile.Unlock()
	if err := durable.WriteFile(filepath.Join(n.cfg.StateDir, runtimeFile), data); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cidrs = cidrs
	return nil
}

func (n *Network) podCIDRs() []netip.Prefix {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cidrs
}

// noPodCIDR is why net has no addresses for pods yet; nil: it has, or has others.
func (n *Network) noPodCIDR(net *network) error {
	if len(n.podCIDRs()) > 0 || !awaitsPodCIDR(net.list) {
		return nil
	}
	return fmt.Errorf("%s: its addresses come from the node's pod CIDR, of which the kubelet has not told yet; "+
		"it does once the node has one (kube-controller-manager --allocate-node-cidrs), or give host-local ranges of its own", origin(net.list.Name, net.file))
}

// loadPodCIDRs reads what SetPodCIDRs kept. A damaged file is an error: to go on
// without it could bring a cluster's pods onto the embedded default network.
func loadPodCIDRs(stateDir string) ([]netip.Prefix, error) {
	path := filepath.Join(stateDir, runtimeFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read pod CIDRs: %w", err)
	}
	var state runtimeState
	err = durable.Unmarshal(data, runtimeVersion, &state)
	if errors.Is(err, durable.ErrNewer) {
		return nil, fmt.Errorf("read pod CIDRs: %s: %w", path, err)
	}
	if err != nil {
		return nil, fmt.Errorf("read pod CIDRs: %s: %w; if the node is in no cluster, delete the file", path, err)
	}
	return state.PodCIDRs, nil
}
