package podview

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/golden"
)

func cpu(at time.Duration, used time.Duration) *cri.CpuUsage {
	return &cri.CpuUsage{Timestamp: int64(at), UsageCoreNanoSeconds: &cri.UInt64Value{Value: uint64(used)}}
}

func memory(used, left uint64) *cri.MemoryUsage {
	return &cri.MemoryUsage{WorkingSetBytes: &cri.UInt64Value{Value: used}, AvailableBytes: &cri.UInt64Value{Value: left}}
}

func passed(name string, received, sent uint64) *cri.NetworkInterfaceUsage {
	return &cri.NetworkInterfaceUsage{Name: name, RxBytes: &cri.UInt64Value{Value: received}, TxBytes: &cri.UInt64Value{Value: sent}}
}

func podStats(id, name string, linux *cri.LinuxPodSandboxStats) *cri.PodSandboxStats {
	return &cri.PodSandboxStats{
		Attributes: &cri.PodSandboxAttributes{Id: long(id), Metadata: &cri.PodSandboxMetadata{Name: name, Namespace: "default"}}, Linux: linux,
	}
}

func containerStats(id, name string, c *cri.CpuUsage, m *cri.MemoryUsage) *cri.ContainerStats {
	return &cri.ContainerStats{
		Attributes: &cri.ContainerAttributes{Id: long(id), Metadata: &cri.ContainerMetadata{Name: name}}, Cpu: c, Memory: m,
	}
}

// used is a node at a time after a start, whose pods use as much in each second.
func used(at time.Duration) []*cri.PodSandboxStats {
	seconds := uint64(at / time.Second)
	return []*cri.PodSandboxStats{
		podStats("a1", "web", &cri.LinuxPodSandboxStats{
			Cpu: cpu(at, at/2), Memory: memory(300<<20, 700<<20),
			Network: &cri.NetworkUsage{Timestamp: int64(at), DefaultInterface: passed("eth0", 5_000_000*seconds, 2000*seconds), Interfaces: []*cri.NetworkInterfaceUsage{
				passed("eth0", 5_000_000*seconds, 2000*seconds), passed("lo", 1e12, 1e12), passed("net1", 500_000*seconds, 0),
			}},
			Process: &cri.ProcessUsage{ProcessCount: &cri.UInt64Value{Value: 12}},
			Containers: []*cri.ContainerStats{
				containerStats("ab", "log", cpu(at, at/10), memory(10<<20, 0)),
				containerStats("aa", "app", cpu(at, at/4), memory(200<<20, 100<<20)),
				containerStats("ac", "ended", nil, nil),
			},
		}),
		podStats("b1", "on-the-host-network-with-a-name-that-is-too-long", &cri.LinuxPodSandboxStats{Cpu: cpu(at, 3*at), Memory: memory(1<<30, 0)}),
		podStats("c1", "ended", &cri.LinuxPodSandboxStats{}),
	}
}

func TestUsageTable(t *testing.T) {
	for name, at := range map[string][]time.Duration{"first": {time.Second}, "second": {time.Second, 3 * time.Second}} {
		var meter Meter
		var usage Usage
		for _, at := range at {
			usage = meter.Read(used(at))
		}
		usage.Sort(ByCPU)
		var b bytes.Buffer
		if err := usage.WriteText(&b, true, 80, false); err != nil {
			t.Fatal(err)
		}
		golden.Compare(t, "top-"+name+".txt", b.Bytes())
	}
}

func TestRatesAreOfWhatTheRuntimeCounted(t *testing.T) {
	read := func(m *Meter, at, total time.Duration) *float64 {
		return m.Read([]*cri.PodSandboxStats{podStats("a", "a", &cri.LinuxPodSandboxStats{Cpu: cpu(at, total)})}).Pods[0].Cores
	}
	half := 0.5
	var m Meter
	for i, step := range []struct {
		at, total time.Duration
		want      *float64
	}{
		{time.Second, time.Second, nil},           // nothing to compare with
		{3 * time.Second, 2 * time.Second, &half}, // a second in two
		{3 * time.Second, 2 * time.Second, &half}, // the same sample again
		{4 * time.Second, time.Millisecond, nil},  // counted anew
		{6 * time.Second, 1001 * time.Millisecond, &half},
	} {
		if got := read(&m, step.at, step.total); !cmp.Equal(got, step.want) {
			t.Errorf("step %d: %v, want %v", i, got, step.want)
		}
	}
	m.Read(nil)
	if got := read(&m, 8*time.Second, 3*time.Second); got != nil {
		t.Errorf("a pod that was gone has the rate %v", *got)
	}
}

func TestOrders(t *testing.T) {
	var meter Meter
	meter.Read(used(time.Second))
	usage := meter.Read(used(2 * time.Second))
	for order, want := range map[Order]string{ByCPU: "b1", ByMemory: "b1", ByNetwork: "a1", ByName: "b1"} {
		usage.Sort(ByNetwork)
		usage.Sort(order)
		if got := usage.Pods[0].ID[:2]; got != want {
			t.Errorf("by %s: %s is first, want %s", order, got, want)
		}
	}
	if usage.Sort(ByName); usage.Pods[1].Containers[0].Name != "app" {
		t.Errorf("containers by name: %v", usage.Pods[1].Containers)
	}
}
