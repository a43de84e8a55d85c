package cri_test

import (
	"errors"
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine/enginetest"
)

// atEach runs test with each of the calls of an engine's methods failing, before and after
// the engine did the work, on a daemon that asks nothing by itself meanwhile.
func atEach(t *testing.T, methods map[string]int, test func(t *testing.T, d *daemon, fail func(), heal func())) {
	t.Helper()
	for method, calls := range methods {
		for call := 1; call <= calls; call++ {
			for _, done := range []bool{false, true} {
				if done && (method == "Inspect" || method == "Image") {
					continue // one that only looks is the same either way
				}
				t.Run(fmt.Sprintf("%s call %d done %v", method, call, done), func(t *testing.T) {
					d := newDaemon(t)
					d.listed(t, nil)    // wait for the first resync, and have no hints:
					d.engine.Mute(true) // what the index asks by itself would be counted
					fail := func() {
						d.engine.Fail(enginetest.Fault{Method: method, Call: call, Done: done})
					}
					heal := func() {
						d.engine.Heal()
						d.engine.Mute(false)
					}
					test(t, d, fail, heal)
				})
			}
		}
	}
}

// reconnect makes the index look at everything, as it does after the engine was away.
func (d *daemon) reconnect(t *testing.T) {
	t.Helper()
	before := calls(d, "Hints")
	d.engine.Down()
	d.engine.Up()
	eventually(t, "the daemon is connected again", func() bool { return calls(d, "Hints") > before })
}

// Whatever call fails, nothing is left of the container, and the same request succeeds.
func TestCreateFailsAtEachStep(t *testing.T) {
	atEach(t, map[string]int{"Image": 1, "CreateContainer": 1, "Inspect": 1}, func(t *testing.T, d *daemon, fail, heal func()) {
		sandbox := d.run(t, podConfig("web"))
		before := d.engine.String()
		fail()
		_, err := d.create(t.Context(), sandbox, containerConfig("app"))
		heal()
		wantCode(t, err, codes.Unavailable, "app")
		if left := d.engine.String(); left != before {
			t.Errorf("left behind: %s", left)
		}
		d.wantContainers(t, "")
		d.mustCreate(t, sandbox, containerConfig("app"))
	})
}

// What can't be undone is undone when the engine is back, by itself or by who asks for the
// same again.
func TestCreateWhoseUndoFails(t *testing.T) {
	for name, then := range map[string]func(*testing.T, *daemon, string){
		"nobody asks again": func(t *testing.T, d *daemon, _ string) {
			eventually(t, "it is removed", func() bool { return d.containers(t, nil) == "" })
		},
		"asked again": func(t *testing.T, d *daemon, sandbox string) {
			d.mustCreate(t, sandbox, containerConfig("app"))
			d.wantContainers(t, "app CREATED")
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDaemon(t)
			sandbox := d.run(t, podConfig("web"))
			d.engine.Fail(enginetest.Fault{Method: "CreateContainer", Done: true})
			d.engine.Fail(enginetest.Fault{Method: "Remove"})
			_, err := d.create(t.Context(), sandbox, containerConfig("app"))
			wantCode(t, err, codes.Unavailable, "undo create")
			eventually(t, "it is listed", func() bool { return d.containers(t, nil) == "app CREATED" })
			d.engine.Heal()
			then(t, d, sandbox)
			if err := d.remove(t, sandbox); err != nil {
				t.Fatal(err)
			}
			d.wantClean(t)
		})
	}
}

// What was started and can't be ended is ended when the engine is back: it may run without
// its limits.
func TestStartWhoseUndoFails(t *testing.T) {
	d := newDaemon(t)
	id := d.mustCreate(t, d.run(t, podConfig("web")), containerConfig("app"))
	d.engine.Fail(enginetest.Fault{Method: "Start", Done: true})
	d.engine.Fail(enginetest.Fault{Method: "Kill"})
	wantCode(t, d.start(t, id), codes.Unavailable, "undo start")
	eventually(t, "it runs", func() bool { return d.containers(t, nil) == "app RUNNING" })
	d.engine.Heal()
	eventually(t, "it is ended", func() bool { return d.containers(t, nil) == "app EXITED" })
}

