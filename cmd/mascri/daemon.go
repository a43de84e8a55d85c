package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/net/netutil"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/mascri/mascri/internal/cgroup"
	"github.com/mascri/mascri/internal/config"
	"github.com/mascri/mascri/internal/cri"
	"github.com/mascri/mascri/internal/engine"
	"github.com/mascri/mascri/internal/health"
	"github.com/mascri/mascri/internal/index"
	"github.com/mascri/mascri/internal/logs"
	"github.com/mascri/mascri/internal/metrics"
	"github.com/mascri/mascri/internal/network"
	"github.com/mascri/mascri/internal/pod"
	"github.com/mascri/mascri/internal/sandboximage"
	"github.com/mascri/mascri/internal/stats"
	"github.com/mascri/mascri/internal/stream"
	"github.com/mascri/mascri/internal/tracing"
)

const (
	// How long an orderly end waits for RPCs under way before it cuts them off; what
	// they leave unfinished is put right at the next start.
	drainLimit = 20 * time.Second
	// How long the other parts may then take: a CNI DEL that hangs would need a minute.
	partsLimit = 5 * time.Second
)

// A daemon is all parts wired together.
type daemon struct {
	log      *slog.Logger
	instance string
	network  *network.Network
	health   *health.Monitor
	engine   *engine.Engine
	index    *index.Index
	logs     *logs.Follower
	stats    *stats.Stats
	streams  *stream.Server
	metrics  *metrics.Server
	tracing  *tracing.Tracing // nil: there is none
	cri      *cri.Server
}

// newDaemon wires the parts and starts nothing.
func newDaemon(cfg config.Config, log *slog.Logger) (*daemon, error) {
	instance, err := instanceID(cfg.StateDir)
	if err != nil {
		return nil, err
	}
	counted := metrics.New(version, thisBuild().Commit)
	eng, err := engine.New(engine.Options{Host: cfg.Engine.Host, Instance: instance, SharedShims: cfg.Engine.SharedShims, ExecsDir: filepath.Join(cfg.StateDir, "execs"), Logger: log, Observe: counted.EngineCall})
	if err != nil {
		return nil, err
	}
	d := &daemon{log: log, instance: instance, engine: eng, metrics: metrics.NewServer(counted, cfg.Metrics.Address, cfg.Metrics.Pprof, log)}
	if d.tracing, err = newTracing(cfg.Tracing, instance, log); err != nil {
		return nil, err
	}
	steps := crashSteps(log)
	if d.network, err = newNetwork(cfg, instance, eng, steps, counted, log); err != nil {
		return nil, err
	}
	d.health = health.New(eng, log)
	d.logs = logs.New(logs.Options{StateDir: filepath.Join(cfg.StateDir, "logs"), Logger: log, Step: steps})
	d.index = index.New(index.Options{Source: complete{eng, d.logs, log}, Logger: log, Changed: func(id string) { d.cri.Changed(id) }, Connected: d.connected})
	d.stats = stats.New(stats.Options{Proc: "/proc", Cgroups: "/sys/fs/cgroup", Logger: log})
	d.streams, err = newStreams(cfg.Streaming, eng, func(id string) (string, error) { return d.cri.Netns(id) }, counted, log)
	if err != nil {
		return nil, err
	}
	ref, archive := sandboxImage(cfg)
	floor, _ := engine.OOMFloor()
	cgroups := cgroup.New(floor)
	d.cri = cri.New(cri.Options{
		Engine: eng, Containers: eng, Execs: eng, Streams: d.streams, Images: eng, Limits: cgroups, Births: cgroups, Logs: d.logs, Usage: d.stats,
		Network: d.network, Index: d.index, Health: d.health, Logger: log, Version: version,
		FilesDir: filepath.Join(cfg.StateDir, "sandboxes"), UpdatesDir: filepath.Join(cfg.StateDir, "updates"), Instance: instance, SandboxImage: ref, ImageArchive: archive, Config: cfg, Step: steps,
		Ended: counted.RPC, Served: func() any { return d.metrics.Serving() },
	})
	counted.Watch(d.state)
	return d, nil
}

// sandboxImage is the embedded image, or one of the user's own, which is never loaded
// or pulled.
func sandboxImage(cfg config.Config) (ref string, archive func() (io.ReadCloser, error)) {
	if cfg.SandboxImage != "" {
		return cfg.SandboxImage, nil
	}
	return sandboximage.Ref(), sandboximage.Archive
}

