package index

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/mascri/mascri/internal/pod"
)

// Sandboxes returns all sandboxes that are not hidden, newest first. It is the same slice for
// all until something changes, and must not be changed.
func (x *Index) Sandboxes() []pod.Sandbox {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.sandboxes == nil {
		x.sandboxes = all(x, pickSandbox)
		newestFirst(x.sandboxes, func(s pod.Sandbox) (time.Time, string) { return s.CreatedAt, s.ID })
	}
	return x.sandboxes
}

// Containers is Sandboxes for workload containers.
func (x *Index) Containers() []pod.Container {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.containers == nil {
		x.containers = all(x, pickContainer)
		newestFirst(x.containers, containerKey)
	}
	return x.containers
}

// Size counts the sandboxes and containers that are not hidden.
func (x *Index) Size() (sandboxes, containers int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, e := range x.entries {
		switch {
		case !x.visible(e):
		case e.item.Sandbox != nil:
			sandboxes++
		default:
			containers++
		}
	}
	return sandboxes, containers
}

// Sandbox looks a sandbox up by its id or a unique prefix of it. The error is
// errdefs.ErrNotFound, or ErrInvalidArgument for none or a prefix of several.
func (x *Index) Sandbox(id string) (pod.Sandbox, error) {
	return find(x, "sandbox", "sandboxes", id, pickSandbox)
}

// Container is Sandbox for a workload container.
func (x *Index) Container(id string) (pod.Container, error) {
	return find(x, "container", "containers", id, pickContainer)
}

func containerKey(c pod.Container) (time.Time, string) { return c.CreatedAt, c.ID }

func pickSandbox(i pod.Item) *pod.Sandbox     { return i.Sandbox }
func pickContainer(i pod.Item) *pod.Container { return i.Container }

// all returns a slice even where it is empty; x.mu must be held.
func all[T any](x *Index, pick func(pod.Item) *T) []T {
	list := make([]T, 0, len(x.entries))
	for _, e := range x.entries {
		if value := pick(e.item); value != nil && x.visible(e) {
			list = append(list, *value)
		}
	}
	return list
}

func newestFirst[T any](list []T, key func(T) (created time.Time, id string)) {
	slices.SortFunc(list, func(a, b T) int {
		createdA, idA := key(a)
		createdB, idB := key(b)
		if c := createdB.Compare(createdA); c != 0 {
			return c
		}
		return strings.Compare(idA, idB)
	})
}

func find[T any](x *Index, kind, kinds, id string, pick func(pod.Item) *T) (T, error) {
	var none T
	if id == "" {
		return none, fmt.Errorf("%s id: missing: %w", kind, errdefs.ErrInvalidArgument)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if e := x.entries[id]; e != nil && x.visible(e) {
		if value := pick(e.item); value != nil {
			return *value, nil
		}
	}
	var found []*T
	for full, e := range x.entries {
		if value := pick(e.item); value != nil && strings.HasPrefix(full, id) && x.visible(e) {
			found = append(found, value)
		}
	}
	switch len(found) {
	case 0:
		return none, fmt.Errorf("%s %q: %w", kind, id, errdefs.ErrNotFound)
	case 1:
		return *found[0], nil
	}
	return none, fmt.Errorf("%s id %q fits %d %s; give more of it: %w", kind, id, len(found), kinds, errdefs.ErrInvalidArgument)
}
