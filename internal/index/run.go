package index

import (
	"context"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sync/errgroup"

	"github.com/mascri/mascri/internal/pod"
)

const (
	resyncEvery = 5 * time.Minute
	retryFirst  = 100 * time.Millisecond // wait before reconnecting, doubled up to
	retryMost   = 5 * time.Second
	inspects    = 8 // containers inspected at once
	// The engine may hold one container's lock for long; it must not keep the others
	// from being seen for ever. Nor must a list that hangs, while hints come in.
	inspectLimit = 10 * time.Second
	listLimit    = time.Minute
)

// Run keeps the index up to date until ctx ends. It must run once at a time.
func (x *Index) Run(ctx context.Context) error {
	q := newQueue()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return x.listen(ctx, q) })
	group.Go(func() error { return x.work(ctx, q) })
	return group.Wait()
}

// listen turns the event stream into queue entries and never blocks on anything
// else: the engine skips a listener that is slow.
func (x *Index) listen(ctx context.Context, q *queue) error {
	wait := retryFirst
	for {
		err := x.opts.Source.Hints(ctx, func(h pod.Hint) {
			wait = retryFirst
			if h.Kind == pod.HintConnected {
				q.addAll()
			} else {
				q.add(h.ID)
			}
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		x.opts.Logger.Warn("event stream of the engine ended; reconnecting", "error", err, "wait", wait)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		wait = min(2*wait, retryMost)
	}
}

// work refreshes what the queue names.
func (x *Index) work(ctx context.Context, q *queue) error {
	var connected sync.WaitGroup
	defer connected.Wait()
	tick := time.NewTicker(resyncEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			x.resync(ctx, q)
		case <-q.wake:
			ids, all := q.take()
			if all {
				x.resync(ctx, q) // first, as all RPCs may wait for it
				connected.Go(func() { x.opts.Connected(ctx) })
			} else {
				x.again(ctx, q, x.refreshAll(ctx, q, ids, nil))
			}
		}
	}
}

// resync makes the index complete, but for containers that the engine can't inspect:
// those are tried again by themselves, as one stuck container must not keep the node
// down. If the engine itself fails, all is asked for again.
func (x *Index) resync(ctx context.Context, q *queue) {
	ids, err := x.list(ctx)
	if err == nil {
		known := x.ids()
		drift := func() { x.mu.Lock(); x.drift++; x.mu.Unlock() }
		if !x.isSynced() {
			drift = nil
		}
		err = x.refreshAll(ctx, q, append(ids, known...), drift)
	}
	if err != nil {
		x.again(ctx, q, err)
		return
	}
	x.once.Do(func() { close(x.synced) })
}

// again asks for a resync some time after an error of the engine as a whole.
func (x *Index) again(ctx context.Context, q *queue, err error) {
	if err == nil || ctx.Err() != nil {
		return
	}
	x.opts.Logger.Warn("reading the engine's containers failed; trying again", "error", err)
	q.later("", retryMost, q.addAll)
}

func (x *Index) list(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, listLimit)
	defer cancel()
	return x.opts.Source.IDs(ctx)
}

func (x *Index) isSynced() bool {
	select {
	case <-x.synced:
		return true
	default:
		return false
	}
}

// refreshAll refreshes each id once, several at a time, and calls Changed for it.
// drift, where set, is called for each that differed. What fails is tried again later;
// an error is returned only where the engine as a whole is unavailable.
func (x *Index) refreshAll(ctx context.Context, q *queue, ids []string, drift func()) error {
	var group errgroup.Group
	group.SetLimit(inspects)
	once := map[string]bool{}
	for _, id := range ids {
		if once[id] {
			continue
		}
		once[id] = true
		group.Go(func() error {
			limited, cancel := context.WithTimeout(ctx, inspectLimit)
			defer cancel()
			_, changed, err := x.refresh(limited, id)
			if changed && drift != nil {
				drift()
			}
			x.opts.Changed(id)
			switch {
			case err == nil:
				q.forgive(id)
				return nil
			case ctx.Err() != nil, errdefs.IsUnavailable(err):
				return err
			}
			wait := q.retry(id)
			x.opts.Logger.Warn("a container could not be inspected; trying again", "container", id, "error", err, "wait", wait)
			return nil
		})
	}
	return group.Wait()
}

// queue is a set of ids to refresh; adding never blocks.
type queue struct {
	wake chan struct{} // holds one token while there is something to take

	mu    sync.Mutex // guards all following fields
	ids   map[string]bool
	all   bool
	waits map[string]time.Duration // of ids that failed, until they are tried again
	due   map[string]bool          // ids that are added after a while; "": all
}

func newQueue() *queue {
	return &queue{wake: make(chan struct{}, 1), ids: map[string]bool{}, waits: map[string]time.Duration{}, due: map[string]bool{}}
}

// retry adds an id that failed after a while, which doubles with each failure.
func (q *queue) retry(id string) (wait time.Duration) {
	q.mu.Lock()
	wait = min(max(retryFirst, 2*q.waits[id]), resyncEvery)
	q.waits[id] = wait
	q.mu.Unlock()
	q.later(id, wait, func() { q.add(id) })
	return wait
}

// later calls add after a while, unless that is under way for this id: what hangs must not be
// tried the more often the longer it does.
func (q *queue) later(id string, wait time.Duration, add func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.due[id] {
		return
	}
	q.due[id] = true
	time.AfterFunc(wait, func() {
		q.mu.Lock()
		delete(q.due, id)
		q.mu.Unlock()
		add()
	})
}

// forgive forgets an id's failures.
func (q *queue) forgive(id string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.waits, id)
}

func (q *queue) add(id string) {
	q.mu.Lock()
	q.ids[id] = true
	q.mu.Unlock()
	q.signal()
}

// addAll asks for a resync.
func (q *queue) addAll() {
	q.mu.Lock()
	q.all = true
	q.mu.Unlock()
	q.signal()
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take empties the queue. A resync covers single ids, too.
func (q *queue) take() (ids []string, all bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for id := range q.ids {
		ids = append(ids, id)
	}
	all = q.all
	q.ids, q.all = map[string]bool{}, false
	return ids, all
}
