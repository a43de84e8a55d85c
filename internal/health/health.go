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
	Facts(ctx context.Context) (pod.EngineFacts, error)
}

const (
	every = time.Second     // between two pings
	limit = 3 * time.Second // an engine that takes longer counts as gone
	// Facts change only when the engine restarts, which a ping can miss.
	factsEvery = time.Minute
)

// Monitor is safe for concurrent use.
type Monitor struct {
	engine Engine
	log    *slog.Logger

	mu    sync.Mutex // guards all following fields
	facts pod.EngineFacts
	err   error
	read  time.Time // when facts were read; zero: must be read again
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
	m.read = time.Time{}
}

// Run looks after the engine until ctx ends.
func (m *Monitor) Run(ctx context.Context) error {
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

func (m *Monitor) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	m.mu.Lock()
	old, due := m.err, time.Since(m.read) > factsEvery
	m.mu.Unlock()
	var facts pod.EngineFacts
	err := m.engine.Ping(ctx)
	read := err == nil && (old != nil || due)
	if read {
		facts, err = m.engine.Facts(ctx)
	}
	if err != nil && read && old == nil {
		// An engine that answers pings is there. A busy one may take long to count what
		// it has; what is known of it holds until the next look.
		m.log.Debug("reading the engine's facts failed; it is tried again", "error", err)
		read, err = false, nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
	switch {
	case err != nil && old == nil:
		m.log.Warn("engine does not answer", "error", err)
	case err == nil && old != nil:
		m.log.Info("engine answers", "version", facts.Version, "api", facts.APIVersion)
	}
	if err == nil && read {
		m.facts, m.read = facts, time.Now()
	}
}
