package enginetest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

// ContainerContract tests what engine.Engine promises of workload containers. subject is
// called for each of its tests.
func ContainerContract(t *testing.T, subject func(t *testing.T) Subject) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, s Subject)
	}{
		{"a created container is as asked and does not run", createdContainer},
		{"a container's name is given once", containerNameGivenOnce},
		{"what is missing for a container is NotFound", missingForContainer},
		{"users are those of the request or the image", usersResolved},
		{"users that don't exist are refused by name", usersRefused},
		{"a started container joins its sandbox", startedContainer},
		{"a container that ends tells how", containerEnds},
		{"what can't be started has ended", startFails},
		{"nothing starts in a sandbox that does not run", startWithoutSandbox},
		{"too much memory is told", outOfMemory},
		{"stop honours the stop signal", stopSignalHonoured},
		{"stop kills what takes no notice", stopKills},
		{"a second stop may be shorter", stopTwice},
		{"a stop whose context ends goes on", stopGoesOn},
		{"an update changes what it names", updated},
		{"an update is refused by its field", updateRefused},
		{"lists, looks and hints are of both kinds", bothKinds},
		{"a container of others is left alone", foreignContainerLeftAlone},
		{"a lost answer of a container's can be asked again", containerAnswersLost},
		{"nothing is left of looking into images", noProbesLeft},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, subject(t)) })
	}
}

// workload returns a container of sandbox whose name is of its own and whose command is
// words after the image's program.
func (s Subject) workload(sandbox pod.Sandbox, image pod.Image, name string, words ...string) pod.ContainerSpec {
	return pod.ContainerSpec{
		Name: "k8s_" + name, Instance: s.Instance, Sandbox: sandbox, Image: image,
		Fixed: pod.Fixed{
			SandboxID: sandbox.ID, ImageName: ImageRef, ImageRef: image.ID, LogPath: "/var/log/pods/" + name + ".log",
			Config: &cri.ContainerConfig{
				Metadata:    &cri.ContainerMetadata{Name: name, Attempt: 1},
				Image:       &cri.ImageSpec{Image: image.ID},
				Args:        words,
				Labels:      map[string]string{"app": name},
				Annotations: map[string]string{"note": "ä \"quoted\"\n"},
				Envs:        []*cri.KeyValue{{Key: "PASSWORD", Value: []byte("secret")}},
				Linux:       &cri.LinuxContainerConfig{SecurityContext: &cri.LinuxContainerSecurityContext{}},
			},
		},
	}
}

// in returns a container like workload's, in a sandbox that runs.
func (s Subject) in(t *testing.T, name string, words ...string) pod.ContainerSpec {
	t.Helper()
	return s.workload(s.inspect(t, s.run(t, "of-"+name)), s.image(t, s.Image), name, words...)
}

func (s Subject) createContainer(t *testing.T, spec pod.ContainerSpec) string {
	t.Helper()
	id, err := s.Engine.CreateContainer(t.Context(), spec)
	if err != nil {
		t.Fatalf("create container %s: %v", spec.Name, err)
	}
	return id
}

func (s Subject) runContainer(t *testing.T, spec pod.ContainerSpec) string {
	t.Helper()
	id := s.createContainer(t, spec)
	if err := s.Engine.Start(t.Context(), id); err != nil {
		t.Fatalf("start container %s: %v", spec.Name, err)
	}
	return id
}

func (s Subject) container(t *testing.T, id string) pod.Container {
	t.Helper()
	got, err := s.Engine.InspectContainer(t.Context(), id)
	if err != nil {
		t.Fatalf("inspect container %s: %v", id, err)
	}
	return got
}

// awaitEnd returns the container once it does not run.
func (s Subject) awaitEnd(t *testing.T, id string) pod.Container {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if got := s.container(t, id); got.State() == cri.ContainerState_CONTAINER_EXITED {
			return got
		}
	}
	t.Fatalf("container %s does not end", id)
	return pod.Container{}
}

func createdContainer(t *testing.T, s Subject) {
	spec := s.in(t, "a")
	spec.Config.Linux.Resources = &cri.LinuxContainerResources{CpuShares: 512, CpuQuota: 20000, CpuPeriod: 50000}
	spec.Config.StopSignal = cri.Signal_SIGNAL_SIGUSR1
	id := s.createContainer(t, spec)
	got := s.container(t, id)
	facts, err := s.Engine.Facts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := pod.Container{
		Fixed: spec.Fixed, ID: id, Name: spec.Name, Instance: s.Instance, Image: spec.Image.ID, CreatedAt: got.CreatedAt,
		StopSignal: cri.Signal_SIGNAL_SIGUSR1, LogSource: filepath.Join(facts.RootDir, "containers", id),
		Resources: &cri.LinuxContainerResources{CpuShares: 512, CpuQuota: 20000, CpuPeriod: 50000, OomScoreAdj: got.Resources.GetOomScoreAdj()},
	}
	want.Config = proto.CloneOf(spec.Config)
	want.Config.Envs = nil // the label has no secrets
	want.User = pod.User{Groups: []int64{0}}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("inspected container (-want +got):\n%s", diff)
	}
	if got.State() != cri.ContainerState_CONTAINER_CREATED {
		t.Errorf("state %s", got.State())
	}
	if diff := cmp.Diff(got, s.container(t, spec.Name), protocmp.Transform()); diff != "" {
		t.Errorf("inspected by name (-by id +by name):\n%s", diff)
	}
}

