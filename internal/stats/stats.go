package stats

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mascri/mascri/internal/pod"
)

const (
	// A rate over less is noise: the kernel accounts in ticks.
	rateOver = time.Second
	// The files of what nobody asked about for so long are closed,
	closeAfter = time.Minute
	// and all of it is forgotten after
	forgetAfter = 10 * time.Minute
)

// Options are where the kernel is looked at.
type Options struct {
	Proc    string // /proc
	Cgroups string // /sys/fs/cgroup
	Logger  *slog.Logger
}

// Stats is safe for concurrent use.
type Stats struct {
	opts    Options
	unified bool         // cgroup v2
	due     chan string  // ids of containers whose layer is to be measured
	readers sync.Pool    // of *reader
	files   atomic.Int64 // how many more may be kept open

	mu    sync.Mutex // guards all following fields
	known map[string]*known
}

// known is what is remembered of a container, or of a pod under its sandbox's id.
type known struct {
	asked time.Time
	group *group
	rate  rate
	layer layer
}

// New returns the statistics of this node. Run measures layers.
func New(opts Options) *Stats {
	s := &Stats{
		opts: opts, unified: isUnified(opts.Cgroups), due: make(chan string, layersDue),
		readers: sync.Pool{New: func() any { return new(reader) }}, known: map[string]*known{},
	}
	s.files.Store(keepMost())
	return s
}

// Container returns what c uses. It never fails: what can't be read is left out.
func (s *Stats) Container(c pod.Container) pod.ContainerUsage {
	var usage pod.ContainerUsage
	if c.Running {
		usage.Usage = s.read(c.ID, func() (*group, error) { return s.container(c.PID, c.ID) })
	} else {
		s.remember(c.ID, nil)
	}
	usage.Layer = s.layer(c.ID)
	return usage
}

// Pod returns what sandbox, which has attachment a (nil: none), and all of its containers
// use together. It never fails: what can't be read is left out.
func (s *Stats) Pod(sandbox pod.Sandbox, a *pod.Attachment, containers []pod.Container) pod.SandboxUsage {
	var usage pod.SandboxUsage
	if sandbox.Config.GetLinux().GetCgroupParent() != "" {
		usage.Usage, usage.Processes = s.parent(sandbox, containers)
	} else {
		usage.Usage, usage.Processes = s.sum(sandbox, containers)
	}
	usage.Network = s.Network(a)
	return usage
}

// Network returns the traffic of attachment a; nil for none, and where it can't be read.
func (s *Stats) Network(a *pod.Attachment) *pod.NetworkUsage {
	if a == nil || a.NetnsPath == "" {
		return nil
	}
	usage, err := networkUsage(a.NetnsPath)
	if err != nil {
		s.opts.Logger.Debug("the network's counters could not be read", "sandbox", a.SandboxID, "error", err)
		return nil
	}
	return usage
}

// parent reads the cgroup that the kubelet made for the pod: it counts what ended, too.
func (s *Stats) parent(sandbox pod.Sandbox, containers []pod.Container) (usage *pod.Usage, processes uint64) {
	find := func() (*group, error) {
		if sandbox.Running {
			g, err := s.container(sandbox.PID, sandbox.ID)
			return g.parent(), err
		}
		for _, c := range containers {
			if c.Running {
				g, err := s.container(c.PID, c.ID)
				return g.parent(), err
			}
		}
		return nil, fmt.Errorf("no process runs in sandbox %s", sandbox.ID)
	}
	usage = s.read(sandbox.ID, find)
	if g := s.remembered(sandbox.ID); usage != nil && g != nil {
		processes = g.processes()
	}
	return usage, processes
}

// sum adds up, for a sandbox that has no cgroup of its pod's own.
func (s *Stats) sum(sandbox pod.Sandbox, containers []pod.Container) (usage *pod.Usage, processes uint64) {
	type member struct {
		id  string
		pid int
	}
	var members []member
	if sandbox.Running {
		members = append(members, member{sandbox.ID, sandbox.PID})
	}
	for _, c := range containers {
		if c.Running {
			members = append(members, member{c.ID, c.PID})
		}
	}
	for _, m := range members {
		g, err := s.container(m.pid, m.id)
		if err != nil {
			continue
		}
		part, err := s.readGroup(g)
		if err != nil {
			continue
		}
		usage = add(usage, part)
		processes += g.processes()
	}
	if usage != nil {
		s.setRate(sandbox.ID, usage)
	}
	return usage, processes
}

