package index_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/index"
	"github.com/mascri/mascri/internal/pod"
)

// source is an engine whose sandboxes, hints and inspects a test holds in its hand.
type source struct {
	mu        sync.Mutex // guards all following fields
	sandboxes map[string]pod.Sandbox
	inspects  int
	listErr   error
	stuck     string        // the id that can't be inspected
	failNext  bool          // the next Inspect fails
	slow      chan struct{} // when set, the next Inspect answers what it saw only after this is closed
	emit      func(pod.Hint)
	cut       chan struct{}
}

func newSource(ids ...string) *source {
	s := &source{sandboxes: map[string]pod.Sandbox{}, cut: make(chan struct{})}
	for i, id := range ids {
		s.sandboxes[id] = sandbox(id, i+1)
	}
	return s
}

func sandbox(id string, pid int) pod.Sandbox {
	return pod.Sandbox{ID: id, Name: "name-" + id, Running: true, PID: pid, Config: &cri.PodSandboxConfig{}, CreatedAt: time.Unix(int64(pid), 0)}
}

func (s *source) set(id string, pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sandboxes[id] = sandbox(id, pid)
}

func (s *source) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inspects
}

func (s *source) remove(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sandboxes, id)
}

func (s *source) IDs(context.Context) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	for id := range s.sandboxes {
		ids = append(ids, id)
	}
	return ids, s.listErr
}

func (s *source) Look(_ context.Context, id string) (pod.Item, error) {
	s.mu.Lock()
	s.inspects++
	if id == s.stuck {
		s.mu.Unlock()
		return pod.Item{}, errors.New("stuck")
	}
	seen, ok := s.sandboxes[id]
	slow, fail := s.slow, s.failNext
	s.slow, s.failNext = nil, false
	s.mu.Unlock()
	if slow != nil {
		<-slow
	}
	if fail {
		return pod.Item{}, fmt.Errorf("%s: %w", id, errdefs.ErrUnavailable)
	}
	if !ok {
		return pod.Item{}, fmt.Errorf("%s: %w", id, errdefs.ErrNotFound)
	}
	return pod.Item{Sandbox: &seen}, nil
}

func (s *source) Hints(ctx context.Context, f func(pod.Hint)) error {
	s.mu.Lock()
	cut := s.cut
	s.emit = f
	s.mu.Unlock()
	f(pod.Hint{Kind: pod.HintConnected})
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-cut:
		return errors.New("stream cut")
	}
}

func (s *source) hint(kind pod.HintKind, id string) {
	s.mu.Lock()
	emit := s.emit
	s.mu.Unlock()
	emit(pod.Hint{Kind: kind, ID: id})
}

// start runs an index on src in the current synctest bubble.
func start(t *testing.T, src *source) *index.Index {
	t.Helper()
	x := index.New(index.Options{Source: src, Logger: slog.New(slog.DiscardHandler), Changed: func(string) {}, Connected: func(context.Context) {}})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = x.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	synctest.Wait()
	return x
}

func ids(x *index.Index) []string {
	var ids []string
	for _, s := range x.Sandboxes() {
		ids = append(ids, s.ID)
	}
	return ids
}

func want(t *testing.T, x *index.Index, what string, want ...string) {
	t.Helper()
	if got := ids(x); !slices.Equal(got, want) {
		t.Errorf("%s: sandboxes %v, want %v", what, got, want)
	}
}

func TestFollowsHints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource("a", "b")
		x := start(t, src)
		select {
		case <-x.Synced():
		default:
			t.Fatal("not synced after the first resync")
		}
		want(t, x, "at start, newest first", "b", "a")

		src.set("c", 3)
		src.hint(pod.HintChanged, "c")
		synctest.Wait()
		want(t, x, "after a hint of a new one", "c", "b", "a")

		src.remove("b")
		src.hint(pod.HintGone, "b")
		synctest.Wait()
		want(t, x, "after a hint of a removal", "c", "a")
		if x.Drift() != 0 {
			t.Errorf("drift %d though every change was hinted at", x.Drift())
		}
	})
}

func TestResyncFindsWhatHintsMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource("a", "b")
		x := start(t, src)
		src.set("c", 3)
		src.remove("a")
		time.Sleep(6 * time.Minute)
		synctest.Wait()
		want(t, x, "after the periodic resync", "c", "b")
		if x.Drift() != 2 {
			t.Errorf("drift %d, want 2", x.Drift())
		}
	})
}

// The event stream goes on, so that nothing else would bring the sandbox to mind.
func TestHintWhoseInspectFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource("a")
		x := start(t, src)
		synctest.Wait()
		src.set("b", 7)
		src.mu.Lock()
		src.failNext = true
		src.mu.Unlock()
		src.hint(pod.HintChanged, "b")
		synctest.Wait()
		want(t, x, "while the engine fails", "a")
		time.Sleep(5 * time.Second)
		synctest.Wait()
		want(t, x, "a little later", "b", "a")
	})
}

func TestReconnectResyncs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource("a")
		x := start(t, src)
		src.mu.Lock()
		old := src.cut
		src.cut = make(chan struct{})
		src.sandboxes["b"] = sandbox("b", 2)
		src.mu.Unlock()
		close(old)
		time.Sleep(time.Second)
		synctest.Wait()
		want(t, x, "after the stream came back", "b", "a")
	})
}

func TestNotSyncedBeforeACompleteList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource("a")
		src.listErr = errors.New("sick")
		x := start(t, src)
		select {
		case <-x.Synced():
			t.Fatal("synced by a list that failed")
		default:
		}
		src.mu.Lock()
		src.listErr = nil
		src.mu.Unlock()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		select {
		case <-x.Synced():
		default:
			t.Fatal("the list works again, but was not asked for again")
		}
		want(t, x, "once the list works", "a")
	})
}

// One container that the engine can't inspect keeps neither the others out nor the
// index from being synced; it is known to be missing, and tried again.
func TestStuckContainer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource("a", "b")
		src.stuck = "a"
		x := start(t, src)
		select {
		case <-x.Synced():
		default:
			t.Fatal("not synced because of one container")
		}
		want(t, x, "without the stuck one", "b")
		if x.Complete() {
			t.Error("complete, though one is missing")
		}
		time.Sleep(time.Hour)
		src.mu.Lock()
		if src.inspects > 60 {
			t.Errorf("%d inspects in an hour", src.inspects)
		}
		before := src.inspects
		src.mu.Unlock()
		time.Sleep(10 * time.Hour) // 120 resyncs of both, and as many times the stuck one alone
		src.mu.Lock()
		if n := src.inspects - before; n > 370 {
			t.Errorf("%d inspects in ten hours", n)
		}
		src.stuck = ""
		src.mu.Unlock()
		time.Sleep(6 * time.Minute)
		synctest.Wait()
		want(t, x, "once it answers", "b", "a")
		if !x.Complete() {
			t.Error("not complete, though all were read")
		}
	})
}

// A container that the engine went away before telling of, and that is gone when it is
// back, is not missing for ever.
func TestGoneBeforeItWasRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource("a")
		x := start(t, src)
		src.mu.Lock()
		src.failNext = true
		src.mu.Unlock()
		src.hint(pod.HintChanged, "b")
		synctest.Wait()
		if x.Complete() {
			t.Fatal("complete, though one could not be read: this test shows nothing")
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if !x.Complete() {
			t.Error("not complete, though the engine has no more")
		}
	})
}

// A slow inspect must neither overwrite what a later one saw nor bring a removed
// sandbox back.
func TestSlowInspectLosesToALaterOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource("a", "b")
		x := start(t, src)
		refreshSlowly := func(id string) chan struct{} {
			hold := make(chan struct{})
			src.mu.Lock()
			src.slow = hold
			src.mu.Unlock()
			go func() { _ = x.Refresh(t.Context(), id) }()
			synctest.Wait()
			return hold
		}

		hold := refreshSlowly("a")
		src.set("a", 99)
		if err := x.Refresh(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		close(hold)
		synctest.Wait()
		if s, err := x.Sandbox("a"); err != nil || s.PID != 99 {
			t.Errorf("sandbox a has pid %d (%v): the slow inspect overwrote the later one", s.PID, err)
		}

		hold = refreshSlowly("b")
		src.remove("b")
		if err := x.Refresh(t.Context(), "b"); err != nil {
			t.Fatal(err)
		}
		close(hold)
		synctest.Wait()
		want(t, x, "after a slow inspect of a removed one", "a")
	})
}

