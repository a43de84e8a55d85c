package health_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mascri/mascri/internal/health"
	"github.com/mascri/mascri/internal/pod"
)

// engine answers as a test tells it.
type engine struct {
	mu sync.Mutex // guards all following fields
	answers
}

type answers struct {
	version          string
	pingErr, infoErr error
	hangs            bool // until the context of a call ends
	containerdHangs  bool
	busy             bool // Facts hang
}

func (e *engine) now() answers {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.answers
}

func (e *engine) set(a answers) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answers = a
}

func (e *engine) Ping(ctx context.Context) error {
	if e.now().hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	return e.now().pingErr
}

func (e *engine) PingContainerd(ctx context.Context) error {
	if now := e.now(); now.hangs || now.containerdHangs {
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

func (e *engine) Facts(ctx context.Context) (pod.EngineFacts, error) {
	if now := e.now(); now.hangs || now.busy {
		<-ctx.Done()
		return pod.EngineFacts{}, ctx.Err()
	}
	return pod.EngineFacts{Version: e.now().version}, e.now().infoErr
}

func start(t *testing.T, e *engine) *health.Monitor {
	t.Helper()
	m := health.New(e, slog.New(slog.DiscardHandler))
	if _, err := m.Facts(); err == nil {
		t.Error("healthy before the first look")
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = m.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	synctest.Wait()
	return m
}

func want(t *testing.T, m *health.Monitor, version string, err error) {
	t.Helper()
	if facts, got := m.Facts(); facts.Version != version || !errors.Is(got, err) {
		t.Errorf("version %q, error %v; want %q, %v", facts.Version, got, version, err)
	}
}

func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestEngineGoesAndComesBackAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := errors.New("gone")
		e := &engine{answers: answers{version: "20.10"}}
		m := start(t, e)
		want(t, m, "20.10", nil)
		e.set(answers{pingErr: gone, infoErr: gone})
		after(2 * time.Second)
		want(t, m, "20.10", gone)
		e.set(answers{version: "28.5"})
		after(2 * time.Second)
		want(t, m, "28.5", nil)
	})
}

func TestHangingEngineCountsAsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := start(t, &engine{answers: answers{version: "20.10", hangs: true}})
		after(4 * time.Second)
		want(t, m, "", context.DeadlineExceeded)
	})
}

// Whenever it begins to hang, be it while its facts are read, it is known in less than 5 s,
// and gone no longer than a moment once it answers again.
func TestAnEngineThatHangsIsKnownSoon(t *testing.T) {
	for begins := time.Duration(0); begins < 2*time.Second; begins += 100 * time.Millisecond {
		for _, read := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				e := &engine{answers: answers{version: "20.10"}}
				m := start(t, e)
				after(10*time.Second + begins)
				if read { // it hangs in the middle of that
					e.set(answers{version: "20.10", busy: true})
					m.Stale()
					after(time.Second)
				}
				e.set(answers{version: "20.10", hangs: true})
				after(5*time.Second - time.Millisecond)
				want(t, m, "20.10", context.DeadlineExceeded)
				e.set(answers{version: "28.5"})
				after(5 * time.Second)
				want(t, m, "28.5", nil)
			})
		}
	}
}

// Facts that were being read while the engine restarted are those of the one before.
func TestFactsThatWereBeingReadAreStaleToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &slow{engine: engine{answers: answers{version: "20.10"}}}
		m := health.New(e, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = m.Run(ctx) }()
		t.Cleanup(func() { cancel(); <-done })
		after(2 * time.Second)
		m.Stale()
		after(2 * time.Second) // being read
		e.set(answers{version: "28.5"})
		m.Stale()
		after(5 * time.Second)
		want(t, m, "28.5", nil)
	})
}

// slow tells the facts of when it was asked.
type slow struct{ engine }

func (s *slow) Facts(context.Context) (pod.EngineFacts, error) {
	facts := pod.EngineFacts{Version: s.now().version}
	time.Sleep(1500 * time.Millisecond)
	return facts, nil
}

// An engine that only takes long to tell what it is would else make the node NotReady.
func TestFactsThatFailDoNotCountWhilePingsAreAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &engine{answers: answers{version: "20.10"}}
		m := start(t, e)
		e.set(answers{version: "28.5", infoErr: context.DeadlineExceeded})
		m.Stale()
		after(2 * time.Minute)
		want(t, m, "20.10", nil)
		e.set(answers{version: "28.5"})
		after(2 * time.Second)
		want(t, m, "28.5", nil)
	})
}

// The engine's containerd is asked seldom while it answers, and each time while it does not.
func TestContainerdThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &engine{answers: answers{version: "28.5"}}
		m := start(t, e)
		after(time.Minute)
		want(t, m, "28.5", nil)
		e.set(answers{version: "28.5", containerdHangs: true})
		after(14 * time.Second)
		want(t, m, "28.5", context.DeadlineExceeded)
		after(time.Minute)
		want(t, m, "28.5", context.DeadlineExceeded)
		e.set(answers{version: "28.5"})
		after(4 * time.Second)
		want(t, m, "28.5", nil)
	})
}

func TestNoFactsNoHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sick := errors.New("sick")
		m := start(t, &engine{answers: answers{infoErr: sick}})
		after(2 * time.Second)
		want(t, m, "", sick)
	})
}
