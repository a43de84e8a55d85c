package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/moby/moby/client"
)

// Ping returns ErrUnavailable when the engine does not answer, and ErrDeadlineExceeded
// where it takes too long to.
func (e *Engine) Ping(ctx context.Context) error {
	c, err := e.connection(ctx)
	if err != nil {
		return err
	}
	_, err = c.api.Ping(ctx, client.PingOptions{})
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("ping: Docker Engine at %s takes connections, but does not answer: it is stopped, hangs or is overloaded; see its log (journalctl -u docker), and restart it if it stays so: %w", e.host, context.DeadlineExceeded)
	}
	if err != nil {
		return e.failed("ping", err)
	}
	return nil
}

// PingContainerd returns ErrUnavailable and ErrDeadlineExceeded, too, where the engine's
// containerd does not answer it: then the engine still answers pings and lists, but can
// start, end and run nothing. It asks for the versions, the cheapest call for which an engine
// asks its containerd, though it runs two programs for it. One that starts many containers may
// take its time for the answer, so that what it does meanwhile counts as well.
func (e *Engine) PingContainerd(ctx context.Context) error {
	c, err := e.connection(ctx)
	if err != nil {
		return err
	}
	began := time.Now().UnixNano()
	_, err = c.api.ServerVersion(ctx, client.ServerVersionOptions{})
	switch {
	case errors.Is(err, context.DeadlineExceeded) && e.alive.Load() > began:
		return nil
	case errors.Is(err, context.DeadlineExceeded):
		return e.silentContainerd("ping")
	case err != nil:
		return e.failed("ask for the versions", err)
	}
	return nil
}

func (e *Engine) silentContainerd(what string) error {
	return fmt.Errorf("%s: Docker Engine at %s answers, but its containerd does not: that is stopped, hangs or is overloaded; see its log (journalctl -u containerd -u docker), and restart it if it stays so, which ends no container: %w", what, e.host, context.DeadlineExceeded)
}

// byContainerd are the operations that succeed by containerd alone.
var byContainerd = map[string]bool{"container_start": true, "container_kill": true, "exec_start": true}

// noteCall notes that containerd is alive, and tells whoever is to be told of a call.
func (e *Engine) noteCall(operation string, took time.Duration, failure string) {
	if failure == "" && byContainerd[operation] {
		e.alive.Store(time.Now().UnixNano())
	}
	if e.observe != nil {
		e.observe(operation, took, failure)
	}
}
