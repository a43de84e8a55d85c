package cri_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

// kubeletMetrics are those that the kubelet told of when cAdvisor was part of it; critest
// asks for them.
var kubeletMetrics = strings.Fields(`
container_blkio_device_usage_total container_cpu_cfs_periods_total container_cpu_cfs_throttled_periods_total
container_cpu_cfs_throttled_seconds_total container_cpu_system_seconds_total container_cpu_usage_seconds_total
container_cpu_user_seconds_total container_file_descriptors container_fs_inodes_free container_fs_inodes_total
container_fs_limit_bytes container_fs_reads_bytes_total container_fs_reads_total container_fs_usage_bytes
container_fs_writes_bytes_total container_fs_writes_total container_hugetlb_max_usage_bytes container_hugetlb_usage_bytes
container_last_seen container_memory_cache container_memory_failcnt container_memory_failures_total
container_memory_kernel_usage container_memory_mapped_file container_memory_max_usage_bytes container_memory_rss
container_memory_swap container_memory_usage_bytes container_memory_working_set_bytes
container_network_receive_bytes_total container_network_receive_errors_total container_network_receive_packets_dropped_total
container_network_receive_packets_total container_network_transmit_bytes_total container_network_transmit_errors_total
container_network_transmit_packets_dropped_total container_network_transmit_packets_total container_oom_events_total
container_pressure_cpu_stalled_seconds_total container_pressure_cpu_waiting_seconds_total
container_pressure_io_stalled_seconds_total container_pressure_io_waiting_seconds_total
container_pressure_memory_stalled_seconds_total container_pressure_memory_waiting_seconds_total
container_processes container_sockets container_spec_cpu_period container_spec_cpu_quota container_spec_cpu_shares
container_spec_memory_limit_bytes container_spec_memory_reservation_limit_bytes container_spec_memory_swap_limit_bytes
container_start_time_seconds container_threads container_threads_max container_ulimits_soft`)

// rich is a container of which the kernel tells everything, each in another number.
func rich() (pod.Container, pod.ContainerDetails, *pod.NetworkUsage) {
	c := shelved("pod1", "web", nil)
	c.Name, c.ImageName, c.StartedAt = "k8s_web", "busybox:1", time.Unix(1600000000, 0)
	c.Resources = &runtimeapi.LinuxContainerResources{CpuPeriod: 100000, CpuQuota: 20000, CpuShares: 1024, MemoryLimitInBytes: 64, MemorySwapLimitInBytes: 65}
	pressure := func(s, f time.Duration) *pod.Pressure {
		return &pod.Pressure{Some: pod.Stall{Total: s * time.Second}, Full: &pod.Stall{Total: f * time.Second}}
	}
	details := pod.ContainerDetails{
		ContainerUsage: pod.ContainerUsage{
			Usage: &pod.Usage{
				At: readAt, CPU: &pod.CPUUsage{Total: 10500 * time.Millisecond, Pressure: pressure(11, 12)}, IO: pressure(13, 14),
				Memory: &pod.MemoryUsage{Used: 100, InactiveFile: 15, RSS: 16, PageFaults: 17, MajorPageFaults: 18, Swap: ptr[uint64](19), Pressure: pressure(20, 21)},
			},
			Layer: &pod.LayerUsage{Filesystem: pod.Filesystem{MountPoint: "/var", UsedBytes: 22}, At: readAt},
		},
		CPU:        pod.CPUDetails{User: 23 * time.Second, System: 24 * time.Second, Throttling: &pod.Throttling{Periods: 25, Throttled: 26, Time: 27 * time.Second}},
		Memory:     pod.MemoryDetails{Cache: 28, Mapped: 29, Kernel: ptr[uint64](30), Most: ptr[uint64](31), LimitHits: ptr[uint64](32), OOMKills: ptr[uint64](33)},
		Disks:      []pod.DiskUsage{{Device: "/dev/sda", Major: 8, Minor: 0, Read: 34, Written: 35, Reads: 36, Writes: 37}},
		HugePages:  []pod.HugePages{{Size: "2MB", Used: 38, Most: ptr[uint64](39)}},
		Processes:  pod.ProcessDetails{Processes: 40, Threads: 41, ThreadLimit: ptr[uint64](42), Files: 43, Sockets: 44, FileLimit: ptr[uint64](45)},
		Filesystem: &pod.FilesystemDetails{Device: "/dev/vda", Bytes: 46, Inodes: 47, InodesFree: 48},
	}
	network := &pod.NetworkUsage{At: readAt, Interfaces: []pod.InterfaceUsage{{
		Name: "eth0", Receive: pod.Traffic{Bytes: 49, Packets: 50, Errors: 51, Dropped: 52}, Transmit: pod.Traffic{Bytes: 53, Packets: 54, Errors: 55, Dropped: 56},
	}}}
	return c, details, network
}

