package enginetest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

// ready returns the id of a container whose program takes signals by now.
func (s Subject) ready(t *testing.T, spec pod.ContainerSpec) string {
	t.Helper()
	id := s.runContainer(t, spec)
	s.User.Await(t, id)
	return id
}

func stopSignalHonoured(t *testing.T, s Subject) {
	for signal, code := range map[cri.Signal]int{
		cri.Signal_SIGNAL_RUNTIME_DEFAULT: codeTerminated, cri.Signal_SIGNAL_SIGUSR1: codeUser, cri.Signal_SIGNAL_SIGKILL: codeKilled,
	} {
		spec := s.in(t, strings.ToLower(signal.String()))
		spec.Config.StopSignal = signal
		id := s.ready(t, spec)
		began := time.Now()
		for range 2 {
			if err := s.Engine.Stop(t.Context(), id, time.Minute); err != nil {
				t.Fatalf("%s: stop: %v", signal, err)
			}
		}
		if got := s.container(t, id); got.Running || got.ExitCode != code || time.Since(began) > patience {
			t.Errorf("%s: running %t, exit code %d after %v; want code %d", signal, got.Running, got.ExitCode, time.Since(began), code)
		}
	}
	created := s.createContainer(t, s.in(t, "created"))
	if err := s.Engine.Stop(t.Context(), created, time.Minute); err != nil {
		t.Errorf("stop of what never ran: %v", err)
	}
	if got := s.container(t, created); got.State() != cri.ContainerState_CONTAINER_CREATED {
		t.Errorf("stop of what never ran made it %s", got.State())
	}
}

func stopKills(t *testing.T, s Subject) {
	id := s.ready(t, s.in(t, "a", "ignore"))
	began := time.Now()
	if err := s.Engine.Stop(t.Context(), id, time.Second); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < time.Second || took > patience {
		t.Errorf("stop took %v", took)
	}
	if got := s.container(t, id); got.Running || got.ExitCode != codeKilled {
		t.Errorf("running %t, exit code %d", got.Running, got.ExitCode)
	}
}

func stopTwice(t *testing.T, s Subject) {
	id := s.ready(t, s.in(t, "a", "ignore"))
	long := make(chan error, 1)
	go func() { long <- s.Engine.Stop(t.Context(), id, time.Hour) }()
	time.Sleep(100 * time.Millisecond) // let it be the first
	began := time.Now()
	if err := s.Engine.Stop(t.Context(), id, time.Second); err != nil {
		t.Fatalf("the short stop: %v", err)
	}
	if got := s.container(t, id); got.Running || time.Since(began) > patience {
		t.Errorf("running %t after %v", got.Running, time.Since(began))
	}
	select {
	case err := <-long:
		if err != nil {
			t.Errorf("the long stop: %v", err)
		}
	case <-time.After(patience):
		t.Error("the long stop goes on after the end")
	}
}

func stopGoesOn(t *testing.T, s Subject) {
	id := s.ready(t, s.in(t, "a", "ignore"))
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := s.Engine.Stop(ctx, id, time.Second); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("stop: %v, want DeadlineExceeded", err)
	}
	if got := s.container(t, id); !got.Running {
		t.Error("it ended before its grace period")
	}
	if err := s.Engine.Kill(t.Context(), id); err != nil {
		t.Errorf("kill meanwhile: %v", err)
	}
}

