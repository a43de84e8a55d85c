package e2e

import (
	"slices"
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine/enginetest"
)

// What the kernel decides: not every one counts pressure, huge pages and I/O by cgroup.
var optionalMetrics = []string{"container_pressure_", "container_hugetlb_", "container_blkio_", "container_fs_reads_", "container_fs_writes_"}

// Of a container that runs with limits, every metric is told that the kubelet asks for,
// with as many labels as its descriptor has.
func TestMetricsOfALimitedContainer(t *testing.T) {
	bothEngines(t, func(t *testing.T, version enginetest.Version) {
		n := newNode(t, version, userConf())
		n.importShell(t)
		config := config("limited")
		pod := n.runPod(t, config)
		defer func() { n.removePod(t, pod.id); n.wantWhole(t, 0) }()
		resp, err := n.cri.CreateContainer(t.Context(), &cri.CreateContainerRequest{PodSandboxId: pod.id, SandboxConfig: config, Config: &cri.ContainerConfig{
			Metadata: &cri.ContainerMetadata{Name: "web"}, Image: &cri.ImageSpec{Image: shellImage},
			Command: []string{"/bin/sh", "-c", "head -c 2000000 /dev/zero > /big; sleep 3600 & wait"},
			Linux:   &cri.LinuxContainerConfig{Resources: &cri.LinuxContainerResources{CpuPeriod: 100000, CpuQuota: 50000, CpuShares: 512, MemoryLimitInBytes: 64 << 20}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		id := resp.GetContainerId()
		n.startContainer(t, id)
		descriptors, err := n.cri.ListMetricDescriptors(t.Context(), &cri.ListMetricDescriptorsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		var values map[string]uint64
		waitFor(t, "the layer is measured", func() bool {
			values = n.metrics(t, pod.id, id, descriptors.GetDescriptors())
			return values["container_fs_usage_bytes"] >= 2000000
		})
		for _, d := range descriptors.GetDescriptors() {
			_, told := values[d.GetName()]
			if !told && !slices.ContainsFunc(optionalMetrics, func(beginning string) bool { return strings.HasPrefix(d.GetName(), beginning) }) {
				t.Errorf("%s is not told", d.GetName())
			}
		}
		for name, want := range map[string]uint64{
			"container_processes": 2, "container_threads": 2, "container_spec_cpu_quota": 50000, "container_spec_cpu_period": 100000,
			"container_spec_cpu_shares": 512, "container_spec_memory_limit_bytes": 64 << 20, "container_sockets": 0, "container_oom_events_total": 0,
		} {
			if values[name] != want {
				t.Errorf("%s is %d, want %d", name, values[name], want)
			}
		}
		for _, name := range []string{"container_memory_usage_bytes", "container_file_descriptors", "container_fs_limit_bytes", "container_ulimits_soft", "container_memory_max_usage_bytes", "container_network_receive_bytes_total"} {
			if values[name] == 0 {
				t.Errorf("%s is 0", name)
			}
		}
		if got := n.crictl(t, "metricsp"); !strings.Contains(got, "container_memory_usage_bytes") {
			t.Errorf("crictl metricsp says\n%s", got)
		}
	})
}

// metrics returns the metrics of a pod and its container by their names, the first of
// each where there are several.
func (n *node) metrics(t *testing.T, sandbox, container string, descriptors []*cri.MetricDescriptor) map[string]uint64 {
	t.Helper()
	resp, err := n.cri.ListPodSandboxMetrics(t.Context(), &cri.ListPodSandboxMetricsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	labels := map[string]int{}
	for _, d := range descriptors {
		labels[d.GetName()] = len(d.GetLabelKeys())
	}
	values := map[string]uint64{}
	for _, p := range resp.GetPodMetrics() {
		if len(p.GetContainerMetrics()) != 1 || p.GetPodSandboxId() != sandbox || p.GetContainerMetrics()[0].GetContainerId() != container {
			t.Fatalf("metrics of %v", p)
		}
		for _, m := range slices.Concat(p.GetMetrics(), p.GetContainerMetrics()[0].GetMetrics()) {
			if _, again := values[m.GetName()]; !again {
				values[m.GetName()] = m.GetValue().GetValue()
			}
			if len(m.GetLabelValues()) != labels[m.GetName()] {
				t.Errorf("%v has %d labels by its descriptor", m, labels[m.GetName()])
			}
		}
	}
	return values
}