func TestMetrics(t *testing.T) {
	c, details, network := rich()
	stopped := shelved("pod1", "stopped", nil)
	stopped.Running = false
	client := serveShelf(t, &shelf{sandboxes: []pod.Sandbox{{ID: "pod1", Name: "k8s_POD", Config: podConfig("front"), Running: true}}, containers: []pod.Container{c, stopped}},
		fakeUsage{details: map[string]pod.ContainerDetails{"web": details}, network: network})
	descriptors, err := client.ListMetricDescriptors(t.Context(), &runtimeapi.ListMetricDescriptorsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string][]string{}
	for _, d := range descriptors.GetDescriptors() {
		if keys[d.GetName()] != nil || d.GetHelp() == "" {
			t.Errorf("descriptor %v", d)
		}
		keys[d.GetName()] = d.GetLabelKeys()
	}
	if diff := cmp.Diff(slices.Sorted(slices.Values(kubeletMetrics)), slices.Sorted(maps.Keys(keys))); diff != "" {
		t.Errorf("names (-want +got)\n%s", diff)
	}

	resp, err := client.ListPodSandboxMetrics(t.Context(), &runtimeapi.ListPodSandboxMetricsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	stream, err := client.StreamPodSandboxMetrics(t.Context(), &runtimeapi.StreamPodSandboxMetricsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	streamed := drain(t, stream, (*runtimeapi.StreamPodSandboxMetricsResponse).GetPodSandboxMetrics)
	lastSeen := protocmp.FilterMessage(&runtimeapi.Metric{}, cmp.FilterValues(func(a, b protocmp.Message) bool {
		return a["name"] == "container_last_seen" && b["name"] == "container_last_seen"
	}, cmp.Ignore()))
	if diff := cmp.Diff(resp.GetPodMetrics(), streamed, protocmp.Transform(), lastSeen); diff != "" {
		t.Errorf("the stream differs (-list +stream)\n%s", diff)
	}
	if len(resp.GetPodMetrics()) != 1 || len(resp.GetPodMetrics()[0].GetContainerMetrics()) != 1 {
		t.Fatalf("metrics %v, want those of one pod and its running container", resp)
	}
	got := map[string]string{}
	note := func(metrics []*runtimeapi.Metric) {
		for _, m := range metrics {
			if len(m.GetLabelValues()) != len(keys[m.GetName()]) {
				t.Fatalf("%v has the labels %v", m, keys[m.GetName()])
			}
			labels := strings.Join(m.GetLabelValues(), ",")
			kind := strings.ToLower(m.GetMetricType().String())
			at := ""
			if m.GetTimestamp() != 0 {
				at = fmt.Sprint(" at ", m.GetTimestamp())
			}
			got[m.GetName()+"{"+labels+"}"] = fmt.Sprint(m.GetValue().GetValue(), " ", kind, at)
		}
	}
	note(resp.GetPodMetrics()[0].GetMetrics())
	note(resp.GetPodMetrics()[0].GetContainerMetrics()[0].GetMetrics())
	if seen := got["container_last_seen{name-web,web,busybox:1,k8s_web,default,front}"]; seen < "1700000000" {
		t.Errorf("last seen %q", seen)
	}
	delete(got, "container_last_seen{name-web,web,busybox:1,k8s_web,default,front}")
	if diff := cmp.Diff(wantMetrics(), got); diff != "" {
		t.Errorf("metrics (-want +got)\n%s", diff)
	}
}

// wantMetrics are those of rich, but for the time.
func wantMetrics() map[string]string {
	want := map[string]string{}
	for line := range strings.Lines(`
blkio_device_usage_total|,/dev/sda,8,0,Read|34 counter
blkio_device_usage_total|,/dev/sda,8,0,Write|35 counter
cpu_cfs_periods_total||25 counter
cpu_cfs_throttled_periods_total||26 counter
cpu_cfs_throttled_seconds_total||27 counter
cpu_system_seconds_total||24 counter
cpu_usage_seconds_total|,total|10 counter
cpu_user_seconds_total||23 counter
file_descriptors||43 gauge
fs_inodes_free|,/dev/vda|48 gauge
fs_inodes_total|,/dev/vda|47 gauge
fs_limit_bytes|,/dev/vda|46 gauge
fs_reads_bytes_total|,/dev/sda|34 counter
fs_reads_total|,/dev/sda|36 counter
fs_usage_bytes|,/dev/vda|22 gauge at 1700000000000000005
fs_writes_bytes_total|,/dev/sda|35 counter
fs_writes_total|,/dev/sda|37 counter
hugetlb_max_usage_bytes|,2MB|39 gauge
hugetlb_usage_bytes|,2MB|38 gauge
memory_cache||28 gauge
memory_failcnt||32 counter
memory_failures_total|,pgfault,container|17 counter
memory_failures_total|,pgfault,hierarchy|17 counter
memory_failures_total|,pgmajfault,container|18 counter
memory_failures_total|,pgmajfault,hierarchy|18 counter
memory_kernel_usage||30 gauge
memory_mapped_file||29 gauge
memory_max_usage_bytes||31 gauge
memory_rss||16 gauge
memory_swap||19 gauge
memory_usage_bytes||100 gauge
memory_working_set_bytes||85 gauge
oom_events_total||33 counter
pressure_cpu_stalled_seconds_total||12 counter
pressure_cpu_waiting_seconds_total||11 counter
pressure_io_stalled_seconds_total||14 counter
pressure_io_waiting_seconds_total||13 counter
pressure_memory_stalled_seconds_total||21 counter
pressure_memory_waiting_seconds_total||20 counter
processes||40 gauge
sockets||44 gauge
spec_cpu_period||100000 gauge
spec_cpu_quota||20000 gauge
spec_cpu_shares||1024 gauge
spec_memory_limit_bytes||64 gauge
spec_memory_reservation_limit_bytes||0 gauge
spec_memory_swap_limit_bytes||65 gauge
start_time_seconds||1600000000 gauge
threads||41 gauge
threads_max||42 gauge
ulimits_soft|,max_open_files|45 gauge
`) {
		if name, rest, found := strings.Cut(strings.TrimSpace(line), "|"); found {
			labels, value, _ := strings.Cut(rest, "|")
			want["container_"+name+"{name-web,web,busybox:1,k8s_web,default,front"+labels+"}"] = value
		}
	}
	for name, value := range map[string]int{
		"receive_bytes_total": 49, "receive_packets_total": 50, "receive_errors_total": 51, "receive_packets_dropped_total": 52,
		"transmit_bytes_total": 53, "transmit_packets_total": 54, "transmit_errors_total": 55, "transmit_packets_dropped_total": 56,
	} {
		want["container_network_"+name+"{POD,pod1,,k8s_POD,default,front,eth0}"] = fmt.Sprint(value, " counter")
	}
	return want
}

// A kernel that tells little makes no metric up, and no handler fall.
func TestMetricsOfAKernelThatTellsLittle(t *testing.T) {
	for name, usage := range map[string]*pod.Usage{"nothing": nil, "no controller": {At: readAt}, "CPU alone": {At: readAt, CPU: &pod.CPUUsage{}}} {
		client := serveShelf(t, &shelf{sandboxes: []pod.Sandbox{{ID: "pod1", Config: podConfig("front"), Running: true}}, containers: []pod.Container{shelved("pod1", "web", nil)}},
			fakeUsage{details: map[string]pod.ContainerDetails{"web": {ContainerUsage: pod.ContainerUsage{Usage: usage}}}})
		resp, err := client.ListPodSandboxMetrics(t.Context(), &runtimeapi.ListPodSandboxMetricsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range resp.GetPodMetrics()[0].GetContainerMetrics()[0].GetMetrics() {
			if strings.Contains(m.GetName(), "_memory_") && !strings.Contains(m.GetName(), "_spec_") || strings.Contains(m.GetName(), "_fs_") {
				t.Errorf("%s: %v", name, m)
			}
		}
	}
}
