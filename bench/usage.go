package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is what all of a node's processes of one name took while a client polled.
type process struct {
	Contestant   string  `json:"contestant"`
	Pods         int     `json:"pods"`
	Name         string  `json:"name"`
	Count        int     `json:"count"`
	CPUPerMinute float64 `json:"cpuPerMinute"` // seconds
	RSS          float64 `json:"rssMB"`        // at the end, as PSS
	PSS          float64 `json:"pssMB"`
}

// accounts is where the kernel accounts CPU time by cgroup.
func accounts() string {
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		return "/sys/fs/cgroup"
	}
	return "/sys/fs/cgroup/cpuacct"
}

// use is what a node's daemons and shims use.
type use struct {
	cpu    time.Duration // of all that ever ran there
	byName map[string]processUse
}

type processUse struct {
	count    int
	cpu      time.Duration // of those that run now
	rss, pss float64       // bytes
}

func (u use) pss() (sum float64) {
	for _, p := range u.byName {
		sum += p.pss
	}
	return sum
}

func (n *node) use() (use, error) {
	u := use{byName: map[string]processUse{}}
	var err error
	if u.cpu, err = n.cpu(); err != nil {
		return use{}, err
	}
	pids, err := os.ReadFile(filepath.Join(n.cgroup, "cgroup.procs"))
	if err != nil {
		return use{}, err
	}
	for pid := range strings.FieldsSeq(string(pids)) {
		name, p, err := readProcess(filepath.Join("/proc", pid))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // it has ended meanwhile
		}
		if err != nil {
			return use{}, err
		}
		sum := u.byName[name]
		u.byName[name] = processUse{sum.count + 1, sum.cpu + p.cpu, sum.rss + p.rss, sum.pss + p.pss}
	}
	return u, nil
}

// cpu is the time of all that ever ran in the node's cgroup, the short-lived included.
func (n *node) cpu() (time.Duration, error) {
	if text, err := os.ReadFile(filepath.Join(n.cgroup, "cpuacct.usage")); err == nil {
		ns, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
		return time.Duration(ns), err
	}
	fields, err := keyed(filepath.Join(n.cgroup, "cpu.stat"))
	return time.Duration(fields["usage_usec"]) * time.Microsecond, err
}

func readProcess(dir string) (name string, p processUse, err error) {
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return "", p, err
	}
	open, end := strings.IndexByte(string(stat), '('), strings.LastIndexByte(string(stat), ')')
	fields := strings.Fields(string(stat)[end+1:])
	for _, ticks := range fields[11:13] { // user and system, in 1/100 s
		n, err := strconv.ParseInt(ticks, 10, 64)
		if err != nil {
			return "", p, fmt.Errorf("%s/stat: %w", dir, err)
		}
		p.cpu += time.Duration(n) * 10 * time.Millisecond
	}
	sizes, err := keyed(filepath.Join(dir, "smaps_rollup"))
	p.rss, p.pss = float64(sizes["Rss:"])*1024, float64(sizes["Pss:"])*1024
	return string(stat)[open+1 : end], p, err
}

// keyed reads the lines "key number" of a file, and leaves out others.
func keyed(path string) (map[string]int64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	values := map[string]int64{}
	for line := range strings.Lines(string(text)) {
		if words := strings.Fields(line); len(words) > 1 {
			if n, err := strconv.ParseInt(words[1], 10, 64); err == nil {
				values[words[0]] = n
			}
		}
	}
	return values, nil
}

// between says what was used from first to last, by name. The rest is of processes
// that began and ended meanwhile, and of rounding.
func between(first, last use, length time.Duration, contestant string, pods int) []process {
	var processes []process
	rest := last.cpu - first.cpu
	for _, name := range slices.Sorted(maps.Keys(last.byName)) {
		p := last.byName[name]
		took := p.cpu - first.byName[name].cpu
		rest -= took
		processes = append(processes, process{contestant, pods, name, p.count, took.Seconds() / length.Minutes(), p.rss / 1e6, p.pss / 1e6})
	}
	return append(processes, process{Contestant: contestant, Pods: pods, Name: "rest", CPUPerMinute: max(0, rest.Seconds()) / length.Minutes()})
}
