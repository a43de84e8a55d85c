package enginetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

func missingIsNotFound(t *testing.T, s Subject) {
	for _, id := range []string{"missing", strings.Repeat("0", 64), ""} {
		if _, err := s.Engine.Inspect(t.Context(), id); !errors.Is(err, errdefs.ErrNotFound) {
			t.Errorf("inspect %q: %v, want NotFound", id, err)
		}
	}
	if err := s.Engine.Start(t.Context(), "missing"); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("start: %v, want NotFound", err)
	}
	spec := s.spec("a", s.Instance)
	spec.Image = "sha256:" + strings.Repeat("f", 64)
	if _, err := s.Engine.CreateSandbox(t.Context(), spec); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("create from a missing image: %v, want NotFound", err)
	}
}

func invalidIsRefused(t *testing.T, s Subject) {
	spec := s.spec("a", s.Instance)
	spec.RuntimeHandler = "unheard-of"
	_, err := s.Engine.CreateSandbox(t.Context(), spec)
	if !errors.Is(err, errdefs.ErrInvalidArgument) || !strings.Contains(err.Error(), "runtime_handler") || !strings.Contains(err.Error(), "runc") {
		t.Errorf("create with an unknown runtime handler: %v", err)
	}
	if state := s.User.State(t, spec.Name); state != "" {
		t.Errorf("refused, but the container is %s", state)
	}
}

func listIsOwn(t *testing.T, s Subject) {
	created, running, removed := s.create(t, "a"), s.run(t, "b"), s.create(t, "c")
	ended := s.run(t, "d")
	s.User.Terminate(t, ended)
	s.User.Remove(t, removed)
	s.User.Run(t, "nginx", nil)
	other, err := s.As("other").CreateSandbox(t.Context(), s.spec("o", "other"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]string{s.Instance: {created, running, ended}, "other": {other}, "third": {}} {
		got, err := s.As(name).IDs(t.Context())
		slices.Sort(got)
		slices.Sort(want)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("sandboxes of %s: %v, %v; want %v", name, got, err, want)
		}
	}
}

// foreignLabels are those of containers that are not this instance's sandboxes.
func foreignLabels(t *testing.T, s Subject) map[string]map[string]string {
	t.Helper()
	others, err := pod.Labels(s.spec("o", "other"))
	if err != nil {
		t.Fatal(err)
	}
	newer := maps.Clone(others)
	newer["io.mascri.v99"] = newer[pod.LabelKey]
	delete(newer, pod.LabelKey)
	probe, err := pod.ProbeLabels(s.Instance)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]map[string]string{
		"plain":    nil,
		"probe":    probe,
		"other":    others,
		"newer":    newer,
		"kind":     {pod.LabelKey: `{"kind":"something","instance":"` + s.Instance + `"}`},
		"nonsense": {pod.LabelKey: "?"},
	}
}

func foreignLeftAlone(t *testing.T, s Subject) {
	for name, labels := range foreignLabels(t, s) {
		id := s.User.Run(t, name, labels)
		for _, arg := range []string{id, name} {
			if _, err := s.Engine.Inspect(t.Context(), arg); !errors.Is(err, pod.ErrForeign) {
				t.Errorf("inspect %s: %v, want ErrForeign", name, err)
			}
			if err := s.Engine.Kill(t.Context(), arg); err != nil {
				t.Errorf("kill %s: %v", name, err)
			}
			if err := s.Engine.Remove(t.Context(), arg); err != nil {
				t.Errorf("remove %s: %v", name, err)
			}
		}
		if state := s.User.State(t, id); state != "running" {
			t.Errorf("container %s is %q, it ran", name, state)
		}
	}
	if ids, err := s.Engine.IDs(t.Context()); err != nil || len(ids) != 0 {
		t.Errorf("sandboxes: %v, %v; want none", ids, err)
	}
}

func lostAnswers(t *testing.T, s Subject) {
	unavailable := func(method string, err error) {
		t.Helper()
		if !errors.Is(err, errdefs.ErrUnavailable) {
			t.Errorf("%s whose answer is lost: %v, want Unavailable", method, err)
		}
	}
	name := s.spec("a", s.Instance).Name
	s.Line.LoseAnswer("CreateSandbox")
	_, err := s.Engine.CreateSandbox(t.Context(), s.spec("a", s.Instance))
	unavailable("create", err)
	id := s.inspect(t, name).ID
	if _, err := s.Engine.CreateSandbox(t.Context(), s.spec("a", s.Instance)); !errors.Is(err, errdefs.ErrAlreadyExists) {
		t.Errorf("create again: %v, want AlreadyExists", err)
	}
	for _, step := range []struct {
		method string
		call   func(context.Context, string) error
		state  string
	}{
		{"Start", s.Engine.Start, "running"}, {"Kill", s.Engine.Kill, "exited"}, {"Remove", s.Engine.Remove, ""},
	} {
		s.Line.LoseAnswer(step.method)
		unavailable(step.method, step.call(t.Context(), id))
		if state := s.User.State(t, id); state != step.state {
			t.Errorf("after a lost %s the container is %q, want %q", step.method, state, step.state)
		}
		if step.method != "Remove" { // of what is gone there is nothing to start or kill
			if err := step.call(t.Context(), id); err != nil {
				t.Errorf("%s again: %v", step.method, err)
			}
		}
	}
	if err := s.Engine.Remove(t.Context(), name); err != nil {
		t.Errorf("remove again: %v", err)
	}
}

