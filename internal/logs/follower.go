package logs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/containerd/errdefs"

	"github.com/mascri/mascri/internal/pod"
)

// buffersAtOnce bounds the memory for batches, of about half a MiB each, and how many
// are written at the same time.
const buffersAtOnce = 4

// Options are what a Follower is made of.
type Options struct {
	StateDir string // where a small file for each container is kept
	Logger   *slog.Logger
	// Step is called with the name of each step right before it; nil but in crash tests.
	Step func(name string)
}

// Follower writes CRI log files.
type Follower struct {
	opts    Options
	bootID  func() string
	watch   *watch
	buffers chan *buffers // nil ones were not made yet

	lines, bytes, gaps, damaged, errors atomic.Uint64

	mu    sync.Mutex // guards all following fields
	tails map[string]*tail
	// running is Run's context, nil before it; stopped is set after it.
	running context.Context
	stopped bool
	group   sync.WaitGroup // of the tails' goroutines
}

// New returns a Follower, which follows once Run is called.
func New(opts Options) *Follower {
	f := &Follower{
		opts:    opts,
		bootID:  sync.OnceValue(readBootID),
		watch:   &watch{log: opts.Logger, tails: map[int32]*tail{}, watched: map[*tail]int32{}},
		buffers: make(chan *buffers, buffersAtOnce),
		tails:   map[string]*tail{},
	}
	for range buffersAtOnce {
		f.buffers <- nil
	}
	return f
}

// Run follows until ctx ends and then returns nil: what was begun is completed, and
// what is not read yet is read in the daemon's next life.
func (f *Follower) Run(ctx context.Context) error {
	if err := f.watch.open(); err != nil {
		f.opts.Logger.Warn("container logs are polled, as they can't be watched", "error", err)
	}
	var watching sync.WaitGroup
	watching.Go(f.watch.run)
	f.mu.Lock()
	f.running = ctx
	for _, t := range f.tails {
		f.start(t)
	}
	f.mu.Unlock()
	<-ctx.Done()
	f.mu.Lock()
	f.stopped = true
	f.mu.Unlock()
	f.group.Wait()
	f.watch.close()
	watching.Wait()
	return nil
}

// start runs t's goroutine, once t is prepared and Run was called. f.mu is held.
func (f *Follower) start(t *tail) {
	if f.running == nil || !t.prepared || t.started {
		return
	}
	t.started = true
	if f.stopped {
		t.close()
		close(t.ended)
		return
	}
	f.group.Go(func() { t.run(f.running) })
}

// Follow begins to follow a container or goes on where an earlier life of the daemon was,
// and makes its log file, with its directories, if there is none. It is called before the
// engine starts the container; calling it again is no error, nor is it for a container
// whose log is complete. Where ctx ends first, as on a file system that hangs, it goes on.
func (f *Follower) Follow(ctx context.Context, source pod.LogSource) error {
	if err := check(source); err != nil {
		return err
	}
	t, isNew := f.register(source)
	if isNew {
		go func() {
			t.failed = t.prepare()
			f.prepared(t)
		}()
	}
	err := wait(ctx, t.ready)
	if err == nil {
		err = t.failed
	}
	if err != nil {
		return fmt.Errorf("follow the log of container %s: %w", source.ID, err)
	}
	if isNew || !source.Running || f.resume(t) {
		return nil
	}
	if err := wait(ctx, t.ended); err != nil {
		return fmt.Errorf("complete the log of an earlier run of container %s: %w", source.ID, err)
	}
	return f.Follow(ctx, source)
}

// wait returns once done is closed, or with ctx's error.
func wait(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// check refuses what would be a file elsewhere.
func check(source pod.LogSource) error {
	switch {
	case source.ID == "" || strings.ContainsAny(source.ID, "/.\x00"):
		return fmt.Errorf("container id %q: %w", source.ID, errdefs.ErrInvalidArgument)
	case !filepath.IsAbs(source.Path):
		return fmt.Errorf("log path %q is not absolute: %w", source.Path, errdefs.ErrInvalidArgument)
	case !filepath.IsAbs(source.Root) || source.Path == filepath.Clean(source.Root) || !isBelow(source.Path, source.Root):
		return fmt.Errorf("log path %q is not below the log directory %q: %w", source.Path, source.Root, errdefs.ErrInvalidArgument)
	case !filepath.IsAbs(source.Directory):
		return fmt.Errorf("directory %q of the container is not absolute: %w", source.Directory, errdefs.ErrInvalidArgument)
	}
	return nil
}

// register returns the container's tail, and whether it is a new one, which has to be
// prepared.
func (f *Follower) register(from pod.LogSource) (*tail, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if t, ok := f.tails[from.ID]; ok && (!from.Running || !t.isFinished()) {
		return t, false
	}
	t := &tail{
		follower: f,
		source:   from,
		log:      f.opts.Logger.With("container", from.ID),
		requests: make(chan request),
		wake:     make(chan struct{}, 1),
		ready:    make(chan struct{}),
		ended:    make(chan struct{}),
		files:    source{directory: filepath.Join(from.Directory, logsDirectory)},
	}
	f.tails[from.ID] = t
	return t, true
}

// prepared lets others use t, or drops it if that failed.
func (f *Follower) prepared(t *tail) {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer close(t.ready)
	if t.failed != nil {
		delete(f.tails, t.source.ID)
	}
	if t.failed != nil || t.finished {
		t.close()
		close(t.ended)
		return
	}
	t.prepared = true
	f.start(t)
}

// resume tells t that its container runs again, unless it is finished. It waits for nothing:
// t may be stuck in a write to its log file.
func (f *Follower) resume(t *tail) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	t.resumed = true
	return !t.finished
}

