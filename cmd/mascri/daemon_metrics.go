package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/mascri/mascri/internal/config"
	"github.com/mascri/mascri/internal/metrics"
	"github.com/mascri/mascri/internal/tracing"
)

// state is what metrics tell of the parts, from their memory.
func (d *daemon) state() metrics.State {
	_, engineErr := d.health.Facts()
	network, logs := d.network.Status(), d.logs.Stats()
	sandboxes, containers := d.index.Size()
	s := metrics.State{
		EngineUp: engineErr == nil, NetworkReady: network.Ready,
		Sandboxes: sandboxes, Containers: containers, IndexComplete: d.indexComplete(), Drift: d.index.Drift(),
		Dirty: len(network.Dirty), Leaks: map[string]int{},
		LogLines: logs.Lines, LogBytes: logs.Bytes, LogGaps: logs.Gaps, LogErrors: logs.Errors,
		LogDamagedBytes: logs.DamagedBytes, LogsBehind: logs.Behind, LogLag: logs.Lag,
	}
	if s.Dirty > 0 {
		s.DirtySince = network.Dirty[0].Since
	}
	for _, leak := range network.Leaks {
		s.Leaks[string(leak.Kind)]++
	}
	return s
}

// indexComplete tells whether all has been read, and none is missing.
func (d *daemon) indexComplete() bool {
	select {
	case <-d.index.Synced():
		return d.index.Complete()
	default:
		return false
	}
}

func newTracing(cfg config.Tracing, instance string, log *slog.Logger) (*tracing.Tracing, error) {
	if cfg.Endpoint == "" {
		return nil, nil
	}
	// Connecting is not waited for.
	t, err := tracing.New(context.Background(), tracing.Options{
		Endpoint: cfg.Endpoint, PerMillion: cfg.SamplingPerMillion, Version: version, Instance: instance, Logger: log,
	})
	if err != nil {
		return nil, fmt.Errorf("tracing.endpoint: %w", err)
	}
	return t, nil
}

// tracingLimit is how long the last spans may take to be sent.
const tracingLimit = 2 * time.Second

func (d *daemon) endTracing() {
	ctx, cancel := context.WithTimeout(context.Background(), tracingLimit)
	defer cancel()
	d.tracing.Close(ctx)
}
