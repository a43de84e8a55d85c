package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine/enginetest"
)

// The engine's answers that can be lost when a container is made: of the container itself,
// and of the one by which the image's users are read.
const (
	containerLost = "answer of container lost"
	probeLost     = "answer of probe lost"
)

// Wherever the daemon is killed, its next life knows each container that there is, exactly,
// and the client can go on: start it, stop it, remove it, make another one.
func TestContainersAfterAKillAtEachStep(t *testing.T) {
	const rounds = 3
	n := newNode(t, enginetest.Engine28, userConf())
	b := newBench(t, n)
	lost := b.loseContainers(t)
	bystander := b.runContainer(t, b.request("bystander", ""))
	for round := range rounds {
		for step, test := range map[string]func(*testing.T, *bench, string){
			"create-container": killedInCreate, probeLost: killedInCreate, containerLost: killedInCreate, "refresh-container": killedInCreate,
			"start-container": killedInStart, "started-container": killedInStart,
			"stop-container": killedInStop, "remove-container": killedInRemove,
		} {
			t.Run(fmt.Sprintf("%s %d", step, round), func(t *testing.T) {
				lost.step.Store("")
				b.crashLater = func() {
					if strings.HasPrefix(step, "answer") {
						lost.step.Store(step)
					} else {
						b.arm(t, step)
					}
				}
				test(t, b, fmt.Sprintf("c-%d-%s", round, strings.ReplaceAll(step, " ", "-")))
				if now := b.look(t, bystander.id); now.status.GetState() != cri.ContainerState_CONTAINER_RUNNING || now.pid(t) != bystander.pid(t) {
					t.Errorf("the container beside was touched: %v", now.status)
				}
				if left := b.listed(t, nil); len(left) != 1 {
					t.Errorf("containers left: %v", left)
				}
			})
		}
	}
	b.removePod(t, b.pod.id)
	b.wantWhole(t, 0)
}

// losing is what loses an answer: the step that is armed.
type losing struct{ step atomic.Value }

// loseContainers puts a proxy between daemon and engine. When armed, it kills the daemon
// after the engine created a container, before the daemon hears of it.
func (b *bench) loseContainers(t *testing.T) *losing {
	t.Helper()
	var l losing
	l.step.Store("")
	proxy := b.toEngine(func(r *http.Response) error {
		if !strings.HasSuffix(r.Request.URL.Path, "/containers/create") {
			return nil
		}
		step := containerLost
		if strings.Contains(r.Request.URL.Query().Get("name"), "probe") {
			step = probeLost
		}
		if l.step.CompareAndSwap(step, "") {
			return b.daemon.Process.Kill()
		}
		return nil
	})
	b.terminate(t)
	b.proxy = listen(t, proxy)
	b.start(t)
	return &l
}

// crash arms the crash, makes a call that ends by it, and starts the daemon again.
func (b *bench) crash(t *testing.T, call func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	b.crashLater()
	if err := call(ctx); err == nil {
		t.Fatal("the call succeeded: the kill did not land")
	}
	b.wait(t)
	b.start(t)
}

func killedInCreate(t *testing.T, b *bench, name string) {
	// Docker loses the output of what ends before it reads, on a busy machine.
	req := b.request(name, "busybox usleep 200000; echo hi")
	b.crash(t, func(ctx context.Context) error { _, err := b.cri.CreateContainer(ctx, req); return err })
	b.wantWhole(t, 1) // no probe is left
	// The kubelet finds what was made, if it was, and makes the next attempt.
	for _, c := range b.named(t, name) {
		if c.GetState() != cri.ContainerState_CONTAINER_CREATED {
			t.Errorf("listed: %v", c)
		}
		_, err := b.cri.CreateContainer(t.Context(), req)
		wantRefused(t, err, codes.AlreadyExists, c.GetId())
		req.Config.Metadata.Attempt = 1
		b.removeContainer(t, c.GetId())
	}
	c := b.runContainer(t, req)
	wantOutput("hi\n")(t, b, c)
	b.removeContainer(t, c.id)
}

func (b *bench) named(t *testing.T, name string) (found []*cri.Container) {
	t.Helper()
	list, err := b.cri.ListContainers(t.Context(), &cri.ListContainersRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range list.GetContainers() {
		if c.GetMetadata().GetName() == name {
			found = append(found, c)
		}
	}
	return found
}

// What was changed of it before the start holds, whichever life of the daemon does it.
func killedInStart(t *testing.T, b *bench, name string) {
	id := b.createContainer(t, b.request(name, "echo hi; sleep 1000"))
	update := &cri.UpdateContainerResourcesRequest{ContainerId: id, Linux: &cri.LinuxContainerResources{OomScoreAdj: 444}}
	if _, err := b.cri.UpdateContainerResources(t.Context(), update); err != nil {
		t.Fatal(err)
	}
	b.crash(t, func(ctx context.Context) error {
		_, err := b.cri.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: id})
		return err
	})
	c := b.look(t, id)
	if c.status.GetState() == cri.ContainerState_CONTAINER_CREATED {
		c = b.startContainer(t, id)
	}
	wantOOMScore(444)(t, b, c)
	c.waitLogged(t, "hi")
	if got := b.stopContainer(t, id, 0).logged(t); got != "hi\n" {
		t.Errorf("the log has %q", got)
	}
	b.removeContainer(t, id)
}

func killedInStop(t *testing.T, b *bench, name string) {
	c := b.runContainer(t, b.request(name, ""))
	b.crash(t, func(ctx context.Context) error {
		_, err := b.cri.StopContainer(ctx, &cri.StopContainerRequest{ContainerId: c.id})
		return err
	})
	if now := b.look(t, c.id); now.status.GetState() != cri.ContainerState_CONTAINER_RUNNING || now.pid(t) != c.pid(t) {
		t.Errorf("after the crash: %v", now.status)
	}
	if s := b.stopContainer(t, c.id, 0).status; s.GetState() != cri.ContainerState_CONTAINER_EXITED || s.GetExitCode() != 137 {
		t.Errorf("stopped: %v", s)
	}
	b.removeContainer(t, c.id)
}

func killedInRemove(t *testing.T, b *bench, name string) {
	c := b.runContainer(t, b.request(name, "busybox usleep 200000; echo hi; exit 6")).ended(t)
	b.crash(t, func(ctx context.Context) error {
		_, err := b.cri.RemoveContainer(ctx, &cri.RemoveContainerRequest{ContainerId: c.id})
		return err
	})
	if s := b.look(t, c.id).status; s.GetState() != cri.ContainerState_CONTAINER_EXITED || s.GetExitCode() != 6 || s.GetFinishedAt() != c.status.GetFinishedAt() {
		t.Errorf("after the crash: %v", s)
	}
	b.removeContainer(t, c.id)
}
