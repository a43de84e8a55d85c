package network

import (
	"context"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/mascri/mascri/internal/pod"
)

const (
	// rescanEvery is how often the configuration directory is read and the rules
	// are asserted without a reason.
	rescanEvery = 10 * time.Second
	// settleFor is how long the directory must be quiet before it is read.
	settleFor = 200 * time.Millisecond
	// assertTimeout bounds one assertion of the rules.
	assertTimeout = 30 * time.Second
)

// Run follows the configuration directory, keeps the rules in place and works off the
// dirty queue until ctx ends; it then returns nil.
func (n *Network) Run(ctx context.Context) error {
	var loops sync.WaitGroup
	loops.Go(func() { n.reseedCache() })
	loops.Go(func() { n.followConfig(ctx) })
	loops.Go(func() { n.pollStatus(ctx) })
	loops.Go(func() { n.keepRules(ctx) })
	loops.Go(func() { n.cleanDirty(ctx) })
	loops.Wait()
	return nil
}

func (n *Network) keepRules(ctx context.Context) {
	tick := time.NewTicker(n.rescanEvery)
	defer tick.Stop()
	for {
		n.Reassert(ctx)
		n.noteQuarantine() // an operator deletes what was looked at
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// followConfig reads the configuration directory after each change, and every now
// and then: the directory may be absent, and inotify may be used up.
func (n *Network) followConfig(ctx context.Context) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		n.cfg.Logger.Warn("network configurations are polled, as they can't be watched", "file", n.cfg.ConfigDir, "error", err)
		watcher = &fsnotify.Watcher{} // whose channels never deliver
	} else {
		defer watcher.Close()
	}
	tick := time.NewTicker(n.rescanEvery)
	defer tick.Stop()
	var quiet <-chan time.Time
	for {
		if quiet == nil {
			n.watchDirs(watcher)
			n.look(ctx)
		}
		select {
		case <-ctx.Done():
			return
		case <-watcher.Events:
			quiet = time.After(settleFor)
		case err := <-watcher.Errors: // events were lost
			n.cfg.Logger.Debug("watching network configurations", "file", n.cfg.ConfigDir, "error", err)
			quiet = time.After(settleFor)
		case <-quiet:
			quiet = nil
		case <-tick.C:
			quiet = nil // it may never be quiet
		}
	}
}

// watchDirs watches the configuration directory and its sub-directories, which may
// hold plugins of a list. It is done again and again, as they come and go.
func (n *Network) watchDirs(watcher *fsnotify.Watcher) {
	if watcher.Events == nil {
		return
	}
	for _, path := range append([]string{n.cfg.ConfigDir}, children(n.cfg.ConfigDir)...) {
		if stat, err := os.Stat(path); err == nil && stat.IsDir() {
			// An error is that of a directory that went, or that inotify is used up:
			// the tick does it then.
			_ = watcher.Add(path)
		}
	}
}

// Reassert puts the rules in place again, as after an engine restart, which
// flushes what other programs had in its chains, and looks for a network if there is
// none: that which MasCRI brings itself may have waited for the engine. It may take
// some seconds.
func (n *Network) Reassert(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, assertTimeout)
	defer cancel()
	if n.snap.Load().chosen == nil {
		n.look(ctx)
	}
	if n.usesDefault() {
		_ = n.ensureDefault(ctx) // Status tells
	} else {
		n.removeDefault(ctx)
	}
	n.noteForwarding(n.cfg.Forward.Verify(ctx, n.attachedSubnets()))
}

// noteForwarding keeps for Status whether the traffic of attached subnets passes.
// Where it does not, Status says what to do, and pods are attached all the same:
// those of one node reach each other.
func (n *Network) noteForwarding(state pod.Forwarding) {
	if before := n.forwarding.Swap(&state); before == nil || *before != state {
		n.cfg.Logger.Info("forwarding of pod traffic", "ok", state.OK, "state", state.Message)
	}
}

// attachedSubnets are those of all attachments that have a result, sorted.
func (n *Network) attachedSubnets() []netip.Prefix {
	n.mu.Lock()
	defer n.mu.Unlock()
	var subnets []netip.Prefix
	for _, rec := range n.records {
		subnets = append(subnets, rec.Subnets...)
	}
	slices.SortFunc(subnets, netip.Prefix.Compare)
	return slices.Compact(subnets)
}
