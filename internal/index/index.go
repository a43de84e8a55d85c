// Package index is the in-memory view of the engine's sandboxes and containers: what every list
// and status answers from, without a call to the engine.
//
// The engine's event stream is lossy, so an event never carries state here: it is
// a hint that one container should be inspected again. A resync inspects all: at
// start, after each reconnect and every few minutes; what a resync has to correct
// is counted as drift.
package index

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/proto"

	"github.com/mascri/mascri/internal/pod"
)

// Source is the engine, as far as the index asks it.
type Source interface {
	// IDs returns the ids of all our sandboxes and containers, complete or an error.
	IDs(ctx context.Context) ([]string, error)
	// Look returns errdefs.ErrNotFound or pod.ErrForeign for what is not ours.
	Look(ctx context.Context, id string) (pod.Item, error)
	// Hints calls f for each hint until the stream ends, first with pod.HintConnected.
	Hints(ctx context.Context, f func(pod.Hint)) error
}

// Options are an index's surroundings.
type Options struct {
	Source Source
	Logger *slog.Logger
	// Changed is called, from Run's goroutines and without a lock held, for each id
	// that was put, changed or removed, and for all known ids after a resync.
	Changed func(id string)
	// Connected is called after the resync that follows when the event stream was
	// (re)established, and after each one that follows an error. Hints wait for it.
	Connected func(ctx context.Context)
}

// Index is safe for concurrent use.
type Index struct {
	opts   Options
	synced chan struct{} // closed after the first complete resync
	once   sync.Once

	mu      sync.Mutex // guards all following fields
	entries map[string]*entry
	hidden  map[string]int // by engine name
	ticket  uint64         // of the last refresh begun
	drift   uint64
	unread  map[string]bool // ids that the engine has, but could not inspect so far

	// What lists answer until something changes, newest first; nil: to be made.
	sandboxes  []pod.Sandbox
	containers []pod.Container

	watchers map[chan pod.Change]bool
	toldAt   time.Time // of the last change that they were told of
}

// entry is what is known of one id. It outlives the container only while a refresh
// is under way, so that a slow inspect can't bring a removed sandbox back.
type entry struct {
	item    pod.Item
	told    pod.Item // what watchers know; zero: nothing
	present bool
	applied uint64 // ticket of the refresh that the entry shows
	pending int    // refreshes under way
}

// New returns an empty index. Run fills it.
func New(opts Options) *Index {
	return &Index{
		opts: opts, synced: make(chan struct{}), entries: map[string]*entry{}, hidden: map[string]int{}, unread: map[string]bool{},
		watchers: map[chan pod.Change]bool{},
	}
}

// Synced is closed once the index has been complete for the first time.
func (x *Index) Synced() <-chan struct{} { return x.synced }

// Refresh inspects one container and returns once the index shows what the engine
// answered, or something newer. A container that is gone is no error.
func (x *Index) Refresh(ctx context.Context, id string) error {
	_, _, err := x.refresh(ctx, id)
	return err
}

// Inspect is a Refresh that returns what the engine answered of a sandbox, hidden or not:
// errdefs.ErrNotFound where it has none of that id.
func (x *Index) Inspect(ctx context.Context, id string) (pod.Sandbox, error) {
	item, _, err := x.refresh(ctx, id)
	switch {
	case err != nil:
		return pod.Sandbox{}, err
	case item.Sandbox == nil:
		return pod.Sandbox{}, fmt.Errorf("the engine has no sandbox %q any more: %w", id, errdefs.ErrNotFound)
	}
	return *item.Sandbox, nil
}

// Removed is a Refresh of a container that the engine is known to have removed: it is not
// asked.
func (x *Index) Removed(id string) { x.finish(id, x.begin(id), pod.Item{}, false) }

