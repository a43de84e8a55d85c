package stats_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
	"github.com/mascri/mascri/internal/stats"
)

// machine is a fake /proc and /sys/fs/cgroup.
type machine struct {
	t    *testing.T
	root string
}

func newMachine(t *testing.T) machine { return machine{t, t.TempDir()} }

func (m machine) stats() *stats.Stats {
	return stats.New(stats.Options{Proc: filepath.Join(m.root, "proc"), Cgroups: filepath.Join(m.root, "cgroup"), Logger: slog.New(slog.DiscardHandler)})
}

func (m machine) write(path, text string) {
	m.t.Helper()
	path = filepath.Join(m.root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

// process makes pid one of a cgroup; mountinfo may be empty.
func (m machine) process(pid int, cgroup, mountinfo string) {
	m.t.Helper()
	m.write("proc/"+strconv.Itoa(pid)+"/cgroup", cgroup)
	m.write("proc/"+strconv.Itoa(pid)+"/mountinfo", mountinfo)
}

func (m machine) remove(path string) {
	m.t.Helper()
	if err := os.RemoveAll(filepath.Join(m.root, path)); err != nil {
		m.t.Fatal(err)
	}
}

// group writes a cgroup of v2.
func (m machine) group(path string, files map[string]string) {
	m.t.Helper()
	for name, text := range files {
		m.write("cgroup/"+path+"/"+name, text)
	}
}

var (
	sandboxID = strings.Repeat("5", 64)
	webID     = strings.Repeat("a", 64)
	dbID      = strings.Repeat("b", 64)
)

func container(id string, pid int) pod.Container {
	return pod.Container{ID: id, Fixed: pod.Fixed{SandboxID: sandboxID}, Running: true, PID: pid}
}

func ptr[T any](v T) *T { return &v }

// At differs from run to run.
var ignoreTimes = cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".At" }, cmp.Ignore())

func wantUsage(t *testing.T, got, want *pod.Usage) {
	t.Helper()
	if diff := cmp.Diff(want, got, ignoreTimes); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if got != nil && got.At.IsZero() {
		t.Error("not said when it was read")
	}
}

func TestCgroupV2(t *testing.T) {
	m := newMachine(t)
	m.write("cgroup/cgroup.controllers", "cpu memory\n")
	path := "kubepods.slice/docker-" + webID + ".scope"
	m.process(7, "0::/"+path+"/init.scope\n", "") // an init that made a cgroup of its own
	m.group(path, map[string]string{
		"cpu.stat":            "usage_usec 1234567\nuser_usec 1\nsystem_usec 2\n",
		"cpu.pressure":        "some avg10=1.50 avg60=2.25 avg300=0.10 total=77\n",
		"memory.current":      "104857600\n",
		"memory.max":          "209715200\n",
		"memory.stat":         "anon 4096\nfile 8192\ninactive_file 1048576\npgfault 11\npgmajfault 3\n",
		"memory.pressure":     "some avg10=0.00 avg60=0.00 avg300=0.00 total=5\nfull avg10=0.00 avg60=0.00 avg300=0.50 total=4\n",
		"memory.swap.current": "12288\n",
		"memory.swap.max":     "max\n",
		"io.pressure":         "some avg10=0.00 avg60=0.00 avg300=0.00 total=9\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=8\n",
	})
	got := m.stats().Container(container(webID, 7))
	wantUsage(t, got.Usage, &pod.Usage{
		CPU: &pod.CPUUsage{
			Total:    1234567 * time.Microsecond,
			Pressure: &pod.Pressure{Some: pod.Stall{Total: 77 * time.Microsecond, Avg10: 1.5, Avg60: 2.25, Avg300: .1}},
		},
		Memory: &pod.MemoryUsage{
			Used: 100 << 20, InactiveFile: 1 << 20, RSS: 4096, Limit: ptr[uint64](200 << 20), PageFaults: 11, MajorPageFaults: 3,
			Swap:     ptr[uint64](12288),
			Pressure: &pod.Pressure{Some: pod.Stall{Total: 5 * time.Microsecond}, Full: &pod.Stall{Total: 4 * time.Microsecond, Avg300: .5}},
		},
		IO: &pod.Pressure{Some: pod.Stall{Total: 9 * time.Microsecond}, Full: &pod.Stall{Total: 8 * time.Microsecond}},
	})
	if w := got.Usage.Memory.WorkingSet(); w != 99<<20 {
		t.Errorf("working set %d, want 99 MiB", w)
	}
}

// v1 writes a container's cgroup files.
func (m machine) v1(path, cpu, memory string) {
	m.write("cgroup/cpuacct/"+path+"/cpuacct.usage", cpu+"\n")
	m.write("cgroup/memory/"+path+"/memory.usage_in_bytes", memory+"\n")
	m.write("cgroup/memory/"+path+"/memory.limit_in_bytes", "9223372036854771712\n") // none
	m.write("cgroup/memory/"+path+"/memory.memsw.limit_in_bytes", "9223372036854771712\n")
	m.v1Stat(path, "9223372036854771712")
}

