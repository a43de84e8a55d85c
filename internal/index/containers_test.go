package index_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/index"
	"github.com/mascri/mascri/internal/pod"
)

// shop is an engine with both kinds of containers, which a test changes before it refreshes.
type shop struct {
	mu    sync.Mutex // guards the following field
	items map[string]pod.Item
}

func (s *shop) put(item pod.Item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.items[item.ID()] = item
}

func (s *shop) IDs(context.Context) (ids []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.items {
		ids = append(ids, id)
	}
	return ids, nil
}

func (s *shop) Look(_ context.Context, id string) (pod.Item, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if item, ok := s.items[id]; ok {
		return item, nil
	}
	return pod.Item{}, fmt.Errorf("%s: %w", id, errdefs.ErrNotFound)
}

func (s *shop) Hints(ctx context.Context, f func(pod.Hint)) error {
	f(pod.Hint{Kind: pod.HintConnected})
	<-ctx.Done()
	return ctx.Err()
}

// openShop runs an index on a sandbox "ab1" and its containers "ab2" and "ac3".
func openShop(t *testing.T) (*shop, *index.Index) {
	t.Helper()
	src := &shop{items: map[string]pod.Item{}}
	s := sandbox("ab1", 1)
	src.put(pod.Item{Sandbox: &s})
	for i, id := range []string{"ab2", "ac3"} {
		src.put(pod.Item{Container: &pod.Container{ID: id, Name: "name-" + id, CreatedAt: time.Unix(int64(i), 0), Fixed: pod.Fixed{SandboxID: "ab1", Config: &cri.ContainerConfig{}}}})
	}
	x := index.New(index.Options{Source: src, Logger: slog.New(slog.DiscardHandler), Changed: func(string) {}, Connected: func(context.Context) {}})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = x.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	synctest.Wait()
	return src, x
}

// A sandbox is never taken for a container or the other way round, by an id or a prefix.
func TestKindsAreApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, x := openShop(t)
		var listed []string
		for _, c := range x.Containers() {
			listed = append(listed, c.ID)
		}
		if fmt.Sprint(listed) != "[ac3 ab2]" || len(x.Sandboxes()) != 1 {
			t.Errorf("containers %v, newest first; sandboxes %v", listed, x.Sandboxes())
		}
		if s, err := x.Sandbox("ab"); err != nil || s.ID != "ab1" {
			t.Errorf("sandbox ab: %v, %v", s.ID, err)
		}
		if c, err := x.Container("ab"); err != nil || c.ID != "ab2" {
			t.Errorf("container ab: %v, %v", c.ID, err)
		}
		if _, err := x.Container("a"); !errdefs.IsInvalidArgument(err) {
			t.Errorf("container a: %v, want InvalidArgument for two", err)
		}
		if _, err := x.Container("ab1"); !errdefs.IsNotFound(err) {
			t.Errorf("the sandbox as a container: %v", err)
		}
		if _, err := x.Sandbox("ab2"); !errdefs.IsNotFound(err) {
			t.Errorf("a container as a sandbox: %v", err)
		}
	})
}

// Whatever changes in a container's life that no hint told of is found by a resync, and
// counted.
func TestResyncFindsChangesOfContainers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, x := openShop(t)
		for i, change := range []func(*pod.Container){
			func(c *pod.Container) { c.Running, c.PID, c.StartedAt = true, 7, time.Unix(9, 0) },
			func(c *pod.Container) { c.Resources = &cri.LinuxContainerResources{CpuShares: 5} },
			func(c *pod.Container) { c.OOMKilled = true },
			func(c *pod.Container) { c.Running, c.PID, c.FinishedAt, c.ExitCode = false, 0, time.Unix(99, 0), 5 },
			func(c *pod.Container) { c.StartError = "no such file" },
			func(*pod.Container) {}, // which is no change
		} {
			c, err := x.Container("ab2")
			if err != nil {
				t.Fatal(err)
			}
			change(&c)
			src.put(pod.Item{Container: &c})
			before := x.Drift()
			time.Sleep(6 * time.Minute)
			synctest.Wait()
			if want := uint64(min(1, 5-i)); x.Drift()-before != want {
				t.Errorf("change %d: %d counted, want %d", i, x.Drift()-before, want)
			}
		}
		if c, _ := x.Container("ab2"); c.ExitCode != 5 || !c.OOMKilled || c.StartError == "" || c.Resources.GetCpuShares() != 5 {
			t.Errorf("after all: %+v", c)
		}
	})
}