func containerNameGivenOnce(t *testing.T, s Subject) {
	spec := s.in(t, "a")
	id := s.runContainer(t, spec)
	if _, err := s.Engine.CreateContainer(t.Context(), spec); !errors.Is(err, errdefs.ErrAlreadyExists) {
		t.Errorf("second create: %v, want AlreadyExists", err)
	}
	if !s.container(t, id).Running {
		t.Error("the first container does not run any more")
	}
}

func missingForContainer(t *testing.T, s Subject) {
	spec := s.in(t, "a")
	spec.Image.ID = "sha256:" + strings.Repeat("f", 64)
	if _, err := s.Engine.CreateContainer(t.Context(), spec); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("create from a missing image: %v, want NotFound", err)
	}
	if state := s.User.State(t, spec.Name); state != "" {
		t.Errorf("refused, but the container is %s", state)
	}
	if _, err := s.Engine.InspectContainer(t.Context(), "missing"); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("inspect: %v, want NotFound", err)
	}
	if err := s.Engine.Stop(t.Context(), "missing", time.Second); err != nil {
		t.Errorf("stop: %v", err)
	}
	if err := s.Engine.UpdateContainer(t.Context(), "missing", &cri.LinuxContainerResources{CpuShares: 2}); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("update: %v, want NotFound", err)
	}
}