// v1Stat writes a memory.stat with the least limit of the cgroup and those above.
func (m machine) v1Stat(path, limit string) {
	m.write("cgroup/memory/"+path+"/memory.stat", "cache 1\nrss 2\nswap 3\nhierarchical_memory_limit "+limit+"\nhierarchical_memsw_limit 9223372036854771712\ntotal_rss 4096\ntotal_inactive_file 8192\ntotal_pgfault 11\ntotal_pgmajfault 3\ntotal_swap 12288\n")
}

// v1Process is a process's /proc/PID/cgroup.
func v1Process(path string) string {
	return "9:name=systemd:/" + path + "\n4:memory:/" + path + "\n2:cpu,cpuacct:/" + path + "\n1:pids:/" + path + "\n0::/\n"
}

func TestCgroupV1(t *testing.T) {
	m := newMachine(t)
	path := "docker/" + webID
	m.process(7, v1Process(path), "")
	m.v1(path, "1234567890", "4096") // less than the file cache, which is counted later
	got := m.stats().Container(container(webID, 7))
	wantUsage(t, got.Usage, &pod.Usage{
		CPU:    &pod.CPUUsage{Total: 1234567890},
		Memory: &pod.MemoryUsage{Used: 4096, InactiveFile: 8192, RSS: 4096, PageFaults: 11, MajorPageFaults: 3, Swap: ptr[uint64](12288)},
	})
	if w := got.Usage.Memory.WorkingSet(); w != 0 {
		t.Errorf("working set %d, want 0", w)
	}

	m.v1Stat(path, "1048576")
	if u := m.stats().Container(container(webID, 7)).Usage.Memory; u.Limit != nil || u.SwapLimit != nil {
		t.Errorf("the limits of the pod's cgroup are taken for the container's: %v, %v", u.Limit, u.SwapLimit)
	}
	m.write("cgroup/memory/"+path+"/memory.limit_in_bytes", "1048576\n")
	m.write("cgroup/memory/"+path+"/memory.memsw.limit_in_bytes", "3145728\n")
	got = m.stats().Container(container(webID, 7))
	if u := got.Usage.Memory; *u.Limit != 1<<20 || *u.SwapLimit != 2<<20 {
		t.Errorf("limits %d and %d, want 1 MiB and 2 MiB of swap", *u.Limit, *u.SwapLimit)
	}
}

// A pid that another process took over must not lend its numbers to the container.
func TestPIDOfAnotherProcess(t *testing.T) {
	m := newMachine(t)
	m.write("cgroup/cgroup.controllers", "")
	m.process(7, "0::/system.slice/ssh.service\n", "")
	m.group("system.slice/ssh.service", map[string]string{"cpu.stat": "usage_usec 5\n", "memory.current": "5\n"})
	if got := m.stats().Container(container(webID, 7)); got.Usage != nil {
		t.Errorf("usage of another process: %v", got.Usage)
	}
}

func TestWhatDoesNotRun(t *testing.T) {
	m := newMachine(t)
	m.write("cgroup/cgroup.controllers", "")
	s := m.stats()
	stopped := container(webID, 0)
	stopped.Running = false
	for name, c := range map[string]pod.Container{"a stopped container": stopped, "a process that is gone": container(webID, 7)} {
		if got := s.Container(c); got.Usage != nil || got.Layer != nil {
			t.Errorf("%s uses %v", name, got)
		}
	}
}

func TestPodWithACgroupOfItsOwn(t *testing.T) {
	m := newMachine(t)
	m.write("cgroup/cgroup.controllers", "")
	m.process(1, "0::/kubepods/podx/"+sandboxID+"\n", "")
	m.process(7, "0::/kubepods/podx/"+webID+"\n", "")
	m.group("kubepods/podx", map[string]string{"cpu.stat": "usage_usec 50\n", "cgroup.procs": ""})
	m.group("kubepods/podx/"+sandboxID, map[string]string{"cgroup.procs": "1\n"})
	m.group("kubepods/podx/"+webID, map[string]string{"cpu.stat": "usage_usec 5\n", "cgroup.procs": "7\n8\n"})
	m.group("kubepods/podx/"+webID+"/below", map[string]string{"cgroup.procs": "9\n"})
	s := m.stats()
	sandbox := pod.Sandbox{ID: sandboxID, Running: true, PID: 1, Config: &runtimeapi.PodSandboxConfig{Linux: &runtimeapi.LinuxPodSandboxConfig{CgroupParent: "/kubepods/podx"}}}
	containers := []pod.Container{container(webID, 7)}
	for _, running := range []bool{true, false} { // a sandbox that was killed leaves the containers
		sandbox.Running = running
		got := s.Pod(sandbox, nil, containers)
		wantUsage(t, got.Usage, &pod.Usage{CPU: &pod.CPUUsage{Total: 50 * time.Microsecond}})
		if got.Processes != 4 {
			t.Errorf("%d processes, want 4", got.Processes)
		}
		s = m.stats() // one that remembers nothing
	}
	sandbox.Running, containers[0].Running = false, false
	if got := s.Pod(sandbox, nil, containers); got.Usage != nil {
		t.Errorf("nothing runs, but %v is used", got.Usage)
	}
}

