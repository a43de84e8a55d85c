package network

import (
	"context"
	"sync"
)

// keyLock is a mutex per key whose waiting ends with a context.
type keyLock struct {
	mu   sync.Mutex // guards all following fields
	held map[string]*keyHold
}

type keyHold struct {
	turn  chan struct{} // holds one token while nobody has the key
	users int           // holder and waiters
}

// lock waits until key is free, and returns what frees it again. The error is
// that of ctx.
func (l *keyLock) lock(ctx context.Context, key string) (unlock func(), err error) {
	hold := l.join(key)
	select {
	case <-hold.turn:
		return func() {
			hold.turn <- struct{}{}
			l.leave(key, hold)
		}, nil
	case <-ctx.Done():
		l.leave(key, hold)
		return nil, ctx.Err()
	}
}

func (l *keyLock) join(key string) *keyHold {
	l.mu.Lock()
	defer l.mu.Unlock()
	hold, ok := l.held[key]
	if !ok {
		hold = &keyHold{turn: make(chan struct{}, 1)}
		hold.turn <- struct{}{}
		if l.held == nil {
			l.held = map[string]*keyHold{}
		}
		l.held[key] = hold
	}
	hold.users++
	return hold
}

func (l *keyLock) leave(key string, hold *keyHold) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if hold.users--; hold.users == 0 {
		delete(l.held, key)
	}
}

// slots bounds how many plugin chains run at once.
type slots chan struct{}

// take waits for a slot, and returns what gives it back. The error is that of ctx.
func (s slots) take(ctx context.Context) (release func(), err error) {
	select {
	case s <- struct{}{}:
		return func() { <-s }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
