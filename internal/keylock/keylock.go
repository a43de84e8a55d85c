// Package keylock is a mutex per key whose waiting ends with a context. It is for
// what must be done by one at a time for one thing, I/O included; nothing that only
// reads takes it.
package keylock

import (
	"context"
	"sync"
)

// Locks is a mutex per key. The zero value is ready for use, by many goroutines. It
// holds memory only for keys that are locked or waited for.
type Locks struct {
	mu   sync.Mutex // guards held
	held map[string]*lock
}

type lock struct {
	free  chan struct{} // holds one token while nobody has the key
	users int           // holder and waiters
}

// Lock waits until key is free, and returns what frees it again. The error is that
// of ctx.
func (l *Locks) Lock(ctx context.Context, key string) (unlock func(), err error) {
	k := l.join(key)
	select {
	case <-k.free:
		return func() { k.free <- struct{}{}; l.leave(key, k) }, nil
	case <-ctx.Done():
		l.leave(key, k)
		return nil, ctx.Err()
	}
}

// Try takes the key only if it is free.
func (l *Locks) Try(key string) (unlock func(), ok bool) {
	k := l.join(key)
	select {
	case <-k.free:
		return func() { k.free <- struct{}{}; l.leave(key, k) }, true
	default:
		l.leave(key, k)
		return nil, false
	}
}

func (l *Locks) join(key string) *lock {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.held[key]
	if k == nil {
		k = &lock{free: make(chan struct{}, 1)}
		k.free <- struct{}{}
		if l.held == nil {
			l.held = map[string]*lock{}
		}
		l.held[key] = k
	}
	k.users++
	return k
}

func (l *Locks) leave(key string, k *lock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if k.users--; k.users == 0 {
		delete(l.held, key)
	}
}