func TestPodWithoutACgroupOfItsOwn(t *testing.T) {
	m := newMachine(t)
	for i, id := range []string{sandboxID, webID, dbID} {
		path := "docker/" + id
		m.process(i+1, v1Process(path), "")
		m.v1(path, strconv.Itoa(1000*(i+1)), strconv.Itoa(10000*(i+1)))
		m.write("cgroup/pids/"+path+"/cgroup.procs", strings.Repeat("1\n", i+1))
	}
	sandbox := pod.Sandbox{ID: sandboxID, Running: true, PID: 1, Config: &runtimeapi.PodSandboxConfig{}}
	got := m.stats().Pod(sandbox, nil, []pod.Container{container(webID, 2), container(dbID, 3)})
	wantUsage(t, got.Usage, &pod.Usage{
		CPU:    &pod.CPUUsage{Total: 6000},
		Memory: &pod.MemoryUsage{Used: 60000, InactiveFile: 3 * 8192, RSS: 3 * 4096, PageFaults: 33, MajorPageFaults: 9, Swap: ptr[uint64](3 * 12288)},
	})
	if got.Processes != 6 {
		t.Errorf("%d processes, want 6", got.Processes)
	}
}

func TestRateNeedsTwoSamplesASecondApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		m.write("cgroup/cgroup.controllers", "")
		m.process(7, "0::/x/"+webID+"\n", "")
		s := m.stats()
		sample := func(microseconds int) *uint64 {
			m.group("x/"+webID, map[string]string{"cpu.stat": "usage_usec " + strconv.Itoa(microseconds) + "\n"})
			return s.Container(container(webID, 7)).Usage.CPU.Rate
		}
		want := func(got *uint64, want uint64, what string) {
			t.Helper()
			if got == nil || *got != want {
				t.Errorf("%s: rate %v, want %d", what, got, want)
			}
		}
		if got := sample(1_000_000); got != nil {
			t.Errorf("rate %d of one sample", *got)
		}
		time.Sleep(500 * time.Millisecond)
		if got := sample(1_100_000); got != nil {
			t.Errorf("rate %d after half a second", *got)
		}
		time.Sleep(1500 * time.Millisecond)
		want(sample(2_000_000), 500_000_000, "half a CPU in two seconds")
		time.Sleep(100 * time.Millisecond)
		want(sample(2_100_000), 500_000_000, "another client just after")
		time.Sleep(900 * time.Millisecond)
		want(sample(4_000_000), 2_000_000_000, "two CPUs since the last that counted")
		if got := sample(0); got != nil {
			t.Errorf("rate %d of a counter that began anew", *got)
		}
	})
}

func TestLayerIsMeasuredInTheBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		m.write("cgroup/cgroup.controllers", "")
		m.write("layer x/file", strings.Repeat("x", 5000))
		if err := os.Link(filepath.Join(m.root, "layer x/file"), filepath.Join(m.root, "layer x/link")); err != nil {
			t.Fatal(err)
		}
		upper := strings.ReplaceAll(filepath.Join(m.root, "layer x"), " ", `\040`)
		m.process(7, "0::/x/"+webID+"\n", "21 20 0:5 / / rw - overlay overlay rw,lowerdir=l/A:l/B,upperdir="+upper+",workdir=/w\n22 21 0:6 / /proc rw - proc proc rw\n")
		m.group("x/"+webID, map[string]string{"cpu.stat": "usage_usec 1\n"})
		s := m.stats()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		ask := func() *pod.LayerUsage {
			usage := s.Container(container(webID, 7)).Layer
			synctest.Wait()
			return usage
		}
		if got := ask(); got != nil {
			t.Fatalf("measured before it was asked about: %v", got)
		}
		first := ask()
		if first == nil || first.UsedBytes < 5000 || first.UsedBytes > 64<<10 || first.UsedInodes != 2 || first.MountPoint == "" {
			t.Fatalf("layer %+v, want 5000 bytes at least and 2 inodes: the directory, and a file of two names", first)
		}
		m.write("layer x/more", "x")
		time.Sleep(9 * time.Second)
		ask()
		if got := ask(); got.UsedInodes != 2 || !got.At.Equal(first.At) {
			t.Errorf("measured again within 9 s: %+v", got)
		}
		time.Sleep(2 * time.Second)
		ask()
		if got := ask(); got.UsedInodes != 3 || !got.At.After(first.At) {
			t.Errorf("not measured again after 11 s: %+v", got)
		}
		m.remove("layer x")
		time.Sleep(time.Minute)
		ask()
		if got := ask(); got == nil || got.UsedInodes != 3 {
			t.Errorf("a failure took away what was known: %+v", got)
		}
		time.Sleep(25 * time.Minute)
		stopped := container(webID, 7)
		stopped.Running = false
		if got := s.Container(stopped).Layer; got != nil {
			t.Errorf("not forgotten, though nobody asked: %+v", got)
		}
		cancel()
		<-done
	})
}