// takeResumed tells whether t's container runs again, and forgets it.
func (f *Follower) takeResumed(t *tail) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	resumed := t.resumed
	t.resumed = false
	return resumed
}

// end finishes t, whose log is complete, unless its container runs again.
func (f *Follower) end(t *tail) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	t.finished = !t.resumed
	return t.finished
}

// forgotten finishes t, whose container was removed.
func (f *Follower) forgotten(t *tail) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t.finished = true
}

// Drain returns once the log file of a container that ended is complete, which is
// remembered: it is followed no more. Where ctx ends first, that goes on. It is nil for a
// container that is not known.
func (f *Follower) Drain(ctx context.Context, id string) error {
	t, err := f.tail(ctx, id)
	if err == nil && (t == nil || t.isFinished()) {
		return nil
	}
	if err == nil {
		err = t.ask(ctx, drain)
	}
	if err != nil && t != nil && t.isFinished() {
		return nil
	}
	if err != nil {
		return fmt.Errorf("complete the log of container %s: %w", id, err)
	}
	return nil
}

// Reopen goes on with a new file after the log file was renamed; once it returned nil
// nothing is written to the old one. The error is ErrNotFound for a container that is not
// known, and ErrFailedPrecondition where its log is complete.
func (f *Follower) Reopen(ctx context.Context, id string) error {
	t, err := f.tail(ctx, id)
	if err == nil && t == nil {
		return fmt.Errorf("the log of container %s is not followed: %w", id, errdefs.ErrNotFound)
	}
	if err == nil {
		err = t.ask(ctx, reopen)
	}
	if err != nil {
		return fmt.Errorf("reopen the log of container %s: %w", id, err)
	}
	return nil
}

// Forget ends following a container that was removed. Its log file stays. It is no error
// if it is not known.
func (f *Follower) Forget(ctx context.Context, id string) error {
	t, err := f.tail(ctx, id)
	if err == nil && t != nil && !f.neverRan(t) {
		if err = t.ask(ctx, forget); err == nil || errors.Is(err, errdefs.ErrFailedPrecondition) {
			err = wait(ctx, t.ended)
		}
	}
	if err != nil {
		return fmt.Errorf("forget the log of container %s: %w", id, err)
	}
	if err := os.Remove(f.stateFile(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove log state: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.tails, id)
	return nil
}

// neverRan ends a tail that has no goroutine, and tells whether it was such.
func (f *Follower) neverRan(t *tail) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if t.started || !t.prepared {
		return false
	}
	t.started = true
	t.close()
	close(t.ended)
	return true
}

// Sweep forgets the containers that known does not know.
func (f *Follower) Sweep(ctx context.Context, known func(id string) bool) error {
	entries, err := os.ReadDir(f.opts.StateDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read log states: %w", err)
	}
	for _, entry := range entries {
		if !known(entry.Name()) {
			err = errors.Join(err, f.Forget(ctx, entry.Name()))
		}
	}
	return err
}

// tail returns the container's tail, prepared, or nil. The error is ctx's.
func (f *Follower) tail(ctx context.Context, id string) (*tail, error) {
	f.mu.Lock()
	t := f.tails[id]
	f.mu.Unlock()
	if t == nil {
		return nil, nil
	}
	if err := wait(ctx, t.ready); err != nil {
		return nil, err
	}
	return t, nil
}

func (f *Follower) stateFile(id string) string { return filepath.Join(f.opts.StateDir, id) }

func (f *Follower) acquire(ctx context.Context) (*buffers, error) {
	select {
	case b := <-f.buffers:
		if b == nil {
			b = &buffers{in: make([]byte, readSize), out: make([]byte, 0, writeSize)}
		}
		return b, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (f *Follower) release(b *buffers) { f.buffers <- b }

// readBootID returns "" where the kernel does not tell: all is one boot then.
func readBootID() string {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}
