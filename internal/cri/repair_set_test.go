package cri

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// However often an id is busy, it is looked at once more, and not once for each time.
func TestAddLaterAddsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRepairs()
		for range 5 {
			r.addLater("a", time.Second)
			time.Sleep(100 * time.Millisecond)
		}
		if got := r.take(); got != nil {
			t.Errorf("before its time: %v", got)
		}
		for range 2 { // and again, when it is busy later
			time.Sleep(time.Second)
			synctest.Wait()
			if got := r.take(); !slices.Equal(got, []string{"a"}) {
				t.Errorf("after a second: %v", got)
			}
			r.done("a")
			time.Sleep(time.Minute)
			if got := r.take(); got != nil {
				t.Errorf("after a minute: %v", got)
			}
			r.addLater("a", time.Second)
		}
	})
}
