package cgroup

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// bornFirst is sooner than any engine gets a process up.
	bornFirst = 10 * time.Millisecond
	// bornEvery is the share of the time waited so far that is waited between two looks.
	bornEvery = 40
)

// Born waits until container id, which the engine is about to start below the cgroup parent
// as the CRI names it ("" is the engine's default), has a first process in pid and network
// namespaces of its own, or ctx ends. That is well before the engine answers: runc has yet
// to prepare the rest. alive is nil as long as pid is such a process.
//
// Where the engine keeps its cgroups elsewhere, nothing is found.
func (c *Cgroups) Born(ctx context.Context, id, parent string) (pid int, alive func() error, err error) {
	places := c.places(id, parent)
	began, wait := time.Now(), bornFirst
	for {
		select {
		case <-ctx.Done():
			return 0, nil, ctx.Err()
		case <-time.After(wait):
		}
		for _, place := range places {
			if pid := c.first(place); pid != 0 {
				return pid, func() error { return c.holds(place, pid) }, nil
			}
		}
		wait = max(time.Since(began)/bornEvery, time.Millisecond)
	}
}

// places are the files with the processes of a container of either cgroup driver, in a
// hierarchy that the engine always uses.
func (c *Cgroups) places(id, parent string) []string {
	root := filepath.Join(c.root, "pids")
	if _, err := os.Stat(filepath.Join(c.root, "cgroup.controllers")); err == nil {
		root = c.root
	}
	var places []string
	if !strings.HasSuffix(parent, ".slice") { // driver cgroupfs
		if parent == "" {
			places = append(places, filepath.Join(root, "docker", id, "cgroup.procs"))
		} else {
			places = append(places, filepath.Join(root, parent, id, "cgroup.procs"))
		}
	}
	if parent == "" {
		parent = "system.slice"
	}
	if strings.HasSuffix(parent, ".slice") { // driver systemd
		places = append(places, filepath.Join(root, slicePath(filepath.Base(parent)), "docker-"+id+".scope", "cgroup.procs"))
	}
	return places
}

// slicePath is where systemd has a slice: a-b.slice is in a.slice. See systemd.slice(5).
func slicePath(slice string) string {
	var path, prefix string
	for part := range strings.SplitSeq(strings.TrimSuffix(slice, ".slice"), "-") {
		prefix += part
		path = filepath.Join(path, prefix+".slice")
		prefix += "-"
	}
	return path
}

// first returns the process of a container that is its first, or 0: runc has others there
// for a moment, which are in no pid namespace of the container's, or not in all of its.
func (c *Cgroups) first(place string) int {
	text, err := os.ReadFile(place)
	if err != nil {
		return 0
	}
	for word := range strings.FieldsSeq(string(text)) {
		if pid, err := strconv.Atoi(word); err == nil && pid > 0 && c.isFirst(word) {
			return pid
		}
	}
	return 0
}

// isFirst tells whether pid is number 1 of another pid namespace and in another network
// namespace than this process.
func (c *Cgroups) isFirst(pid string) bool {
	status, err := os.ReadFile(filepath.Join(c.proc, pid, "status"))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(status)) {
		numbers, found := strings.CutPrefix(line, "NSpid:")
		if !found {
			continue
		}
		words := strings.Fields(numbers)
		if len(words) < 2 || words[len(words)-1] != "1" {
			return false
		}
		own, err := os.Readlink(filepath.Join(c.proc, "thread-self/ns/net"))
		if err != nil {
			return false
		}
		its, err := os.Readlink(filepath.Join(c.proc, pid, "ns/net"))
		return err == nil && its != own
	}
	return false
}

// holds returns an error where pid is no process there.
func (c *Cgroups) holds(place string, pid int) error {
	text, err := os.ReadFile(place)
	if err == nil && !slices.Contains(strings.Fields(string(text)), strconv.Itoa(pid)) {
		err = fmt.Errorf("process %d has ended: %w", pid, fs.ErrNotExist)
	}
	return err
}
