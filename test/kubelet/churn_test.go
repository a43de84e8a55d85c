package kubelet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// churnVariable says how long TestChurn lasts.
const churnVariable = "MASCRI_TEST_CHURN"

// TestChurn is what "make test-churn" runs: events, for as long as one wants.
func TestChurn(t *testing.T) {
	length, err := time.ParseDuration(os.Getenv(churnVariable))
	if err != nil {
		t.Skip("it is for make test-churn, as " + churnVariable + " says no length")
	}
	b := bench{node: newNode(t, "--live-restore")}
	b.settings["featureGates"] = eventGates
	b.restartKubelet(t, syscall.SIGTERM)
	fmt.Printf("churn: %s\n", b.churn(t, length)) // for test/all.sh
}

// eventGates are of a kubelet that listens to events and takes statistics from the runtime.
var eventGates = map[string]bool{"ContainerStopSignals": true, "PodAndContainerStatsFromCRI": true, "EventedPLEG": true}

// One wave of pods has each kind of end in it.
func events(t *testing.T, b bench) {
	b.shows(t, "events tell the kubelet of each transition, with EventedPLEG", "%s", b.churn(t, 0))
}

// lives are the ways of a churn's pods, each of which is gone through once has says so.
var lives = []struct {
	name, spec string
	has        func(pod) bool
}{
	{"fails", "restartPolicy: Never\ncontainers:\n- {name: main, image: IMAGE, command: [sh, -c, 'sleep 1; exit 5']}", func(p pod) bool { return p.Status.Phase == "Failed" }},
	{"at-once", "restartPolicy: Never\ncontainers:\n- {name: main, image: IMAGE, command: ['true']}", func(p pod) bool { return p.Status.Phase == "Succeeded" }},
	{"init", `restartPolicy: Never
initContainers:
- {name: first, image: IMAGE, command: [sleep, "0.3"]}
- {name: sidecar, image: IMAGE, restartPolicy: Always, ` + forever + `}
containers:
- {name: main, image: IMAGE, command: [sleep, "1"]}`, func(p pod) bool { return p.Status.Phase == "Succeeded" }},
	{"restarts", "containers:\n- {name: main, image: IMAGE, command: [sh, -c, 'sleep 1; exit 3']}", restarted},
	{"dies", `terminationGracePeriodSeconds: 1
containers:
- name: main
  image: IMAGE
  ` + forever + `
  livenessProbe: {exec: {command: ["false"]}, periodSeconds: 1, failureThreshold: 1}`, restarted},
	{"hog", "restartPolicy: Never\ncontainers:\n- {name: main, image: IMAGE, command: [sh, -c, 'sleep 1; tail /dev/zero'], resources: {limits: {memory: 16Mi}}}", func(p pod) bool {
		end := p.container("main").State.Terminated
		return end != nil && end.Reason == "OOMKilled"
	}},
	{"stays", "terminationGracePeriodSeconds: 1\ncontainers:\n- {name: main, image: IMAGE, " + forever + "}", pod.ready},
	{"killed", "terminationGracePeriodSeconds: 1\ncontainers:\n- {name: main, image: IMAGE, " + forever + "}", restarted},
	{"torn", "terminationGracePeriodSeconds: 1\ncontainers:\n- {name: main, image: IMAGE, " + forever + "}", restarted},
}

func restarted(p pod) bool { return p.container("main").RestartCount > 0 }

// wave takes a pod through each of lives. Two of them are killed behind everybody's back,
// one by its container and one by its sandbox. It notes the pods' uids.
func (b bench) wave(t *testing.T, number int, uids map[string]bool) {
	t.Helper()
	name := func(life string) string { return fmt.Sprintf("churn-%d-%s", number, life) }
	var names []string
	for _, life := range lives {
		names = append(names, name(life.name))
		b.add(t, name(life.name), life.spec)
	}
	b.docker(t, "kill", b.untilRuns(t, name("killed")).container("main").id())
	b.docker(t, "kill", b.sandbox(t, b.untilRuns(t, name("torn"))).GetId())
	for _, life := range lives {
		uids[b.until(t, name(life.name), "went its way", life.has).Metadata.UID] = true
	}
	b.remove(t, names...)
}

