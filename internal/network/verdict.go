package network

import (
	"context"
	"errors"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
)

const (
	// statusTimeout bounds the STATUS verb.
	statusTimeout = 5 * time.Second
	// Plugins are asked often while they are not ready, as pods wait for that, and seldom
	// once they are: each time costs a process per plugin.
	statusFast = 2 * time.Second
	statusSlow = 30 * time.Second
	// statusGrace is how long a network that was ready may deny it before it counts: while
	// a plugin's daemon is replaced, the node must not be taken for broken.
	statusGrace = 15 * time.Second
)

// verdict is what the plugins of a network answered to the STATUS verb. It is never
// changed.
type verdict struct {
	net   *network
	err   error     // that counts; nil: ready
	doubt time.Time // since when a network that counts as ready has denied it; zero: it does not
}

// next is the verdict after v, which may be nil, with an answer of net's plugins.
func (v *verdict) next(net *network, answer error, now time.Time) *verdict {
	if answer == nil || v == nil || v.err != nil || !v.net.same(net) {
		return &verdict{net: net, err: answer}
	}
	since := v.doubt
	if since.IsZero() {
		since = now
	}
	if now.Sub(since) >= statusGrace {
		return &verdict{net: net, err: answer}
	}
	return &verdict{net: net, doubt: since}
}

// pause is how long until the plugins are asked again.
func (v *verdict) pause() time.Duration {
	if v == nil || v.err != nil || !v.doubt.IsZero() {
		return statusFast
	}
	return statusSlow
}

// pollStatus asks the plugins until ctx ends, and at once after another network was chosen.
func (n *Network) pollStatus(ctx context.Context) {
	for {
		n.askPlugins(ctx)
		select {
		case <-ctx.Done():
			return
		case <-n.chosen:
		case <-time.After(n.verdict.Load().pause()):
		}
	}
}

// askPlugins runs the STATUS verb, which configurations from version 1.1.0 on have.
func (n *Network) askPlugins(ctx context.Context) {
	snap := n.snap.Load()
	if snap.chosen == nil || missing(snap.found) != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	answer := n.ask(ctx, snap.chosen)
	n.verdict.Store(n.verdict.Load().next(snap.chosen, answer, time.Now()))
}

// ask returns the first plugin's answer that says something: that ADD would fail
// (code 50) or that connectivity is limited (51). Any other error says that the
// plugin can't tell, as many can't.
func (n *Network) ask(ctx context.Context, net *network) error {
	for _, plugin := range net.list.Plugins {
		// One at a time, as libcni stops at the first error, whatever it says.
		single := *net.list
		single.Plugins = []*libcni.PluginConfig{plugin}
		err := plain(n.cni(&pluginExec{ran: n.cfg.Ran}).GetStatusNetworkList(ctx, &single))
		var cni *types.Error
		if errors.As(err, &cni) && (cni.Code == types.ErrPluginNotAvailable || cni.Code == types.ErrLimitedConnectivity) {
			return err
		}
		if err != nil {
			n.cfg.Logger.Debug("plugin can't tell its status", "file", net.file, "error", err)
		}
	}
	return nil
}
