package network

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/containernetworking/cni/libcni"

	"github.com/mascri/mascri/internal/pod"
)

const (
	// delTimeout bounds DEL, and all tries of one Detach.
	delTimeout = 60 * time.Second
	// delTries is how often Detach tries, with a pause that doubles.
	delTries = 3
	delPause = 500 * time.Millisecond
)

// Detach undoes a sandbox's attachment, complete or not, with what its record says. It
// begins while the sandbox's process may still run; ended waits until it does not, and
// nothing is forgotten or given up before. Its error ends Detach; nil: it has ended. Detach
// is nil where there is no attachment, and where CNI DEL
// kept failing and the attachment is on the dirty queue, which Run works off. After an
// error (of the disk, or of ctx) Detach may be called again.
//
// ctx ends the wait for another call on the same sandbox, but not CNI DEL, which
// has its own deadline of 60 s: a plugin that is slow, but works, would else never
// get done where clients are in a hurry.
func (n *Network) Detach(ctx context.Context, sandboxID string, ended func() error) error {
	if ended == nil {
		ended = hasEnded
	}
	if err := n.detach(ctx, sandboxID, ended); err != nil {
		return fmt.Errorf("detach sandbox %q: %w", sandboxID, err)
	}
	return nil
}

// hasEnded is for a sandbox whose process does not run.
func hasEnded() error { return nil }

func (n *Network) detach(ctx context.Context, sandboxID string, ended func() error) error {
	if n.isDirty(sandboxID) {
		return nil // not to wait for a retry that hangs
	}
	unlock, err := n.locks.Lock(ctx, sandboxID)
	if err != nil {
		return err
	}
	defer unlock()
	ctx = context.WithoutCancel(ctx)
	rec, ok := n.record(sandboxID)
	switch {
	case !ok:
		return n.detachLost(ctx, sandboxID, ended)
	case rec.Phase == pod.Dirty:
		return nil
	}
	return n.clear(ctx, rec, ended)
}

// clear undoes rec, in delTries tries, or else puts it on the dirty queue.
func (n *Network) clear(ctx context.Context, rec record, ended func() error) error {
	limited, cancel := context.WithTimeout(ctx, n.delTimeout)
	defer cancel()
	err := n.tryClear(limited, n.dels, rec, ended)
	if err != nil {
		if err := ended(); err != nil {
			return err
		}
	}
	pause := delPause
	for try := 1; err != nil && try < delTries && limited.Err() == nil; try++ {
		select {
		case <-limited.Done():
		case <-time.After(pause):
			pause *= 2
			err = n.tryClear(limited, n.dels, rec, ended)
		}
	}
	if err == nil {
		return nil
	}
	return n.shelve(ctx, n.dels, rec, err, limited.Err() == nil)
}

// tryClear undoes rec once no plugin of an earlier life works on it any more.
func (n *Network) tryClear(ctx context.Context, s slots, rec record, ended func() error) error {
	if rec.inherited {
		if err := settle(ctx, rec.SandboxID, settleGrace); err != nil {
			return err
		}
	}
	if err := n.undo(ctx, s, rec, ended); err != nil {
		return fmt.Errorf("%s: %w", rec.origin(), err)
	}
	return nil
}

// wholeID is the form of the engine's ids.
var wholeID = regexp.MustCompile(`^[0-9a-f]{64}$`)