// A removal is told without an inspect, and one that is under way meanwhile does not undo it.
func TestRemovedIsGoneAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource("a", "b")
		x := start(t, src)
		hold := make(chan struct{})
		src.mu.Lock()
		src.slow = hold
		src.mu.Unlock()
		go func() { _ = x.Refresh(t.Context(), "b") }()
		synctest.Wait()
		src.remove("b")
		before := src.count()
		x.Removed("b")
		x.Removed("unknown")
		want(t, x, "once b is removed", "a")
		if asked := src.count() - before; asked != 0 {
			t.Errorf("the engine was asked %d times", asked)
		}
		close(hold)
		synctest.Wait()
		want(t, x, "after a slow inspect of it", "a")
	})
}

func TestInspectTellsOfHiddenOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource("a")
		x := start(t, src)
		defer x.Hide("name-a")()
		src.set("a", 99)
		if s, err := x.Inspect(t.Context(), "a"); err != nil || s.PID != 99 {
			t.Errorf("pid %d, %v", s.PID, err)
		}
		src.remove("a")
		if _, err := x.Inspect(t.Context(), "a"); !errdefs.IsNotFound(err) {
			t.Errorf("of a removed one: %v", err)
		}
		if got := src.count(); got != 3 { // the first resync's, and those two
			t.Errorf("%d inspects", got)
		}
	})
}

func TestHiddenIsNowhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := start(t, newSource("a", "b"))
		first, second := x.Hide("name-a"), x.Hide("name-a")
		want(t, x, "while a is hidden", "b")
		if _, err := x.Sandbox("a"); !errdefs.IsNotFound(err) {
			t.Errorf("hidden sandbox looked up: %v", err)
		}
		first()
		first() // a reveal counts once
		want(t, x, "after one of two reveals", "b")
		second()
		want(t, x, "after both", "b", "a")
	})
}

func TestLookUpByPrefix(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := start(t, newSource("abc1", "abd2", "abd"))
		for _, tt := range []struct {
			prefix, id string
			is         func(error) bool
		}{
			{prefix: "abc", id: "abc1"},
			{prefix: "abd", id: "abd"}, // the whole id wins over being a prefix
			{prefix: "ab", is: errdefs.IsInvalidArgument},
			{prefix: "x", is: errdefs.IsNotFound},
			{prefix: "", is: errdefs.IsInvalidArgument},
		} {
			s, err := x.Sandbox(tt.prefix)
			if tt.is != nil {
				if !tt.is(err) {
					t.Errorf("%q: error %v", tt.prefix, err)
				}
				continue
			}
			if err != nil || s.ID != tt.id {
				t.Errorf("%q: got %q, %v; want %q", tt.prefix, s.ID, err, tt.id)
			}
		}
	})
}

func TestListsAskTheEngineNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource("a", "b")
		x := start(t, src)
		before := src.inspects
		for range 100 {
			x.Sandboxes()
			_, _ = x.Sandbox("a")
		}
		if src.inspects != before {
			t.Errorf("%d inspects for lists and look-ups", src.inspects-before)
		}
	})
}

// What follows a connection may take long, as rules are put in place again; RPCs wait
// for the first resync only.
func TestSyncedBeforeConnectedIsThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := index.New(index.Options{
			Source: newSource("a"), Logger: slog.New(slog.DiscardHandler), Changed: func(string) {},
			Connected: func(ctx context.Context) { <-ctx.Done() },
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = x.Run(ctx) }()
		synctest.Wait()
		select {
		case <-x.Synced():
		default:
			t.Error("not synced")
		}
		cancel()
		<-done
	})
}
