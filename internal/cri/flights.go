package cri

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"

	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/proto"
)

// flights makes a repeated request for the same thing join the one under way. A
// flight lives as long as anyone waits for it: it ends early only when the last
// waiter's context ended.
type flights struct {
	log *slog.Logger

	mu     sync.Mutex // guards all following fields
	flying map[string]*flight
	// unclaimed holds flights that succeeded at the very moment when nobody waited
	// any more: the next to ask for the same gets the result.
	unclaimed map[string]*flight
}

type flight struct {
	request proto.Message
	first   context.Context // of the caller that began it; only compared
	waiters int
	heard   bool // a caller got the answer
	doomed  bool // nobody waited any more: it was cancelled and is cleaning up
	expired bool // the first caller's deadline ended it
	cancel  context.CancelFunc
	done    chan struct{} // closed when id and err are set
	id      string
	err     error
}

func newFlights(log *slog.Logger) *flights {
	return &flights{log: log, flying: map[string]*flight{}, unclaimed: map[string]*flight{}}
}

// do runs fly, or joins the call of the same name that is under way, and returns
// its answer. fly runs on a context with the values and the deadline of the first
// caller's. The error is errdefs.ErrAlreadyExists where the one under way was asked
// for by a different request.
func (f *flights) do(ctx context.Context, name string, request proto.Message, fly func(context.Context) (string, error)) (string, error) {
	for {
		fl, aboard, err := f.board(ctx, name, request, fly)
		if err != nil {
			return "", err
		}
		select {
		case <-fl.done:
		case <-ctx.Done():
		}
		if aboard {
			id, err := f.alight(ctx, name, fl)
			if err != nil && ctx.Err() == nil && fl.expired && fl.first != ctx {
				continue // the deadline was another caller's
			}
			return id, err
		}
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
	}
}

// claim hands out the result of an unclaimed flight of the same request, once.
func (f *flights) claim(name string, request proto.Message) (id string, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fl := f.unclaimed[name]
	if fl == nil || !proto.Equal(fl.request, request) {
		return "", false
	}
	delete(f.unclaimed, name)
	return fl.id, true
}

// flies tells whether something of that name is being made.
func (f *flights) flies(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.flying[name] != nil
}

// forget drops an unclaimed flight: what it made is being removed.
func (f *flights) forget(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.unclaimed, name)
}

// board starts the flight or joins it. aboard is false for one that is only cleaning
// up after its last waiter left: the caller waits for its end and tries again.
func (f *flights) board(ctx context.Context, name string, request proto.Message, fly func(context.Context) (string, error)) (fl *flight, aboard bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl := f.flying[name]; fl != nil {
		if fl.doomed {
			return fl, false, nil
		}
		if !proto.Equal(fl.request, request) {
			return nil, false, fmt.Errorf("%q is being made by another request with another config: %w", name, errdefs.ErrAlreadyExists)
		}
		fl.waiters++
		return fl, true, nil
	}
	work, cancel := detached(ctx)
	fl = &flight{request: request, first: ctx, waiters: 1, cancel: cancel, done: make(chan struct{})}
	f.flying[name] = fl
	go func() {
		defer cancel()
		id, err := f.guard(work, name, fly)
		fl.expired = errors.Is(work.Err(), context.DeadlineExceeded)
		f.land(name, fl, id, err)
	}()
	return fl, true, nil
}

// detached returns a context with ctx's values and deadline that ctx's cancellation
// does not end.
func detached(ctx context.Context) (context.Context, context.CancelFunc) {
	free := context.WithoutCancel(ctx)
	if deadline, ok := ctx.Deadline(); ok {
		return context.WithDeadline(free, deadline)
	}
	return context.WithCancel(free)
}

// guard turns a panic into an error: the interceptor's recover does not reach this
// goroutine.
func (f *flights) guard(ctx context.Context, name string, fly func(context.Context) (string, error)) (id string, err error) {
	defer func() {
		if p := recover(); p != nil {
			f.log.Error("panic while making something", "name", name, "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic, see the log: %v", p)
		}
	}()
	return fly(ctx)
}

func (f *flights) land(name string, fl *flight, id string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fl.id, fl.err = id, err
	delete(f.flying, name)
	f.keep(name, fl)
	close(fl.done)
}

// keep puts a success that nobody heard of, and nobody waits for, among the unclaimed.
func (f *flights) keep(name string, fl *flight) {
	if fl.err == nil && fl.id != "" && fl.waiters == 0 && !fl.heard {
		f.unclaimed[name] = fl
	}
}

// alight leaves the flight. Where the caller's context has ended its answer is not
// going to be heard. The last one to leave a flight that still flies ends it.
func (f *flights) alight(ctx context.Context, name string, fl *flight) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fl.waiters--
	select {
	case <-fl.done:
	default:
		if fl.waiters == 0 {
			fl.doomed = true
			fl.cancel()
		}
		return "", ctx.Err()
	}
	if ctx.Err() != nil && fl.err == nil {
		f.keep(name, fl)
		return "", ctx.Err()
	}
	fl.heard = true
	return fl.id, fl.err
}