// read reads the cgroup that is remembered under id, or else the one that find finds.
func (s *Stats) read(id string, find func() (*group, error)) *pod.Usage {
	if g := s.remembered(id); g != nil {
		if usage, err := s.readGroup(g); err == nil {
			s.setRate(id, usage)
			return usage
		}
		s.remember(id, nil) // it is gone
	}
	usage, err := s.readFound(id, find)
	if err == nil {
		return usage
	}
	s.opts.Logger.Debug("a cgroup could not be read", "container", id, "error", err)
	return nil
}

func (s *Stats) readFound(id string, find func() (*group, error)) (*pod.Usage, error) {
	g, err := find()
	if err != nil {
		return nil, err
	}
	usage, err := s.readGroup(g)
	if err != nil {
		return nil, err
	}
	s.remember(id, g)
	s.setRate(id, usage)
	return usage, nil
}

func (s *Stats) readGroup(g *group) (*pod.Usage, error) {
	r, _ := s.readers.Get().(*reader)
	defer s.readers.Put(r)
	return g.read(r)
}

// about returns what is known of id; s.mu must be held.
func (s *Stats) about(id string) *known {
	k := s.known[id]
	if k == nil {
		k = &known{}
		s.known[id] = k
	}
	k.asked = time.Now()
	return k
}

func (s *Stats) remembered(id string) *group {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.about(id).group
}

// remember takes g, nil for none, for the cgroup of id from now on, and keeps its files open.
func (s *Stats) remember(id string, g *group) {
	if g != nil {
		g.kept.keep(&s.files)
	}
	s.mu.Lock()
	k := s.about(id)
	before := k.group
	k.group = g
	if g != nil && g.upperDir != "" {
		if k.layer.dir != g.upperDir {
			k.layer.dir, k.layer.root = g.upperDir, ""
		}
	}
	s.mu.Unlock()
	if before != nil {
		before.kept.close()
	}
}

func (s *Stats) setRate(id string, usage *pod.Usage) {
	if usage.CPU == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	usage.CPU.Rate = s.about(id).rate.next(usage.At, usage.CPU.Total)
}

// Run measures the layers of containers that were asked about, until ctx ends.
func (s *Stats) Run(ctx context.Context) error {
	tick := time.NewTicker(closeAfter)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			s.forget()
		case id := <-s.due:
			rest := s.measure(ctx, id)
			select {
			case <-ctx.Done():
			case <-time.After(rest):
			}
		}
	}
}

// forget closes and forgets what nobody asked about for long.
func (s *Stats) forget() {
	s.mu.Lock()
	var unasked []*group
	for id, k := range s.known {
		since := time.Since(k.asked)
		if since > closeAfter && k.group != nil {
			unasked = append(unasked, k.group)
			k.group = nil
		}
		if since > forgetAfter {
			delete(s.known, id)
		}
	}
	s.mu.Unlock()
	for _, g := range unasked {
		g.kept.close()
	}
}

// rate is how fast a counter of time grows.
type rate struct {
	at    time.Time // of the older of two samples; zero: there was none
	total time.Duration
	value *uint64
}

// next takes a sample and returns the rate up to it, or up to an earlier one where that
// was just before. Clients that ask at their own intervals don't spoil each other's.
func (r *rate) next(at time.Time, total time.Duration) *uint64 {
	passed := at.Sub(r.at)
	switch {
	case r.at.IsZero() || total < r.total: // it is another cgroup now
		*r = rate{at: at, total: total}
	case passed >= rateOver:
		value := uint64(float64(total-r.total) / passed.Seconds())
		*r = rate{at: at, total: total, value: &value}
	}
	return r.value
}
