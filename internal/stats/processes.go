package stats

import (
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/mascri/mascri/internal/pod"
)

// processDetails counts; first is the container's first process. Processes that end
// meanwhile count or not.
func (s *Stats) processDetails(r *reader, g *group, first int) (d pod.ProcessDetails) {
	for _, pid := range g.pids() {
		d.Processes++
		entries, err := os.ReadDir(filepath.Join(s.opts.Proc, pid, "fd"))
		if err != nil {
			continue
		}
		for _, entry := range entries {
			d.Files++
			link, err := os.Readlink(filepath.Join(s.opts.Proc, pid, "fd", entry.Name()))
			if err == nil && strings.HasPrefix(link, "socket:") {
				d.Sockets++
			}
		}
	}
	dir := g.unified
	if dir == "" {
		dir = g.v1["pids"]
	}
	d.Threads, _ = r.number(dir, "pids.current")
	d.ThreadLimit = r.limit(dir, "pids.max")
	d.FileLimit = openFilesLimit(string(r.text(filepath.Join(s.opts.Proc, strconv.Itoa(first)), "limits")))
	return d
}

// openFilesLimit finds the soft one in the text of /proc/PID/limits; nil for none.
func openFilesLimit(text string) *uint64 {
	for line := range strings.Lines(text) {
		rest, found := strings.CutPrefix(line, "Max open files")
		words := strings.Fields(rest)
		if !found || len(words) == 0 {
			continue
		}
		if n, err := strconv.ParseUint(words[0], 10, 64); err == nil {
			return &n
		}
	}
	return nil
}

// pids returns the processes in the cgroup and in those below.
func (g *group) pids() (pids []string) {
	dir := g.unified
	for _, controller := range []string{"pids", "cpuacct"} {
		if dir == "" {
			dir = g.v1[controller]
		}
	}
	_ = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() { // it ended meanwhile
			return nil
		}
		// A threaded cgroup has processes that it can't list; they count above it.
		if text, err := os.ReadFile(filepath.Join(path, "cgroup.procs")); err == nil {
			pids = append(pids, strings.Fields(string(text))...)
		}
		return nil
	})
	return pids
}

// device returns the path of a block device, or its numbers where it has none.
func device(major, minor uint64) string {
	numbers := strconv.FormatUint(major, 10) + ":" + strconv.FormatUint(minor, 10)
	link, err := os.Readlink("/sys/dev/block/" + numbers)
	if err != nil {
		return numbers
	}
	return "/dev/" + filepath.Base(link)
}
