package e2e

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine"
)

// limit is what becomes of one field of a container's resources, on a node with cgroup v1
// and without hugepages: it is in a file of the cgroup, or refused. It is the same when
// the container is created and when it runs.
type limit struct {
	resources  *cri.LinuxContainerResources
	controller string
	file       string
	want       string
	code       codes.Code
	text       string
}

const (
	resourcesPrefix = "config.linux.resources."
	noHugepages     = "hugepage_limits: 2MB: the kernel has no such limit"
	mib             = 1 << 20
)

var limits = map[string]limit{
	"cpu_period":                                {&cri.LinuxContainerResources{CpuPeriod: 50000, CpuQuota: 25000}, "cpu", "cpu.cfs_period_us", "50000", 0, ""},
	"cpu_period negative":                       {&cri.LinuxContainerResources{CpuPeriod: -1}, "", "", "", codes.InvalidArgument, "cpu_period"},
	"cpu_quota":                                 {&cri.LinuxContainerResources{CpuQuota: 30000}, "cpu", "cpu.cfs_quota_us", "30000", 0, ""},
	"cpu_quota lifted":                          {&cri.LinuxContainerResources{CpuQuota: -1}, "cpu", "cpu.cfs_quota_us", "-1", 0, ""},
	"cpu_quota too low":                         {&cri.LinuxContainerResources{CpuQuota: -2}, "", "", "", codes.InvalidArgument, "cpu_quota"},
	"cpu_shares":                                {&cri.LinuxContainerResources{CpuShares: 333}, "cpu", "cpu.shares", "333", 0, ""},
	"cpu_shares more than there are":            {&cri.LinuxContainerResources{CpuShares: 1 << 40}, "cpu", "cpu.shares", "262144", 0, ""},
	"cpuset_cpus":                               {&cri.LinuxContainerResources{CpusetCpus: "1"}, "cpuset", "cpuset.cpus", "1", 0, ""},
	"cpuset_cpus of none":                       {&cri.LinuxContainerResources{CpusetCpus: "999"}, "", "", "", codes.InvalidArgument, "999"},
	"cpuset_mems":                               {&cri.LinuxContainerResources{CpusetMems: "0"}, "cpuset", "cpuset.mems", "0", 0, ""},
	"memory_limit_in_bytes":                     {&cri.LinuxContainerResources{MemoryLimitInBytes: 64 * mib}, "memory", "memory.limit_in_bytes", fmt.Sprint(64 * mib), 0, ""},
	"memory_limit_in_bytes negative":            {&cri.LinuxContainerResources{MemoryLimitInBytes: -1}, "", "", "", codes.InvalidArgument, "memory_limit_in_bytes"},
	"memory_swap_limit_in_bytes":                {&cri.LinuxContainerResources{MemoryLimitInBytes: 64 * mib, MemorySwapLimitInBytes: 80 * mib}, "memory", "memory.memsw.limit_in_bytes", fmt.Sprint(80 * mib), 0, ""},
	"memory_swap_limit_in_bytes below memory":   {&cri.LinuxContainerResources{MemoryLimitInBytes: 64 * mib, MemorySwapLimitInBytes: 8 * mib}, "", "", "", codes.InvalidArgument, "memory_swap_limit_in_bytes"},
	"memory_swap_limit_in_bytes without memory": {&cri.LinuxContainerResources{MemorySwapLimitInBytes: 8 * mib}, "", "", "", codes.InvalidArgument, "memory_swap_limit_in_bytes"},
	"hugepage_limits.page_size":                 {hugepages("2MB", 0), "memory", "memory.limit_in_bytes", "", 0, ""}, // as the kubelet sends for each pod
	"hugepage_limits.page_size of none":         {hugepages("2 MB", 0), "", "", "", codes.InvalidArgument, "hugepage_limits: 2 MB"},
	"hugepage_limits.limit":                     {hugepages("2MB", 4*mib), "", "", "", codes.FailedPrecondition, noHugepages},
	"unified":                                   {&cri.LinuxContainerResources{Unified: map[string]string{"memory.high": "1"}}, "", "", "", codes.FailedPrecondition, `unified["memory.high"]: needs cgroup v2`},
	"unified that leads elsewhere":              {&cri.LinuxContainerResources{Unified: map[string]string{"../memory.high": "1"}}, "", "", "", codes.InvalidArgument, "unified"},
}

func hugepages(size string, limit uint64) *cri.LinuxContainerResources {
	return &cri.LinuxContainerResources{HugepageLimits: []*cri.HugepageLimit{{PageSize: size, Limit: limit}}}
}

// see checks the cgroup, and that the status reports what was asked for.
func (l limit) see(t *testing.T, _ *bench, c container) {
	t.Helper()
	if got := c.cgroup(t, l.controller, l.file); got != l.want && l.want != "" {
		t.Errorf("%s is %q, want %q", l.file, got, l.want)
	}
	reported, asked := c.status.GetResources().GetLinux(), proto.CloneOf(l.resources)
	asked.CpuShares = min(asked.GetCpuShares(), 1<<18)
	whole := proto.CloneOf(reported)
	proto.Merge(whole, asked)
	whole.HugepageLimits = reported.GetHugepageLimits()
	if !proto.Equal(whole, reported) || len(asked.GetHugepageLimits()) > len(reported.GetHugepageLimits()) {
		t.Errorf("the status reports %v, want %v in it", reported, asked)
	}
}

var containerResourceFields = func() map[string]containerField {
	rows := map[string]containerField{
		"oom_score_adj": {set: limitedBy(&cri.LinuxContainerResources{OomScoreAdj: 321}), see: wantOOMScore(321)},
		"oom_score_adj below what may be set": {set: limitedBy(&cri.LinuxContainerResources{OomScoreAdj: -998}), see: func(t *testing.T, b *bench, c container) {
			floor, _ := engine.OOMFloor()
			wantOOMScore(max(-998, floor))(t, b, c)
		}},
		"oom_score_adj out of range": {set: limitedBy(&cri.LinuxContainerResources{OomScoreAdj: 1001}), code: codes.InvalidArgument, text: "oom_score_adj"},
	}
	for key, l := range limits {
		row := containerField{set: limitedBy(l.resources), code: l.code, text: l.text}
		if l.code == 0 {
			row.see = l.see
		}
		rows[key] = row
	}
	return prefixed(resourcesPrefix, rows)
}()

func limitedBy(r *cri.LinuxContainerResources) func(*testing.T, *cri.CreateContainerRequest) {
	return func(_ *testing.T, req *cri.CreateContainerRequest) { req.Config.Linux.Resources = r }
}

func wantOOMScore(want int) func(*testing.T, *bench, container) {
	return func(t *testing.T, _ *bench, c container) {
		t.Helper()
		if got := strings.TrimSpace(c.proc(t, "oom_score_adj")); got != fmt.Sprint(want) {
			t.Errorf("oom_score_adj is %s, want %d", got, want)
		}
		if got := c.status.GetResources().GetLinux().GetOomScoreAdj(); got != int64(want) {
			t.Errorf("the status reports oom_score_adj %d, want %d", got, want)
		}
	}
}
