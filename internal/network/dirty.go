package network

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/vishvananda/netlink"

	"github.com/mascri/mascri/internal/netns"
	"github.com/mascri/mascri/internal/pod"
)

const (
	// retryFirst is when DEL is tried again for an attachment on the dirty queue; each
	// failure doubles it, up to retryMost.
	retryFirst = 10 * time.Second
	retryMost  = 5 * time.Minute
	// retriesMost is how many of the queue are tried at once.
	retriesMost = 2
	// errorMost bounds what a record keeps of an error, in bytes.
	errorMost = 2000
)

// dirt is the part of a record that is on the dirty queue.
type dirt struct {
	Since time.Time `json:"since"`
	Tries int       `json:"tries"` // failed ones since then
	Error string    `json:"error"` // of the last
	// PortsFree is set once the plugins that map host ports have done their part.
	PortsFree bool `json:"portsFree,omitempty"`
}

// shelve puts rec, whose DEL failed by cause, on the dirty queue: durably, so that
// nothing of it is forgotten. rest asks for the other plugins to do their part.
func (n *Network) shelve(ctx context.Context, s slots, rec record, cause error, rest bool) error {
	d := dirt{Since: time.Now().UTC()}
	before := ""
	if rec.Dirt != nil {
		d, before = *rec.Dirt, rec.Dirt.Error
	}
	if rest {
		failed, err := n.delRest(ctx, s, rec)
		if err == nil { // it did succeed, at last
			n.forgetConnections(rec)
			return n.leave(rec)
		}
		if failed != nil && !slices.ContainsFunc(failed, mapsPorts) {
			n.forgetConnections(rec)
			d.PortsFree = true
		}
		cause = fmt.Errorf("%s: %w", rec.origin(), err)
	}
	d.Tries++
	d.Error = cause.Error()
	d.Error = d.Error[:min(len(d.Error), errorMost)]
	rec.Phase, rec.Dirt = pod.Dirty, &d
	rec.retryAt = time.Now().Add(n.backoff(d.Tries))
	unpinEmpty(rec)
	if err := n.save(rec); err != nil {
		return fmt.Errorf("%w; and it can't be put on the dirty queue: %w", cause, err)
	}
	if d.Error != before {
		n.cfg.Logger.Warn("an attachment can't be undone; it is tried again in the background", "sandbox", rec.SandboxID, "pod", rec.Pod, "error", cause)
	}
	select {
	case n.dirtied <- struct{}{}:
	default:
	}
	return nil
}

// backoff is the pause after as many failed tries.
func (n *Network) backoff(tries int) time.Duration {
	pause := n.retryFirst
	for range tries - 1 {
		pause = min(2*pause, retryMost)
	}
	return pause
}

func mapsPorts(plugin *libcni.PluginConfig) bool { return plugin.Network.Capabilities[capPortMappings] }

// delRest runs the DEL of each plugin by itself, as libcni stops at the first failure:
// one plugin whose binary is missing must not keep a pod's host ports. Once one failed,
// those with an IPAM are left for later: while anything still names the pod's address,
// it must not be given to another pod. failed are those that did not succeed or were left.
func (n *Network) delRest(ctx context.Context, s slots, rec record) (failed []*libcni.PluginConfig, err error) {
	list, rt, err := n.planDel(rec)
	if err != nil {
		return nil, err
	}
	file := n.cacheFile(list.Name, rt.ContainerID, rt.IfName)
	cached, noCache := os.ReadFile(file)
	var errs []error
	for _, plugin := range slices.Backward(list.Plugins) {
		if failed != nil && plugin.Network.IPAM.Type != "" {
			failed = append(failed, plugin)
			continue
		}
		single := *list
		single.Plugins = []*libcni.PluginConfig{plugin}
		err := n.runDel(ctx, s, &single, rt)
		if err != nil {
			failed = append(failed, plugin)
			errs = append(errs, err)
		}
		if err == nil && noCache == nil { // libcni took this plugin for the whole list
			if err := os.WriteFile(file, cached, 0o600); err != nil {
				return failed, fmt.Errorf("write libcni's cache: %w", err)
			}
		}
	}
	if failed == nil && noCache == nil {
		if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
			return failed, fmt.Errorf("delete libcni's cache: %w", err)
		}
	}
	return failed, errors.Join(errs...)
}