func updated(t *testing.T, s Subject) {
	spec := s.in(t, "a")
	before := &cri.LinuxContainerResources{CpuPeriod: 100000, CpuQuota: 50000, CpuShares: 512, MemoryLimitInBytes: 64 << 20}
	spec.Config.Linux.Resources = before
	id := s.createContainer(t, spec)
	want := s.container(t, id).Resources
	for _, asked := range []*cri.LinuxContainerResources{
		{CpuShares: 1024},                 // before the start
		{CpuQuota: 20000, CpuShares: 256}, // and after it
		{MemoryLimitInBytes: 128 << 20},
		{MemoryLimitInBytes: 96 << 20},
		{},
	} {
		if err := s.Engine.UpdateContainer(t.Context(), id, asked); err != nil {
			t.Fatalf("update by %v: %v", asked, err)
		}
		proto.Merge(want, asked)
		if memory := asked.GetMemoryLimitInBytes(); memory > 0 && want.GetMemorySwapLimitInBytes() > 0 {
			want.MemorySwapLimitInBytes = memory // swap stays kept out, where it can be
		}
		if got := s.container(t, id).Resources; !proto.Equal(want, got) {
			t.Errorf("after %v: %v, want %v", asked, got, want)
		}
		if err := s.Engine.Start(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
}

func updateRefused(t *testing.T, s Subject) {
	id := s.runContainer(t, s.in(t, "a"))
	before := s.container(t, id).Resources
	err := s.Engine.UpdateContainer(t.Context(), id, &cri.LinuxContainerResources{CpuShares: 2, CpuQuota: -5})
	if !errors.Is(err, errdefs.ErrInvalidArgument) || !strings.Contains(err.Error(), "cpu_quota") {
		t.Errorf("update: %v, want InvalidArgument with the field", err)
	}
	if after := s.container(t, id).Resources; !proto.Equal(before, after) {
		t.Errorf("refused, but %v became %v", before, after)
	}
}

func containerAnswersLost(t *testing.T, s Subject) {
	unavailable := func(method string, err error) {
		t.Helper()
		if !errors.Is(err, errdefs.ErrUnavailable) {
			t.Errorf("%s whose answer is lost: %v, want Unavailable", method, err)
		}
	}
	spec := s.in(t, "a")
	s.createContainer(t, s.in(t, "b")) // the image's users are known now
	s.Line.LoseAnswer("CreateContainer")
	_, err := s.Engine.CreateContainer(t.Context(), spec)
	unavailable("create", err)
	id := s.container(t, spec.Name).ID
	if _, err := s.Engine.CreateContainer(t.Context(), spec); !errors.Is(err, errdefs.ErrAlreadyExists) {
		t.Errorf("create again: %v, want AlreadyExists", err)
	}
	if err := s.Engine.Start(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	s.User.Await(t, id)
	for _, step := range []struct {
		method string
		call   func() error
		state  string
	}{
		{"UpdateContainer", func() error {
			return s.Engine.UpdateContainer(t.Context(), id, &cri.LinuxContainerResources{CpuShares: 99})
		}, "running"},
		{"Stop", func() error { return s.Engine.Stop(t.Context(), id, time.Minute) }, "exited"},
	} {
		s.Line.LoseAnswer(step.method)
		unavailable(step.method, step.call())
		if state := s.User.State(t, id); state != step.state {
			t.Errorf("after a lost %s the container is %q, want %q", step.method, state, step.state)
		}
		if err := step.call(); err != nil {
			t.Errorf("%s again: %v", step.method, err)
		}
	}
	if got := s.container(t, id); got.Resources.GetCpuShares() != 99 || got.ExitCode != codeTerminated {
		t.Errorf("after all: %+v", got)
	}
}

// noProbesLeft counts all containers of the engine, whoever made them.
func noProbesLeft(t *testing.T, s Subject) {
	spec := s.in(t, "a")
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	_, _ = s.Engine.CreateContainer(canceled, spec)
	s.Line.LoseAnswer("CreateContainer") // of the look into the image, where there is one
	if _, err := s.Engine.CreateContainer(t.Context(), spec); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("create whose answer is lost: %v, want Unavailable", err)
	}
	if err := s.Engine.Remove(t.Context(), spec.Name); err != nil {
		t.Fatal(err)
	}
	s.createContainer(t, spec)
	if n := s.User.Count(t); n != 2 {
		t.Errorf("the engine has %d containers, want the sandbox and its container", n)
	}
}
