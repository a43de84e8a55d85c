package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containernetworking/cni/libcni"
	"golang.org/x/sys/unix"

	"github.com/mascri/mascri/internal/pod"
)

// snapshot is what the last look at the configuration directory gave. It is never
// changed.
type snapshot struct {
	order  uint64   // of looks, so that a slow one never hides a later one
	mark   string   // fingerprint of the directory, taken before it was read
	chosen *network // nil: none
	notice string   // why chosen is not what the directory says now; "" when it is
	none   error    // why there is none
	passed []pod.PassedConfig
	found  []pod.Plugin
}

// candidate is a file of the configuration directory.
type candidate struct {
	file string
	net  *network // nil: invalid
	err  error
}

// fallbackTimeout bounds the wait for the embedded default network's configuration.
const fallbackTimeout = 5 * time.Second

// extensions are those of configuration files.
func extensions() []string { return []string{".conf", ".conflist", ".json"} }

// current returns the snapshot, looking again only if the directory changed since:
// a file that was written just before a pod is asked for counts for that pod,
// without a wait for the watcher.
func (n *Network) current(ctx context.Context) *snapshot {
	snap := n.snap.Load()
	if snap.chosen != nil && snap.mark == fingerprint(n.cfg.ConfigDir) {
		return snap
	}
	return n.look(ctx)
}

// look reads the configuration directory, and the embedded default network where
// it applies, and makes that the snapshot.
func (n *Network) look(ctx context.Context) *snapshot {
	order, mark := n.looks.Add(1), fingerprint(n.cfg.ConfigDir)
	candidates, dirErr := scan(n.cfg.ConfigDir)
	for {
		before := n.snap.Load()
		if before != nil && before.order > order {
			return before
		}
		after := &snapshot{order: order, mark: mark}
		if dirErr != nil {
			after.keep(before, dirErr)
		} else {
			after.choose(candidates, before)
		}
		if after.chosen == nil && after.none == nil {
			after.chosen, after.none = n.fallback(ctx, candidates)
		}
		after.found = findPlugins(after.chosen, n.cfg.BinDirs)
		if before != nil && after.chosen == nil && ctx.Err() != nil {
			return after // that one caller gave up waiting says nothing of the node
		}
		if n.snap.CompareAndSwap(before, after) {
			if after.chosen != nil && (before == nil || before.chosen == nil || !before.chosen.same(after.chosen)) {
				select {
				case n.chosen <- struct{}{}:
				default:
				}
			}
			n.logChange(before, after)
			return after
		}
	}
}

// keep goes on with what was chosen before a directory that can't be read, as when
// files can't be opened for a while: nobody knows that it holds nothing.
func (snap *snapshot) keep(before *snapshot, dirErr error) {
	if before == nil || before.chosen == nil {
		snap.none = fmt.Errorf("read network configurations: %w", dirErr)
		return
	}
	snap.chosen, snap.passed = before.chosen, before.passed
	snap.notice = fmt.Sprintf("as last read, as network configurations can't be read now: %v", dirErr)
}

// choose takes the first valid candidate. The one chosen before stays chosen while
// its file is damaged: an edit in progress must not move pods to another network.
func (snap *snapshot) choose(candidates []candidate, before *snapshot) {
	for _, c := range candidates {
		if c.err != nil {
			snap.passed = append(snap.passed, pod.PassedConfig{File: c.file, Reason: c.err.Error(), Invalid: true})
		}
		kept := c.err != nil && before != nil && before.chosen != nil && before.chosen.file == c.file
		switch {
		case snap.chosen == nil && c.net != nil:
			snap.chosen = c.net
		case snap.chosen == nil && kept:
			snap.chosen = before.chosen
			snap.notice = fmt.Sprintf("the last valid content is still used, as the file is invalid now: %v", c.err)
		case c.net != nil:
			snap.passed = append(snap.passed, pod.PassedConfig{File: c.file, Reason: filepath.Base(snap.chosen.file) + " comes first in lexical order"})
		}
	}
}

// scan reads every configuration file of dir, in lexical order.
func scan(dir string) ([]candidate, error) {
	files, err := libcni.ConfFiles(dir, extensions())
	if err != nil {
		return nil, err
	}
	slices.Sort(files)
	candidates := make([]candidate, 0, len(files))
	for _, file := range files {
		net, err := parseFile(file)
		candidates = append(candidates, candidate{file, net, err})
	}
	return candidates, nil
}

// fallback returns the embedded default network where it is on and no pod CIDR
// tells that a cluster's own network is to come; else the error says why there is
// no network at all, and what to do.
func (n *Network) fallback(ctx context.Context, candidates []candidate) (*network, error) {
	why := fmt.Errorf("no network configuration in %s", n.cfg.ConfigDir)
	if len(candidates) > 0 {
		why = fmt.Errorf("no valid network configuration in %s: %w", n.cfg.ConfigDir, candidates[0].err)
	}
	switch {
	case n.cfg.Default == nil || n.cfg.DefaultOff:
		return nil, fmt.Errorf("%w; put a valid one there, or turn the embedded default network on", why)
	case len(n.podCIDRs()) > 0:
		return nil, fmt.Errorf("%w; that of the cluster is awaited, as a pod CIDR was given", why)
	}
	ctx, cancel := context.WithTimeout(ctx, fallbackTimeout)
	defer cancel()
	data, err := n.cfg.Default.Conflist(ctx)
	if err == nil {
		var net *network
		if net, err = parseDefault(data); err == nil {
			return net, nil
		}
	}
	return nil, fmt.Errorf("%w; the embedded default network: %w", why, err)
}

// findPlugins looks for the plugins and IPAM delegates of net, without running any.
func findPlugins(net *network, dirs []string) []pod.Plugin {
	if net == nil {
		return nil
	}
	var found []pod.Plugin
	look := func(name string, ipam bool) {
		plugin := pod.Plugin{Type: name, IPAM: ipam}
		path, err := findPlugin(name, dirs)
		if err != nil {
			plugin.Err = err.Error()
		}
		plugin.Path = path
		found = append(found, plugin)
	}
	for _, plugin := range net.list.Plugins {
		look(plugin.Network.Type, false)
		if ipam := plugin.Network.IPAM.Type; ipam != "" {
			look(ipam, true)
		}
	}
	return found
}

// missing is the error that names every plugin that was not found; nil: none.
func missing(found []pod.Plugin) error {
	var problems []string
	for _, plugin := range found {
		if plugin.Err != "" {
			problems = append(problems, plugin.Err)
		}
	}
	if problems == nil {
		return nil
	}
	return errors.New(strings.Join(problems, "; "))
}

// fingerprint changes whenever a file that scan would read does. It reads none.
func fingerprint(dir string) string {
	var b strings.Builder
	add := func(path string) bool {
		var stat unix.Stat_t
		if err := unix.Stat(path, &stat); err != nil {
			return false
		}
		fmt.Fprintln(&b, path, stat.Ino, stat.Size, stat.Ctim.Sec, stat.Ctim.Nsec)
		return stat.Mode&unix.S_IFMT == unix.S_IFDIR
	}
	for _, path := range children(dir) {
		if add(path) {
			for _, path := range children(path) {
				add(path)
			}
		}
	}
	return b.String()
}

// children lists what is in dir: nothing where that can't be read.
func children(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	paths := make([]string, 0, len(entries))
	for _, entry := range entries {
		paths = append(paths, filepath.Join(dir, entry.Name()))
	}
	return paths
}
