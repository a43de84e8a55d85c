package stats

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/containerd/cgroups/v3"
)

// controllers are those of cgroup v1 that are read. Each has a hierarchy of its own, or
// a link by its name to the one that it shares.
var controllers = []string{"cpuacct", "memory", "pids", "cpu", "blkio", "hugetlb"}

// group is one cgroup.
type group struct {
	unified string            // its directory in cgroup v2, else ""
	v1      map[string]string // its directories by controller in cgroup v1
	// upperDir is where the overlay keeps what the container writes; "" for none.
	upperDir string
	kept     kept
}

func isUnified(root string) bool {
	_, err := os.Stat(filepath.Join(root, "cgroup.controllers"))
	return err == nil
}

// container returns the cgroup of container id, which pid is a process of. By now the
// pid can be another process's: engines name a cgroup after its container, so that it
// is known by that.
func (s *Stats) container(pid int, id string) (*group, error) {
	proc, err := os.OpenRoot(filepath.Join(s.opts.Proc, strconv.Itoa(pid))) // stays that process
	if err != nil {
		return nil, err
	}
	defer proc.Close()
	text, err := proc.ReadFile("cgroup")
	if err != nil {
		return nil, err
	}
	paths, unified, err := cgroups.ParseCgroupFromReaderUnified(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("cgroup of process %d: %w", pid, err)
	}
	g := &group{v1: map[string]string{}}
	if s.unified {
		if path := upTo(unified, id); path != "" {
			g.unified = filepath.Join(s.opts.Cgroups, path)
		}
	} else {
		for _, controller := range controllers {
			if path := upTo(paths[controller], id); path != "" {
				g.v1[controller] = filepath.Join(s.opts.Cgroups, controller, path)
			}
		}
	}
	if g.unified == "" && len(g.v1) == 0 {
		return nil, fmt.Errorf("process %d is in no cgroup of container %s", pid, id)
	}
	mounts, err := proc.ReadFile("mountinfo")
	if err != nil {
		return nil, err
	}
	g.upperDir = upperDir(string(mounts))
	return g, nil
}

// upTo cuts a path after the element that names the container: a container's init may
// have made cgroups below. It returns "" where none does.
func upTo(path, id string) string {
	start := strings.Index(path, id)
	if start < 0 {
		return ""
	}
	if end := strings.IndexByte(path[start:], '/'); end >= 0 {
		return path[:start+end]
	}
	return path
}

// parent returns nil for nil.
func (g *group) parent() *group {
	if g == nil {
		return nil
	}
	p := &group{v1: map[string]string{}}
	if g.unified != "" {
		p.unified = filepath.Dir(g.unified)
	}
	for controller, dir := range g.v1 {
		p.v1[controller] = filepath.Dir(dir)
	}
	return p
}

// processes counts the processes in the cgroup and in those below.
func (g *group) processes() uint64 { return uint64(len(g.pids())) }

// errGone is for a cgroup of which nothing could be read.
var errGone = errors.New("the cgroup is gone")
