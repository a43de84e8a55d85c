package cri_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine/enginetest"
)

func TestLifeOfAContainer(t *testing.T) {
	d := newDaemon(t)
	sandbox := d.run(t, podConfig("web"))
	config := containerConfig("app")
	config.Labels, config.Annotations = map[string]string{"app": "web"}, map[string]string{"note": "x"}
	config.Envs = []*runtimeapi.KeyValue{{Key: "PASSWORD", Value: []byte("secret")}}
	config.Linux.Resources = &runtimeapi.LinuxContainerResources{CpuShares: 512, HugepageLimits: []*runtimeapi.HugepageLimit{{PageSize: "2MB"}}}
	id := d.mustCreate(t, sandbox, config)
	want := &runtimeapi.ContainerStatus{
		Id: id, Metadata: config.GetMetadata(), State: runtimeapi.ContainerState_CONTAINER_CREATED, CreatedAt: d.containerStatus(t, id).GetCreatedAt(),
		Image: imageSpec(enginetest.FakeImage), ImageRef: enginetest.FakeImage, ImageId: enginetest.FakeImage,
		Labels: config.GetLabels(), Annotations: config.GetAnnotations(), LogPath: logDirectory + "/app/0.log",
		Resources:  &runtimeapi.ContainerResources{Linux: config.GetLinux().GetResources()},
		User:       &runtimeapi.ContainerUser{Linux: &runtimeapi.LinuxContainerUser{SupplementalGroups: []int64{0}}},
		StopSignal: runtimeapi.Signal_SIGNAL_SIGTERM,
	}
	if diff := cmp.Diff(want, d.containerStatus(t, id), protocmp.Transform()); diff != "" {
		t.Errorf("status when created (-want +got)\n%s", diff)
	}
	if err := d.start(t, id); err != nil {
		t.Fatal(err)
	}
	want.State, want.StartedAt = runtimeapi.ContainerState_CONTAINER_RUNNING, d.containerStatus(t, id).GetStartedAt()
	if diff := cmp.Diff(want, d.containerStatus(t, id), protocmp.Transform()); diff != "" || want.StartedAt < want.CreatedAt {
		t.Errorf("status when running (-want +got)\n%s", diff)
	}
	if got := d.logs.String(); got != logDirectory+"/app/0.log\n" {
		t.Errorf("log files written: %s", got)
	}
	if got := d.limits.of(id); got != "2MB=0" {
		t.Errorf("limits beyond the engine's: %q", got)
	}
	wantCode(t, d.start(t, id), codes.FailedPrecondition, "CONTAINER_RUNNING")
	for range 2 {
		if err := d.stopContainer(t, id, 30); err != nil {
			t.Fatal(err)
		}
	}
	status := d.containerStatus(t, id)
	want.State, want.FinishedAt, want.ExitCode, want.Reason = runtimeapi.ContainerState_CONTAINER_EXITED, status.GetFinishedAt(), 3, "Error"
	if diff := cmp.Diff(want, status, protocmp.Transform()); diff != "" || want.FinishedAt < want.StartedAt {
		t.Errorf("status when stopped (-want +got)\n%s", diff)
	}
	wantCode(t, d.start(t, id), codes.FailedPrecondition, "CONTAINER_EXITED")
	for range 2 {
		if err := d.removeContainer(t, id); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.stopContainer(t, id, 30); err != nil {
		t.Errorf("stop of what is gone: %v", err)
	}
	_, err := d.ContainerStatus(t.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: id})
	wantCode(t, err, codes.NotFound, id)
	wantCode(t, d.start(t, id), codes.NotFound, id)
	wantCode(t, d.update(t, id, &runtimeapi.LinuxContainerResources{CpuShares: 2}), codes.NotFound, id)
	if err := d.remove(t, sandbox); err != nil {
		t.Fatal(err)
	}
	d.wantClean(t)
}

// A kubelet with EventedPLEG knows no containers but these.
func TestSandboxStatusHasItsContainers(t *testing.T) {
	d := newDaemon(t)
	web, db := d.run(t, podConfig("web")), d.run(t, podConfig("db"))
	ended := d.mustStart(t, web, containerConfig("app", "exit", "5"))
	again := containerConfig("app")
	again.Metadata.Attempt++
	running := d.mustStart(t, web, again)
	d.mustStart(t, db, containerConfig("sql"))
	resp, err := d.PodSandboxStatus(t.Context(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: web})
	if err != nil {
		t.Fatal(err)
	}
	want := []*runtimeapi.ContainerStatus{d.containerStatus(t, running), d.containerStatus(t, ended)}
	if diff := cmp.Diff(want, resp.GetContainersStatuses(), protocmp.Transform()); diff != "" {
		t.Errorf("containers, newest first (-want +got)\n%s", diff)
	}
}