// So it is with one that a new life of the daemon can't limit.
func TestRecoveryThatCanNeitherLimitNorEnd(t *testing.T) {
	d := newDaemon(t)
	d.mustStart(t, d.run(t, podConfig("web")), containerConfig("app"))
	d.end()
	d.limits.failWith(errors.New("boom"))
	d.engine.Fail(enginetest.Fault{Method: "Kill"})
	d = startDaemon(t, d.life)
	d.wantContainers(t, "app RUNNING")
	d.engine.Heal()
	eventually(t, "it is ended", func() bool { return d.containers(t, nil) == "app EXITED" })
}

// A container whose start failed does not run, whether or not the engine had started it:
// nobody would know of its limits.
func TestStartFailsAtEachStep(t *testing.T) {
	atEach(t, map[string]int{"Start": 1, "Inspect": 1}, func(t *testing.T, d *daemon, fail, heal func()) {
		sandbox := d.run(t, podConfig("web"))
		id := d.mustCreate(t, sandbox, containerConfig("app"))
		fail()
		err := d.start(t, id)
		heal()
		wantCode(t, err, codes.Unavailable, id)
		d.reconnect(t)
		eventually(t, "it does not run", func() bool {
			state := d.containerStatus(t, id).GetState()
			return state == runtimeapi.ContainerState_CONTAINER_EXITED || state == runtimeapi.ContainerState_CONTAINER_CREATED
		})
		if err := d.remove(t, sandbox); err != nil {
			t.Fatal(err)
		}
		d.wantClean(t)
	})
}

func TestStartThatCannotBeLimited(t *testing.T) {
	d := newDaemon(t)
	id := d.mustCreate(t, d.run(t, podConfig("web")), containerConfig("app"))
	d.limits.failWith(errors.New("boom"))
	wantCode(t, d.start(t, id), codes.Internal, "boom")
	if got := d.containerStatus(t, id); got.GetState() != runtimeapi.ContainerState_CONTAINER_EXITED || got.GetExitCode() != 137 {
		t.Errorf("it is %v", got)
	}
}

func TestStartWithoutALogFile(t *testing.T) {
	d := newDaemon(t)
	id := d.mustCreate(t, d.run(t, podConfig("web")), containerConfig("app"))
	d.logs.failWith(errors.New("disk is full"))
	wantCode(t, d.start(t, id), codes.Internal, "log file", "disk is full")
	d.wantContainers(t, "app CREATED")
	d.logs.failWith(nil)
	if err := d.start(t, id); err != nil {
		t.Fatal(err)
	}
}

