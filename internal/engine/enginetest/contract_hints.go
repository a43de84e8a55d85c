package enginetest

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/mascri/mascri/internal/pod"
)

// watch returns the hints of s.Engine, of which Connected was one already.
func watch(t *testing.T, s Subject) <-chan pod.Hint {
	t.Helper()
	hints := make(chan pod.Hint, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Engine.Hints(ctx, func(h pod.Hint) { hints <- h }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("hints ended with %v, want Canceled", err)
		}
	})
	if first := next(t, hints); first.Kind != pod.HintConnected {
		t.Fatalf("first hint: %v, want connected", first)
	}
	return hints
}

func next(t *testing.T, hints <-chan pod.Hint) pod.Hint {
	t.Helper()
	select {
	case hint := <-hints:
		return hint
	case <-time.After(patience):
		t.Fatal("no hint")
		return pod.Hint{}
	}
}

// until reads hints up to one that equals last and returns all of them.
func until(t *testing.T, hints <-chan pod.Hint, last pod.Hint) []pod.Hint {
	t.Helper()
	var all []pod.Hint
	for {
		all = append(all, next(t, hints))
		if all[len(all)-1] == last {
			return all
		}
	}
}

func hintsTellChanges(t *testing.T, s Subject) {
	hints := watch(t, s)
	id := s.create(t, "a")
	changed := pod.Hint{Kind: pod.HintChanged, ID: id}
	until(t, hints, changed)
	if err := s.Engine.Start(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	until(t, hints, changed)
	s.User.Terminate(t, id)
	until(t, hints, changed)
	s.User.Remove(t, id)
	until(t, hints, pod.Hint{Kind: pod.HintGone, ID: id})
}

func hintsAreOwn(t *testing.T, s Subject) {
	hints := watch(t, s)
	for name, labels := range foreignLabels(t, s) {
		s.User.Remove(t, s.User.Run(t, name, labels))
	}
	id := s.create(t, "a")
	s.User.Remove(t, id)
	all := until(t, hints, pod.Hint{Kind: pod.HintGone, ID: id})
	if i := slices.IndexFunc(all, func(h pod.Hint) bool { return h.ID != id }); i >= 0 {
		t.Errorf("a hint of a foreign container: %v", all[i])
	}
}

func hintsEndWithContext(t *testing.T, s Subject) {
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	connected := false
	err := s.Engine.Hints(ctx, func(h pod.Hint) { connected = connected || h.Kind == pod.HintConnected })
	if !errors.Is(err, context.DeadlineExceeded) || !connected {
		t.Errorf("hints ended with %v, connected %t", err, connected)
	}
}