func TestHowContainersEnd(t *testing.T) {
	d := newDaemon(t)
	sandbox := d.run(t, podConfig("web"))
	missing := containerConfig("missing")
	missing.Command = []string{"/no/such"}
	killed := containerConfig("killed")
	for _, tt := range []struct {
		config          *runtimeapi.ContainerConfig
		start           codes.Code
		code            int32
		reason, message string
	}{
		{containerConfig("well", "exit", "0"), codes.OK, 0, "Completed", ""},
		{containerConfig("badly", "exit", "5"), codes.OK, 5, "Error", ""},
		{containerConfig("large", "hog"), codes.OK, 137, "OOMKilled", ""},
		{missing, codes.InvalidArgument, 127, "StartError", "/no/such"},
		{killed, codes.OK, 137, "Error", ""},
	} {
		id := d.mustCreate(t, sandbox, tt.config)
		wantCode(t, d.start(t, id), tt.start, tt.message)
		if tt.config == killed {
			if err := d.stopContainer(t, id, 0); err != nil {
				t.Fatal(err)
			}
		}
		got := d.containerStatus(t, id)
		if got.GetState() != runtimeapi.ContainerState_CONTAINER_EXITED || got.GetExitCode() != tt.code || got.GetReason() != tt.reason ||
			!strings.Contains(got.GetMessage(), tt.message) || (got.GetMessage() == "") != (tt.message == "") || got.GetFinishedAt() < got.GetCreatedAt() {
			t.Errorf("%s: %v", tt.config.GetMetadata().GetName(), got)
		}
		wantCode(t, d.start(t, id), codes.FailedPrecondition, "CONTAINER_EXITED")
	}
}

