package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/mascri/mascri/internal/pod"
)

// openNS is an opened network namespace.
type openNS struct {
	*os.File
	inode uint64
}

// openNetns opens the network namespace of req's sandbox process. It creates
// nothing.
func openNetns(ctx context.Context, req pod.AttachRequest) (openNS, error) {
	file, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", req.PID))
	if err != nil {
		return openNS{}, fmt.Errorf("open network namespace: %w: %w", err, errdefs.ErrFailedPrecondition)
	}
	ns := openNS{File: file}
	if ns.inode, err = ns.check(ctx, req); err != nil {
		file.Close()
		return openNS{}, err
	}
	return ns, nil
}

// check asks whether ns is the sandbox's own, now that it can't go away any more.
func (ns openNS) check(ctx context.Context, req pod.AttachRequest) (uint64, error) {
	if err := req.Confirm(ctx); err != nil {
		return 0, fmt.Errorf("network namespace of process %d: %w", req.PID, err)
	}
	var stat, own unix.Stat_t
	if err := unix.Fstat(int(ns.Fd()), &stat); err != nil {
		return 0, fmt.Errorf("stat network namespace: %w", err)
	}
	// Not /proc/self: any goroutine may have locked the main thread to visit a pod's.
	if err := unix.Stat("/proc/thread-self/ns/net", &own); err != nil {
		return 0, fmt.Errorf("stat network namespace: %w", err)
	}
	if stat.Ino == own.Ino {
		return 0, fmt.Errorf("process %d is in the node's network namespace: %w", req.PID, errdefs.ErrFailedPrecondition)
	}
	return stat.Ino, nil
}

// pinPath is where a sandbox's network namespace is mounted. Docker's id has 64
// digits; half of them are as unique, and fit what tools show.
func (n *Network) pinPath(sandboxID string) string {
	return filepath.Join(n.cfg.NetnsDir, pinName(sandboxID))
}

func pinName(sandboxID string) string { return "cni-" + sandboxID[:min(32, len(sandboxID))] }

// pin mounts ns at path, where it outlives the sandbox's process. What an earlier
// life of the sandbox left there is removed.
func pin(ns openNS, path string) error {
	if err := shareDir(filepath.Dir(path)); err != nil {
		return err
	}
	if err := unpin(path); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE|os.O_EXCL, 0)
	if err != nil {
		return fmt.Errorf("pin network namespace: %w", err)
	}
	file.Close()
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", ns.Fd()), path, "none", unix.MS_BIND, ""); err != nil {
		os.Remove(path)
		return fmt.Errorf("pin network namespace at %s: %w", path, err)
	}
	return nil
}

// unpin undoes pin. What is gone already is no error.
func unpin(path string) error {
	err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	// EINVAL: not a mount point.
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unpin network namespace at %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("unpin network namespace: %w", err)
	}
	return nil
}

// pinned tells whether the network namespace with inode is still mounted at path.
func pinned(path string, inode uint64) bool {
	at, ok := netnsInode(path)
	return ok && at == inode
}

// netnsInode returns the inode of the network namespace that is mounted at path.
func netnsInode(path string) (uint64, bool) {
	var stat unix.Stat_t
	ok := isNetns(path) && unix.Stat(path, &stat) == nil
	return stat.Ino, ok
}

// isNetns tells whether a namespace is mounted at path.
func isNetns(path string) bool {
	var fs unix.Statfs_t
	return unix.Statfs(path, &fs) == nil && fs.Type == unix.NSFS_MAGIC
}

// shareDir makes dir a shared mount point as `ip netns add` does, so that pins
// made here are seen (and can be unmounted) in other mount namespaces too.
func shareDir(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make netns directory: %w", err)
	}
	file, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("open netns directory: %w", err)
	}
	defer file.Close()
	// The lock that iproute2 takes: else two would stack two mounts on dir.
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", dir, err)
	}
	err = unix.Mount("", dir, "none", unix.MS_SHARED|unix.MS_REC, "")
	if errors.Is(err, unix.EINVAL) { // not a mount point yet
		if err := unix.Mount(dir, dir, "none", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("make %s a mount point: %w", dir, err)
		}
		err = unix.Mount("", dir, "none", unix.MS_SHARED|unix.MS_REC, "")
	}
	if err != nil {
		return fmt.Errorf("make %s a shared mount: %w", dir, err)
	}
	return nil
}
