package logs

import (
	"context"
	"errors"
	"time"
)

const (
	// pause is how long entries gather before they are read, where some came just now.
	pause = 20 * time.Millisecond
	// lookAnyway is how often a quiet container is looked at without a notification. The
	// kernel tells where it lost some; this is for what nobody thought of.
	lookAnyway = time.Minute
	// lookUnwarned is how often where there are no notifications at all.
	lookUnwarned = 200 * time.Millisecond
	// quietLooks is after how many looks in vain a container's notifications are on again.
	quietLooks = 5
	// The first wait after an error, and the longest.
	firstBackoff = 100 * time.Millisecond
	lastBackoff  = 10 * time.Second
)

// pace is how long a tail waits between batches.
type pace struct {
	backoff time.Duration // after the last batch, which failed
	looks   int           // in vain, one after the other
}

// next returns how long to wait and, where a notification ends the wait, its channel.
func (p *pace) next(t *tail, result outcome, err error) (time.Duration, <-chan struct{}) {
	if err != nil {
		p.backoff = t.failing(err, p.backoff)
		return p.backoff, nil
	}
	if p.backoff > 0 {
		p.backoff = 0
		t.log.Info("container log goes on", "file", t.source.Path)
	}
	switch {
	case result == more || t.final:
		p.looks = 0
		return 0, nil
	case result == caughtUp:
		p.looks = 0
		return pause, nil
	}
	p.looks++
	switch {
	case p.looks < quietLooks:
		return pause, nil
	case p.looks == quietLooks:
		t.follower.watch.add(t)
		return 0, nil // look again
	}
	p.looks = quietLooks - 1
	if t.stuck != (stuck{}) {
		return tornAfter, t.wake
	}
	return t.follower.watch.interval(t), t.wake
}

// failing notes an error and returns how long to wait. It logs one error per episode.
func (t *tail) failing(err error, before time.Duration) time.Duration {
	if errors.Is(err, context.Canceled) {
		return before // the daemon ends
	}
	t.follower.errors.Add(1)
	if before == 0 {
		t.log.Warn("container log is held up; it waits in the engine's files", "file", t.source.Path, "error", err)
		return firstBackoff
	}
	return min(2*before, lastBackoff)
}