func startedContainer(t *testing.T, s Subject) {
	spec := s.in(t, "a")
	spec.Config.Linux.SecurityContext.NamespaceOptions = &cri.NamespaceOption{Pid: cri.NamespaceMode_CONTAINER}
	id := s.runContainer(t, spec)
	got := s.container(t, id)
	if got.State() != cri.ContainerState_CONTAINER_RUNNING || got.PID <= 0 || got.StartedAt.Before(got.CreatedAt) || !got.FinishedAt.IsZero() {
		t.Errorf("state %s, pid %d, created %v, started %v, finished %v", got.State(), got.PID, got.CreatedAt, got.StartedAt, got.FinishedAt)
	}
	if err := s.Engine.Start(t.Context(), id); err != nil {
		t.Errorf("start of what runs: %v", err)
	}
	if again := s.container(t, id); again.PID != got.PID {
		t.Errorf("start of what runs changed the pid from %d to %d", got.PID, again.PID)
	}
	if !s.Processes {
		return
	}
	s.User.Await(t, id) // before, it may still be the OCI runtime's process
	for kind, shared := range map[string]bool{"net": true, "ipc": true, "pid": false, "mnt": false} {
		if is := namespaceOf(t, got.PID, kind) == namespaceOf(t, spec.Sandbox.PID, kind); is != shared {
			t.Errorf("%s namespace shared with the sandbox: %t, want %t", kind, is, shared)
		}
	}
	environment, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", got.PID))
	if err != nil || !strings.Contains(string(environment), "PASSWORD=secret") {
		t.Errorf("environment: %q, %v", environment, err)
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/root/etc/resolv.conf", got.PID))
	if err != nil || string(text) != "resolv.conf of the test\n" {
		t.Errorf("resolv.conf: %q, %v", text, err)
	}
}

func namespaceOf(t *testing.T, pid int, kind string) string {
	t.Helper()
	name, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func containerEnds(t *testing.T, s Subject) {
	byItself := s.runContainer(t, s.in(t, "a", "exit", "5"))
	got := s.awaitEnd(t, byItself)
	// Engine 20.10 notes the start when it is through with it: after an end that came at once.
	if got.PID != 0 || got.ExitCode != 5 || got.StartError != "" || got.OOMKilled || got.FinishedAt.IsZero() || got.StartedAt.IsZero() {
		t.Errorf("ended by itself: %+v", got)
	}
	killed := s.runContainer(t, s.in(t, "b"))
	for range 2 {
		if err := s.Engine.Kill(t.Context(), killed); err != nil {
			t.Fatal(err)
		}
	}
	if got := s.container(t, killed); got.State() != cri.ContainerState_CONTAINER_EXITED || got.ExitCode != codeKilled || got.PID != 0 {
		t.Errorf("killed: %+v", got)
	}
	if err := s.Engine.Remove(t.Context(), killed); err != nil {
		t.Fatal(err)
	}
	if state := s.User.State(t, killed); state != "" {
		t.Errorf("removed, but %s", state)
	}
}

func startFails(t *testing.T, s Subject) {
	spec := s.in(t, "a")
	spec.Config.Command, spec.Config.Args = []string{"/no/such/command"}, nil
	id := s.createContainer(t, spec)
	err := s.Engine.Start(t.Context(), id)
	if !errors.Is(err, errdefs.ErrInvalidArgument) || !strings.Contains(err.Error(), "/no/such/command") {
		t.Errorf("start: %v, want InvalidArgument with the command", err)
	}
	got := s.container(t, id)
	if got.State() != cri.ContainerState_CONTAINER_EXITED || got.ExitCode != codeMissing || !got.StartedAt.IsZero() || !strings.Contains(got.StartError, "/no/such/command") {
		t.Errorf("after a failed start: %+v", got)
	}
	if err := errors.Join(s.Engine.Kill(t.Context(), id), s.Engine.Stop(t.Context(), id, time.Second), s.Engine.Remove(t.Context(), id)); err != nil {
		t.Error(err)
	}
}

func startWithoutSandbox(t *testing.T, s Subject) {
	spec := s.in(t, "a")
	id := s.createContainer(t, spec)
	if err := s.Engine.Kill(t.Context(), spec.SandboxID); err != nil {
		t.Fatal(err)
	}
	if err := s.Engine.Start(t.Context(), id); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("start: %v, want FailedPrecondition", err)
	}
	if got := s.container(t, id); got.Running || got.StartError == "" {
		t.Errorf("running %t, start error %q", got.Running, got.StartError)
	}
}

func outOfMemory(t *testing.T, s Subject) {
	spec := s.in(t, "a", "hog")
	spec.Config.Linux.Resources = &cri.LinuxContainerResources{MemoryLimitInBytes: 32 << 20, MemorySwapLimitInBytes: 32 << 20}
	got := s.awaitEnd(t, s.runContainer(t, spec))
	if !got.OOMKilled || got.ExitCode != codeKilled {
		t.Errorf("killed for its memory %t, exit code %d", got.OOMKilled, got.ExitCode)
	}
}

func bothKinds(t *testing.T, s Subject) {
	hints := watch(t, s)
	spec := s.in(t, "a")
	id := s.createContainer(t, spec)
	changed := pod.Hint{Kind: pod.HintChanged, ID: id}
	until(t, hints, changed)
	got, err := s.Engine.IDs(t.Context())
	want := []string{id, spec.SandboxID}
	slices.Sort(got)
	slices.Sort(want)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("ids %v, %v; want %v", got, err, want)
	}
	for _, want := range want {
		item, err := s.Engine.Look(t.Context(), want)
		if err != nil || item.ID() != want || (item.Container != nil) != (want == id) || (item.Sandbox == nil) != (want == id) {
			t.Errorf("look at %s: %+v, %v", want, item, err)
		}
	}
	if _, err := s.Engine.Inspect(t.Context(), id); !errors.Is(err, pod.ErrForeign) {
		t.Errorf("inspect a container as a sandbox: %v, want ErrForeign", err)
	}
	if _, err := s.Engine.InspectContainer(t.Context(), spec.SandboxID); !errors.Is(err, pod.ErrForeign) {
		t.Errorf("inspect a sandbox as a container: %v, want ErrForeign", err)
	}
	if err := s.Engine.Start(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	until(t, hints, changed)
	if err := s.Engine.UpdateContainer(t.Context(), id, &cri.LinuxContainerResources{CpuShares: 100}); err != nil {
		t.Fatal(err)
	}
	until(t, hints, changed)
	s.User.Terminate(t, id)
	until(t, hints, changed)
	if got := s.container(t, id); got.ExitCode != codeTerminated {
		t.Errorf("exit code %d", got.ExitCode)
	}
	s.User.Remove(t, id)
	until(t, hints, pod.Hint{Kind: pod.HintGone, ID: id})
}

func foreignContainerLeftAlone(t *testing.T, s Subject) {
	spec := s.in(t, "a")
	id := s.runContainer(t, spec)
	other := s.As("other")
	if _, err := other.InspectContainer(t.Context(), id); !errors.Is(err, pod.ErrForeign) {
		t.Errorf("inspect: %v, want ErrForeign", err)
	}
	if err := errors.Join(other.Stop(t.Context(), id, time.Second), other.Kill(t.Context(), id), other.Remove(t.Context(), id)); err != nil {
		t.Error(err)
	}
	if state := s.User.State(t, id); state != "running" {
		t.Errorf("container is %q, it ran", state)
	}
}
