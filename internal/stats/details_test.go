package stats_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mascri/mascri/internal/pod"
)

// opened gives a process its open files, and its limits.
func (m machine) opened(pid, limits string, links ...string) {
	m.t.Helper()
	m.write("proc/"+pid+"/limits", limits)
	dir := filepath.Join(m.root, "proc", pid, "fd")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		m.t.Fatal(err)
	}
	for i, link := range links {
		if err := os.Symlink(link, filepath.Join(dir, string(rune('0'+i)))); err != nil {
			m.t.Fatal(err)
		}
	}
}

func wantDetails(t *testing.T, got, want pod.ContainerDetails) {
	t.Helper()
	got.ContainerUsage = pod.ContainerUsage{} // other tests' business
	for i := range got.Disks {
		got.Disks[i].Device = "" // this machine's
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

const limits = "Limit                     Soft Limit           Hard Limit           Units\n" +
	"Max processes             100                  100                  processes\n" +
	"Max open files            1024                 524288               files\n"

func TestDetailsV2(t *testing.T) {
	m := newMachine(t)
	m.write("cgroup/cgroup.controllers", "")
	m.process(7, "0::/x/"+webID+"\n", "")
	m.opened("7", limits, "/dev/null", "socket:[5]", "pipe:[6]")
	m.opened("8", "", "socket:[7]")
	m.group("x/"+webID, map[string]string{
		"cgroup.procs": "7\n", "pids.current": "5\n", "pids.max": "max\n",
		"cpu.stat":                 "usage_usec 9\nuser_usec 5\nsystem_usec 4\nnr_periods 3\nnr_throttled 2\nthrottled_usec 1\n",
		"memory.current":           "1\n",
		"memory.stat":              "file 10\nfile_mapped 11\nkernel_stack 12\nslab 13\npercpu 14\npagetables 15\n",
		"memory.peak":              "16\n",
		"memory.events":            "low 0\nhigh 0\nmax 17\noom 1\noom_kill 18\n",
		"io.stat":                  "8:0 rbytes=19 wbytes=20 rios=21 wios=22 dbytes=0 dios=0\n259:1 rbytes=23 wbytes=0 rios=0 wios=0\n7:0 \n",
		"hugetlb.2MB.current":      "24\n",
		"hugetlb.1GB.current":      "0\n",
		"hugetlb.2MB.max":          "max\n",
		"hugetlb.2MB.rsvd.current": "25\n",
	})
	m.group("x/"+webID+"/below", map[string]string{"cgroup.procs": "8\n"})
	want := pod.ContainerDetails{
		CPU:       pod.CPUDetails{User: 5000, System: 4000, Throttling: &pod.Throttling{Periods: 3, Throttled: 2, Time: time.Microsecond}},
		Memory:    pod.MemoryDetails{Cache: 10, Mapped: 11, Kernel: ptr[uint64](54), Most: ptr[uint64](16), LimitHits: ptr[uint64](17), OOMKills: ptr[uint64](18)},
		Disks:     []pod.DiskUsage{{Major: 8, Read: 19, Written: 20, Reads: 21, Writes: 22}, {Major: 259, Minor: 1, Read: 23}},
		HugePages: []pod.HugePages{{Size: "1GB"}, {Size: "2MB", Used: 24}},
		Processes: pod.ProcessDetails{Processes: 2, Threads: 5, Files: 4, Sockets: 2, FileLimit: ptr[uint64](1024)},
	}
	wantDetails(t, m.stats().Details(container(webID, 7)), want)

	m.group("x/"+webID, map[string]string{"memory.stat": "file 10\nfile_mapped 11\nkernel 99\nslab 13\n", "pids.max": "6\n"})
	want.Memory.Kernel, want.Processes.ThreadLimit = ptr[uint64](99), ptr[uint64](6)
	wantDetails(t, m.stats().Details(container(webID, 7)), want)
}

func TestDetailsV1(t *testing.T) {
	m := newMachine(t)
	path := "docker/" + webID
	m.process(7, v1Process(path)+"5:blkio:/"+path+"\n6:hugetlb:/"+path+"\n", "")
	m.opened("7", "Max open files            unlimited            unlimited            files\n", "socket:[5]")
	m.v1(path, "9", "1")
	for file, text := range map[string]string{
		"cpuacct/" + path + "/cpuacct.usage_user": "5", "cpuacct/" + path + "/cpuacct.usage_sys": "4",
		"cpu/" + path + "/cpu.stat":                                    "nr_periods 3\nnr_throttled 2\nthrottled_time 1000\n",
		"memory/" + path + "/memory.stat":                              "cache 1\nmapped_file 1\ntotal_cache 10\ntotal_mapped_file 11\n",
		"memory/" + path + "/memory.kmem.usage_in_bytes":               "12",
		"memory/" + path + "/memory.max_usage_in_bytes":                "16",
		"memory/" + path + "/memory.failcnt":                           "17",
		"memory/" + path + "/memory.oom_control":                       "oom_kill_disable 0\nunder_oom 0\noom_kill 18\n",
		"blkio/" + path + "/blkio.throttle.io_service_bytes":           "8:0 Read 1\nTotal 1\n", // of this cgroup alone
		"blkio/" + path + "/blkio.throttle.io_service_bytes_recursive": "8:0 Read 19\n8:0 Write 20\n8:0 Sync 1\n8:0 Total 39\nTotal 39\n",
		"blkio/" + path + "/blkio.throttle.io_serviced":                "8:0 Read 21\n8:0 Write 22\nTotal 43\n",
		"hugetlb/" + path + "/hugetlb.2MB.usage_in_bytes":              "24",
		"hugetlb/" + path + "/hugetlb.2MB.max_usage_in_bytes":          "26",
		"pids/" + path + "/cgroup.procs":                               "7\n",
		"pids/" + path + "/pids.current":                               "5",
		"pids/" + path + "/pids.max":                                   "6",
	} {
		m.write("cgroup/"+file, text+"\n")
	}
	wantDetails(t, m.stats().Details(container(webID, 7)), pod.ContainerDetails{
		CPU:       pod.CPUDetails{User: 5, System: 4, Throttling: &pod.Throttling{Periods: 3, Throttled: 2, Time: time.Microsecond}},
		Memory:    pod.MemoryDetails{Cache: 10, Mapped: 11, Kernel: ptr[uint64](12), Most: ptr[uint64](16), LimitHits: ptr[uint64](17), OOMKills: ptr[uint64](18)},
		Disks:     []pod.DiskUsage{{Major: 8, Read: 19, Written: 20, Reads: 21, Writes: 22}},
		HugePages: []pod.HugePages{{Size: "2MB", Used: 24, Most: ptr[uint64](26)}},
		Processes: pod.ProcessDetails{Processes: 1, Threads: 5, ThreadLimit: ptr[uint64](6), Files: 1, Sockets: 1},
	})
	stopped := container(webID, 0)
	stopped.Running = false
	wantDetails(t, m.stats().Details(stopped), pod.ContainerDetails{})
}
