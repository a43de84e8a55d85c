// Package cgroup writes into a container's cgroup what Docker's API has no words for, and
// what it can't change of a process that runs. It reads cgroups as the kernel shows them
// to this process: MasCRI must be in the node's cgroup namespace.
package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Cgroups are the node's. The zero value is not usable; see New.
type Cgroups struct {
	proc     string
	root     string
	oomFloor int
}

// New returns the cgroups of this node. oomFloor is the lowest oom_score_adj that this
// process may set.
func New(oomFloor int) *Cgroups {
	return &Cgroups{proc: "/proc", root: "/sys/fs/cgroup", oomFloor: oomFloor}
}

// Check refuses by its field what the kernel can't limit, by the cgroup of a process of
// container id, which is like that of the container that the limits are for. The error is
// errdefs.ErrInvalidArgument or ErrFailedPrecondition.
func (c *Cgroups) Check(pid int, id string, resources *cri.LinuxContainerResources) error {
	files, err := c.files(pid, id, resources)
	if err != nil {
		return err
	}
	for _, f := range files {
		if _, err := os.Stat(f.path); err != nil {
			return unknown(f, err)
		}
	}
	return nil
}

// Set writes the hugepage limits and the unified keys of resources into the cgroup of
// container id, which pid is a process of. A process that is gone is errdefs.ErrNotFound.
func (c *Cgroups) Set(pid int, id string, resources *cri.LinuxContainerResources) error {
	files, err := c.files(pid, id, resources)
	if err != nil {
		return err
	}
	for _, f := range files {
		err := write(f.path, f.value)
		if err == nil {
			continue
		}
		if _, gone := c.files(pid, id, resources); errdefs.IsNotFound(gone) {
			return gone
		}
		if errors.Is(err, fs.ErrNotExist) {
			return unknown(f, err)
		}
		return fmt.Errorf("%s: write %q: %w", f.field, f.value, errors.Join(err, errdefs.ErrInvalidArgument))
	}
	return nil
}

// SetOOMScore sets oom_score_adj, -1000 to 1000, of all processes of container id, which
// pid is one of, or else the lowest that may be set.
func (c *Cgroups) SetOOMScore(pid int, id string, score int) error {
	directory, _, err := c.directory(pid, id, "memory")
	if err != nil {
		return err
	}
	pids, err := os.ReadFile(filepath.Join(directory, "cgroup.procs"))
	if errors.Is(err, fs.ErrNotExist) {
		return ended(id)
	}
	if err != nil {
		return fmt.Errorf("processes of container %q: %w", id, err)
	}
	score = max(score, c.oomFloor)
	for _, pid := range strings.Fields(string(pids)) {
		err := write(filepath.Join(c.proc, pid, "oom_score_adj"), strconv.Itoa(score))
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ESRCH) { // it ended meanwhile
			return fmt.Errorf("oom_score_adj of process %s: %w", pid, err)
		}
	}
	return nil
}

// Needed tells whether resources has anything for Set.
func Needed(resources *cri.LinuxContainerResources) bool {
	return len(resources.GetHugepageLimits())+len(resources.GetUnified()) > 0
}

// file is one limit.
type file struct {
	field string // of the request
	path  string
	value string
}

// write makes no file: the kernel refuses that where there is none, with an error of its own.
func write(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

func ended(id string) error {
	return fmt.Errorf("container %q does not run: %w", id, errdefs.ErrNotFound)
}

func unknown(f file, err error) error {
	return fmt.Errorf("%s: the kernel has no such limit: %v: %w", f.field, err, errdefs.ErrFailedPrecondition)
}

var (
	pageSize = regexp.MustCompile(`^[1-9][0-9]*(KB|MB|GB)$`) // as the kernel names its files
	fileName = regexp.MustCompile(`^[a-z0-9_]+(\.[A-Za-z0-9_]+)+$`)
)

func (c *Cgroups) files(pid int, id string, resources *cri.LinuxContainerResources) (files []file, err error) {
	if !Needed(resources) {
		return nil, nil
	}
	for _, limit := range resources.GetHugepageLimits() {
		field := "linux.resources.hugepage_limits: " + limit.GetPageSize()
		if !pageSize.MatchString(limit.GetPageSize()) {
			return nil, fmt.Errorf("%s: no page size such as 2MB: %w", field, errdefs.ErrInvalidArgument)
		}
		directory, unified, err := c.directory(pid, id, "hugetlb")
		if err != nil {
			return nil, err
		}
		name := "hugetlb." + limit.GetPageSize() + ".limit_in_bytes"
		if unified {
			name = "hugetlb." + limit.GetPageSize() + ".max"
		}
		f := file{field, filepath.Join(directory, name), strconv.FormatUint(limit.GetLimit(), 10)}
		if _, err := os.Stat(f.path); err != nil && limit.GetLimit() == 0 {
			continue // no pages of that size: the kernel can give none
		}
		files = append(files, f)
	}
	for _, key := range slices.Sorted(maps.Keys(resources.GetUnified())) {
		field := fmt.Sprintf("linux.resources.unified[%q]", key)
		if !fileName.MatchString(key) {
			return nil, fmt.Errorf("%s: no name of a cgroup file: %w", field, errdefs.ErrInvalidArgument)
		}
		directory, unified, err := c.directory(pid, id, "memory")
		if err != nil {
			return nil, err
		}
		if !unified {
			return nil, fmt.Errorf("%s: needs cgroup v2; this node has v1: %w", field, errdefs.ErrFailedPrecondition)
		}
		files = append(files, file{field, filepath.Join(directory, key), resources.GetUnified()[key]})
	}
	return files, nil
}

// directory returns the cgroup of a process, in the hierarchy of controller where there
// are several, and whether there is just one (cgroup v2). See cgroups(7), /proc/pid/cgroup.
func (c *Cgroups) directory(pid int, id, controller string) (directory string, unified bool, err error) {
	text, err := os.ReadFile(filepath.Join(c.proc, strconv.Itoa(pid), "cgroup"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, ended(id)
	}
	if err != nil {
		return "", false, fmt.Errorf("cgroup of container %q: %w", id, err)
	}
	if !bytes.Contains(text, []byte(id)) { // the pid is another process's by now
		return "", false, fmt.Errorf("container %q does not run as process %d: %w", id, pid, errdefs.ErrNotFound)
	}
	_, err = os.Stat(filepath.Join(c.root, "cgroup.controllers"))
	unified = err == nil
	directory, found := c.find(string(text), controller, unified)
	if _, gone := os.Stat(directory); found && errors.Is(gone, fs.ErrNotExist) { // the process is, too, by now
		return "", false, ended(id)
	}
	return directory, unified, nil
}

// find reads /proc/pid/cgroup. Where the kernel has no such controller, it returns a place
// where there are no limits.
func (c *Cgroups) find(text, controller string, unified bool) (directory string, found bool) {
	for line := range strings.Lines(text) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		switch {
		case len(parts) != 3:
		case unified && parts[1] == "":
			return filepath.Join(c.root, parts[2]), true
		case !unified && slices.Contains(strings.Split(parts[1], ","), controller):
			return filepath.Join(c.root, controller, parts[2]), true
		}
	}
	return filepath.Join(c.root, controller), false
}
