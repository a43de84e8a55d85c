// Package health keeps what is known of the engine's health in memory, so that
// the Status RPC answers at once, also while the engine hangs.
package health

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/mascri/mascri/internal/pod"
)

// Engine is what is asked of the engine.
type Engine interface {
	Ping(ctx context.Context) error
	PingContainerd(ctx context.Context) error
	Facts(ctx context.Context) (pod.EngineFacts, error)
}

// An engine that hangs is known after every and limit at the latest: in less than 5 s.
const (
	every = time.Second     // between two pings
	limit = 3 * time.Second // an engine that takes longer counts as gone
	// containerdEvery is how long nothing may be known of the engine's containerd while all is
	// well: to ask for it costs some 6 ms of CPU.
	containerdEvery = 10 * time.Second
	// Facts change only when the engine restarts, which a ping can miss.
	factsEvery = time.Minute
	// factsLimit is how long one that is busy may take to count what it has.
	factsLimit = 30 * time.Second
)

// Monitor is safe for concurrent use.
type Monitor struct {
	engine Engine
	log    *slog.Logger
	deep   time.Time // when the engine's containerd was asked; Run's alone

	mu    sync.Mutex // guards all following fields
	facts pod.EngineFacts
	err   error
	read  time.Time // when facts were read; zero: must be read again
	// reading is whether they are being read, stale whether that began too early.
	reading, stale bool
	rereads        sync.WaitGroup // of Run
}

// New returns a monitor that knows nothing yet. Run makes it look.
func New(engine Engine, log *slog.Logger) *Monitor {
	return &Monitor{engine: engine, log: log, err: fmt.Errorf("the engine has not answered yet: %w", errdefs.ErrUnavailable)}
}

// Facts returns the engine's facts as last read. The error says why the engine can't
// be used now; the facts are then the last ones known, or zero.
func (m *Monitor) Facts() (pod.EngineFacts, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.facts, m.err
}

// Stale makes the next look read the facts again: the engine may be another one now.
func (m *Monitor) Stale() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.read, m.stale = time.Time{}, m.reading
}

// Run looks after the engine until ctx ends.
func (m *Monitor) Run(ctx context.Context) error {
	defer m.rereads.Wait()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		m.look(ctx)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// look pings the engine. One that was gone counts as back only with its facts; else they
// are read beside the pings, which must not wait for that.
func (m *Monitor) look(run context.Context) {
	ctx, cancel := context.WithTimeout(run, limit)
	defer cancel()
	m.mu.Lock()
	gone := m.err != nil
	m.mu.Unlock()
	err := m.engine.Ping(ctx)
	if err == nil && (gone || time.Since(m.deep) >= containerdEvery) {
		m.deep = time.Now()
		err = m.engine.PingContainerd(ctx)
	}
	var facts pod.EngineFacts
	if err == nil && gone {
		facts, err = m.engine.Facts(ctx)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
	switch {
	case err != nil && !gone:
		m.log.Warn("engine does not answer", "error", err)
	case err == nil && gone:
		m.facts, m.read = facts, time.Now()
		m.log.Info("engine answers", "version", facts.Version, "api", facts.APIVersion)
	case err == nil && !m.reading && time.Since(m.read) > factsEvery:
		m.reading = true
		m.rereads.Go(func() { m.reread(run) })
	}
}

// reread reads the facts of an engine that answers pings. A busy one may take long to count
// what it has; what is known of it holds until the next try.
func (m *Monitor) reread(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, factsLimit)
	defer cancel()
	facts, err := m.engine.Facts(ctx)
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case err != nil:
		m.log.Debug("reading the engine's facts failed; it is tried again", "error", err)
	case !m.stale: // else the next look reads them anew
		m.facts, m.read = facts, time.Now()
	}
	m.reading, m.stale = false, false
}