func TestContainerFilters(t *testing.T) {
	d := newDaemon(t)
	web, db := d.run(t, podConfig("web")), d.run(t, podConfig("db"))
	labelled := containerConfig("app")
	labelled.Labels = map[string]string{"tier": "1"}
	app, _ := d.mustStart(t, web, labelled), d.mustCreate(t, web, containerConfig("side"))
	d.mustStart(t, db, containerConfig("sql"))
	running := &runtimeapi.ContainerStateValue{State: runtimeapi.ContainerState_CONTAINER_RUNNING}
	for name, tt := range map[string]struct {
		filter *runtimeapi.ContainerFilter
		want   string
	}{
		"none, newest first": {nil, "sql RUNNING, side CREATED, app RUNNING"},
		"id":                 {&runtimeapi.ContainerFilter{Id: app}, "app RUNNING"},
		"sandbox":            {&runtimeapi.ContainerFilter{PodSandboxId: web}, "side CREATED, app RUNNING"},
		"state":              {&runtimeapi.ContainerFilter{State: running}, "sql RUNNING, app RUNNING"},
		"label":              {&runtimeapi.ContainerFilter{LabelSelector: map[string]string{"tier": "1"}}, "app RUNNING"},
		"all at once":        {&runtimeapi.ContainerFilter{Id: app, PodSandboxId: web, State: running, LabelSelector: map[string]string{"tier": "1"}}, "app RUNNING"},
		"nothing fits":       {&runtimeapi.ContainerFilter{Id: app, PodSandboxId: db}, ""},
	} {
		if got := d.containers(t, tt.filter); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

func TestSandboxTakesItsContainersAlong(t *testing.T) {
	d := newDaemon(t)
	other := d.run(t, podConfig("other"))
	kept := d.mustStart(t, other, containerConfig("kept"))
	sandbox := d.run(t, podConfig("web"))
	d.mustStart(t, sandbox, containerConfig("app"))
	d.mustStart(t, sandbox, containerConfig("deaf", "ignore"))
	late := d.mustCreate(t, sandbox, containerConfig("late"))
	for range 2 {
		if err := d.stop(t, sandbox); err != nil {
			t.Fatal(err)
		}
		d.wantContainers(t, "late CREATED, deaf EXITED, app EXITED, kept RUNNING")
	}
	wantCode(t, d.start(t, late), codes.FailedPrecondition, "not ready")
	_, err := d.create(t.Context(), sandbox, containerConfig("later"))
	wantCode(t, err, codes.FailedPrecondition, "not ready")
	d.wantContainers(t, "late CREATED, deaf EXITED, app EXITED, kept RUNNING")
	for range 2 {
		if err := d.remove(t, sandbox); err != nil {
			t.Fatal(err)
		}
		d.wantContainers(t, "kept RUNNING")
	}
	_, err = d.create(t.Context(), sandbox, containerConfig("app"))
	wantCode(t, err, codes.NotFound, sandbox)
	if got := d.containerStatus(t, kept).GetState(); got != runtimeapi.ContainerState_CONTAINER_RUNNING {
		t.Errorf("another sandbox's container is %s", got)
	}
	if err := d.remove(t, other); err != nil {
		t.Fatal(err)
	}
	d.wantClean(t)
}

func TestContainersBehindOurBack(t *testing.T) {
	d := newDaemon(t)
	sandbox := d.run(t, podConfig("web"))
	removed, died := d.mustStart(t, sandbox, containerConfig("removed")), d.mustStart(t, sandbox, containerConfig("died"))
	if err := d.update(t, removed, &runtimeapi.LinuxContainerResources{OomScoreAdj: 7}); err != nil {
		t.Fatal(err)
	}
	d.engine.User().Remove(t, removed)
	d.engine.User().Terminate(t, died)
	eventually(t, "both are seen", func() bool { return d.containers(t, nil) == "died EXITED" })
	eventually(t, "nothing is kept of the removed one", func() bool { return d.logs.String() == logDirectory+"/died/0.log\n" && d.updates(t) == "" })
	// docker start of a container whose log was complete goes on with its log.
	if err := d.engine.Start(t.Context(), died); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is seen", func() bool { return d.containers(t, nil) == "died RUNNING" })
}

// A sandbox that somebody removed leaves containers behind: they are stopped and removed by
// its id all the same.
func TestContainersOfASandboxRemovedBehindOurBack(t *testing.T) {
	d := newDaemon(t)
	sandbox := d.run(t, podConfig("web"))
	d.mustStart(t, sandbox, containerConfig("app"))
	d.engine.User().Remove(t, sandbox)
	eventually(t, "that is seen", func() bool { return d.listed(t, nil) == "" })
	if err := d.stop(t, sandbox); err != nil {
		t.Fatal(err)
	}
	d.wantContainers(t, "app EXITED")
	if err := d.remove(t, sandbox); err != nil {
		t.Fatal(err)
	}
	d.wantClean(t)
}

func TestReopenContainerLog(t *testing.T) {
	d := newDaemon(t)
	sandbox := d.run(t, podConfig("web"))
	silent := containerConfig("silent")
	silent.LogPath = ""
	app, created, mute := d.mustStart(t, sandbox, containerConfig("app")), d.mustCreate(t, sandbox, containerConfig("created")), d.mustStart(t, sandbox, silent)
	reopen := func(id string) error {
		_, err := d.ReopenContainerLog(t.Context(), &runtimeapi.ReopenContainerLogRequest{ContainerId: id})
		return err
	}
	if err := reopen(app); err != nil || fmt.Sprint(d.logs.reopened) != "["+app+"]" {
		t.Errorf("%v; reopened %v", err, d.logs.reopened)
	}
	wantCode(t, reopen(created), codes.FailedPrecondition, "does not run")
	wantCode(t, reopen(mute), codes.FailedPrecondition, "no log file")
	wantCode(t, reopen("missing"), codes.NotFound, "missing")
}

func TestVerboseContainerStatus(t *testing.T) {
	d := newDaemon(t)
	id := d.mustStart(t, d.run(t, podConfig("web")), containerConfig("app"))
	resp, err := d.ContainerStatus(t.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: id[:63], Verbose: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{`"pid":1000`, `"sandboxID":"000`, `"name":"k8s_app_web_default_uid-web_0"`} {
		if !strings.Contains(resp.GetInfo()["info"], text) {
			t.Errorf("verbose info lacks %s:\n%s", text, resp.GetInfo()["info"])
		}
	}
	if proto.Equal(resp.GetStatus(), &runtimeapi.ContainerStatus{}) {
		t.Error("no status")
	}
}
