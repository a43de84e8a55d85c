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

// delTimeout bounds DEL.
const delTimeout = 60 * time.Second

// Detach undoes a sandbox's attachment, complete or not, with what its record
// says. It is nil where there is none. After an error the attachment stays in
// phase Detaching, and Detach may be called again.
//
// ctx ends the wait for another call on the same sandbox, but not CNI DEL, which
// has its own deadline of 60 s: a plugin that is slow, but works, would else never
// get done where clients are in a hurry.
func (n *Network) Detach(ctx context.Context, sandboxID string) error {
	if err := n.detach(ctx, sandboxID); err != nil {
		return fmt.Errorf("detach sandbox %q: %w", sandboxID, err)
	}
	return nil
}

func (n *Network) detach(ctx context.Context, sandboxID string) error {
	unlock, err := n.locks.Lock(ctx, sandboxID)
	if err != nil {
		return err
	}
	defer unlock()
	ctx = context.WithoutCancel(ctx)
	rec, ok := n.record(sandboxID)
	if !ok {
		return n.detachLost(ctx, sandboxID)
	}
	if rec.inherited {
		if err := settle(ctx, sandboxID, settleGrace); err != nil {
			return err
		}
	}
	if err := n.undo(ctx, rec); err != nil {
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
// and a path could be that of any file.
func (n *Network) detachLost(ctx context.Context, sandboxID string) error {
	if !wholeID.MatchString(sandboxID) {
		return nil
	}
	cached, err := n.cni(&pluginExec{}).GetCachedAttachments(sandboxID)
	if err != nil {
		return fmt.Errorf("read libcni's cache: %w", err)
	}
	path := n.pinPath(sandboxID)
	for _, c := range cached {
		list, err := libcni.NetworkConfFromBytes(c.Config)
		if err != nil {
			return fmt.Errorf("libcni's cache: %w", err)
		}
		rt := &libcni.RuntimeConf{ContainerID: sandboxID, IfName: c.IfName, Args: c.CniArgs, CapabilityArgs: c.CapabilityArgs}
		if isNetns(path) {
			rt.NetNS = path
		}
		if err := n.runDel(ctx, list, rt); err != nil {
			return fmt.Errorf("network %q: %w", c.Network, err)
		}
	}
	return unpin(path)
}

// undo runs DEL and leaves nothing of rec.
func (n *Network) undo(ctx context.Context, rec record) error {
	unfinished := rec.Phase != pod.Attached
	rec.Phase = pod.Detaching
	if err := n.save(rec); err != nil {
		if !unfinished {
			return err
		}
		n.show(rec) // the record on disk leads to DEL already: a full disk is no obstacle
	}
	n.step("detaching")
	if err := n.del(ctx, rec); err != nil {
		return err
	}
	n.step("del-done")
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

func (n *Network) del(ctx context.Context, rec record) error {
	list, err := rec.list()
	if err != nil {
		return err
	}
	// After a reboot the namespace is gone, and a new one may have its inode.
	netnsPath := ""
	if rec.BootID == n.bootID && pinned(rec.NetnsPath, rec.NetnsInode) {
		netnsPath = rec.NetnsPath
	}
	rt := rec.runtimeConf(netnsPath)
	if err := n.seedCache(rec, list, rt); err != nil {
		return err
	}
	return n.runDel(ctx, list, rt)
}

func (n *Network) runDel(ctx context.Context, list *libcni.NetworkConfigList, rt *libcni.RuntimeConf) error {
	ctx, cancel := context.WithTimeout(ctx, n.delTimeout)
	defer cancel()
	release, err := n.dels.take(ctx)
	if err != nil {
		return fmt.Errorf("wait for other detachments: %w", err)
	}
	defer release()
	return plain(n.cni(&pluginExec{started: func() { n.step("del-start") }}).DelNetworkList(ctx, list, rt))
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
	dir := filepath.Join(n.cfg.StateDir, "cni", "results")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("write libcni's cache: %w", err)
	}
	name := fmt.Sprintf("%s-%s-%s", list.Name, rt.ContainerID, rt.IfName)
	if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
		return fmt.Errorf("write libcni's cache: %w", err)
	}
	return nil
}
