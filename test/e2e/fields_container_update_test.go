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
)

// updateFields are those of resources below each prefix, all seen by TestContainers,
// and of the request that holds them.
func updateFields(prefixes ...string) map[string]field {
	table := map[string]field{"pod_sandbox_id": {}}
	if prefixes[0] == "linux." {
		table = map[string]field{"container_id": {}, "windows": {code: codes.InvalidArgument}, "annotations": {code: codes.Unimplemented}}
	}
	for _, prefix := range prefixes {
		for path := range inTable(containerResourceFields) {
			table[prefix+strings.TrimPrefix(path, resourcesPrefix)] = seenBy("TestContainers")
		}
	}
	return table
}

// Each limit can be changed while the container runs, is in force at once, is reported and
// outlives the daemon. What was changed of a container before its start is in force after.
func (b *bench) updates(t *testing.T) {
	update := func(id string, r *cri.LinuxContainerResources) error {
		_, err := b.cri.UpdateContainerResources(t.Context(), &cri.UpdateContainerResourcesRequest{ContainerId: id, Linux: r})
		return err
	}
	c := b.runContainer(t, b.request("running", ""))
	before := b.request("created", "")
	before.Config.Linux.Resources = &cri.LinuxContainerResources{MemoryLimitInBytes: 512 * mib}
	created := b.createContainer(t, before)
	for _, key := range slices.Sorted(maps.Keys(limits)) {
		l := limits[key]
		err := update(c.id, l.resources)
		if status.Code(err) != l.code || l.code != 0 && !strings.Contains(fmt.Sprint(err), l.text) {
			t.Errorf("%s: error %v, want %s that says %q", key, err, l.code, l.text)
		}
		if l.code == 0 && err == nil {
			l.see(t, b, b.look(t, c.id))
		}
	}
	// A limit of memory and swap stays unless it is given, too.
	wantRefused(t, update(c.id, &cri.LinuxContainerResources{MemoryLimitInBytes: 96 * mib}), codes.FailedPrecondition, "memoryswap")
	wantRefused(t, update(c.id, &cri.LinuxContainerResources{MemoryLimitInBytes: 96 * mib, MemorySwapLimitInBytes: -1}), codes.Unimplemented, "memory_swap_limit_in_bytes")
	if err := update(c.id, &cri.LinuxContainerResources{MemoryLimitInBytes: 72 * mib}); err != nil {
		t.Error(err)
	}
	limit{&cri.LinuxContainerResources{MemorySwapLimitInBytes: 80 * mib}, "memory", "memory.memsw.limit_in_bytes", fmt.Sprint(80 * mib), 0, ""}.see(t, b, b.look(t, c.id))
	later := &cri.LinuxContainerResources{OomScoreAdj: 555, MemoryLimitInBytes: 96 * mib, MemorySwapLimitInBytes: 96 * mib, CpuShares: 77, HugepageLimits: hugepages("1GB", 0).HugepageLimits}
	for _, id := range []string{c.id, created} {
		if err := update(id, later); err != nil {
			t.Fatal(err)
		}
	}
	b.updateSandbox(t)
	b.kill(t)
	b.start(t)
	b.wantSandboxUpdated(t)
	for _, c := range []container{b.look(t, c.id), b.startContainer(t, created)} {
		wantOOMScore(555)(t, b, c)
		limit{later, "memory", "memory.limit_in_bytes", fmt.Sprint(96 * mib), 0, ""}.seeSome(t, c)
		limit{later, "cpu", "cpu.shares", "77", 0, ""}.seeSome(t, c)
	}
	wantUpdatesRefused(t, b, c)
	b.removeContainer(t, c.id)
	b.removeContainer(t, created)
}

// seeSome is see where the status has limits of earlier updates as well.
func (l limit) seeSome(t *testing.T, c container) {
	t.Helper()
	if got := c.cgroup(t, l.controller, l.file); got != l.want {
		t.Errorf("%s is %q, want %q", l.file, got, l.want)
	}
	if r := c.status.GetResources().GetLinux(); r.GetMemoryLimitInBytes() != 96*mib || r.GetCpuShares() != 77 || len(r.GetHugepageLimits()) == 0 {
		t.Errorf("the status reports %v", r)
	}
}

func wantUpdatesRefused(t *testing.T, b *bench, c container) {
	t.Helper()
	update := func(req *cri.UpdateContainerResourcesRequest) error {
		_, err := b.cri.UpdateContainerResources(t.Context(), req)
		return err
	}
	few := &cri.LinuxContainerResources{CpuShares: 10}
	wantRefused(t, update(&cri.UpdateContainerResourcesRequest{ContainerId: "nonesuch", Linux: few}), codes.NotFound, "nonesuch")
	wantRefused(t, update(&cri.UpdateContainerResourcesRequest{ContainerId: c.id}), codes.InvalidArgument, "linux")
	wantRefused(t, update(&cri.UpdateContainerResourcesRequest{ContainerId: c.id, Linux: few, Windows: &cri.WindowsContainerResources{}}), codes.InvalidArgument, "windows")
	wantRefused(t, update(&cri.UpdateContainerResourcesRequest{ContainerId: c.id, Linux: few, Annotations: map[string]string{"a": "b"}}), codes.Unimplemented, "annotations")
	wantRefused(t, update(&cri.UpdateContainerResourcesRequest{ContainerId: c.id, Linux: &cri.LinuxContainerResources{OomScoreAdj: 1001}}), codes.InvalidArgument, "oom_score_adj")
	b.stopContainer(t, c.id, 0)
	wantRefused(t, update(&cri.UpdateContainerResourcesRequest{ContainerId: c.id, Linux: few}), codes.FailedPrecondition, "it has ended")
}

// A pod's new sums are noted; its cgroup is the kubelet's.
func (b *bench) updateSandbox(t *testing.T) {
	t.Helper()
	req := &cri.UpdatePodSandboxResourcesRequest{
		PodSandboxId: b.pod.id, Overhead: &cri.LinuxContainerResources{CpuShares: 111}, Resources: &cri.LinuxContainerResources{MemoryLimitInBytes: 222},
	}
	if _, err := b.cri.UpdatePodSandboxResources(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	req.PodSandboxId = "nonesuch"
	_, err := b.cri.UpdatePodSandboxResources(t.Context(), req)
	wantRefused(t, err, codes.NotFound, "nonesuch")
}

func (b *bench) wantSandboxUpdated(t *testing.T) {
	t.Helper()
	var text strings.Builder
	for _, value := range b.inspect(t, b.pod.id).info {
		text.Write(value)
	}
	for _, want := range []string{`"cpuShares":"111"`, `"memoryLimitInBytes":"222"`} {
		if !strings.Contains(strings.ReplaceAll(text.String(), " ", ""), want) {
			t.Errorf("the verbose status lacks %s:\n%s", want, &text)
		}
	}
}