// Stopping and removing can be asked for again whatever fails, and then all is done.
func TestStopAndRemoveFailAtEachStep(t *testing.T) {
	for name, request := range map[string]struct {
		methods map[string]int
		ask     func(t *testing.T, d *daemon, sandbox, id string) error
		left    string
		listed  string
	}{
		"StopContainer": {map[string]int{"Stop": 1, "Inspect": 1}, func(t *testing.T, d *daemon, _, id string) error { return d.stopContainer(t, id, 5) },
			"app EXITED", "web SANDBOX_READY"},
		"StopContainer at once": {map[string]int{"Kill": 1, "Inspect": 1}, func(t *testing.T, d *daemon, _, id string) error { return d.stopContainer(t, id, 0) },
			"app EXITED", "web SANDBOX_READY"},
		"RemoveContainer": {map[string]int{"Kill": 1, "Remove": 1, "Inspect": 1}, func(t *testing.T, d *daemon, _, id string) error { return d.removeContainer(t, id) },
			"", "web SANDBOX_READY"},
		"StopPodSandbox": {map[string]int{"Kill": 2, "Inspect": 2}, func(t *testing.T, d *daemon, sandbox, _ string) error { return d.stop(t, sandbox) },
			"app EXITED", "web SANDBOX_NOTREADY"},
		"RemovePodSandbox": {map[string]int{"Kill": 2, "Remove": 2, "Inspect": 2}, func(t *testing.T, d *daemon, sandbox, _ string) error { return d.remove(t, sandbox) },
			"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			atEach(t, request.methods, func(t *testing.T, d *daemon, fail, heal func()) {
				sandbox := d.run(t, podConfig("web"))
				id := d.mustStart(t, sandbox, containerConfig("app"))
				if err := d.update(t, id, wide()); err != nil {
					t.Fatal(err)
				}
				fail()
				err := request.ask(t, d, sandbox, id)
				heal()
				if status.Code(err) != codes.Unavailable {
					t.Errorf("answer %v, want Unavailable", err)
				}
				if err := request.ask(t, d, sandbox, id); err != nil {
					t.Fatal(err)
				}
				d.wantContainers(t, request.left)
				if got := d.listed(t, nil); got != request.listed {
					t.Errorf("sandboxes: %q, want %q", got, request.listed)
				}
				if err := d.remove(t, sandbox); err != nil {
					t.Fatal(err)
				}
				d.wantClean(t)
				if left := d.updates(t); left != "" {
					t.Errorf("noted of nobody: %s", left)
				}
			})
		})
	}
}

// A container that began to run without our knowing is stopped with its sandbox.
func TestStopOfWhatRunsUnseen(t *testing.T) {
	d := newDaemon(t)
	sandbox := d.run(t, podConfig("web"))
	one, two := d.mustCreate(t, sandbox, containerConfig("one")), d.mustCreate(t, sandbox, containerConfig("two"))
	d.engine.Mute(true)
	for _, id := range []string{one, two} {
		if err := d.engine.Start(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.stopContainer(t, one, 5); err != nil {
		t.Fatal(err)
	}
	if err := d.stop(t, sandbox); err != nil {
		t.Fatal(err)
	}
	d.wantContainers(t, "two EXITED, one EXITED")
}

// What a restart finds of containers, and what it does for them.
func TestContainersOfAnEarlierLife(t *testing.T) {
	d := newDaemon(t)
	sandbox := d.run(t, podConfig("web"))
	limited := containerConfig("running")
	limited.Linux.Resources.HugepageLimits = []*runtimeapi.HugepageLimit{{PageSize: "2MB"}}
	running, died := d.mustStart(t, sandbox, limited), d.mustStart(t, sandbox, containerConfig("died"))
	d.mustCreate(t, sandbox, containerConfig("created"))
	cut := d.mustCreate(t, sandbox, containerConfig("cut"))
	d.end()
	d.engine.User().Terminate(t, died)
	if err := d.engine.Start(t.Context(), cut); err != nil { // the crash came right after
		t.Fatal(err)
	}
	l := d.life
	l.logs, l.limits = &fakeLogs{}, &fakeLimits{} // of a new process
	d = startDaemon(t, l)
	d.wantContainers(t, "cut RUNNING, created CREATED, died EXITED, running RUNNING")
	want := logDirectory + "/cut/0.log\n" + logDirectory + "/died/0.log\n" + logDirectory + "/running/0.log\n"
	if got := d.logs.String(); got != want {
		t.Errorf("log files gone on with:\n%swant\n%s", got, want)
	}
	if !d.logs.drained[died] || d.logs.drained[running] {
		t.Errorf("completed: %v", d.logs.drained)
	}
	if got := d.limits.of(running); got != "2MB=0" {
		t.Errorf("limits of what a crash may have come before limiting: %q", got)
	}
	if err := d.stopContainer(t, running, 5); err != nil {
		t.Fatal(err)
	}
	if got := d.containerStatus(t, running).GetExitCode(); got != 3 {
		t.Errorf("exit code %d", got)
	}
	if err := d.remove(t, sandbox); err != nil {
		t.Fatal(err)
	}
	d.wantClean(t)
}
