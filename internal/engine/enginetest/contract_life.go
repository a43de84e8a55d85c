package enginetest

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/mascri/mascri/internal/pod"
)

func createdDoesNotRun(t *testing.T, s Subject) {
	before := time.Now().Add(-time.Second)
	spec := s.spec("a", s.Instance)
	id := s.create(t, "a")
	if !regexp.MustCompile(`^[0-9a-f]{64}$`).MatchString(id) {
		t.Errorf("id %q is not 64 hex digits", id)
	}
	got := s.inspect(t, id)
	if got.CreatedAt.Before(before) || got.CreatedAt.After(time.Now().Add(time.Second)) {
		t.Errorf("created at %v, it is %v", got.CreatedAt, time.Now())
	}
	want := pod.Sandbox{
		ID: id, Name: spec.Name, Instance: s.Instance, Config: spec.Config, Image: s.Image,
		CreatedAt: got.CreatedAt, Files: spec.Files,
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("inspected sandbox (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(got, s.inspect(t, spec.Name), protocmp.Transform()); diff != "" {
		t.Errorf("inspected by name (-by id +by name):\n%s", diff)
	}
}

func nameGivenOnce(t *testing.T, s Subject) {
	id := s.run(t, "a")
	if _, err := s.Engine.CreateSandbox(t.Context(), s.spec("a", s.Instance)); !errors.Is(err, errdefs.ErrAlreadyExists) {
		t.Errorf("second create: %v, want AlreadyExists", err)
	}
	if _, err := s.As("other").CreateSandbox(t.Context(), s.spec("a", "other")); !errors.Is(err, errdefs.ErrAlreadyExists) {
		t.Errorf("another instance's create: %v, want AlreadyExists", err)
	}
	if !s.inspect(t, id).Running {
		t.Error("the first sandbox does not run any more")
	}
}

func startedRuns(t *testing.T, s Subject) {
	id := s.run(t, "a")
	got := s.inspect(t, id)
	if !got.Running || got.PID <= 0 || got.NetnsInode == 0 {
		t.Errorf("running %t, pid %d, netns %d", got.Running, got.PID, got.NetnsInode)
	}
	if got.StartedAt.Before(got.CreatedAt) || !got.FinishedAt.IsZero() {
		t.Errorf("created %v, started %v, finished %v", got.CreatedAt, got.StartedAt, got.FinishedAt)
	}
	for _, file := range []string{got.Files.ResolvConf, got.Files.Hosts, got.Files.Hostname} {
		if _, err := os.Stat(file); err != nil {
			t.Error(err)
		}
	}
	if err := s.Engine.Start(t.Context(), id); err != nil {
		t.Errorf("start of what runs: %v", err)
	}
	if again := s.inspect(t, id); again.PID != got.PID {
		t.Errorf("start of what runs changed the pid from %d to %d", got.PID, again.PID)
	}
}

func endsByItself(t *testing.T, s Subject) {
	id := s.run(t, "a")
	s.User.Terminate(t, id)
	got := s.inspect(t, id)
	if got.Running || got.PID != 0 || got.NetnsInode != 0 || got.ExitCode != 3 {
		t.Errorf("running %t, pid %d, netns %d, exit code %d; want false, 0, 0, 3", got.Running, got.PID, got.NetnsInode, got.ExitCode)
	}
	if got.FinishedAt.Before(got.StartedAt) {
		t.Errorf("started %v, finished %v", got.StartedAt, got.FinishedAt)
	}
}

func killIsIdempotent(t *testing.T, s Subject) {
	created, running := s.create(t, "a"), s.run(t, "b")
	for _, id := range []string{created, running, running, "k8s_POD_b", "missing"} {
		if err := s.Engine.Kill(t.Context(), id); err != nil {
			t.Errorf("kill %s: %v", id, err)
		}
	}
	if got := s.inspect(t, running); got.Running || got.ExitCode != 137 || got.FinishedAt.IsZero() {
		t.Errorf("killed sandbox: running %t, exit code %d, finished %v", got.Running, got.ExitCode, got.FinishedAt)
	}
	if got := s.inspect(t, created); !got.StartedAt.IsZero() || !got.FinishedAt.IsZero() {
		t.Errorf("sandbox that never ran: started %v, finished %v", got.StartedAt, got.FinishedAt)
	}
}

func startedAgain(t *testing.T, s Subject) {
	id := s.run(t, "a")
	if err := s.Engine.Kill(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	ended := s.inspect(t, id).FinishedAt
	if err := s.Engine.Start(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if got := s.inspect(t, id); !got.Running || got.NetnsInode == 0 || got.ExitCode != 0 || !got.StartedAt.After(ended) {
		t.Errorf("running %t, netns %d, exit code %d, started %v after an end at %v", got.Running, got.NetnsInode, got.ExitCode, got.StartedAt, ended)
	}
}

func removeIsIdempotent(t *testing.T, s Subject) {
	created, running := s.create(t, "a"), s.run(t, "b")
	for _, id := range []string{created, created, running, "k8s_POD_b", "missing"} {
		if err := s.Engine.Remove(t.Context(), id); err != nil {
			t.Errorf("remove %s: %v", id, err)
		}
	}
	if ids, err := s.Engine.IDs(t.Context()); err != nil || len(ids) != 0 {
		t.Errorf("left: %v, %v", ids, err)
	}
	s.create(t, "a")
	if err := s.Engine.Remove(t.Context(), "k8s_POD_a"); err != nil {
		t.Errorf("remove by name: %v", err)
	}
	if state := s.User.State(t, "k8s_POD_a"); state != "" {
		t.Errorf("removed by name, it is still %s", state)
	}
}

func removedTwiceAtOnce(t *testing.T, s Subject) {
	id := s.run(t, "a")
	var both sync.WaitGroup
	for range 4 {
		both.Go(func() {
			if err := s.Engine.Remove(t.Context(), id); err != nil {
				t.Errorf("remove: %v", err)
			}
			if state := s.User.State(t, id); state != "" {
				t.Errorf("after a remove returned, the container is %s", state)
			}
		})
	}
	both.Wait()
}

func independent(t *testing.T, s Subject) {
	var all sync.WaitGroup
	for i := range 6 {
		all.Go(func() {
			name := fmt.Sprint("p", i)
			id, err := s.Engine.CreateSandbox(t.Context(), s.spec(name, s.Instance))
			if err == nil {
				err = s.Engine.Start(t.Context(), id)
			}
			got, inspectErr := s.Engine.Inspect(t.Context(), id)
			if !got.Running || got.Config.GetMetadata().GetName() != name {
				t.Errorf("%s: inspected %v", name, got)
			}
			if err := errors.Join(err, inspectErr, s.Engine.Kill(t.Context(), id), s.Engine.Remove(t.Context(), id)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if ids, err := s.Engine.IDs(t.Context()); err != nil || len(ids) != 0 {
		t.Errorf("left: %v, %v", ids, err)
	}
}