// unpinEmpty gives up a pin that DEL has no use for any more, as the pod's interface is
// gone from the namespace. Before that, DEL without it would leave what the plugins find
// by the interface's addresses.
func unpinEmpty(rec record) {
	if !pinned(rec.NetnsPath, rec.NetnsInode) {
		return
	}
	file, err := os.Open(rec.NetnsPath)
	if err != nil {
		return
	}
	defer file.Close()
	err = netns.Do(file, func() error {
		_, err := netlink.LinkByName(rec.IfName)
		return err
	})
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		_ = unpin(rec.NetnsPath) // it is tried again when the record goes
	}
}

// cleanDirty tries again what is on the dirty queue, until ctx ends.
func (n *Network) cleanDirty(ctx context.Context) {
	var retries sync.WaitGroup
	defer retries.Wait()
	for {
		due, wait := n.takeDue(time.Now())
		for _, id := range due {
			retries.Go(func() { n.retry(ctx, id) })
		}
		select {
		case <-ctx.Done():
			return
		case <-n.dirtied:
		case <-time.After(wait):
		}
	}
}

// takeDue returns what is due of the dirty queue, and how long nothing else will be.
func (n *Network) takeDue(now time.Time) (due []string, wait time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	wait = retryMost
	for id, rec := range n.records {
		switch {
		case rec.Phase != pod.Dirty || rec.retrying:
		case rec.retryAt.After(now):
			wait = min(wait, rec.retryAt.Sub(now))
		default:
			rec.retrying = true
			n.records[id] = rec
			due = append(due, id)
		}
	}
	return due, wait
}

// retry tries once. It does not end a plugin in the middle when ctx ends.
func (n *Network) retry(ctx context.Context, sandboxID string) {
	release, err := n.retries.take(ctx)
	if err != nil {
		return
	}
	defer release()
	unlock, err := n.locks.Lock(ctx, sandboxID)
	if err != nil {
		return
	}
	defer unlock()
	rec, ok := n.record(sandboxID)
	if !ok || rec.Phase != pod.Dirty {
		return
	}
	ctx = context.WithoutCancel(ctx)
	own := make(slots, 1)
	rec.retrying = false
	if err := n.tryClear(ctx, own, rec, hasEnded); err == nil {
		n.cfg.Logger.Info("an attachment of the dirty queue is undone", "sandbox", sandboxID, "pod", rec.Pod)
		return
	} else if err := n.shelve(ctx, own, rec, err, true); err != nil {
		n.cfg.Logger.Error("the dirty queue can't be written", "sandbox", sandboxID, "error", err)
		rec.retryAt = time.Now().Add(n.retryFirst)
		n.show(rec)
	}
}

func (n *Network) isDirty(sandboxID string) bool {
	rec, ok := n.record(sandboxID)
	return ok && rec.Phase == pod.Dirty
}

// dirty lists the dirty queue, the oldest first.
func (n *Network) dirty() []pod.DirtyAttachment {
	n.mu.Lock()
	defer n.mu.Unlock()
	var list []pod.DirtyAttachment
	for _, rec := range n.records {
		if rec.Phase == pod.Dirty {
			list = append(list, pod.DirtyAttachment{
				SandboxID: rec.SandboxID, Pod: rec.Pod, Network: rec.Network, IPs: rec.IPs,
				Since: rec.Dirt.Since, Tries: rec.Dirt.Tries, NextTry: rec.retryAt, Error: rec.Dirt.Error,
			})
		}
	}
	slices.SortFunc(list, func(a, b pod.DirtyAttachment) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.SandboxID, b.SandboxID))
	})
	return list
}