// detachLost undoes an attachment whose record is lost, as far as libcni's cache
// and the pin still tell of it.
//
// What clients send as the id of a sandbox that nobody knows ends up here. Only a whole
// id may lead to a pin: a prefix could be that of a sandbox that is being attached,
// and a path could be that of any file. Other daemons pin their sandboxes in the same
// directory: the pin of an id that neither cache nor ledger knows is theirs.
func (n *Network) detachLost(ctx context.Context, sandboxID string, ended func() error) error {
	if !wholeID.MatchString(sandboxID) {
		return nil
	}
	cached, err := n.cni(&pluginExec{}).GetCachedAttachments(sandboxID)
	if err != nil {
		return fmt.Errorf("read libcni's cache: %w", err)
	}
	for _, c := range cached {
		rec, err := n.restore(c)
		if err != nil {
			return fmt.Errorf("libcni's cache: network %q: %w", c.Network, err)
		}
		if err := n.clear(ctx, rec, ended); err != nil || n.isDirty(sandboxID) {
			return err
		}
	}
	if len(cached) == 0 && !n.ledger.knows(sandboxID) {
		return nil
	}
	return unpin(n.pinPath(sandboxID))
}

// restore makes a record of what libcni cached of an attachment.
func (n *Network) restore(c *libcni.NetworkAttachment) (record, error) {
	rec := record{
		Version: recordVersion,
		Attachment: pod.Attachment{
			SandboxID: c.ContainerID,
			Pod:       podOf(c.CniArgs),
			Phase:     pod.Detaching,
			Network:   c.Network,
			// Never "", which stands for the default network.
			ConfigFile: n.cacheFile(c.Network, c.ContainerID, c.IfName),
			NetnsPath:  n.pinPath(c.ContainerID),
			CreatedAt:  time.Now().UTC(),
		},
		Config: c.Config, IfName: c.IfName, Args: c.CniArgs,
		Capabilities: map[string]json.RawMessage{},
		BootID:       n.bootID,
		inherited:    true,
	}
	if inode, ok := netnsInode(rec.NetnsPath); ok {
		rec.NetnsInode = inode
	}
	rec.IPs = n.cachedIPs(c, rec.NetnsPath)
	for name, value := range c.CapabilityArgs {
		data, err := json.Marshal(value)
		if err != nil {
			return record{}, err
		}
		rec.Capabilities[name] = data
	}
	data, err := json.Marshal(rec)
	if err != nil {
		return record{}, err
	}
	_, err = decodeRecord(c.ContainerID, data)
	return rec, err
}

// podOf is the namespace/name that CNI_ARGS tell.
func podOf(args [][2]string) string {
	var namespace, name string
	for _, arg := range args {
		switch arg[0] {
		case "K8S_POD_NAMESPACE":
			namespace = arg[1]
		case "K8S_POD_NAME":
			name = arg[1]
		}
	}
	return namespace + "/" + name
}

// undo runs DEL and leaves nothing of rec.
func (n *Network) undo(ctx context.Context, s slots, rec record, ended func() error) error {
	switch rec.Phase {
	case pod.Dirty: // and stays so until it is clean: it is no sandbox's any more
	case pod.Attached:
		rec.Phase = pod.Detaching
		if err := n.save(rec); err != nil {
			return err
		}
	default:
		rec.Phase = pod.Detaching
		if err := n.save(rec); err != nil {
			n.show(rec) // the record on disk leads to DEL already: a full disk is no obstacle
		}
	}
	n.step("detaching")
	if rival, ok := n.rivalOf(rec); ok {
		return n.setAside(ctx, rec, rival, ended)
	}
	if err := n.del(ctx, s, rec); err != nil {
		return err
	}
	n.step("del-done")
	if err := ended(); err != nil {
		return err
	}
	n.forgetConnections(rec)
	return n.leave(rec)
}

// leave unpins the network namespace and deletes the record.
func (n *Network) leave(rec record) error {
	if err := unpin(rec.NetnsPath); err != nil {
		return err
	}
	n.step("unpin")
	return n.forget(rec.SandboxID)
}

func (n *Network) del(ctx context.Context, s slots, rec record) error {
	list, rt, err := n.planDel(rec)
	if err != nil {
		return err
	}
	return n.runDel(ctx, s, list, rt)
}

