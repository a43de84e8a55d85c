package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/system"

	"github.com/mascri/mascri/internal/pod"
)

const (
	// containerdRoot is where a containerd that is not the engine's own child keeps what
	// it has, unless it is configured otherwise, and containerdSocket where it listens.
	containerdRoot   = "/var/lib/containerd"
	containerdSocket = "/run/containerd/containerd.sock"

	// settled is how long nothing in a layer has changed when its size is taken for final.
	settled = time.Minute
)

// usage is what a directory takes up.
type usage struct {
	bytes, inodes uint64
	changed       time.Time // of what changed last in there
}

// ImageFilesystem measures what the layers of all images take up. Each layer is measured
// once, so that only the first call takes long; a call whose context ends leaves the next
// one less to do. It looks at the engine's files, as no request tells of inodes, and of
// bytes only in newer engines.
func (e *Engine) ImageFilesystem(ctx context.Context) (pod.Filesystem, error) {
	c, err := e.connection(ctx)
	if err != nil {
		return pod.Filesystem{}, err
	}
	root, layers, err := layerDirectories(c.info)
	if err != nil {
		return pod.Filesystem{}, fmt.Errorf("find the engine's images: %w", err)
	}
	filesystem := pod.Filesystem{}
	for _, layer := range layers {
		used, err := e.layerUsage(ctx, layer)
		if err != nil {
			return pod.Filesystem{}, fmt.Errorf("measure %s: %w", layer, err)
		}
		filesystem.UsedBytes += used.bytes
		filesystem.UsedInodes += used.inodes
	}
	e.layers.Range(func(layer, _ any) bool {
		if layer, ok := layer.(string); ok && !slices.Contains(layers, layer) {
			e.layers.Delete(layer)
		}
		return true
	})
	filesystem.MountPoint, err = mountPoint(root)
	return filesystem, err
}

// layerDirectories returns the directory of all layers, and each layer's. It is the same
// for containers' own layers: the engine keeps both in one place.
func layerDirectories(info system.Info) (root string, layers []string, err error) {
	if slices.Contains(info.DriverStatus, [2]string{"driver-type", "io.containerd.snapshotter.v1"}) {
		return snapshotDirectories(info)
	}
	root = filepath.Join(info.DockerRootDir, info.Driver)
	form := map[string]string{
		"overlay2": "%s/diff", "fuse-overlayfs": "%s/diff", "vfs": "dir/%s", "btrfs": "subvolumes/%s",
	}[info.Driver]
	if form == "" {
		return "", nil, errdefs.ErrNotImplemented.WithMessage(fmt.Sprintf("the layers of storage driver %q can't be measured", info.Driver))
	}
	// Those of images alone; the ones of containers are beside them.
	entries, err := filepath.Glob(filepath.Join(info.DockerRootDir, "image", info.Driver, "layerdb/*/*/cache-id"))
	if err != nil {
		return "", nil, err
	}
	for _, entry := range entries {
		id, err := os.ReadFile(entry)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return "", nil, errdefs.ErrFailedPrecondition.WithMessage(err.Error())
		}
		layers = append(layers, filepath.Join(root, fmt.Sprintf(form, id)))
	}
	return root, layers, nil
}

// snapshotDirectories is layerDirectories for the containerd image store, whose images
// are also kept as they came: each blob counts as a layer. Containers that run are left
// out; those that ran can't be told from images.
func snapshotDirectories(info system.Info) (root string, layers []string, err error) {
	roots := []string{filepath.Join(info.DockerRootDir, "containerd/daemon"), containerdRoot}
	if info.Containerd != nil && strings.TrimPrefix(info.Containerd.Address, "/var") == containerdSocket {
		slices.Reverse(roots)
	}
	for _, candidate := range roots {
		root = filepath.Join(candidate, "io.containerd.snapshotter.v1."+info.Driver)
		if _, err = os.Stat(root); err != nil {
			continue
		}
		snapshots, snapshotsErr := filepath.Glob(filepath.Join(root, "snapshots/*"))
		blobs, blobsErr := filepath.Glob(filepath.Join(candidate, "io.containerd.content.v1.content/blobs/*/*"))
		mounts, mountsErr := os.ReadFile("/proc/self/mountinfo")
		snapshots = slices.DeleteFunc(snapshots, func(snapshot string) bool {
			return strings.Contains(string(mounts), "upperdir="+snapshot+"/fs,")
		})
		return root, slices.Concat(snapshots, blobs), errors.Join(snapshotsErr, blobsErr, mountsErr)
	}
	return "", nil, errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("the containerd that the engine keeps them in has no directory %s or %s", roots[0], roots[1]))
}

func (e *Engine) layerUsage(ctx context.Context, layer string) (usage, error) {
	if known, ok := e.layers.Load(layer); ok {
		if used, ok := known.(usage); ok {
			return used, nil
		}
	}
	used, err := measure(ctx, layer)
	if err == nil && time.Since(used.changed) > settled {
		e.layers.Store(layer, used)
	}
	return used, err
}

// measure adds up a directory, or a single file. What is removed meanwhile counts or not.
func measure(ctx context.Context, root string) (used usage, err error) {
	linked := map[uint64]bool{} // inodes of more than one name
	err = filepath.WalkDir(root, func(_ string, entry fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok || linked[stat.Ino] {
			return nil
		}
		if stat.Nlink > 1 && !entry.IsDir() {
			linked[stat.Ino] = true
		}
		used.bytes += uint64(stat.Blocks) * 512
		used.inodes++
		if changed := time.Unix(stat.Ctim.Unix()); changed.After(used.changed) {
			used.changed = changed
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		used.changed, err = time.Now(), nil
	}
	return used, err
}

// mountPoint returns the topmost directory of the file system that holds path.
func mountPoint(path string) (string, error) {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", errdefs.ErrFailedPrecondition.WithMessage(err.Error())
	}
	for path != "/" {
		here, hereErr := os.Stat(path)
		above, aboveErr := os.Stat(filepath.Dir(path))
		if err := errors.Join(hereErr, aboveErr); err != nil {
			return "", errdefs.ErrFailedPrecondition.WithMessage(err.Error())
		}
		if device(here) != device(above) {
			break
		}
		path = filepath.Dir(path)
	}
	return path, nil
}

func device(info fs.FileInfo) uint64 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return stat.Dev
	}
	return 0
}
