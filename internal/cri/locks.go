package cri

import (
	"context"
	"sync"
)

// locks is a mutex per id of a sandbox or an image, so that whatever changes it (stop,
// remove, repair) does so alone. It is held across I/O by design: that is what it
// orders; nothing that only reads takes it.
type locks struct {
	mu   sync.Mutex // guards held
	held map[string]*lock
}

type lock struct {
	token chan struct{} // holds one token while free
	users int           // holder and waiters
}

func newLocks() *locks { return &locks{held: map[string]*lock{}} }

// lock waits for the id's lock until ctx ends.
func (l *locks) lock(ctx context.Context, id string) (unlock func(), err error) {
	k := l.join(id)
	select {
	case <-k.token:
		return func() { k.token <- struct{}{}; l.leave(id, k) }, nil
	case <-ctx.Done():
		l.leave(id, k)
		return nil, ctx.Err()
	}
}

// try takes the lock only if it is free.
func (l *locks) try(id string) (unlock func(), ok bool) {
	k := l.join(id)
	select {
	case <-k.token:
		return func() { k.token <- struct{}{}; l.leave(id, k) }, true
	default:
		l.leave(id, k)
		return nil, false
	}
}

func (l *locks) join(id string) *lock {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.held[id]
	if k == nil {
		k = &lock{token: make(chan struct{}, 1)}
		k.token <- struct{}{}
		l.held[id] = k
	}
	k.users++
	return k
}

func (l *locks) leave(id string, k *lock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if k.users--; k.users == 0 {
		delete(l.held, id)
	}
}
