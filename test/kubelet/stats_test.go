package kubelet

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// summary is what the kubelet's /stats/summary tells, as far as tests look.
type summary struct {
	Node struct {
		Runtime struct{ ImageFs filesystem }
	}
	Pods []podStats
}

type podStats struct {
	PodRef     struct{ Name string }
	CPU        struct{ UsageCoreNanoSeconds uint64 }
	Memory     struct{ WorkingSetBytes uint64 }
	Network    struct{ RxBytes, TxBytes uint64 }
	Containers []struct {
		Name   string
		CPU    struct{ UsageCoreNanoSeconds, UsageNanoCores uint64 }
		Memory struct{ WorkingSetBytes uint64 }
		Rootfs filesystem
		Logs   filesystem
	}
}

type filesystem struct{ AvailableBytes, CapacityBytes, UsedBytes uint64 }

func (n *node) summary() (summary, error) {
	var s summary
	text, err := fetch("http://127.0.0.1:" + readOnly + "/stats/summary")
	if err == nil {
		err = json.Unmarshal([]byte(text), &s)
	}
	return s, err
}

// busy is a pod that holds 20 MiB of memory and takes some CPU.
const busy = `
terminationGracePeriodSeconds: 1
volumes:
- {name: memory, emptyDir: {medium: Memory}}
containers:
- name: main
  image: IMAGE
  command: [sh, -c, "dd if=/dev/zero of=/memory/f bs=1M count=20; dd if=/dev/zero of=/written bs=1M count=3; mkdir /www; httpd -p 8080 -h /www; trap exit TERM; while true; do i=$((i+1)); [ $((i % 20000)) != 0 ] || sleep 0.1; done"]
  volumeMounts: [{name: memory, mountPath: /memory}]`

// statsOf returns a pod's statistics once they are as a busy pod's must be.
func (n *node) statsOf(t *testing.T, name string) podStats {
	t.Helper()
	return await(t, patience, "/stats/summary tells of "+name, func() (podStats, error) {
		s, err := n.summary()
		if err != nil {
			return podStats{}, err
		}
		for _, p := range s.Pods {
			if p.PodRef.Name != name+suffix || len(p.Containers) != 1 {
				continue
			}
			c := p.Containers[0]
			if c.CPU.UsageNanoCores > 0 && c.Memory.WorkingSetBytes > 20<<20 && c.Rootfs.UsedBytes >= 3<<20 {
				return p, nil
			}
			return p, fmt.Errorf("%+v", p)
		}
		return podStats{}, fmt.Errorf("none of %d pods is it", len(s.Pods))
	})
}

// group returns the directory of a pod's or container's cgroup in a hierarchy.
func group(t *testing.T, hierarchy, uid, container string) string {
	t.Helper()
	var found []string
	for _, class := range []string{"", "burstable", "besteffort"} {
		dir := filepath.Join("/sys/fs/cgroup", hierarchy, os.Getenv("MASCRI_TEST_CGROUP"), "kubepods", class, "pod"+uid, container)
		if _, err := os.Stat(dir); err == nil {
			found = append(found, dir)
		}
	}
	if len(found) != 1 {
		t.Fatalf("cgroups of pod %s: %q", uid, found)
	}
	return found[0]
}

func stats(t *testing.T, b bench) {
	b.add(t, "busy", busy)
	p := b.untilReady(t, "busy")
	whole := b.statsOf(t, "busy")
	s := whole.Containers[0]
	kernel, err := strconv.ParseUint(read(t, group(t, "cpuacct", p.Metadata.UID, p.container("main").id())+"/cpuacct.usage"), 10, 64)
	if err != nil || s.CPU.UsageCoreNanoSeconds > kernel || s.CPU.UsageCoreNanoSeconds*4 < kernel {
		t.Errorf("CPU time %d, the kernel says %d, %v", s.CPU.UsageCoreNanoSeconds, kernel, err)
	}
	b.shows(t, "stats/summary tells what a container uses", "CPU %d ns of the kernel's %d, rate %.2f cores, working set %d MiB, root file system %d MiB; of the pod's network it knows %d bytes",
		s.CPU.UsageCoreNanoSeconds, kernel, float64(s.CPU.UsageNanoCores)/1e9, s.Memory.WorkingSetBytes>>20, s.Rootfs.UsedBytes>>20, whole.Network.RxBytes)

	all, err := b.summary()
	if err != nil {
		t.Fatal(err)
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(strings.TrimPrefix(b.engine.Host(), "unix://")), &disk); err != nil {
		t.Fatal(err)
	}
	fs, capacity := all.Node.Runtime.ImageFs, disk.Blocks*uint64(disk.Bsize)
	used := (disk.Blocks - disk.Bfree) * uint64(disk.Bsize)
	if fs.CapacityBytes != capacity || fs.UsedBytes == 0 || fs.UsedBytes > used+used/10 {
		t.Errorf("images' file system %+v; the kernel says capacity %d, used %d", fs, capacity, used)
	}
	b.shows(t, "disk figures of the images' file system are true", "capacity %d is the kernel's; images take %d MiB of %d MiB", fs.CapacityBytes, fs.UsedBytes>>20, used>>20)
}

// With the gate the kubelet's cAdvisor is not asked for what pods use.
func statsFromCRI(t *testing.T, b bench) {
	const name = "busy"
	p := b.untilReady(t, name)
	if _, err := fetch("http://" + p.Status.PodIP + ":8080/"); err != nil && !strings.Contains(err.Error(), "404") {
		t.Error(err)
	}
	s := b.statsOf(t, name)
	if s.Memory.WorkingSetBytes < 20<<20 || s.CPU.UsageCoreNanoSeconds == 0 || s.Network.RxBytes == 0 || s.Network.TxBytes == 0 {
		t.Errorf("the pod: %+v", s)
	}
	b.shows(t, "stats/summary tells what a pod uses, with PodAndContainerStatsFromCRI", "CPU %.1f s, working set %d MiB, received %d, sent %d bytes",
		float64(s.CPU.UsageCoreNanoSeconds)/1e9, s.Memory.WorkingSetBytes>>20, s.Network.RxBytes, s.Network.TxBytes)

	text, err := b.get("/metrics/cadvisor")
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	for _, metric := range []string{"container_cpu_usage_seconds_total", "container_memory_working_set_bytes", "container_network_receive_bytes_total", "container_start_time_seconds"} {
		line := regexp.MustCompile(`(?m)^` + metric + `\{[^}]*pod="` + name + suffix + `"[^}]*\} (\S+)`).FindStringSubmatch(text)
		if line == nil {
			t.Errorf("/metrics/cadvisor has no %s of the pod", metric)
			continue
		}
		seen = append(seen, metric+" "+line[1])
	}
	b.shows(t, "metrics/cadvisor tells of pods, with PodAndContainerStatsFromCRI", "%s", strings.Join(seen, ", "))
}