// connected follows each (re)start of the engine's event stream: it may be another
// engine now, one that has just written its firewall rules anew.
func (d *daemon) connected(ctx context.Context) {
	d.health.Stale()
	d.network.Reassert(ctx)
	if err := d.engine.RemoveProbes(ctx); err != nil {
		d.log.Warn("containers that never ran could not be removed; it is tried again", "error", err)
	}
}

// watchOOMKills does without the kernel's log where it can't be read.
func (d *daemon) watchOOMKills(ctx context.Context) error {
	if err := d.engine.WatchOOMKills(ctx); ctx.Err() == nil {
		d.log.Warn("a container killed for want of memory may be told as one that failed, where Docker misses it", "error", err)
	}
	return nil
}

// drainPatience is how long the end of a container may be kept from being seen until its
// log file is complete, which takes long only on a disk that is full or broken.
const drainPatience = 5 * time.Second

// complete shows a container as ended once its log file is complete.
type complete struct {
	*engine.Engine
	logs *logs.Follower
	log  *slog.Logger
}

// Look implements index.Source.
func (c complete) Look(ctx context.Context, id string) (pod.Item, error) {
	item, err := c.Engine.Look(ctx, id)
	// One that never started is not at its end: its log is followed from before the start on.
	if ended := item.Container; err == nil && ended != nil && !ended.Running && !ended.StartedAt.IsZero() && ended.LogPath != "" {
		ctx, cancel := context.WithTimeout(ctx, drainPatience)
		defer cancel()
		if err := c.logs.Drain(ctx, id); err != nil {
			c.log.Error("a container ended, and its log file is not complete yet", "container", id, "error", err)
		}
	}
	return item, err
}

// run serves on listener, which is at the path socket, until ctx ends and the RPCs under
// way are through. It returns nil after an orderly end.
func (d *daemon) run(ctx context.Context, listener net.Listener, socket string) error {
	options := bounds(d.cri.Admit)
	options = append(options, grpc.UnaryInterceptor(d.cri.Unary), grpc.StreamInterceptor(d.cri.Stream))
	if d.tracing != nil {
		options = append(options, grpc.StatsHandler(d.tracing.Handler()))
		defer d.endTracing()
	}
	server := grpc.NewServer(options...)
	d.cri.Register(server)

	// The parts outlive ctx, as the RPCs under way need them.
	parts, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	group, parts := errgroup.WithContext(parts)
	for _, part := range []func(context.Context) error{d.health.Run, d.index.Run, d.engine.EndOrphans, d.network.Run, d.logs.Run, d.stats.Run, d.streams.Run, d.metrics.Run, d.cri.Run, d.watchOOMKills} {
		group.Go(func() error { return part(parts) })
	}
	group.Go(func() error { return server.Serve(netutil.LimitListener(listener, connections())) })
	// It goes without where systemd can't be told: the pods must run all the same.
	group.Go(func() error {
		if err := d.tellSystemd(parts, socket); err != nil && parts.Err() == nil {
			d.log.Warn("systemd is not told how the daemon fares", "error", err)
		}
		return nil
	})
	select {
	case <-ctx.Done():
		_, _ = sd.SdNotify(false, sd.SdNotifyStopping)
		d.log.Info("draining", "limit", drainLimit)
		d.cri.EndStreams()
		drain(server, drainLimit)
	case <-parts.Done():
		server.Stop()
	}
	stop()
	ended := make(chan error, 1)
	go func() { ended <- group.Wait() }()
	select {
	case err := <-ended:
		if errors.Is(err, context.Canceled) || errors.Is(err, grpc.ErrServerStopped) {
			return nil
		}
		return err
	case <-time.After(partsLimit):
		d.log.Warn("ending in the middle of a repair; the next start goes on with it")
		return nil
	}
}

// drain lets the RPCs under way finish within limit, and then leaves them to
// themselves: GracefulStop waits for their handlers even after Stop.
func drain(server *grpc.Server, limit time.Duration) {
	drained := make(chan struct{})
	go func() { server.GracefulStop(); close(drained) }()
	select {
	case <-drained:
	case <-time.After(limit):
		server.Stop()
	}
}
