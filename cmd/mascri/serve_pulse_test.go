package main

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// supervisor notes what it is told.
type supervisor struct {
	mu   sync.Mutex // guards the following field
	told []string
}

func (s *supervisor) tell(state string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told = append(s.told, state)
	return nil
}

func (s *supervisor) want(t *testing.T, states ...string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if diff := cmp.Diff(states, s.told); diff != "" {
		t.Errorf("systemd is told (-want +got):\n%s", diff)
	}
	s.told = nil
}

// beat runs a pulse of ten seconds with this check.
func beat(t *testing.T, check func(context.Context) (string, error)) *supervisor {
	s := &supervisor{}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = pulse{check: check, every: 10 * time.Second, tell: s.tell, log: slog.New(slog.DiscardHandler)}.run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
	synctest.Wait()
	return s
}

func TestPulse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		line, err := "", errors.New("starting")
		set := func(l string, e error) {
			mu.Lock()
			defer mu.Unlock()
			line, err = l, e
		}
		s := beat(t, func(context.Context) (string, error) {
			mu.Lock()
			defer mu.Unlock()
			return line, err
		})
		next := func() { time.Sleep(10 * time.Second); synctest.Wait() }
		s.want(t) // not ready before a check has passed
		set("1 pods", nil)
		next()
		s.want(t, "READY=1\nWATCHDOG=1\nSTATUS=1 pods")
		next()
		s.want(t, "WATCHDOG=1")
		set("", errors.New("no answer"))
		next()
		s.want(t)
		set("2 pods", nil)
		next()
		s.want(t, "WATCHDOG=1\nSTATUS=2 pods")
	})
}

// A lock that is held for ever lets no check end.
func TestPulseStopsWithACheckThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lock := make(chan struct{}, 1) // a mutex would keep the test's clock from going on
		s := beat(t, func(context.Context) (string, error) {
			lock <- struct{}{}
			defer func() { <-lock }()
			return "", nil
		})
		s.want(t, "READY=1\nWATCHDOG=1")
		lock <- struct{}{}
		time.Sleep(time.Minute)
		s.want(t)
		<-lock
		synctest.Wait()
		s.want(t, "WATCHDOG=1", "WATCHDOG=1") // the next check is due, too
	})
}
