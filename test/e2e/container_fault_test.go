package e2e

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine/enginetest"
)

// An engine that hangs in the middle of any request for a container holds nobody up past
// the deadline, and once it goes on the truth is told and the request can be repeated.
func TestEngineHangsInContainerRPCs(t *testing.T) {
	bothEngines(t, func(t *testing.T, version enginetest.Version) {
		b := newBench(t, newNode(t, version, userConf()))
		hang := b.freezeIn(t)
		running := func(t *testing.T, name string) string {
			t.Helper()
			return b.runContainer(t, b.request(name, "trap 'exit 5' TERM; while :; do busybox usleep 50000; done")).id
		}
		created := func(t *testing.T, name string) string { t.Helper(); return b.createContainer(t, b.request(name, "")) }
		for _, tt := range []struct {
			name, in string // the engine's request
			prepare  func(t *testing.T, name string) string
			call     func(ctx context.Context, name, id string) error
			states   []cri.ContainerState // after the repetition
		}{
			{"create", "POST /create", func(*testing.T, string) string { return "" }, func(ctx context.Context, name, _ string) error {
				_, err := b.cri.CreateContainer(ctx, b.request(name, ""))
				return err
			}, []cri.ContainerState{cri.ContainerState_CONTAINER_CREATED}},
			{"start", "POST /start", created, func(ctx context.Context, _, id string) error {
				_, err := b.cri.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: id})
				return err
			}, []cri.ContainerState{cri.ContainerState_CONTAINER_RUNNING, cri.ContainerState_CONTAINER_EXITED}},
			{"kill", "POST /kill", running, func(ctx context.Context, _, id string) error {
				_, err := b.cri.StopContainer(ctx, &cri.StopContainerRequest{ContainerId: id})
				return err
			}, []cri.ContainerState{cri.ContainerState_CONTAINER_EXITED}},
			{"stop", "POST /stop", running, func(ctx context.Context, _, id string) error {
				_, err := b.cri.StopContainer(ctx, &cri.StopContainerRequest{ContainerId: id, Timeout: 10})
				return err
			}, []cri.ContainerState{cri.ContainerState_CONTAINER_EXITED}},
			{"update", "POST /update", running, func(ctx context.Context, _, id string) error {
				_, err := b.cri.UpdateContainerResources(ctx, &cri.UpdateContainerResourcesRequest{ContainerId: id, Linux: &cri.LinuxContainerResources{CpuShares: 99}})
				return err
			}, []cri.ContainerState{cri.ContainerState_CONTAINER_RUNNING}},
			{"remove", "DELETE ", created, func(ctx context.Context, _, id string) error {
				_, err := b.cri.RemoveContainer(ctx, &cri.RemoveContainerRequest{ContainerId: id})
				return err
			}, nil},
		} {
			t.Run(tt.name, func(t *testing.T) {
				id := tt.prepare(t, tt.name)
				call := func(ctx context.Context) error { return tt.call(ctx, tt.name, id) }
				hang.Store(tt.in)
				b.wantInTime(t, call)
				b.engine.Thaw(t)
				b.waitCondition(t, b.runtimeCondition, 5*time.Second, "")
				b.repeat(t, call)
				b.wantTruth(t, tt.name, tt.states)
			})
		}
		b.removePod(t, b.pod.id)
		b.wantWhole(t, 0)
	})
}

// freezeIn puts a proxy between daemon and engine that freezes the engine when a request
// comes whose method and end of the path it is told.
func (b *bench) freezeIn(t *testing.T) *atomic.Value {
	t.Helper()
	var in atomic.Value
	in.Store("")
	pass := b.toEngine(nil)
	pass.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }
	b.terminate(t)
	b.proxy = listen(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		armed, _ := in.Load().(string)
		method, end, _ := strings.Cut(armed, " ")
		if armed != "" && r.Method == method && strings.HasSuffix(r.URL.Path, end) && !strings.Contains(r.URL.RawQuery, "probe") && in.CompareAndSwap(armed, "") {
			b.engine.Freeze(t)
		}
		pass.ServeHTTP(w, r)
	}))
	b.start(t)
	return &in
}

// wantInTime makes a call in which the engine hangs, and what is answered from memory
// meanwhile.
func (b *bench) wantInTime(t *testing.T, call func(context.Context) error) {
	t.Helper()
	const deadline = time.Second
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	began := time.Now()
	err := call(ctx)
	if code := status.Code(err); code != codes.DeadlineExceeded && code != codes.Unavailable {
		t.Errorf("error %v, want DeadlineExceeded or Unavailable", err)
	}
	if took := time.Since(began); took > deadline+time.Second {
		t.Errorf("the answer took %v: %v", took, err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := b.cri.ListContainers(ctx, &cri.ListContainersRequest{}); err != nil {
		t.Errorf("list while the engine hangs: %v", err)
	}
}

// repeat calls as the kubelet does, until it is done or was done.
func (b *bench) repeat(t *testing.T, call func(context.Context) error) {
	t.Helper()
	var err error
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		err = call(t.Context())
		if code := status.Code(err); code == codes.OK || code == codes.AlreadyExists || code == codes.FailedPrecondition {
			return
		}
	}
	t.Errorf("repeated: %v", err)
}

// truths are Docker's words for the states. One that failed to start can be started again
// for Docker, and for no client of the CRI.
var truths = map[string]cri.ContainerState{
	"created": cri.ContainerState_CONTAINER_CREATED, "running": cri.ContainerState_CONTAINER_RUNNING,
	"exited": cri.ContainerState_CONTAINER_EXITED, "created, failed": cri.ContainerState_CONTAINER_EXITED,
}

// wantTruth checks the container, if any, against what Docker says, and removes it.
func (b *bench) wantTruth(t *testing.T, name string, states []cri.ContainerState) {
	t.Helper()
	var seen string
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		found := b.named(t, name)
		if len(found) == 0 && states == nil {
			return
		}
		for _, c := range found {
			docker := b.docker(t, "inspect", "-f", "{{.State.Status}}{{if .State.Error}}, failed{{end}}", c.GetId())
			seen = c.GetState().String() + ", Docker says " + docker
			for _, state := range states {
				if c.GetState() == state && truths[docker] == state && len(found) == 1 {
					t.Log(seen)
					b.removeContainer(t, c.GetId())
					return
				}
			}
		}
		if time.Now().After(end) {
			t.Fatalf("%d containers, %s; want one of %v", len(found), seen, states)
		}
	}
}
