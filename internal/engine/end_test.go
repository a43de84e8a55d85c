package engine

import (
	"encoding/json"
	"net/http"
	"path"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

// What was seen to be ours is ended and removed without another look; of all else the
// labels are read first, and what is another's is left alone.
func TestOwnershipIsAskedForOnce(t *testing.T) {
	instances := map[string]string{strings.Repeat("a", 64): "one", strings.Repeat("b", 64): "two"}
	names := map[string]string{}
	for id := range instances {
		names["name-"+id[:1]] = id
	}
	var mu sync.Mutex
	var asked []string
	e := serve(t, func(w http.ResponseWriter, r *http.Request) {
		words := strings.Split(r.URL.Path, "/") // "", version, containers, id, what
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, r.Method+" "+strings.Join(words[3:], "/"))
		id := words[3]
		if full, ok := names[id]; ok {
			id = full
		}
		instance, ok := instances[id]
		switch {
		case !ok:
			w.WriteHeader(http.StatusNotFound)
		case r.Method == http.MethodDelete:
			delete(instances, id)
			w.WriteHeader(http.StatusNoContent)
		case path.Base(r.URL.Path) != "json":
			w.WriteHeader(http.StatusNoContent)
		default:
			labels, err := pod.Labels(pod.SandboxSpec{Name: "name-" + id[:1], Instance: instance, Config: &cri.PodSandboxConfig{Metadata: &cri.PodSandboxMetadata{Name: "web"}}})
			if err != nil {
				t.Error(err)
			}
			w.Header().Set("Content-Type", "application/json")
			if err := json.NewEncoder(w).Encode(container.InspectResponse{ID: id, Config: &container.Config{Labels: labels}, State: &container.State{}}); err != nil {
				t.Error(err)
			}
		}
	})
	ours, theirs := strings.Repeat("a", 64), strings.Repeat("b", 64)
	for _, test := range []struct {
		what string
		do   func() error
		want []string
	}{
		{"the first time", func() error { return e.Kill(t.Context(), ours) }, []string{"GET " + ours + "/json", "POST " + ours + "/kill"}},
		{"then", func() error { return e.Stop(t.Context(), ours, 0) }, []string{"POST " + ours + "/stop"}},
		{"by name", func() error { return e.Kill(t.Context(), "name-a") }, []string{"GET name-a/json", "POST " + ours + "/kill"}},
		{"another's", func() error { return e.Kill(t.Context(), theirs) }, []string{"GET " + theirs + "/json"}},
		{"another's, again", func() error { return e.Remove(t.Context(), theirs) }, []string{"GET " + theirs + "/json"}},
		{"removal", func() error { return e.Remove(t.Context(), ours) }, []string{"DELETE " + ours}},
		{"once it is gone", func() error { return e.Kill(t.Context(), ours) }, []string{"GET " + ours + "/json"}},
	} {
		asked = nil
		if err := test.do(); err != nil {
			t.Errorf("%s: %v", test.what, err)
		}
		if diff := cmp.Diff(test.want, asked); diff != "" {
			t.Errorf("%s (-want +got)\n%s", test.what, diff)
		}
	}
	left := 0
	e.ours.Range(func(any, any) bool { left++; return true })
	if left != 0 {
		t.Errorf("%d containers are remembered that are gone", left)
	}
}
