package index_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/index"
	"github.com/mascri/mascri/internal/pod"
)

// shelf is an engine of sandboxes and containers that is only asked by Refresh.
type shelf map[string]pod.Item

func (s shelf) IDs(context.Context) ([]string, error)             { return nil, nil }
func (s shelf) Hints(ctx context.Context, _ func(pod.Hint)) error { <-ctx.Done(); return ctx.Err() }
func (s shelf) Look(_ context.Context, id string) (pod.Item, error) {
	item, ok := s[id]
	if !ok {
		return pod.Item{}, fmt.Errorf("%s: %w", id, errdefs.ErrNotFound)
	}
	return item, nil
}

func (s shelf) sandbox(id string, running bool) {
	s[id] = pod.Item{Sandbox: &pod.Sandbox{ID: id, Name: "name-" + id, Running: running, Config: &cri.PodSandboxConfig{}}}
}

func (s shelf) container(id, sandbox string, running bool) {
	s[id] = pod.Item{Container: &pod.Container{
		ID: id, Name: "name-" + id, Running: running, CreatedAt: time.Unix(int64(len(s)), 0), Fixed: pod.Fixed{SandboxID: sandbox, Config: &cri.ContainerConfig{}},
	}}
}

func newIndex(source index.Source) *index.Index {
	return index.New(index.Options{Source: source, Logger: slog.New(slog.DiscardHandler), Changed: func(string) {}, Connected: func(context.Context) {}})
}

func refresh(t *testing.T, x *index.Index, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if err := x.Refresh(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
}

// told prints what is in a watcher's queue: how each changed, and its pod then.
func told(changes <-chan pod.Change) (lines []string) {
	say := func(i pod.Item) string {
		switch {
		case i.Sandbox != nil:
			return fmt.Sprintf("%s:%v", i.Sandbox.ID, i.Sandbox.Running)
		case i.Container != nil:
			return fmt.Sprintf("%s:%v", i.Container.ID, i.Container.Running)
		}
		return "-"
	}
	var last time.Time
	for {
		select {
		case c, ok := <-changes:
			if !ok {
				return append(lines, "closed")
			}
			if !c.At.After(last) {
				lines = append(lines, "not later than the one before")
			}
			last = c.At
			var ids []string
			for _, container := range c.Containers {
				ids = append(ids, say(pod.Item{Container: &container}))
			}
			lines = append(lines, fmt.Sprintf("%s>%s in %s with %s", say(c.Old), say(c.New), say(pod.Item{Sandbox: c.Sandbox}), strings.Join(ids, ",")))
		default:
			return lines
		}
	}
}

func wantTold(t *testing.T, changes <-chan pod.Change, want ...string) {
	t.Helper()
	if got := told(changes); !slices.Equal(got, want) {
		t.Errorf("told %q\nwant %q", got, want)
	}
}

func TestWatchTellsEveryChangeOnce(t *testing.T) {
	source := shelf{}
	source.sandbox("early", true)
	x := newIndex(source)
	refresh(t, x, "early")
	changes, stop := x.Watch()
	defer stop()
	other, stopOther := x.Watch()

	source.sandbox("s", true)
	refresh(t, x, "s", "s", "early") // once, however often it is looked at
	source.container("a", "s", false)
	source.container("b", "s", true)
	source.container("z", "early", true)
	refresh(t, x, "a", "b", "z")
	source.container("b", "s", false)
	refresh(t, x, "b")
	delete(source, "a")
	delete(source, "s")
	refresh(t, x, "a", "s", "b", "nothing")
	want := []string{
		"->s:true in s:true with ",
		"->a:false in s:true with a:false",
		"->b:true in s:true with b:true,a:false",
		"->z:true in early:true with z:true",
		"b:true>b:false in s:true with b:false,a:false",
		"a:false>- in s:true with b:false",
		"s:true>- in s:true with b:false",
	}
	wantTold(t, changes, want...)
	wantTold(t, other, want...)

	stopOther()
	delete(source, "b")
	refresh(t, x, "b")
	wantTold(t, changes, "b:false>- in - with ")
	wantTold(t, other)
}

// What is being made is in no change, and what comes of it is in one.
func TestWatchTellsWhatIsHiddenWhenItIsRevealed(t *testing.T) {
	source := shelf{}
	x := newIndex(source)
	changes, stop := x.Watch()
	defer stop()
	reveal := x.Hide("name-s")
	for _, running := range []bool{false, true} {
		source.sandbox("s", running)
		refresh(t, x, "s")
	}
	wantTold(t, changes)
	reveal()
	wantTold(t, changes, "->s:true in s:true with ")

	reveal = x.Hide("name-failed")
	source.sandbox("failed", true)
	refresh(t, x, "failed")
	delete(source, "failed")
	refresh(t, x, "failed")
	reveal()
	wantTold(t, changes)
}

// What an earlier life left half made is listed until it is hidden. It is news to those
// who watch from then on, if it is revealed at all.
func TestWatchOfWhatWasHiddenLater(t *testing.T) {
	source := shelf{}
	x := newIndex(source)
	for _, id := range []string{"s", "t"} {
		source.sandbox(id, true)
		refresh(t, x, id)
	}
	reveal := x.Hide("name-s")
	x.Hide("name-t")
	changes, stop := x.Watch()
	defer stop()
	delete(source, "t")
	refresh(t, x, "t")
	wantTold(t, changes)
	reveal()
	wantTold(t, changes, "->s:true in s:true with ")
}

// A watcher that does not read must not hold up the index, and is not left in the dark.
func TestSlowWatcherIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := shelf{}
		x := newIndex(source)
		slow, stop := x.Watch()
		defer stop()
		quick, stopQuick := x.Watch()
		defer stopQuick()
		const n = 3000
		for i := range n {
			source.sandbox("s", i%2 == 0)
			refresh(t, x, "s")
			if got := told(quick); len(got) != 1 {
				t.Fatalf("change %d: the quick watcher was told %q", i, got)
			}
		}
		lines := told(slow)
		if len(lines) >= n || lines[len(lines)-1] != "closed" || lines[0] != "->s:true in s:true with " || slices.Contains(lines[:len(lines)-1], "closed") {
			t.Errorf("the slow watcher got %d changes, the last %q", len(lines), lines[len(lines)-1])
		}
	})
}
