package logs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"

	"github.com/mascri/mascri/internal/pod"
)

// tail follows one container.
type tail struct {
	follower *Follower
	source   pod.LogSource
	log      *slog.Logger
	requests chan request
	wake     chan struct{} // holds one token
	ready    chan struct{} // closed when prepare returned failed
	failed   error
	ended    chan struct{} // closed when nothing touches the files any more
	behind   atomic.Int64  // since when there is more than could be appended, in ns since 1970; 0: there is none

	// Guarded by the follower's mu: whether prepare succeeded, whether run was called, whether
	// the container runs again though it was drained, and whether all was appended, for good.
	prepared, started, resumed, finished bool

	// Of the goroutine, after prepare.
	saved    *os.File // the state file
	state    state    // as of the last save, but for what changed since
	files    source
	target   *os.File
	adopted  bool // target is the file at the path, or that was renamed
	unsaved  bool // the last batch was appended after the state was saved
	doubtful bool // the log file may hold a part of the next batch
	final    bool // the engine writes no more
	stuck    stuck
	drains   []request
}

// request asks the goroutine for something; its answer is sent once.
type request struct {
	ctx    context.Context
	kind   requestKind
	answer chan error // holds one
}

type requestKind int

const (
	drain  requestKind = iota
	reopen             // the log file
	forget             // the container was removed
)

// prepare opens the files; t.finished tells that there is nothing to follow.
func (t *tail) prepare() error {
	if err := os.MkdirAll(t.follower.opts.StateDir, 0o700); err != nil {
		return fmt.Errorf("make log state directory: %w", err)
	}
	saved, err := os.OpenFile(t.follower.stateFile(t.source.ID), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("open log state: %w", err)
	}
	t.saved = saved
	if t.state, _, err = readState(saved); err != nil {
		return err
	}
	t.files.at = t.state.Place
	if t.state.Finished && !t.source.Running && !t.grew() {
		t.finished = true
		return nil
	}
	t.state.Finished = false
	if err := t.findTarget(); err != nil && !errors.Is(err, errMoved) {
		return fmt.Errorf("open container log: %w", err)
	}
	return t.save()
}

// grew tells whether the engine wrote more after all had been appended: the container ran
// again while no daemon was there to know.
func (t *tail) grew() bool {
	found, err := t.files.open()
	if err != nil || !found {
		return err != nil
	}
	behind, err := t.files.behind()
	if err != nil || behind > 0 {
		return true
	}
	closed, err := t.files.closed()
	return err != nil || closed
}

// run follows until ctx ends, the container is forgotten, or it ended and all was
// appended.
func (t *tail) run(ctx context.Context) {
	defer func() {
		t.follower.watch.remove(t)
		t.close()
		close(t.ended)
	}()
	var pace pace
	for ctx.Err() == nil {
		t.goOn()
		result, err := t.advance(ctx)
		if err == nil && result == quiet && t.unsaved {
			err = t.save() // so that it is exact where the daemon is away for long
		}
		if err == nil && result == complete {
			if err = t.finish(); err == nil && t.follower.end(t) {
				t.noteBehind(false)
				return
			}
		}
		t.noteBehind(err != nil || result == more)
		wait, wake := pace.next(t, result, err)
		if t.pause(ctx, wait, wake) {
			return
		}
	}
	if t.unsaved {
		if err := t.save(); err != nil { // an older one does as well
			t.log.Debug("saving a log state failed", "error", err)
		}
	}
}

// goOn follows a container that runs again.
func (t *tail) goOn() {
	if t.follower.takeResumed(t) {
		t.final, t.state.Finished = false, false
	}
}

func (t *tail) noteBehind(behind bool) {
	switch {
	case !behind:
		t.behind.Store(0)
	case t.behind.Load() == 0:
		t.behind.Store(time.Now().UnixNano())
	}
}

// advance makes sure of the log file, and from then on appends batches.
func (t *tail) advance(ctx context.Context) (outcome, error) {
	if t.adopted {
		return t.batch(ctx)
	}
	err := t.adopt(ctx)
	t.adopted = err == nil
	return more, err
}

// pause waits, serves a request that came, and tells whether that was the last one.
func (t *tail) pause(ctx context.Context, wait time.Duration, wake <-chan struct{}) bool {
	if wait == 0 {
		select {
		case r := <-t.requests:
			return t.serve(r)
		default:
			return false
		}
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-wake:
	case r := <-t.requests:
		return t.serve(r)
	}
	return false
}

// serve answers a request and tells whether it was the last one.
func (t *tail) serve(r request) bool {
	switch r.kind {
	case drain:
		t.goOn() // it ran again before it ended
		t.final = true
		t.drains = slices.DeleteFunc(t.drains, func(r request) bool { return r.ctx.Err() != nil })
		t.drains = append(t.drains, r)
	case reopen:
		r.answer <- t.serveReopen(r.ctx)
	case forget:
		t.takeRest(r.ctx)
		t.follower.forgotten(t)
		r.answer <- nil
		return true
	}
	return false
}

// serveReopen first completes what is in the file that the kubelet renamed: a line must
// not be torn in two.
func (t *tail) serveReopen(ctx context.Context) error {
	for t.doubtful || t.state.Literal != "" {
		result, err := t.batch(ctx)
		if err != nil {
			return fmt.Errorf("complete the log file: %w", err)
		}
		if result != more {
			break
		}
	}
	return t.reopen(ctx)
}

// takeRest appends what can be had of a container that was removed.
func (t *tail) takeRest(ctx context.Context) {
	t.final = true
	for ctx.Err() == nil {
		result, err := t.batch(ctx)
		if err != nil || result == complete {
			return
		}
	}
}

// finish makes the end known to later lives of the daemon.
func (t *tail) finish() error {
	t.state.Finished = true
	if err := t.save(); err != nil {
		t.state.Finished = false
		return err
	}
	for _, r := range t.drains {
		r.answer <- nil
	}
	t.drains = nil
	return nil
}

// save writes the state of before the next batch.
func (t *tail) save() error {
	t.state.Place = t.files.at
	t.state.BootID = t.follower.bootID()
	t.step("log-state")
	t.unsaved = false
	return writeState(t.saved, t.state)
}

func (t *tail) step(name string) {
	if t.follower.opts.Step != nil {
		t.follower.opts.Step(name)
	}
}

// isFinished tells whether all was appended, for good.
func (t *tail) isFinished() bool {
	select {
	case <-t.ended:
		return t.finished
	default:
		return false
	}
}

func (t *tail) close() {
	t.files.close()
	if t.target != nil {
		_ = t.target.Close() // what it could tell was told by its writes
	}
	if t.saved != nil {
		_ = t.saved.Close()
	}
}

// ask sends a request to the goroutine and waits for its answer. The error is
// ErrFailedPrecondition where the container is followed no more.
func (t *tail) ask(ctx context.Context, kind requestKind) error {
	r := request{ctx: ctx, kind: kind, answer: make(chan error, 1)}
	select {
	case t.requests <- r:
	case <-t.ended:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-r.answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-t.ended:
	}
	select {
	case err := <-r.answer: // both were there
		return err
	default:
		return fmt.Errorf("the log of container %s is followed no more: %w", t.source.ID, errdefs.ErrFailedPrecondition)
	}
}
