package stats

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/mascri/mascri/internal/pod"
)

const (
	layersDue  = 1024             // that wait to be measured; others are asked about again
	layerEvery = 10 * time.Second // a layer is measured at most so often
	// The measuring rests nine times as long as it works, so that it never takes more
	// than a tenth of one CPU and of the disk's time, but at most
	restMost = time.Minute
)

// layer is what is known of the directory that a container writes to.
type layer struct {
	dir    string
	root   string // of the file system that dir is on; "": not known yet
	queued bool
	at     time.Time // when it was measured; zero: never
	usage  *pod.LayerUsage
}

// layer returns what the latest measuring found, and asks for the next where it is time.
func (s *Stats) layer(id string) *pod.LayerUsage {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := &s.about(id).layer
	if l.dir != "" && !l.queued && time.Since(l.at) >= layerEvery {
		select {
		case s.due <- id:
			l.queued = true
		default:
		}
	}
	return l.usage
}

// measure returns how long to rest.
func (s *Stats) measure(ctx context.Context, id string) (rest time.Duration) {
	s.mu.Lock()
	k := s.known[id]
	if k == nil { // forgotten
		s.mu.Unlock()
		return 0
	}
	dir, root := k.layer.dir, k.layer.root
	s.mu.Unlock()

	began := time.Now()
	usage, err := diskUsage(ctx, dir, root)
	now := time.Now()
	if err != nil && ctx.Err() == nil {
		s.opts.Logger.Debug("a container's layer could not be measured", "container", id, "file", dir, "error", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k.layer.queued, k.layer.at = false, now
	if err == nil {
		if k.layer.dir == dir {
			k.layer.root = usage.MountPoint
		}
		k.layer.usage = &pod.LayerUsage{Filesystem: usage, At: now}
	}
	return min(9*now.Sub(began), restMost)
}

// diskUsage adds up the directory root, which is on the file system mounted at mounted, if
// that is known. What is removed meanwhile counts or not.
func diskUsage(ctx context.Context, root, mounted string) (usage pod.Filesystem, err error) {
	if usage.MountPoint = mounted; mounted == "" {
		if usage.MountPoint, err = mountPoint(root); err != nil {
			return usage, err
		}
	}
	linked := map[uint64]bool{} // inodes of more than one name
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, fs.ErrNotExist) && path != root:
			return nil
		case err != nil:
			return err
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
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
		usage.UsedBytes += uint64(stat.Blocks) * 512
		usage.UsedInodes++
		return nil
	})
	return usage, err
}

// upperDir finds, in the text of a container process's mountinfo, where the overlay that
// is its root keeps what it writes: the same for engines with and without the containerd
// image store. It returns "" for other storage drivers. See proc_pid_mountinfo(5).
func upperDir(mountinfo string) (dir string) {
	for line := range strings.Lines(mountinfo) {
		mount, filesystem, found := strings.Cut(line, " - ")
		words := strings.Fields(mount)
		if !found || len(words) < 5 || words[4] != "/" {
			continue
		}
		dir = ""
		kind := strings.Fields(filesystem)
		if len(kind) < 3 || kind[0] != "overlay" {
			continue
		}
		for option := range strings.SplitSeq(kind[2], ",") {
			if upper, ok := strings.CutPrefix(option, "upperdir="); ok && filepath.IsAbs(upper) {
				dir = unescape.Replace(upper)
			}
		}
	}
	return dir
}

// unescape undoes how the kernel writes paths in mountinfo.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

// mountPoint returns the topmost directory of the file system that holds path.
func mountPoint(path string) (string, error) {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", err
	}
	for path != "/" {
		here, hereErr := os.Stat(path)
		above, aboveErr := os.Stat(filepath.Dir(path))
		if err := errors.Join(hereErr, aboveErr); err != nil {
			return "", err
		}
		if !sameDevice(here, above) {
			break
		}
		path = filepath.Dir(path)
	}
	return path, nil
}

func sameDevice(a, b fs.FileInfo) bool {
	one, ok := a.Sys().(*syscall.Stat_t)
	other, also := b.Sys().(*syscall.Stat_t)
	return ok && also && one.Dev == other.Dev
}
