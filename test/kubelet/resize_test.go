package kubelet

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// A static pod whose manifest has a uid stays the same pod when the manifest changes, so
// that other resources in it are a resize in place.
func resize(t *testing.T, b bench) {
	const name, uid = "resize", "7e51e000-0000-4000-8000-000000000001"
	manifest := func(cpu, memory string) {
		b.addAs(t, name, "uid: "+uid, `
terminationGracePeriodSeconds: 1
containers:
- {name: main, image: IMAGE, `+forever+`, resources: {requests: {cpu: `+cpu+`, memory: `+memory+`}, limits: {cpu: `+cpu+`, memory: `+memory+`}}}`)
	}
	manifest("200m", "32Mi")
	before := b.untilReady(t, name).container("main")
	lines := []string{"200m, 32Mi"}
	for _, to := range []struct {
		cpu, memory string
		kernel      []string // cpu.shares, cpu.cfs_quota_us, memory.limit_in_bytes
	}{
		{"400m", "64Mi", []string{"409", "40000", "67108864"}}, // up
		{"100m", "48Mi", []string{"102", "10000", "50331648"}}, // and down
	} {
		manifest(to.cpu, to.memory)
		b.until(t, name, "has "+to.cpu+", "+to.memory, func(p pod) bool {
			limits := p.container("main").Resources.Limits
			return limits["cpu"] == to.cpu && limits["memory"] == to.memory
		})
		status, err := b.cri.ContainerStatus(t.Context(), &cri.ContainerStatusRequest{ContainerId: before.id()})
		if err != nil {
			t.Fatal(err)
		}
		r := status.GetStatus().GetResources().GetLinux()
		told := fmt.Sprint([]int64{r.GetCpuShares(), r.GetCpuQuota(), r.GetMemoryLimitInBytes()})
		if want := "[" + strings.Join(to.kernel, " ") + "]"; told != want {
			t.Errorf("MasCRI reports %s, want %s", told, want)
		}
		for _, container := range []string{before.id(), ""} { // "" is the pod's own
			await(t, patience, "the kernel has "+to.cpu+", "+to.memory, func() (struct{}, error) {
				var kernel []string
				for _, file := range []string{"cpu/cpu.shares", "cpu/cpu.cfs_quota_us", "memory/memory.limit_in_bytes"} {
					hierarchy, file := filepath.Split(file)
					kernel = append(kernel, read(t, filepath.Join(group(t, hierarchy, uid, container), file)))
				}
				if !slices.Equal(kernel, to.kernel) {
					return struct{}{}, fmt.Errorf("cgroup of %q has %v, want %v", container, kernel, to.kernel)
				}
				return struct{}{}, nil
			})
		}
		lines = append(lines, to.cpu+", "+to.memory)
	}
	after := b.untilReady(t, name).container("main")
	if after.ContainerID != before.ContainerID || after.RestartCount != 0 {
		t.Errorf("before %+v, after %+v", before, after)
	}
	metrics, err := b.get("/metrics")
	if err != nil {
		t.Fatal(err)
	}
	calls := regexp.MustCompile(`(?m)^kubelet_runtime_operations_(errors_)?total\{operation_type="update_(container|podsandbox_resources)"\} \d+`).FindAllString(metrics, -1)
	if len(calls) != 2 { // those of errors are not there
		t.Errorf("the kubelet's calls: %q", calls)
	}
	b.shows(t, "a pod is resized in place", "%s: the container is the same, as are its cgroup's, its pod's cgroup's and MasCRI's figures; %s", strings.Join(lines, " -> "), strings.Join(calls, ", "))
}
