package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mascri/mascri/internal/sandboximage"
)

// soakSamples is how often a soak looks, evenly spread over its cycles.
const soakSamples = 20

// soaked is what was there after so many whole lives of pods, with none running.
type soaked struct {
	Cycles  int            `json:"cycles"`
	Seconds float64        `json:"seconds"` // since the first
	Daemons []soakedDaemon `json:"daemons"`
	// State is MasCRI's state directory, Logs its pods' logs, CNI the plugins' state.
	State soakedDisk `json:"state"`
	CNI   soakedDisk `json:"cni"`
	Pins  int        `json:"pins"`  // of network namespaces
	Links int        `json:"links"` // of the node's network
	Rules int        `json:"rules"` // of iptables, all tables
}

type soakedDaemon struct {
	Name    string  `json:"name"`
	Files   int     `json:"files"` // open
	Threads int     `json:"threads"`
	RSS     float64 `json:"rssMB"`
}

type soakedDisk struct {
	Files int   `json:"files"`
	Bytes int64 `json:"bytes"`
}

// soak takes pods through their whole lives, atOnce at a time, and writes what is left
// after each part of them to soak.json and soak.md. It fails where something is: a pod
// that is gone has to leave nothing.
func soak(ctx context.Context, o options) error {
	place, err := newPlace()
	if err != nil {
		return err
	}
	defer place.clear()
	contestants, err := place.contestants(ctx, []string{subject})
	if err != nil {
		return err
	}
	c := contestants[slices.IndexFunc(contestants, func(c contestant) bool { return c.pods != nil })]
	result := soakResult{Machine: describe(place.repo)}
	began := time.Now()
	for i := range soakSamples + 1 {
		cycles := o.soak * i / soakSamples
		if err := c.live(ctx, o.soak*max(0, i-1)/soakSamples, cycles); err != nil {
			return fmt.Errorf("%w\n%s", err, tail(c.pods.daemon.log()))
		}
		s, err := c.pods.daemon.node.soaked()
		if err != nil {
			return err
		}
		s.Cycles, s.Seconds = cycles, time.Since(began).Seconds()
		result.Samples = append(result.Samples, s)
		fmt.Fprintf(os.Stderr, "%d of %d pods lived, load %s\n", cycles, o.soak, loadAverage())
	}
	result.Machine.LoadAfter = loadAverage()
	return errors.Join(result.write(o.out), result.left())
}

// live takes the pods from first on, up to end, through their lives.
func (c contestant) live(ctx context.Context, first, end int) error {
	group, lives := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for i := first; i < end; i++ {
		group.Go(func() error { return cycle(lives, c, "soak-"+strconv.Itoa(i)) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return sleep(ctx, settle) // for what is done after the answers
}

func (n *node) soaked() (s soaked, err error) {
	pids, err := os.ReadFile(filepath.Join(n.cgroup, "cgroup.procs"))
	if err != nil {
		return s, err
	}
	for pid := range strings.FieldsSeq(string(pids)) {
		daemon, err := readDaemon(filepath.Join("/proc", pid))
		if err != nil {
			return s, err
		}
		s.Daemons = append(s.Daemons, daemon)
	}
	slices.SortFunc(s.Daemons, func(a, b soakedDaemon) int { return strings.Compare(a.Name, b.Name) })
	var errs [2]error
	s.State, errs[0] = disk(n.file("state"))
	s.CNI, errs[1] = disk(n.file("cni"))
	if err := errors.Join(errs[:]...); err != nil {
		return s, err
	}
	for script, count := range map[string]*int{
		"find /run/netns -type f": &s.Pins, "ip -o link": &s.Links, "iptables-save; ip6tables-save": &s.Rules,
	} {
		out, err := n.command("sh", "-c", script).Output()
		if err != nil {
			return s, fmt.Errorf("%s: %w", script, err)
		}
		for line := range bytes.Lines(out) {
			if line[0] != '#' { // iptables-save's comments
				*count++
			}
		}
	}
	return s, nil
}

func readDaemon(dir string) (soakedDaemon, error) {
	name, p, err := readProcess(dir)
	if err != nil {
		return soakedDaemon{}, err
	}
	files, err := os.ReadDir(filepath.Join(dir, "fd"))
	if err != nil {
		return soakedDaemon{}, err
	}
	status, err := keyed(filepath.Join(dir, "status"))
	return soakedDaemon{Name: name, Files: len(files), Threads: int(status["Threads:"]), RSS: p.rss / 1e6}, err
}

func disk(dir string) (d soakedDisk, err error) {
	err = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		about, err := entry.Info()
		if err == nil {
			d.Files++
			d.Bytes += about.Size()
		}
		return err
	})
	return d, err
}

type soakResult struct {
	Machine machine  `json:"machine"`
	Samples []soaked `json:"samples"`
}

// left fails where pods that are gone have left something that can be counted exactly.
func (r *soakResult) left() error {
	first, last := r.Samples[0], r.Samples[len(r.Samples)-1]
	var errs []error
	for _, what := range []struct {
		name        string
		first, last int
	}{
		{"network namespaces", first.Pins, last.Pins}, {"links", first.Links, last.Links}, {"iptables rules", first.Rules, last.Rules},
		{"files of the CNI plugins", first.CNI.Files, last.CNI.Files}, {"files of MasCRI's state", first.State.Files, last.State.Files},
	} {
		if what.last > what.first {
			errs = append(errs, fmt.Errorf("%s: %d at first, and %d after %d pods", what.name, what.first, what.last, last.Cycles))
		}
	}
	return errors.Join(errs...)
}

func (r *soakResult) write(dir string) error {
	raw, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	var text bytes.Buffer
	last := r.Samples[len(r.Samples)-1]
	fmt.Fprintf(&text, "# %d pods, one after another\n\nWritten by `make soak`. %s\n\n"+
		"MasCRI on engine 28 with `examples/10-bridge.conf`; %d pods at a time are started with a container, a command is run in it, and all is\n"+
		"stopped and removed. Each row is of a moment with no pod, %v after the last one went. The containers' images are %s and\n"+
		"one with a shell. Disk is MasCRI's state directory and the CNI plugins'; rules are lines of iptables-save and ip6tables-save.\n"+
		"What dockerd grows by are the commands, which it forgets five to ten minutes later: see [profile.md](profile.md#memory).\n\n",
		last.Cycles, r.Machine, atOnce, settle, sandboximage.Ref())
	head, rule := "| pods | s | netns | links | rules | state files | KB | CNI files |", "|--:|--:|--:|--:|--:|--:|--:|--:|"
	for _, d := range last.Daemons {
		head += fmt.Sprintf(" %s fds | threads | RSS MB |", d.Name)
		rule += "--:|--:|--:|"
	}
	fmt.Fprintf(&text, "%s\n%s\n", head, rule)
	for _, s := range r.Samples {
		fmt.Fprintf(&text, "| %d | %.0f | %d | %d | %d | %d | %.0f | %d |", s.Cycles, s.Seconds, s.Pins, s.Links, s.Rules, s.State.Files, float64(s.State.Bytes)/1e3, s.CNI.Files)
		for _, d := range s.Daemons {
			fmt.Fprintf(&text, " %d | %d | %.1f |", d.Files, d.Threads, d.RSS)
		}
		fmt.Fprintln(&text)
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "soak.json"), append(raw, '\n'), 0o644),
		os.WriteFile(filepath.Join(dir, "soak.md"), text.Bytes(), 0o644))
}