// calls are all methods but Hints, with arguments that fit no container.
func calls(s Subject) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"Ping":        s.Engine.Ping,
		"Facts":       func(ctx context.Context) error { _, err := s.Engine.Facts(ctx); return err },
		"Pools":       func(ctx context.Context) error { _, err := s.Engine.Pools(ctx); return err },
		"EnsureImage": func(ctx context.Context) error { _, err := s.Engine.EnsureImage(ctx, s.Image, nil); return err },
		"CreateSandbox": func(ctx context.Context) error {
			_, err := s.Engine.CreateSandbox(ctx, s.spec("z", s.Instance))
			return err
		},
		"Start":   func(ctx context.Context) error { return s.Engine.Start(ctx, "missing") },
		"Kill":    func(ctx context.Context) error { return s.Engine.Kill(ctx, "missing") },
		"Remove":  func(ctx context.Context) error { return s.Engine.Remove(ctx, "missing") },
		"Inspect": func(ctx context.Context) error { _, err := s.Engine.Inspect(ctx, "missing"); return err },
		"CreateContainer": func(ctx context.Context) error {
			_, err := s.Engine.CreateContainer(ctx, s.workload(pod.Sandbox{ID: "missing"}, pod.Image{ID: s.Image}, "z"))
			return err
		},
		"InspectContainer": func(ctx context.Context) error { _, err := s.Engine.InspectContainer(ctx, "missing"); return err },
		"Look":             func(ctx context.Context) error { _, err := s.Engine.Look(ctx, "missing"); return err },
		"Stop":             func(ctx context.Context) error { return s.Engine.Stop(ctx, "missing", time.Second) },
		"UpdateContainer": func(ctx context.Context) error {
			return s.Engine.UpdateContainer(ctx, "missing", &cri.LinuxContainerResources{})
		},
		"IDs":   func(ctx context.Context) error { _, err := s.Engine.IDs(ctx); return err },
		"Hints": func(ctx context.Context) error { return s.Engine.Hints(ctx, func(pod.Hint) {}) },
	}
}

func gone(t *testing.T, s Subject) {
	id := s.run(t, "a")
	ended := make(chan error, 1)
	connected := make(chan struct{}, 100)
	go func() { ended <- s.Engine.Hints(t.Context(), func(pod.Hint) { connected <- struct{}{} }) }()
	<-connected
	s.Line.Down()
	select {
	case err := <-ended:
		if !errors.Is(err, errdefs.ErrUnavailable) {
			t.Errorf("hints ended with %v, want Unavailable", err)
		}
	case <-time.After(patience):
		t.Error("hints go on without an engine")
	}
	for method, call := range calls(s) {
		err := call(t.Context())
		if !errors.Is(err, errdefs.ErrUnavailable) || !strings.Contains(err.Error(), "is it running?") {
			t.Errorf("%s without an engine: %v, want Unavailable", method, err)
		}
	}
	s.Line.Up()
	if !s.inspect(t, id).Running {
		t.Error("the sandbox does not run any more")
	}
}

func endedContext(t *testing.T, s Subject) {
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	for method, call := range calls(s) {
		if err := call(canceled); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want Canceled", method, err)
		}
		if err := call(late); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v, want DeadlineExceeded", method, err)
		}
	}
	if state := s.User.State(t, s.spec("z", s.Instance).Name); state != "" {
		t.Errorf("a container was made: %s", state)
	}
}

func imageLoaded(t *testing.T, s Subject) {
	id, err := s.Engine.EnsureImage(t.Context(), s.Image, nil)
	if err != nil || id != s.Image {
		t.Errorf("image that is there: %q, %v; want %q", id, err, s.Image)
	}
	const ref = "localhost/mascri-test/other:1"
	_, err = s.Engine.EnsureImage(t.Context(), ref, nil)
	if !errors.Is(err, errdefs.ErrNotFound) || !strings.Contains(err.Error(), ref) {
		t.Errorf("missing image: %v, want NotFound with its name", err)
	}
	refused := errors.New("no archive today")
	if _, err := s.Engine.EnsureImage(t.Context(), ref, func() (io.ReadCloser, error) { return nil, refused }); !errors.Is(err, refused) {
		t.Errorf("archive that can't be opened: %v, want %v", err, refused)
	}
	archive, err := imageArchive([]byte("no program"), map[string]string{ref: ""})
	if err != nil {
		t.Fatal(err)
	}
	var opened atomic.Int32
	ids := make([]string, 8)
	var calls sync.WaitGroup
	for i := range ids {
		calls.Go(func() {
			var err error
			ids[i], err = s.Engine.EnsureImage(t.Context(), ref, func() (io.ReadCloser, error) {
				opened.Add(1)
				return io.NopCloser(bytes.NewReader(archive)), nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
	if ids = slices.Compact(ids); len(ids) != 1 || !strings.HasPrefix(ids[0], "sha256:") || opened.Load() != 1 {
		t.Errorf("loaded image: %q, archive opened %d times; want one id, and once", ids, opened.Load())
	}
}

func factsTold(t *testing.T, s Subject) {
	facts, err := s.Engine.Facts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if facts.Version == "" || facts.APIVersion == "" || facts.RootDir == "" || facts.Kernel == "" ||
		facts.CgroupDriver == "" || facts.CgroupVersion == "" || !slices.Contains(facts.Runtimes, facts.DefaultRuntime) {
		t.Errorf("facts: %+v", facts)
	}
	if len(facts.Problems) != 0 {
		t.Errorf("problems: %v", facts.Problems)
	}
	pools, err := s.Engine.Pools(t.Context())
	if err != nil || len(pools) == 0 {
		t.Errorf("pools: %v, %v", pools, err)
	}
	for _, pool := range pools {
		if pool != pool.Masked() {
			t.Errorf("pool %v has host bits", pool)
		}
	}
}
