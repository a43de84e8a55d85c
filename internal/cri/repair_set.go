package cri

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// repairs is the set of sandboxes to look at, and of containers that left something;
// adding never blocks.
type repairs struct {
	wake chan struct{} // holds one token while there is something to take

	mu     sync.Mutex // guards all following fields
	ids    map[string]bool
	busy   map[string]bool                        // ids taken and not done yet
	later  map[string]bool                        // ids that addLater is about to add
	doomed map[string]bool                        // ids of sandboxes whose cleaning up failed
	hidden map[string]func()                      // reveals, by id
	undos  map[string]func(context.Context) error // what failed to be undone, by a container's id or name
}

func newRepairs() *repairs {
	return &repairs{wake: make(chan struct{}, 1), ids: map[string]bool{}, busy: map[string]bool{}, later: map[string]bool{}, doomed: map[string]bool{}, hidden: map[string]func(){}, undos: map[string]func(context.Context) error{}}
}

func (r *repairs) add(ids ...string) {
	r.mu.Lock()
	for _, id := range ids {
		r.ids[id] = true
	}
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// addLater adds an id after a while, once for all calls until then.
func (r *repairs) addLater(id string, wait time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.later[id] {
		return
	}
	r.later[id] = true
	time.AfterFunc(wait, func() {
		r.mu.Lock()
		delete(r.later, id)
		r.mu.Unlock()
		r.add(id)
	})
}

// take returns what is to be looked at now, and leaves what is being looked at for
// when that is done.
func (r *repairs) take() (ids []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id := range r.ids {
		if !r.busy[id] {
			ids = append(ids, id)
			r.busy[id] = true
			delete(r.ids, id)
		}
	}
	return ids
}

// done ends what take began.
func (r *repairs) done(id string) {
	r.mu.Lock()
	delete(r.busy, id)
	again := r.ids[id]
	r.mu.Unlock()
	if again {
		r.add(id)
	}
}

// doom marks a sandbox, for as long as this process lives, as one to be removed: what
// it looks like need not tell, as with one on the host network that still runs.
func (r *repairs) doom(id string) {
	r.mu.Lock()
	r.doomed[id] = true
	r.mu.Unlock()
	r.add(id)
}

func (r *repairs) isDoomed(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.doomed[id]
}

// leave keeps what is still to be undone of a container. settle does it.
func (r *repairs) leave(key string, undone func(context.Context) error) {
	r.mu.Lock()
	r.undos[key] = undone
	r.mu.Unlock()
	r.add(key)
}

// settle undoes what is left to be undone, which the caller's lock keeps others from.
func (r *repairs) settle(ctx context.Context, key string) error {
	r.mu.Lock()
	undone := r.undos[key]
	r.mu.Unlock()
	if undone == nil {
		return nil
	}
	if err := undone(ctx); err != nil {
		return fmt.Errorf("of an earlier attempt: %w", err)
	}
	r.mu.Lock()
	delete(r.undos, key)
	r.mu.Unlock()
	return nil
}

func (r *repairs) hasLeft(key string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.undos[key] != nil
}

// left returns whose undoing failed.
func (r *repairs) left() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Keys(r.undos))
}

// hide keeps what reveals a sandbox until its repair was tried: one that can't be
// cleaned up must be seen.
func (r *repairs) hide(id string, reveal func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hidden[id] = reveal
}

// hiding tells whether any sandbox is hidden.
func (r *repairs) hiding() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.hidden) > 0
}

func (r *repairs) reveal(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f := r.hidden[id]; f != nil {
		f()
		delete(r.hidden, id)
	}
}
