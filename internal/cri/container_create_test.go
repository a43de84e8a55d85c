package cri_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine/enginetest"
	"github.com/mascri/mascri/internal/pod"
)

// The kubelet tells with each container whether its pod is privileged, which an ephemeral
// container can change.
func TestPrivilegedIsUpToTheRequest(t *testing.T) {
	privileged := podConfig("privileged")
	privileged.Linux = &runtimeapi.LinuxPodSandboxConfig{SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{Privileged: true}}
	plain := podConfig("plain")
	for name, tc := range map[string]struct {
		run, told *runtimeapi.PodSandboxConfig
		code      codes.Code
	}{
		"ephemeral":                  {plain, privileged, codes.OK},
		"not any more":               {privileged, plain, codes.InvalidArgument},
		"not told, and it is":        {privileged, nil, codes.OK},
		"not told, and it never was": {plain, nil, codes.InvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDaemon(t)
			config := containerConfig("app")
			config.Linux.SecurityContext.Privileged = true
			_, err := d.CreateContainer(t.Context(), &runtimeapi.CreateContainerRequest{PodSandboxId: d.run(t, tc.run), Config: config, SandboxConfig: tc.told})
			wantCode(t, err, tc.code)
		})
	}
}

// While a sandbox is being stopped nothing is made or started in it: what asks waits, and
// is refused.
func TestNothingStartsInASandboxBeingStopped(t *testing.T) {
	d := newDaemon(t)
	sandbox := d.run(t, podConfig("web"))
	id := d.mustCreate(t, sandbox, containerConfig("app"))
	release := d.engine.Hold("Kill")
	stopped, answers := make(chan error, 1), make(chan error, 2)
	go func() { stopped <- d.stop(t, sandbox) }()
	eventually(t, "the sandbox is being stopped", func() bool { return calls(d, "Kill") > 0 })
	go func() { answers <- d.start(t, id) }()
	go func() {
		_, err := d.create(t.Context(), sandbox, containerConfig("other"))
		answers <- err
	}()
	time.Sleep(50 * time.Millisecond) // let them come while it is under way
	release()
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	for range 2 {
		wantCode(t, <-answers, codes.FailedPrecondition, "not ready")
	}
	d.wantContainers(t, "app CREATED")
}

// calls counts the calls of a method that began.
func calls(d *daemon, method string) (n int) {
	for _, call := range d.engine.Calls() {
		if strings.HasPrefix(call, method+" ") {
			n++
		}
	}
	return n
}

func TestRepeatedCreateJoinsTheOneInFlight(t *testing.T) {
	d := newDaemon(t)
	sandbox := d.run(t, podConfig("web"))
	release := d.engine.Hold("CreateContainer")
	type answer struct {
		id  string
		err error
	}
	answers := make(chan answer, 2)
	ask := func(ctx context.Context) {
		id, err := d.create(ctx, sandbox, containerConfig("app"))
		answers <- answer{id, err}
	}
	first, giveUp := context.WithCancel(t.Context())
	go ask(first)
	eventually(t, "it is being made", func() bool { return calls(d, "CreateContainer") == 1 })
	go ask(t.Context())
	_, err := d.create(t.Context(), sandbox, containerConfig("app", "ignore"))
	wantCode(t, err, codes.AlreadyExists, "another config")
	time.Sleep(50 * time.Millisecond) // let the second one board
	giveUp()
	wantCode(t, (<-answers).err, codes.Canceled)
	release()
	second := <-answers
	if second.err != nil {
		t.Fatalf("the second caller suffered from the first one's end: %v", second.err)
	}
	for _, config := range []*runtimeapi.ContainerConfig{containerConfig("app"), containerConfig("app", "ignore")} {
		_, err = d.create(t.Context(), sandbox, config)
		wantCode(t, err, codes.AlreadyExists, second.id)
	}
	d.wantContainers(t, "app CREATED")
	if n := strings.Count(d.engine.String(), "\n"); n != 2 {
		t.Errorf("%d containers, want 2:\n%s", n, d.engine)
	}
}

