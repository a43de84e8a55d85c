package index

import (
	"sync"
	"time"

	"github.com/mascri/mascri/internal/pod"
)

// watchQueue is how many changes a watcher may be behind: those of a node full of pods
// that all start at once.
const watchQueue = 2048

// Watch returns all changes of what is not hidden, from now on and in their order, until
// stop is called. The channel is closed when the watcher is too slow for its queue: it
// has then missed what came after the changes that are still in there.
func (x *Index) Watch() (changes <-chan pod.Change, stop func()) {
	c := make(chan pod.Change, watchQueue)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.watchers[c] = true
	return c, sync.OnceFunc(func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		delete(x.watchers, c)
	})
}

// tell lets the watchers know how e differs from what they were told last; x.mu must be
// held. What is hidden is told when it is revealed.
func (x *Index) tell(e *entry) {
	var item pod.Item
	switch {
	case x.visible(e):
		item = e.item
	case e.present || e.told == (pod.Item{}):
		return
	}
	old := e.told
	if e.told = item; old == item || len(x.watchers) == 0 {
		return
	}
	x.toldAt = latest(time.Now().Round(0), x.toldAt.Add(1)) // even where the clock is set back
	change := pod.Change{At: x.toldAt, Old: old, New: item}
	change.Sandbox, change.Containers = x.podOf(old, item)
	for c := range x.watchers {
		select {
		case c <- change:
		default:
			close(c)
			delete(x.watchers, c)
		}
	}
}

// podOf returns the sandbox that one is or is in, and its containers; x.mu must be held.
func (x *Index) podOf(old, now pod.Item) (*pod.Sandbox, []pod.Container) {
	some := now
	if some == (pod.Item{}) {
		some = old
	}
	sandbox, id := some.Sandbox, some.ID()
	if sandbox == nil {
		id = some.Container.SandboxID
		if e := x.entries[id]; e != nil && x.visible(e) {
			sandbox = e.item.Sandbox
		}
	}
	var containers []pod.Container
	for _, e := range x.entries {
		if c := e.item.Container; c != nil && c.SandboxID == id && x.visible(e) {
			containers = append(containers, *c)
		}
	}
	newestFirst(containers, containerKey)
	return sandbox, containers
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
