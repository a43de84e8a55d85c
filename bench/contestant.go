package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/sandboximage"
)

// contestant is what makes, stops and removes one thing after another.
type contestant struct {
	about
	lane
	pods *pods // nil where it is but a part of a pod
}

// whole are the contestants that run whole pods.
func whole(contestants []contestant) []contestant {
	return slices.DeleteFunc(slices.Clone(contestants), func(c contestant) bool { return c.pods == nil })
}

// own are those of them that this program started, so that it knows their processes.
func own(contestants []contestant) []contestant {
	return slices.DeleteFunc(whole(contestants), func(c contestant) bool { return c.pods.daemon == nil })
}

// about is how a contestant appears in the results.
type about struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	// Pods: it runs whole pods. Else it is a part of that, for scale.
	Pods bool `json:"pods"`
	// NotMeasured are the measures that can't be had of it.
	NotMeasured []string `json:"notMeasured,omitempty"`
}

// The contestant that the others are compared with, and the one that `ratios` is about.
const (
	reference = "containerd-2"
	subject   = "mascri-28"
)

// starter starts a contestant, and perhaps a part of it as a second one.
type starter struct {
	name  string
	start func(context.Context, *node) ([]contestant, error)
}

func (p *place) starters(conf []byte) []starter {
	return []starter{
		{reference, func(ctx context.Context, n *node) ([]contestant, error) {
			return p.containerd(ctx, n, filepath.Join(p.repo, engine28), containerd2, conf)
		}},
		{subject, func(ctx context.Context, n *node) ([]contestant, error) {
			return p.mascri(ctx, n, filepath.Join(p.repo, engine28), conf)
		}},
		{"mascri-20", func(ctx context.Context, n *node) ([]contestant, error) {
			return p.mascri(ctx, n, debian, conf)
		}},
		{"mascri-28-default", func(ctx context.Context, n *node) ([]contestant, error) {
			return p.mascri(ctx, n, filepath.Join(p.repo, engine28), nil)
		}},
		{"containerd-2-crun", func(ctx context.Context, n *node) ([]contestant, error) {
			if err := n.useCrun(p.repo); err != nil {
				return nil, err
			}
			return p.containerd(ctx, n, filepath.Join(p.repo, engine28), containerd2, conf)
		}},
		{"mascri-28-crun", func(ctx context.Context, n *node) ([]contestant, error) {
			if err := n.useCrun(p.repo); err != nil {
				return nil, err
			}
			return p.mascri(ctx, n, filepath.Join(p.repo, engine28), conf)
		}},
		{"containerd-1", func(ctx context.Context, n *node) ([]contestant, error) {
			return p.containerd(ctx, n, debian, containerd1, conf)
		}},
		{"plugins", p.plugins},
	}
}

// contestants starts those that are named and shows that each can run a pod.
func (p *place) contestants(ctx context.Context, names []string) ([]contestant, error) {
	conf, err := os.ReadFile("examples/10-bridge.conf")
	if err != nil {
		return nil, err
	}
	all := p.starters(conf)
	for _, name := range names {
		if !slices.ContainsFunc(all, func(s starter) bool { return s.name == name }) {
			return nil, fmt.Errorf("-contestants: there is no %q", name)
		}
	}
	var contestants []contestant
	for _, c := range all {
		if !slices.Contains(names, c.name) {
			continue
		}
		fmt.Fprintf(os.Stderr, "starting %s\n", c.name)
		n, err := p.node(c.name)
		if err != nil {
			return nil, err
		}
		started, err := c.start(ctx, n)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
		contestants = append(contestants, started...)
	}
	return contestants, nil
}

// confDir makes the node's directory of CNI configs; conf may be nil.
func (n *node) confDir(conf []byte) (string, error) {
	dir, err := n.mkdir("net.d")
	if err != nil || conf == nil {
		return dir, err
	}
	return dir, os.WriteFile(filepath.Join(dir, "10-bridge.conf"), conf, 0o644)
}

// mascri starts a MasCRI on an engine; the engine alone is a second contestant where
// conf is not nil.
func (p *place) mascri(ctx context.Context, n *node, engine string, conf []byte) ([]contestant, error) {
	confDir, err := n.confDir(conf)
	if err != nil {
		return nil, err
	}
	bare, err := p.docker(ctx, n, engine)
	if err != nil {
		return nil, err
	}
	if err := n.copy(filepath.Join(p.repo, "bin/mascri"), "mascri/mascri"); err != nil {
		return nil, err
	}
	socket := n.file("mascri.sock")
	daemon, err := n.daemon(ctx, socket, nil, n.file("mascri/mascri"), "serve",
		"--socket", socket, "--state-dir", n.file("state"), "--engine-host", "unix://"+bare.socket,
		"--cni-conf-dir", confDir, "--cni-bin-dir", filepath.Join(p.repo, "bin/cni"))
	if err != nil {
		return nil, err
	}
	pods, err := p.pods(ctx, daemon)
	if err != nil {
		return nil, err
	}
	version, err := bare.version(ctx)
	if err != nil {
		return nil, err
	}
	name := filepath.Base(n.dir)
	if conf == nil {
		return []contestant{{about{Name: name, Title: "MasCRI, engine " + version + ", its default network", Pods: true}, pods, pods}}, nil
	}
	of := version + n.withRuntime()
	return []contestant{
		{about{Name: name, Title: "MasCRI, engine " + of, Pods: true}, pods, pods},
		{about{Name: "docker-" + strings.ReplaceAll(of, ", ", "-"), Title: "docker create + start (--net=none), engine " + of}, bare, nil},
	}, nil
}

// containerd starts a containerd whose pods are made by its own CRI plugin.
func (p *place) containerd(ctx context.Context, n *node, engine string, config func(containerdPaths) string, conf []byte) ([]contestant, error) {
	confDir, err := n.confDir(conf)
	if err != nil {
		return nil, err
	}
	if engine, err = n.engine(engine); err != nil {
		return nil, err
	}
	socket := n.file("cri.sock")
	text := config(containerdPaths{socket: socket, dir: n.dir, confDir: confDir, binDir: filepath.Join(p.repo, "bin/cni"), image: sandboximage.Ref(), runtime: n.runtime})
	if err := os.WriteFile(n.file("config.toml"), []byte(text), 0o600); err != nil {
		return nil, err
	}
	bin := filepath.Join(engine, "bin")
	daemon, err := n.daemon(ctx, socket, []string{enginePath(engine)}, filepath.Join(bin, "containerd"), "--config", n.file("config.toml"))
	if err != nil {
		return nil, err
	}
	if err := writeSandboxImage(n.file("image.tar")); err != nil {
		return nil, err
	}
	for _, archive := range []string{n.file("image.tar"), p.shell} {
		if err := n.run(filepath.Join(bin, "ctr"), "-a", socket, "-n", "k8s.io", "images", "import", archive); err != nil {
			return nil, err
		}
	}
	pods, err := p.pods(ctx, daemon)
	if err != nil {
		return nil, err
	}
	version, err := pods.client.Version(ctx, &cri.VersionRequest{})
	if err != nil {
		return nil, err
	}
	return []contestant{{about{Name: filepath.Base(n.dir), Title: "containerd " + plain(version.GetRuntimeVersion()) + n.withRuntime(), Pods: true}, pods, pods}}, nil
}

// plain is a version without what a distribution adds to it.
func plain(version string) string {
	if i := strings.IndexAny(version, "+~"); i >= 0 {
		return version[:i]
	}
	return version
}