// planDel returns what DEL is told, and gives libcni's cache the result.
func (n *Network) planDel(rec record) (*libcni.NetworkConfigList, *libcni.RuntimeConf, error) {
	list, err := rec.list()
	if err != nil {
		return nil, nil, err
	}
	// After a reboot the namespace is gone, and a new one may have its inode.
	netnsPath := ""
	if rec.BootID == n.bootID && pinned(rec.NetnsPath, rec.NetnsInode) {
		netnsPath = rec.NetnsPath
	}
	rt := rec.runtimeConf(netnsPath)
	return list, rt, n.seedCache(rec, list, rt)
}

func (n *Network) runDel(ctx context.Context, s slots, list *libcni.NetworkConfigList, rt *libcni.RuntimeConf) error {
	ctx, cancel := context.WithTimeout(ctx, n.delTimeout)
	defer cancel()
	release, err := s.take(ctx)
	if err != nil {
		return fmt.Errorf("wait for other detachments: %w", err)
	}
	defer release()
	return plain(n.cni(&pluginExec{started: func() { n.step("del-start") }, ran: n.cfg.Ran}).DelNetworkList(ctx, list, rt))
}

// seedCache gives libcni's cache the result that is recorded: DEL gets it from
// there, but libcni writes the file without care for a loss of power. Where none
// is recorded, ADD did not end, or ended just before a crash: what libcni cached
// is then as good as it gets.
func (n *Network) seedCache(rec record, list *libcni.NetworkConfigList, rt *libcni.RuntimeConf) error {
	if rec.Result == nil {
		return nil
	}
	// As libcni's own cachedInfo, of kind libcni.CNICacheV1.
	data, err := json.Marshal(struct {
		Kind           string          `json:"kind"`
		ContainerID    string          `json:"containerId"`
		Config         []byte          `json:"config"`
		IfName         string          `json:"ifName"`
		NetworkName    string          `json:"networkName"`
		NetNS          string          `json:"netns,omitempty"`
		CniArgs        [][2]string     `json:"cniArgs,omitempty"`
		CapabilityArgs map[string]any  `json:"capabilityArgs,omitempty"`
		Result         json.RawMessage `json:"result"`
	}{libcni.CNICacheV1, rt.ContainerID, list.Bytes, rt.IfName, list.Name, rt.NetNS, rt.Args, rt.CapabilityArgs, rec.Result})
	if err != nil {
		return fmt.Errorf("encode libcni's cache: %w", err)
	}
	file := n.cacheFile(list.Name, rt.ContainerID, rt.IfName)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return fmt.Errorf("write libcni's cache: %w", err)
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		return fmt.Errorf("write libcni's cache: %w", err)
	}
	return nil
}

// cacheDir is libcni's, for this daemon alone.
func (n *Network) cacheDir() string { return filepath.Join(n.cfg.StateDir, "cni", "results") }

// cacheFile is where libcni caches an attachment.
func (n *Network) cacheFile(network, sandboxID, ifName string) string {
	return filepath.Join(n.cacheDir(), fmt.Sprintf("%s-%s-%s", network, sandboxID, ifName))
}

// reseedCache mends what a loss of power has done to libcni's cache: DEL goes by the
// records, but where one is lost, the cache is all that is left.
func (n *Network) reseedCache() {
	for _, a := range n.Attachments() {
		unlock, free := n.locks.Try(a.SandboxID)
		if !free {
			continue // whoever works on it writes the cache
		}
		if err := n.reseed(a.SandboxID); err != nil {
			n.cfg.Logger.Warn("libcni's cache can't be mended", "sandbox", a.SandboxID, "error", err)
		}
		unlock()
	}
}

func (n *Network) reseed(sandboxID string) error {
	rec, ok := n.record(sandboxID)
	if !ok || rec.Phase != pod.Attached {
		return nil
	}
	data, err := os.ReadFile(n.cacheFile(rec.Network, rec.SandboxID, rec.IfName))
	if err == nil && json.Valid(data) {
		return nil
	}
	_, _, err = n.planDel(rec)
	return err
}
