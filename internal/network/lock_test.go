package network

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestKeyLockIsOnePerKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l keyLock
		var wg sync.WaitGroup
		begun := time.Now()
		for _, key := range []string{"a", "a", "a", "b"} {
			wg.Go(func() {
				unlock, err := l.lock(t.Context(), key)
				if err != nil {
					t.Error(err)
					return
				}
				defer unlock()
				time.Sleep(time.Second)
			})
		}
		wg.Wait()
		if took := time.Since(begun); took != 3*time.Second {
			t.Errorf("it took %v, want 3s: three with one key, one beside them", took)
		}
		if len(l.held) != 0 {
			t.Errorf("%d keys are kept", len(l.held))
		}
	})
}

func TestKeyLockEndsWaitingWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l keyLock
		unlock, err := l.lock(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := l.lock(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error is %v", err)
		}
		unlock()
		if len(l.held) != 0 {
			t.Errorf("%d keys are kept", len(l.held))
		}
	})
}