func TestCreateIsUndoneWhenNobodyWaits(t *testing.T) {
	d := newDaemon(t)
	sandbox := d.run(t, podConfig("web"))
	release := d.engine.Hold("CreateContainer")
	ctx, giveUp := context.WithCancel(t.Context())
	answer := make(chan error, 1)
	go func() { _, err := d.create(ctx, sandbox, containerConfig("app")); answer <- err }()
	eventually(t, "it is being made", func() bool { return calls(d, "CreateContainer") == 1 })
	giveUp()
	wantCode(t, <-answer, codes.Canceled)
	eventually(t, "the daemon has seen the client leave", func() bool { return calls(d, "InspectContainer") == 1 })
	release()
	d.mustCreate(t, sandbox, containerConfig("app"))
	d.wantContainers(t, "app CREATED")
}

// A request that the engine refuses does no harm to the container that has the name.
func TestRefusedCreateLeavesTheNamesakeAlone(t *testing.T) {
	d := newDaemon(t)
	sandbox := d.run(t, podConfig("web"))
	id := d.mustStart(t, sandbox, containerConfig("app"))
	bad := containerConfig("app")
	bad.Linux.SecurityContext.RunAsUser = &runtimeapi.Int64Value{Value: -1}
	_, err := d.create(t.Context(), sandbox, bad)
	wantCode(t, err, codes.AlreadyExists, id)
	d.engine.Fail(enginetest.Fault{Method: "CreateContainer"})
	_, err = d.create(t.Context(), sandbox, containerConfig("app"))
	wantCode(t, err, codes.AlreadyExists, id)
	d.wantContainers(t, "app RUNNING")
}

func TestTakenContainerNameOfSomebodyElse(t *testing.T) {
	d := newDaemon(t)
	sandbox := d.run(t, podConfig("web"))
	d.engine.User().Run(t, pod.ContainerName(containerConfig("app").GetMetadata(), podConfig("web").GetMetadata()), nil)
	before := d.engine.String()
	_, err := d.create(t.Context(), sandbox, containerConfig("app"))
	wantCode(t, err, codes.AlreadyExists, "not ours")
	if after := d.engine.String(); after != before {
		t.Errorf("the engine held\n%sand now\n%s", before, after)
	}
}

func TestTargetedContainer(t *testing.T) {
	d := newDaemon(t)
	sandbox, other := d.run(t, podConfig("web")), d.run(t, podConfig("db"))
	app, elsewhere, created := d.mustStart(t, sandbox, containerConfig("app")), d.mustStart(t, other, containerConfig("sql")), d.mustCreate(t, sandbox, containerConfig("late"))
	at := func(mode runtimeapi.NamespaceMode, target string) *runtimeapi.ContainerConfig {
		config := containerConfig("debug")
		config.Linux.SecurityContext.NamespaceOptions = &runtimeapi.NamespaceOption{Pid: mode, TargetId: target}
		return config
	}
	const field = "namespace_options.target_id"
	const target = runtimeapi.NamespaceMode_TARGET
	for says, config := range map[string]*runtimeapi.ContainerConfig{
		"another sandbox": at(target, elsewhere), "does not run": at(target, created), "missing": at(target, ""),
		"not found": at(target, "nobody"), "given with pid POD": at(runtimeapi.NamespaceMode_POD, app),
	} {
		_, err := d.create(t.Context(), sandbox, config)
		wantCode(t, err, invalid, field, says)
	}
	id := d.mustCreate(t, sandbox, at(target, app[:64]))
	got, err := d.engine.InspectContainer(t.Context(), id)
	if err != nil || got.Config.GetLinux().GetSecurityContext().GetNamespaceOptions().GetTargetId() != app {
		t.Errorf("target %v, %v; want the full id", got.Config, err)
	}
}
