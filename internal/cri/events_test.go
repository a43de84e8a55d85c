package cri_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

type events = grpc.ServerStreamingClient[runtimeapi.ContainerEventResponse]

// subscribe returns once nothing is missed any more.
func subscribe(t *testing.T, client runtimeapi.RuntimeServiceClient) events {
	t.Helper()
	stream, err := client.GetContainerEvents(t.Context(), &runtimeapi.GetEventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Header(); err != nil {
		t.Fatal(err)
	}
	return stream
}

// next returns n events as "id KIND sandbox-state container:state...".
func next(t *testing.T, stream events, n int) (lines []string) {
	t.Helper()
	for range n {
		e, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		kind := strings.TrimSuffix(strings.TrimPrefix(e.GetContainerEventType().String(), "CONTAINER_"), "_EVENT")
		line := e.GetContainerId() + " " + kind
		if s := e.GetPodSandboxStatus(); s != nil {
			line += " " + strings.TrimPrefix(s.GetState().String(), "SANDBOX_")
		}
		for _, c := range e.GetContainersStatuses() {
			line += " " + c.GetId() + ":" + strings.TrimPrefix(c.GetState().String(), "CONTAINER_")
		}
		lines = append(lines, line)
		if e.GetCreatedAt() <= 0 {
			t.Errorf("%s: created at %d", line, e.GetCreatedAt())
		}
	}
	return lines
}

func wantEvents(t *testing.T, stream events, want ...string) {
	t.Helper()
	if got := next(t, stream, len(want)); !slices.Equal(got, want) {
		t.Errorf("events %q\nwant %q", got, want)
	}
}

// Each subscriber hears of a sandbox when it is done, with its IP: the kubelet takes one
// without for dead.
func TestEventsOfASandbox(t *testing.T) {
	d := newDaemon(t)
	d.listed(t, nil)
	one, two := subscribe(t, d), subscribe(t, d)
	id := d.run(t, podConfig("web"))
	for _, stream := range []events{one, two} {
		e, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if s := e.GetPodSandboxStatus(); s.GetNetwork().GetIp() != "10.88.0.2" || s.GetMetadata().GetUid() != "uid-web" {
			t.Errorf("first event %v, want the pod's status", e)
		}
		wantEvents(t, stream, id+" STARTED READY")
	}
	if err := d.remove(t, id); err != nil {
		t.Fatal(err)
	}
	for _, stream := range []events{one, two} {
		wantEvents(t, stream, id+" STOPPED NOTREADY", id+" DELETED NOTREADY")
	}
}

// A request that fails tells nobody of the sandbox that it made and took away.
func TestNoEventsOfAFailedSandbox(t *testing.T) {
	d := newDaemon(t)
	d.listed(t, nil)
	stream := subscribe(t, d)
	d.network.set(func(n *fakeNetwork) { n.failAttach = fmt.Errorf("boom") })
	if _, err := d.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: podConfig("bad")}); err == nil {
		t.Fatal("no error")
	}
	d.network.set(func(n *fakeNetwork) { n.failAttach = nil })
	id := d.run(t, podConfig("good"))
	wantEvents(t, stream, id+" CREATED READY", id+" STARTED READY")
}

func TestTransitions(t *testing.T) {
	first, second := time.Unix(1, 0), time.Unix(2, 0)
	created := pod.Container{}
	running := pod.Container{StartedAt: first, Running: true}
	ended := pod.Container{StartedAt: first, FinishedAt: second}
	failed := pod.Container{StartError: "no such file"}
	again := pod.Container{StartedAt: second, Running: true}
	for name, tt := range map[string]struct {
		old, now *pod.Container
		want     string
	}{
		"created":                       {nil, &created, "CREATED"},
		"started":                       {&created, &running, "STARTED"},
		"stopped":                       {&running, &ended, "STOPPED"},
		"removed":                       {&ended, nil, "DELETED"},
		"never started":                 {&created, nil, "DELETED"},
		"its start failed":              {&created, &failed, "STOPPED"},
		"its start failed, and removed": {&failed, nil, "DELETED"},
		"ended before it was seen":      {&created, &ended, "STARTED STOPPED"},
		"all of it unseen":              {nil, &ended, "CREATED STARTED STOPPED"},
		"removed by force":              {&running, nil, "STOPPED DELETED"},
		"restarted":                     {&running, &again, "STOPPED STARTED"},
		"started again":                 {&ended, &again, "STARTED"},
		"only its limits changed":       {&running, &running, ""},
	} {
		t.Run(name, func(t *testing.T) {
			item := func(c *pod.Container) pod.Item {
				if c == nil {
					return pod.Item{}
				}
				own := *c
				own.ID, own.Config = "c", &runtimeapi.ContainerConfig{}
				return pod.Item{Container: &own}
			}
			index := &shelf{changes: make(chan pod.Change, 2)}
			stream := subscribe(t, serveShelf(t, index, fakeUsage{}))
			index.changes <- pod.Change{At: second, Old: item(tt.old), New: item(tt.now)}
			index.changes <- pod.Change{At: second, Old: item(&created)} // the last
			var want []string
			for _, kind := range append(strings.Fields(tt.want), "DELETED") {
				want = append(want, "c "+kind)
			}
			wantEvents(t, stream, want...)
		})
	}
}

func TestEventsTellOfAllContainersOfThePod(t *testing.T) {
	web, db := shelved("pod1", "web", nil), shelved("pod1", "db", nil)
	db.Running, db.StartedAt = false, time.Unix(1, 0)
	sandbox := pod.Sandbox{ID: "pod1", Config: hostConfig("pod1"), Running: true}
	index := &shelf{changes: make(chan pod.Change, 1)}
	stream := subscribe(t, serveShelf(t, index, fakeUsage{}))
	index.changes <- pod.Change{At: time.Unix(5, 0), Old: pod.Item{Container: &web}, Sandbox: &sandbox, Containers: []pod.Container{db}}
	wantEvents(t, stream, "web STOPPED READY db:EXITED", "web DELETED READY db:EXITED")
	index.changes <- pod.Change{At: time.Unix(5, 0), Old: pod.Item{Sandbox: &sandbox}, Sandbox: &sandbox}
	wantEvents(t, stream, "pod1 STOPPED NOTREADY", "pod1 DELETED NOTREADY")
}

// What is queued before the gap still comes; then the client is told, and cut.
func TestSlowSubscriberIsToldAndCut(t *testing.T) {
	web := shelved("pod1", "web", nil)
	index := &shelf{changes: make(chan pod.Change, 1)}
	index.changes <- pod.Change{At: time.Unix(5, 0), Old: pod.Item{Container: &web}}
	close(index.changes)
	stream := subscribe(t, serveShelf(t, index, fakeUsage{}))
	wantEvents(t, stream, "web STOPPED", "web DELETED")
	_, err := stream.Recv()
	wantCode(t, err, codes.ResourceExhausted, "subscribe again")
}

func TestSubscriberThatLeaves(t *testing.T) {
	index := &shelf{changes: make(chan pod.Change)}
	client := serveShelf(t, index, fakeUsage{})
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := client.GetContainerEvents(ctx, &runtimeapi.GetEventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Header(); err != nil {
		t.Fatal(err)
	}
	cancel()
	_, err = stream.Recv()
	wantCode(t, err, codes.Canceled)
	eventually(t, "it is watched no more", func() bool { return index.stopped.Load() == 1 })
}
