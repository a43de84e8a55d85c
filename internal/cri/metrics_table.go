package cri

import (
	"strconv"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

// measured is a container and what it uses.
type measured struct {
	pod.Container
	now  time.Time
	used pod.ContainerDetails
}

// metric is one of a container's, under the name that cAdvisor gives it.
type metric struct {
	name, help string
	kind       cri.MetricType
	labels     []string // besides baseLabels
	samples    func(m measured) []sample
}

type sample struct {
	value  uint64
	labels []string  // of the metric's labels
	at     time.Time // zero: now
}

var interfaceLabel = []string{"interface"}

// networkMetrics are those of each of a sandbox's interfaces.
var networkMetrics = []struct {
	name, help string
	of         func(i pod.InterfaceUsage) uint64
}{
	{"container_network_receive_bytes_total", "Cumulative count of bytes received.", func(i pod.InterfaceUsage) uint64 { return i.Receive.Bytes }},
	{"container_network_receive_errors_total", "Cumulative count of errors encountered while receiving.", func(i pod.InterfaceUsage) uint64 { return i.Receive.Errors }},
	{"container_network_receive_packets_dropped_total", "Cumulative count of packets dropped while receiving.", func(i pod.InterfaceUsage) uint64 { return i.Receive.Dropped }},
	{"container_network_receive_packets_total", "Cumulative count of packets received.", func(i pod.InterfaceUsage) uint64 { return i.Receive.Packets }},
	{"container_network_transmit_bytes_total", "Cumulative count of bytes transmitted.", func(i pod.InterfaceUsage) uint64 { return i.Transmit.Bytes }},
	{"container_network_transmit_errors_total", "Cumulative count of errors encountered while transmitting.", func(i pod.InterfaceUsage) uint64 { return i.Transmit.Errors }},
	{"container_network_transmit_packets_dropped_total", "Cumulative count of packets dropped while transmitting.", func(i pod.InterfaceUsage) uint64 { return i.Transmit.Dropped }},
	{"container_network_transmit_packets_total", "Cumulative count of packets transmitted.", func(i pod.InterfaceUsage) uint64 { return i.Transmit.Packets }},
}

// containerMetrics are all of a container's. Times are in whole seconds, as the CRI has
// no fractions.
var containerMetrics = []metric{
	cpuMetric("container_cpu_usage_seconds_total", "Cumulative CPU time consumed, in seconds.", []string{"cpu"}, func(m measured) []sample {
		return []sample{{value: seconds(m.used.Usage.CPU.Total), labels: []string{"total"}}}
	}),
	cpuMetric("container_cpu_user_seconds_total", "Cumulative CPU time consumed in user mode, in seconds.", nil, func(m measured) []sample { return one(seconds(m.used.CPU.User)) }),
	cpuMetric("container_cpu_system_seconds_total", "Cumulative CPU time consumed in kernel mode, in seconds.", nil, func(m measured) []sample { return one(seconds(m.used.CPU.System)) }),
	throttleMetric("container_cpu_cfs_periods_total", "Number of elapsed enforcement period intervals.", func(t pod.Throttling) uint64 { return t.Periods }),
	throttleMetric("container_cpu_cfs_throttled_periods_total", "Number of throttled period intervals.", func(t pod.Throttling) uint64 { return t.Throttled }),
	throttleMetric("container_cpu_cfs_throttled_seconds_total", "Total time the container was throttled, in seconds.", func(t pod.Throttling) uint64 { return seconds(t.Time) }),

	memoryGauge("container_memory_cache", "Page cache memory, in bytes.", func(m measured) *uint64 { return &m.used.Memory.Cache }),
	memoryGauge("container_memory_kernel_usage", "Kernel memory allocated, in bytes.", func(m measured) *uint64 { return m.used.Memory.Kernel }),
	memoryGauge("container_memory_mapped_file", "Memory mapped files, in bytes.", func(m measured) *uint64 { return &m.used.Memory.Mapped }),
	memoryGauge("container_memory_max_usage_bytes", "Maximum memory usage recorded, in bytes.", func(m measured) *uint64 { return m.used.Memory.Most }),
	memoryGauge("container_memory_rss", "Anonymous memory, in bytes.", func(m measured) *uint64 { return &m.used.Usage.Memory.RSS }),
	memoryGauge("container_memory_swap", "Swap usage, in bytes.", func(m measured) *uint64 { return orZero(m.used.Usage.Memory.Swap) }),
	memoryGauge("container_memory_usage_bytes", "Current memory usage, in bytes, including all memory regardless of when it was accessed.", func(m measured) *uint64 { return &m.used.Usage.Memory.Used }),
	memoryGauge("container_memory_working_set_bytes", "Current working set, in bytes.", func(m measured) *uint64 { set := m.used.Usage.Memory.WorkingSet(); return &set }),
	memoryCounter("container_memory_failcnt", "Number of times that memory usage hit its limit.", func(m measured) *uint64 { return m.used.Memory.LimitHits }),
	memoryCounter("container_oom_events_total", "Count of processes killed for want of memory.", func(m measured) *uint64 { return orZero(m.used.Memory.OOMKills) }),
	{"container_memory_failures_total", "Cumulative count of page faults.", cri.MetricType_COUNTER, []string{"failure_type", "scope"}, func(m measured) []sample {
		if m.used.Usage == nil || m.used.Usage.Memory == nil {
			return nil
		}
		faults, major := m.used.Usage.Memory.PageFaults, m.used.Usage.Memory.MajorPageFaults
		return []sample{
			{value: faults, labels: []string{"pgfault", "container"}}, {value: faults, labels: []string{"pgfault", "hierarchy"}},
			{value: major, labels: []string{"pgmajfault", "container"}}, {value: major, labels: []string{"pgmajfault", "hierarchy"}},
		}
	}},
	hugePageMetric("container_hugetlb_usage_bytes", "Huge pages in use, in bytes.", func(p pod.HugePages) *uint64 { return &p.Used }),
	hugePageMetric("container_hugetlb_max_usage_bytes", "Maximum of huge pages in use that was recorded, in bytes.", func(p pod.HugePages) *uint64 { return p.Most }),

	fsGauge("container_fs_inodes_free", "Number of free inodes of the file system.", func(f pod.FilesystemDetails) uint64 { return f.InodesFree }),
	fsGauge("container_fs_inodes_total", "Number of inodes of the file system.", func(f pod.FilesystemDetails) uint64 { return f.Inodes }),
	fsGauge("container_fs_limit_bytes", "Size of the file system, in bytes.", func(f pod.FilesystemDetails) uint64 { return f.Bytes }),
	{"container_fs_usage_bytes", "What the container wrote to its root file system, in bytes.", cri.MetricType_GAUGE, []string{"device"}, func(m measured) []sample {
		if m.used.Layer == nil || m.used.Filesystem == nil {
			return nil
		}
		return []sample{{value: m.used.Layer.UsedBytes, labels: []string{m.used.Filesystem.Device}, at: m.used.Layer.At}}
	}},
	diskMetric("container_fs_reads_bytes_total", "Cumulative count of bytes read.", func(d pod.DiskUsage) uint64 { return d.Read }),
	diskMetric("container_fs_reads_total", "Cumulative count of reads completed.", func(d pod.DiskUsage) uint64 { return d.Reads }),
	diskMetric("container_fs_writes_bytes_total", "Cumulative count of bytes written.", func(d pod.DiskUsage) uint64 { return d.Written }),
	diskMetric("container_fs_writes_total", "Cumulative count of writes completed.", func(d pod.DiskUsage) uint64 { return d.Writes }),
	{"container_blkio_device_usage_total", "Bytes read and written, by block device.", cri.MetricType_COUNTER, []string{"device", "major", "minor", "operation"}, func(m measured) (samples []sample) {
		for _, d := range m.used.Disks {
			major, minor := strconv.FormatUint(d.Major, 10), strconv.FormatUint(d.Minor, 10)
			samples = append(samples,
				sample{value: d.Read, labels: []string{d.Device, major, minor, "Read"}},
				sample{value: d.Written, labels: []string{d.Device, major, minor, "Write"}})
		}
		return samples
	}},

	processGauge("container_file_descriptors", "Number of open file descriptors.", func(p pod.ProcessDetails) uint64 { return p.Files }),
	processGauge("container_processes", "Number of processes.", func(p pod.ProcessDetails) uint64 { return p.Processes }),
	processGauge("container_sockets", "Number of open sockets.", func(p pod.ProcessDetails) uint64 { return p.Sockets }),
	processGauge("container_threads", "Number of threads.", func(p pod.ProcessDetails) uint64 { return p.Threads }),
	processGauge("container_threads_max", "Maximum number of threads allowed, infinity if value is zero.", func(p pod.ProcessDetails) uint64 { return *orZero(p.ThreadLimit) }),
	{"container_ulimits_soft", "Soft ulimit of the container's first process.", cri.MetricType_GAUGE, []string{"ulimit"}, func(m measured) []sample {
		if m.used.Processes.FileLimit == nil {
			return nil
		}
		return []sample{{value: *m.used.Processes.FileLimit, labels: []string{"max_open_files"}}}
	}},

	gauge("container_last_seen", "When the container was last seen, in seconds since the epoch.", func(m measured) *uint64 { return unix(m.now) }),
	gauge("container_start_time_seconds", "When the container was started, in seconds since the epoch.", func(m measured) *uint64 { return unix(m.StartedAt) }),
	gauge("container_spec_cpu_period", "CPU period of the container, in microseconds.", func(m measured) *uint64 { return unsigned(m.Resources.GetCpuPeriod()) }),
	gauge("container_spec_cpu_quota", "CPU quota of the container, in microseconds.", func(m measured) *uint64 {
		if m.Resources.GetCpuQuota() <= 0 { // none
			return nil
		}
		return unsigned(m.Resources.GetCpuQuota())
	}),
	gauge("container_spec_cpu_shares", "CPU shares of the container.", func(m measured) *uint64 { return unsigned(m.Resources.GetCpuShares()) }),
	gauge("container_spec_memory_limit_bytes", "Memory limit of the container, in bytes; 0 is none.", func(m measured) *uint64 { return unsigned(m.Resources.GetMemoryLimitInBytes()) }),
	gauge("container_spec_memory_reservation_limit_bytes", "Memory reservation of the container, in bytes; the CRI has none.", func(measured) *uint64 { return new(uint64) }),
	gauge("container_spec_memory_swap_limit_bytes", "Memory and swap limit of the container, in bytes; 0 is none.", func(m measured) *uint64 { return unsigned(m.Resources.GetMemorySwapLimitInBytes()) }),

	pressureMetric("container_pressure_cpu_stalled_seconds_total", "Total time in which no task could make progress for want of CPU, in seconds.", cpuPressure, full),
	pressureMetric("container_pressure_cpu_waiting_seconds_total", "Total time in which some task waited for CPU, in seconds.", cpuPressure, some),
	pressureMetric("container_pressure_io_stalled_seconds_total", "Total time in which no task could make progress for want of I/O, in seconds.", ioPressure, full),
	pressureMetric("container_pressure_io_waiting_seconds_total", "Total time in which some task waited for I/O, in seconds.", ioPressure, some),
	pressureMetric("container_pressure_memory_stalled_seconds_total", "Total time in which no task could make progress for want of memory, in seconds.", memoryPressure, full),
	pressureMetric("container_pressure_memory_waiting_seconds_total", "Total time in which some task waited for memory, in seconds.", memoryPressure, some),
}
