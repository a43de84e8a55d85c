package logs

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// hang makes the follower wait at a step, as on a network file system whose server is gone,
// until release is called. hung is closed once it does.
func (n *node) hang(step string) (hung <-chan struct{}, release func()) {
	reached, gate := make(chan struct{}), make(chan struct{})
	once := sync.OnceFunc(func() { close(reached) })
	n.step = func(name string) {
		if name == step {
			once()
			<-gate
		}
	}
	return reached, sync.OnceFunc(func() { close(gate) })
}

// A write that hangs holds up its own container alone: who tells that the container runs, or
// runs again, does not wait for it.
func TestFollowDoesNotWaitForAWrite(t *testing.T) {
	n := newNode(t)
	n.engine.start()
	hung, release := n.hang("log-append")
	f, stop := n.follow()
	defer stop()
	defer release()
	n.engine.log("stdout", "one", 0)
	<-hung
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_ = f.Drain(ctx, "c1") // given up
	n.source.Running = true
	followed := make(chan error, 1)
	go func() { followed <- f.Follow(context.Background(), n.source) }()
	select {
	case err := <-followed:
		n.engine.must(err)
	case <-time.After(10 * time.Second):
		t.Fatal("Follow waits for the write")
	}
	release()
	n.engine.log("stdout", "two", 0)
	await(t, n.path, n.engine.want())
	n.drain(f)
}

// Opening a log file may hang as well: that ends with the context, and it is followed once
// the file could be opened.
func TestFollowIsBounded(t *testing.T) {
	n := newNode(t)
	n.engine.start()
	n.engine.log("stdout", "one", 0)
	hung, release := n.hang("log-state") // after the file was opened
	defer release()
	f := New(Options{StateDir: n.state, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), Step: n.step})
	running, end := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(running) }()
	defer func() { end(); <-ended }()
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-hung; cancel() }()
	for name, err := range map[string]error{
		"follow": f.Follow(ctx, n.source), "again": f.Follow(ctx, n.source),
		"drain": f.Drain(ctx, "c1"), "reopen": f.Reopen(ctx, "c1"), "forget": f.Forget(ctx, "c1"),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
	release()
	n.drain(f)
	same(t, text(t, n.path), n.engine.want())
}

// Between the last look at the files of a container that ended and the end of following it,
// it may be started again.
func TestRunsAgainWhileItsLogIsFinished(t *testing.T) {
	n := newNode(t)
	n.engine.start()
	n.engine.log("stdout", "one", 0)
	var followed atomic.Pointer[tail]
	var f *Follower
	n.step = func(name string) {
		if c := followed.Load(); name == "log-state" && c != nil && c.state.Finished && followed.CompareAndSwap(c, nil) && !f.resume(c) {
			t.Error("it is finished")
		}
	}
	f, stop := n.follow()
	defer stop()
	c := n.tail(f)
	followed.Store(c)
	n.drain(f)
	n.engine.log("stdout", "two", 0)
	await(t, n.path, n.engine.want())
	n.drain(f)
	if n.tail(f) != c {
		t.Error("it was followed anew")
	}
}
