package keylock

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

func TestOneAtATimePerKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Locks
		unlock, err := l.Lock(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := l.Try("a"); ok {
			t.Error("a is held, and was taken")
		}
		other, ok := l.Try("b")
		if !ok {
			t.Fatal("another key is held as well")
		}
		other()
		got := make(chan struct{})
		go func() {
			second, err := l.Lock(t.Context(), "a")
			if err != nil {
				t.Error(err)
			}
			close(got)
			second()
		}()
		synctest.Wait()
		select {
		case <-got:
			t.Error("a is held, and was locked")
		default:
		}
		unlock()
		<-got
		synctest.Wait()
		if len(l.held) != 0 {
			t.Errorf("%d keys are remembered, all are free", len(l.held))
		}
	})
}

func TestWaitingEndsWithTheContext(t *testing.T) {
	var l Locks
	unlock, err := l.Lock(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Lock(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	unlock()
	again, ok := l.Try("a")
	if !ok {
		t.Fatal("the waiter that gave up holds the key")
	}
	again()
}
