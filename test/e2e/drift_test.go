package e2e

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine/enginetest"
)

// events is a proxy between daemon and engine that can cut the engine's event stream.
type events struct {
	mu  sync.Mutex // guards all following fields
	end func()     // of the stream; nil: there is none
	cut bool
}

// cutEvents puts the proxy there. An engine that is asked for anything else answers.
func (n *node) cutEvents(t *testing.T) *events {
	t.Helper()
	var e events
	pass := n.toEngine(nil)
	pass.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }
	n.terminate(t)
	n.proxy = listen(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/events") {
			pass.ServeHTTP(w, r)
			return
		}
		ctx, end := context.WithCancel(r.Context())
		defer end()
		e.mu.Lock()
		cut := e.cut
		e.end = end
		e.mu.Unlock()
		if cut {
			panic(http.ErrAbortHandler)
		}
		pass.ServeHTTP(w, r.WithContext(ctx))
	}))
	n.start(t)
	return &e
}

func (e *events) set(cut bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.cut = cut; cut && e.end != nil {
		e.end()
	}
}

// What the engine does while its events are lost is found by a resync, and counted.
func TestDriftIsCountedAndMended(t *testing.T) {
	bothEngines(t, func(t *testing.T, version enginetest.Version) {
		n := newNode(t, version, userConf(), "--metrics-address=127.0.0.1:0")
		n.importShell(t)
		events := n.cutEvents(t)
		config := config("web")
		pod := n.runPod(t, config)
		ids := map[string]string{}
		for _, name := range []string{"killed", "removed", "untouched", "seen"} {
			ids[name] = n.newShell(t, pod.id, config, name, "sleep 3600 & wait")
			n.startContainer(t, ids[name])
		}
		n.docker(t, "kill", ids["seen"])
		waitFor(t, "an event is heeded", func() bool { return n.listStates(t)[ids["seen"]] == "CONTAINER_EXITED" })
		const metric = "mascri_index_drift_total"
		if got, ok := n.scrape(t)[metric]; !ok || got != 0 {
			t.Errorf("drift %v (told: %v) before any event was lost", got, ok)
		}

		events.set(true)
		n.docker(t, "kill", ids["killed"])
		n.docker(t, "rm", "-f", ids["removed"])
		time.Sleep(2 * time.Second) // no event of that is replayed when the stream is back
		if states := n.listStates(t); states[ids["killed"]] != "CONTAINER_RUNNING" || states[ids["removed"]] != "CONTAINER_RUNNING" {
			t.Errorf("known without an event: %v", states)
		}
		events.set(false)
		want := map[string]string{pod.id: "SANDBOX_READY", ids["killed"]: "CONTAINER_EXITED", ids["untouched"]: "CONTAINER_RUNNING", ids["seen"]: "CONTAINER_EXITED"}
		waitFor(t, "what was missed is known", func() bool {
			states := n.listStates(t)
			same := len(states) == len(want)
			for id, state := range want {
				same = same && states[id] == state
			}
			return same
		})
		waitFor(t, "drift is counted", func() bool { return n.scrape(t)[metric] == 2 })
		resp, err := n.cri.ContainerStatus(t.Context(), &cri.ContainerStatusRequest{ContainerId: ids["killed"]})
		if err != nil || resp.GetStatus().GetExitCode() != 137 {
			t.Errorf("status of what was killed: %v, %v", resp, err)
		}
		n.removePod(t, pod.id)
		n.wantWhole(t, 0)
		if got := n.scrape(t)[metric]; got != 2 {
			t.Errorf("drift %v in the end, want 2", got)
		}
	})
}