// churn runs waves of pods for a time, one at least. Each transition that the kubelet's
// relist comes upon with these pods must be told by an event, too, and that of an end have
// made it look. What it comes upon with others may have been before the events began.
func (b bench) churn(t *testing.T, length time.Duration) string {
	t.Helper()
	events := b.listen(t)
	about, err := os.Stat(b.kubelet.log)
	if err != nil {
		t.Fatal(err)
	}
	uids := map[string]bool{}
	began, waves := time.Now(), 0
	for ; waves == 0 || time.Since(began) < length; waves++ {
		b.wave(t, waves, uids)
		if length > 0 && !t.Failed() {
			fmt.Printf("%v: %d waves\n", time.Since(began).Round(time.Second), waves+1)
		}
	}
	took := time.Since(began)
	found := await(t, patience, "each transition is told by an event", func() (string, error) {
		time.Sleep(2 * time.Second) // for the last relist, and what is on its way
		return events.against(relists(t, b.kubelet.log, about.Size(), uids))
	})
	metrics, err := b.get("/metrics")
	if err != nil {
		t.Fatal(err)
	}
	seen := regexp.MustCompile(`(?m)^kubelet_evented_pleg_connection_(success|error|latency_seconds)_count \d+`).FindAllString(metrics, -1)
	if !slices.Contains(seen, "kubelet_evented_pleg_connection_error_count 0") {
		t.Errorf("the kubelet lost its events: %v", seen)
	}
	return fmt.Sprintf("%d pods in %v: %s; %s", waves*len(lives), took.Round(time.Second), found, strings.Join(seen, ", "))
}

// transition is one of a container's or a sandbox's.
type transition struct {
	id   string
	kind cri.ContainerEventType
}

// relisted are the transitions of the kubelet's log, by the number of lines that tell of
// them, and the containers whose event of an end made it look at once.
type relisted struct {
	found map[transition]int
	asked map[string]bool
}

var (
	relistLine = regexp.MustCompile(`"GenericPLEG" podUID="([^"]*)" containerID="([0-9a-f]+)" oldState="[a-z-]+" newState="([a-z-]+)"`)
	askedLine  = regexp.MustCompile(`requested pod relist after container termination".* containerID="([0-9a-f]+)"`)
	// The kubelet calls a container that was created and not started unknown.
	relistKinds = map[string]cri.ContainerEventType{
		"unknown": cri.ContainerEventType_CONTAINER_CREATED_EVENT, "running": cri.ContainerEventType_CONTAINER_STARTED_EVENT,
		"exited": cri.ContainerEventType_CONTAINER_STOPPED_EVENT, "non-existent": cri.ContainerEventType_CONTAINER_DELETED_EVENT,
	}
)

// relists reads of some pods in the kubelet's log, from an offset on.
func relists(t *testing.T, log string, offset int64, uids map[string]bool) relisted {
	t.Helper()
	f, err := os.Open(log)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.NewSectionReader(f, offset, 1<<40))
	if err != nil {
		t.Fatal(err)
	}
	r := relisted{map[transition]int{}, map[string]bool{}}
	for _, line := range relistLine.FindAllSubmatch(text, -1) {
		if uids[string(line[1])] {
			r.found[transition{string(line[2]), relistKinds[string(line[3])]}]++
		}
	}
	for _, line := range askedLine.FindAllSubmatch(text, -1) {
		r.asked[string(line[1])] = true
	}
	return r
}

// listener hears the runtime's events beside the kubelet.
type listener struct {
	mu    sync.Mutex // guards all following fields
	told  map[transition]bool
	ended error // how the events ended; nil while they come
}

// listen returns once MasCRI tells it of what happens from then on.
func (n *node) listen(t *testing.T) *listener {
	t.Helper()
	stream, err := n.cri.GetContainerEvents(t.Context(), &cri.GetEventsRequest{})
	if err == nil {
		_, err = stream.Header()
	}
	if err != nil {
		t.Fatal(err)
	}
	l := &listener{told: map[transition]bool{}}
	go func() {
		for {
			event, err := stream.Recv()
			l.mu.Lock()
			if l.ended = err; err == nil {
				l.told[transition{event.GetContainerId(), event.GetContainerEventType()}] = true
			}
			l.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return l
}

// against says what was relisted, and fails where that is all that told of it.
func (l *listener) against(r relisted) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended != nil && !errors.Is(l.ended, context.Canceled) {
		return "", fmt.Errorf("the events ended: %w", l.ended)
	}
	var alone []string
	counts := map[string]int{}
	for change := range r.found {
		counts[change.kind.String()]++
		ended := change.kind == cri.ContainerEventType_CONTAINER_STOPPED_EVENT
		if !l.told[change] || ended && !r.asked[change.id] {
			alone = append(alone, fmt.Sprintf("%v of %s (event %t, the kubelet looked at once %t)", change.kind, change.id, l.told[change], r.asked[change.id]))
		}
	}
	if len(alone) > 0 || len(r.found) == 0 {
		return "", fmt.Errorf("%d of %d transitions were told by the relist alone: %s", len(alone), len(r.found), strings.Join(alone, "; "))
	}
	var parts []string
	for _, kind := range slices.Sorted(maps.Keys(counts)) {
		name := strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(kind, "CONTAINER_"), "_EVENT"))
		parts = append(parts, strconv.Itoa(counts[kind])+" "+name)
	}
	return fmt.Sprintf("%d transitions (%s), none by the relist alone; each end made the kubelet look at once", len(r.found), strings.Join(parts, ", ")), nil
}
