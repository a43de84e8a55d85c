package e2e

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine/enginetest"
)

// containerField is what becomes of one field of CreateContainer, or of one use of it: see
// shows the effect on the container, or the request is refused with code and text.
type containerField struct {
	// script is what the container runs; without one it sleeps.
	script string
	set    func(*testing.T, *cri.CreateContainerRequest)
	see    func(*testing.T, *bench, container)
	code   codes.Code
	text   string
	// old is what engine 20.10 refuses it by, where only newer ones can do it.
	old string
	// start is whether the engine finds out no sooner than at the start.
	start bool
}

// containerFields is the table for CreateContainer, by path. After a space, a key has a
// further use of the field.
var containerFields = merge(processFields, mountFields, deviceFields, userFields, confinementFields, containerResourceFields)

// inTable gives the paths of a table of containers.
func inTable(table map[string]containerField) map[string]field {
	out := map[string]field{}
	for key := range table {
		path, _, _ := strings.Cut(key, " ")
		out[path] = field{}
	}
	return out
}

// All that can be asked of containers, by all fields, and what is told of them: on one node
// for each engine.
func TestContainers(t *testing.T) {
	bothEngines(t, func(t *testing.T, version enginetest.Version) {
		b := newBench(t, newNode(t, version, userConf()))
		t.Run("fields of CreateContainer", func(t *testing.T) { b.rows(t, version) })
		t.Run("fields of the others", b.otherFields)
		t.Run("status", b.statuses)
		t.Run("updates", b.updates)
		if list := b.listed(t, nil); len(list) > 0 {
			t.Errorf("containers left: %v", list)
		}
		b.removePod(t, b.pod.id)
		b.wantWhole(t, 0)
	})
}

// rows runs a container for each field of CreateContainer, some at once.
func (b *bench) rows(t *testing.T, version enginetest.Version) {
	for i, key := range slices.Sorted(maps.Keys(containerFields)) {
		t.Run(key, func(t *testing.T) {
			t.Parallel()
			b.row(t, fmt.Sprint("row-", i), containerFields[key], version)
		})
	}
}

func (b *bench) row(t *testing.T, name string, row containerField, version enginetest.Version) {
	req := b.request(name, row.script)
	if row.set != nil {
		row.set(t, req)
	}
	if row.old != "" && version == enginetest.Engine20 {
		row.see, row.code, row.text = nil, codes.FailedPrecondition, row.old
	}
	resp, err := b.cri.CreateContainer(t.Context(), req)
	if err == nil {
		defer b.removeContainer(t, resp.GetContainerId())
		if row.see != nil || row.start {
			_, err = b.cri.StartContainer(t.Context(), &cri.StartContainerRequest{ContainerId: resp.GetContainerId()})
		}
	}
	if row.see == nil {
		if status.Code(err) != row.code || !strings.Contains(fmt.Sprint(err), row.text) {
			t.Errorf("error %v, want %s that says %q", err, row.code, row.text)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	row.see(t, b, b.look(t, resp.GetContainerId()))
}

// wantOutput checks what the container's script wrote, by its log.
func wantOutput(want string) func(*testing.T, *bench, container) {
	return func(t *testing.T, _ *bench, c container) {
		t.Helper()
		if got := c.output(t); got != want {
			t.Errorf("the container wrote %q, want %q", got, want)
		}
	}
}

// wantProcess checks a field of the process's /proc/PID/status.
func wantProcess(key, want string) func(*testing.T, *bench, container) {
	return func(t *testing.T, _ *bench, c container) {
		t.Helper()
		if got := c.procStatus(t, key); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
}

// secured changes the security context.
func secured(change func(*cri.LinuxContainerSecurityContext)) func(*testing.T, *cri.CreateContainerRequest) {
	return func(_ *testing.T, req *cri.CreateContainerRequest) { change(req.Config.Linux.SecurityContext) }
}

// configured changes the config.
func configured(change func(*cri.ContainerConfig)) func(*testing.T, *cri.CreateContainerRequest) {
	return func(_ *testing.T, req *cri.CreateContainerRequest) { change(req.Config) }
}
