package cri_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

// fakeLimits keeps what was set, by the container's name-less id, as if every kernel
// could limit everything. Check refuses the unified key "no.such".
type fakeLimits struct {
	mu   sync.Mutex // guards all following fields
	set  map[string]string
	fail error // of Set and SetOOMScore
}

func (l *fakeLimits) Check(pid int, id string, resources *runtimeapi.LinuxContainerResources) error {
	if pid == 0 && len(resources.GetUnified())+len(resources.GetHugepageLimits()) > 0 {
		return fmt.Errorf("container %q does not run: %w", id, errdefs.ErrNotFound)
	}
	if _, ok := resources.GetUnified()["no.such"]; ok {
		return fmt.Errorf("linux.resources.unified[%q]: the kernel has no such limit: %w", "no.such", errdefs.ErrFailedPrecondition)
	}
	return nil
}

func (l *fakeLimits) Set(pid int, id string, resources *runtimeapi.LinuxContainerResources) error {
	var parts []string
	for _, limit := range resources.GetHugepageLimits() {
		parts = append(parts, fmt.Sprintf("%s=%d", limit.GetPageSize(), limit.GetLimit()))
	}
	for key, value := range resources.GetUnified() {
		parts = append(parts, key+"="+value)
	}
	return l.put(pid, id, parts...)
}

func (l *fakeLimits) SetOOMScore(pid int, id string, score int) error {
	return l.put(pid, id, fmt.Sprintf("oom_score_adj=%d", score))
}

// put replaces what was set of the same names.
func (l *fakeLimits) put(pid int, id string, parts ...string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail != nil {
		return l.fail
	}
	if pid == 0 {
		return fmt.Errorf("container %q does not run: %w", id, errdefs.ErrNotFound)
	}
	values := map[string]string{}
	for _, part := range append(strings.Fields(l.set[id]), parts...) {
		name, _, _ := strings.Cut(part, "=")
		values[name] = part
	}
	var all []string
	for _, part := range values {
		all = append(all, part)
	}
	slices.Sort(all)
	if l.set == nil {
		l.set = map[string]string{}
	}
	l.set[id] = strings.Join(all, " ")
	return nil
}

func (l *fakeLimits) of(id string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.set[id]
}

func (l *fakeLimits) failWith(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fail = err
}

// fakeLogs keeps whose log files are written.
type fakeLogs struct {
	mu       sync.Mutex // guards all following fields
	followed map[string]pod.LogSource
	drained  map[string]bool
	reopened []string
	fail     error // of Follow
}

func (l *fakeLogs) Follow(_ context.Context, source pod.LogSource) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail != nil {
		return l.fail
	}
	if l.followed == nil {
		l.followed, l.drained = map[string]pod.LogSource{}, map[string]bool{}
	}
	l.followed[source.ID] = source
	return nil
}

func (l *fakeLogs) Reopen(_ context.Context, id string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.followed[id]; !ok {
		return fmt.Errorf("container %q: %w", id, errdefs.ErrNotFound)
	}
	l.reopened = append(l.reopened, id)
	return nil
}

func (l *fakeLogs) Drain(_ context.Context, id string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.drained != nil {
		l.drained[id] = true
	}
	return nil
}

func (l *fakeLogs) Forget(_ context.Context, id string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.followed, id)
	return nil
}

func (l *fakeLogs) Sweep(_ context.Context, known func(string) bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.followed, func(id string, _ pod.LogSource) bool { return !known(id) })
	return nil
}

// String prints the files that are written, a line each.
func (l *fakeLogs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var lines []string
	for _, source := range l.followed {
		lines = append(lines, source.Path+"\n")
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

func (l *fakeLogs) failWith(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fail = err
}
