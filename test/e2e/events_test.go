package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine/enginetest"
)

// transitionsVariable makes TestEventsAgreeWithPolling longer.
const transitionsVariable = "MASCRI_TEST_TRANSITIONS"

// watched is what a subscriber was told: the kinds of events of each id, in their order.
type watched struct {
	mu     sync.Mutex // guards all following fields
	kinds  map[string]string
	count  int
	latest int64
	wrong  []string
	err    error
	done   chan struct{}
}

func (n *node) watch(t *testing.T) *watched {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := n.cri.GetContainerEvents(ctx, &cri.GetEventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Header(); err != nil {
		t.Fatal(err)
	}
	w := &watched{kinds: map[string]string{}, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		for {
			event, err := stream.Recv()
			if err != nil {
				w.mu.Lock()
				w.err = err
				w.mu.Unlock()
				return
			}
			w.take(event)
		}
	}()
	t.Cleanup(func() { cancel(); <-w.done })
	return w
}

func (w *watched) take(event *cri.ContainerEventResponse) {
	w.mu.Lock()
	defer w.mu.Unlock()
	kind := strings.TrimSuffix(strings.TrimPrefix(event.GetContainerEventType().String(), "CONTAINER_"), "_EVENT")
	id := event.GetContainerId()
	w.kinds[id] = strings.TrimSpace(w.kinds[id] + " " + kind)
	w.count++
	sandbox := event.GetPodSandboxStatus()
	if sandbox.GetMetadata().GetUid() == "" {
		w.wrong = append(w.wrong, fmt.Sprintf("%s of %s without its pod's status", kind, id))
	}
	if event.GetCreatedAt() < w.latest {
		w.wrong = append(w.wrong, fmt.Sprintf("%s of %s is from before the event before", kind, id))
	}
	w.latest = event.GetCreatedAt()
	told := id == sandbox.GetId()
	for _, c := range event.GetContainersStatuses() {
		told = told || c.GetId() == id
	}
	switch { // one removed by force while it ran is gone when its end is told
	case !told && (kind == "CREATED" || kind == "STARTED"), told && kind == "DELETED" && id != sandbox.GetId():
		w.wrong = append(w.wrong, fmt.Sprintf("%s of %s: its status is there: %v", kind, id, told))
	}
}

// poll lists as the kubelet's generic PLEG does, until stop is closed, and returns the
// states that it saw of each id, in their order.
func (n *node) poll(t *testing.T, stop chan struct{}) map[string][]string {
	seen := map[string][]string{}
	for {
		for id, state := range n.listStates(t) {
			if list := seen[id]; len(list) == 0 || list[len(list)-1] != state {
				seen[id] = append(list, state)
			}
		}
		select {
		case <-stop:
			return seen
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (n *node) listStates(t *testing.T) map[string]string {
	states := map[string]string{}
	sandboxes, err := n.cri.ListPodSandbox(t.Context(), &cri.ListPodSandboxRequest{})
	if err != nil {
		t.Error(err)
	}
	containers, err := n.cri.ListContainers(t.Context(), &cri.ListContainersRequest{})
	if err != nil {
		t.Error(err)
	}
	for _, s := range sandboxes.GetItems() {
		states[s.GetId()] = s.GetState().String()
	}
	for _, c := range containers.GetContainers() {
		states[c.GetId()] = c.GetState().String()
	}
	return states
}

// lifeOf takes a pod with two containers through its life, with an end of one of several
// kinds, and returns the ids and how the events of each must read.
func (n *node) lifeOf(t *testing.T, i int) map[string]string {
	config := config(fmt.Sprint("pod-", i))
	if i%3 > 0 { // the network is not what takes time here
		config.Linux = &cri.LinuxPodSandboxConfig{SecurityContext: &cri.LinuxSandboxSecurityContext{NamespaceOptions: &cri.NamespaceOption{Network: cri.NamespaceMode_NODE}}}
	}
	resp, err := n.cri.RunPodSandbox(t.Context(), &cri.RunPodSandboxRequest{Config: config})
	if err != nil {
		t.Error(err)
		return nil
	}
	pod := resp.GetPodSandboxId()
	const all = "CREATED STARTED STOPPED DELETED"
	want := map[string]string{pod: all}
	script := "sleep 3600 & wait"
	if i%4 == 0 {
		script = "exit 3"
	}
	first, second := n.newShell(t, pod, config, "first", script), n.newShell(t, pod, config, "second", "sleep 3600 & wait")
	want[first], want[second] = all, "CREATED DELETED" // second is never started
	n.startContainer(t, first)
	switch i % 4 {
	case 0:
		waitFor(t, "it exits by itself", func() bool { return n.listStates(t)[first] == "CONTAINER_EXITED" })
	case 1:
		_, err = n.cri.StopContainer(t.Context(), &cri.StopContainerRequest{ContainerId: first})
	case 2:
		_, err = try("docker", "-H", n.host, "kill", first)
	case 3:
		_, err = try("docker", "-H", n.host, "rm", "-f", first)
	}
	for _, id := range []string{first, second} {
		if err == nil && i%2 == 0 { // else RemovePodSandbox does it
			_, err = n.cri.RemoveContainer(t.Context(), &cri.RemoveContainerRequest{ContainerId: id})
		}
	}
	if err != nil {
		t.Error(err)
	}
	n.removePod(t, pod)
	return want
}

// Every transition is told once to each subscriber, in its order, with what polling
// shows; whoever caused it.
func TestEventsAgreeWithPolling(t *testing.T) {
	transitions := 400
	if text := os.Getenv(transitionsVariable); text != "" {
		var err error
		if transitions, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	n := newNode(t, enginetest.Engine28, userConf())
	n.importShell(t)
	subscribers := []*watched{n.watch(t), n.watch(t)}
	stop, polled := make(chan struct{}), make(chan map[string][]string)
	go func() { polled <- n.poll(t, stop) }()

	const perPod = 10
	pods := (transitions + perPod - 1) / perPod
	want := map[string]string{}
	var mu sync.Mutex
	var group sync.WaitGroup
	next := make(chan int)
	for range 4 {
		group.Go(func() {
			for i := range next {
				kinds := n.lifeOf(t, i)
				mu.Lock()
				for id, k := range kinds {
					want[id] = k
				}
				mu.Unlock()
			}
		})
	}
	for i := range pods {
		next <- i
	}
	close(next)
	group.Wait()
	close(stop)
	seen := <-polled
	for i, w := range subscribers {
		waitFor(t, "all events", func() bool { w.mu.Lock(); defer w.mu.Unlock(); return w.count >= pods*perPod })
		time.Sleep(200 * time.Millisecond) // one that is told twice would come now
		w.mu.Lock()
		if w.err != nil {
			t.Errorf("subscriber %d: %v", i, w.err)
		}
		if w.count != pods*perPod || len(w.kinds) != len(want) {
			t.Errorf("subscriber %d: %d events of %d containers and sandboxes, want %d of %d", i, w.count, len(w.kinds), pods*perPod, len(want))
		}
		for id, kinds := range want {
			if w.kinds[id] != kinds {
				t.Errorf("subscriber %d: events of %s: %q, want %q", i, id, w.kinds[id], kinds)
			}
		}
		for _, wrong := range w.wrong {
			t.Errorf("subscriber %d: %s", i, wrong)
		}
		w.mu.Unlock()
	}
	agree(t, seen, subscribers[0].kinds)
	t.Logf("%d transitions; polling saw %d ids", pods*perPod, len(seen))
	n.terminatesWith(t, subscribers)
}

// agree checks that no state was seen by polling that events don't account for.
func agree(t *testing.T, seen map[string][]string, kinds map[string]string) {
	t.Helper()
	if len(seen) == 0 {
		t.Error("polling saw nothing")
	}
	event := map[string]string{
		"CONTAINER_CREATED": "CREATED", "CONTAINER_RUNNING": "STARTED", "CONTAINER_EXITED": "STOPPED",
		"SANDBOX_READY": "STARTED", "SANDBOX_NOTREADY": "STOPPED",
	}
	for id, states := range seen {
		rest := strings.Fields(kinds[id])
		for _, state := range states {
			at := slices.Index(rest, event[state])
			if at < 0 {
				t.Errorf("%s was seen %q, told of were %q", id, states, kinds[id])
				break
			}
			rest = rest[at+1:]
		}
	}
}

// terminatesWith checks that subscribers, who never leave, don't keep the daemon from
// ending, and are told that it does.
func (n *node) terminatesWith(t *testing.T, subscribers []*watched) {
	t.Helper()
	began := time.Now()
	n.terminate(t)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the daemon took %v to end", took)
	}
	for _, w := range subscribers {
		<-w.done
		if status.Code(w.err) != codes.Unavailable || errors.Is(w.err, io.EOF) {
			t.Errorf("the subscriber was told %v", w.err)
		}
	}
}