// refresh returns nothing for a container that is gone, and whether the index changed.
func (x *Index) refresh(ctx context.Context, id string) (item pod.Item, changed bool, err error) {
	ticket := x.begin(id)
	item, err = x.opts.Source.Look(ctx, id)
	gone := errdefs.IsNotFound(err) || errors.Is(err, pod.ErrForeign)
	if err != nil && !gone {
		x.finish(id, 0, pod.Item{}, false)
		return pod.Item{}, false, fmt.Errorf("refresh container %q: %w", id, err)
	}
	if gone {
		item = pod.Item{}
	}
	return item, x.finish(id, ticket, item, !gone), nil
}

func (x *Index) begin(id string) uint64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	e := x.entries[id]
	if e == nil {
		e = &entry{}
		x.entries[id] = e
	}
	e.pending++
	x.ticket++
	return x.ticket
}

// finish applies what a refresh saw, unless a refresh begun later was applied
// already. Ticket 0 applies nothing.
func (x *Index) finish(id string, ticket uint64, item pod.Item, present bool) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	e := x.entries[id]
	e.pending--
	changed := false
	if ticket > 0 {
		delete(x.unread, id)
	} else if !e.present {
		x.unread[id] = true
	}
	if ticket > e.applied {
		changed = e.present != present || present && !same(e.item, item)
		e.item, e.present, e.applied = item, present, ticket
		x.unlist()
		if changed {
			x.tell(e)
		}
	}
	if !e.present && e.pending == 0 {
		delete(x.entries, id)
	}
	return changed
}

// same compares what can change in a container's life.
func same(a, b pod.Item) bool {
	switch {
	case a.Sandbox != nil && b.Sandbox != nil:
		return sameSandbox(*a.Sandbox, *b.Sandbox)
	case a.Container != nil && b.Container != nil:
		return sameContainer(*a.Container, *b.Container)
	}
	return false
}

func sameSandbox(a, b pod.Sandbox) bool {
	return a.Running == b.Running && a.PID == b.PID && a.ExitCode == b.ExitCode && a.NetnsInode == b.NetnsInode &&
		a.StartedAt.Equal(b.StartedAt) && a.FinishedAt.Equal(b.FinishedAt)
}

func sameContainer(a, b pod.Container) bool {
	return a.Running == b.Running && a.PID == b.PID && a.ExitCode == b.ExitCode && a.OOMKilled == b.OOMKilled &&
		a.StartError == b.StartError && proto.Equal(a.Resources, b.Resources) &&
		a.StartedAt.Equal(b.StartedAt) && a.FinishedAt.Equal(b.FinishedAt)
}

// Hide keeps the container of that engine name out of lists, look-ups and changes until
// reveal is called: a sandbox being made is nobody's business yet. Hides add up.
func (x *Index) Hide(name string) (reveal func()) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.hidden[name]++
	x.unlist()
	if len(x.watchers) == 0 { // one that nobody watched come is new when it is revealed
		x.ofName(name, func(e *entry) { e.told = pod.Item{} })
	}
	return sync.OnceFunc(func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		if x.hidden[name]--; x.hidden[name] == 0 {
			delete(x.hidden, name)
			x.unlist()
			x.ofName(name, x.tell)
		}
	})
}

// unlist makes the next lists anew; x.mu must be held.
func (x *Index) unlist() { x.sandboxes, x.containers = nil, nil }

// ofName calls f for the entry of that engine name, if there is one; x.mu must be held.
func (x *Index) ofName(name string, f func(*entry)) {
	for _, e := range x.entries {
		if e.present && e.item.Name() == name {
			f(e)
		}
	}
}

func (x *Index) visible(e *entry) bool { return e.present && x.hidden[e.item.Name()] == 0 }

// Drift is how many containers a resync found to differ from what hints had told,
// since start.
func (x *Index) Drift() uint64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.drift
}

// Complete tells whether every container that the engine told of could be inspected.
func (x *Index) Complete() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.unread) == 0
}

// ids returns all ids known, hidden ones and those that could not be inspected too: such
// a one may be gone by now.
func (x *Index) ids() []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	ids := slices.Collect(maps.Keys(x.entries))
	return slices.AppendSeq(ids, maps.Keys(x.unread))
}
