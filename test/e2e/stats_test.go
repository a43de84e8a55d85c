package e2e

import (
	"context"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine/enginetest"
)

// shellImage is an image with a shell, which importShell brings into the engine.
const shellImage = "localhost/mascri-test/shell:1"

func (n *node) importShell(t *testing.T) {
	t.Helper()
	dir := shortDir(t)
	if err := os.MkdirAll(filepath.Join(dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, "cp", "/bin/busybox", filepath.Join(dir, "bin/busybox"))
	for _, applet := range []string{"sh", "sleep", "head", "tr", "true", "wget", "cat"} {
		if err := os.Symlink("busybox", filepath.Join(dir, "bin", applet)); err != nil {
			t.Fatal(err)
		}
	}
	archive := filepath.Join(shortDir(t), "shell.tar")
	run(t, "tar", "-C", dir, "-cf", archive, ".")
	n.docker(t, "import", archive, shellImage)
}

// newShell makes a container that runs a script.
func (n *node) newShell(t *testing.T, pod string, config *cri.PodSandboxConfig, name, script string) string {
	t.Helper()
	id, err := n.tryShell(t.Context(), pod, config, name, script)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func (n *node) tryShell(ctx context.Context, pod string, config *cri.PodSandboxConfig, name, script string) (string, error) {
	resp, err := n.cri.CreateContainer(ctx, &cri.CreateContainerRequest{
		PodSandboxId: pod, SandboxConfig: config,
		Config: &cri.ContainerConfig{
			Metadata: &cri.ContainerMetadata{Name: name}, Image: &cri.ImageSpec{Image: shellImage},
			Command: []string{"/bin/sh", "-c", script}, Labels: map[string]string{"name": name},
			// Pids of its own, as the kubelet asks for unless a pod shares them.
			Linux: &cri.LinuxContainerConfig{SecurityContext: &cri.LinuxContainerSecurityContext{
				NamespaceOptions: &cri.NamespaceOption{Pid: cri.NamespaceMode_CONTAINER},
			}},
		},
	})
	return resp.GetContainerId(), err
}

// cgroup returns the directory of a process's cgroup, as the kernel says, and whether it
// is of cgroup v2.
func cgroup(t *testing.T, pid, controller string) (dir string, unified bool) {
	t.Helper()
	text, err := os.ReadFile("/proc/" + pid + "/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	_, err = os.Stat("/sys/fs/cgroup/cgroup.controllers")
	unified = err == nil
	for line := range strings.Lines(string(text)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		switch {
		case unified && parts[1] == "":
			return "/sys/fs/cgroup" + parts[2], true
		case !unified && strings.Contains(","+parts[1]+",", ","+controller+","):
			return "/sys/fs/cgroup/" + controller + parts[2], false
		}
	}
	t.Fatalf("process %s is in no cgroup of %s:\n%s", pid, controller, text)
	return "", false
}

// number reads a file of one number, or of the given key.
func number(t *testing.T, file, key string) uint64 {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if key == "" || words[0] == key {
			n, err := strconv.ParseUint(words[len(words)-1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("%s has no %s:\n%s", file, key, text)
	return 0
}

func near(t *testing.T, what string, got *cri.UInt64Value, want uint64) {
	t.Helper()
	t.Logf("%s: %v; the kernel's file says %d", what, got, want)
	if got == nil || math.Abs(float64(got.GetValue())-float64(want)) > float64(want)/100 {
		t.Errorf("%s: %v, but the kernel's file says %d", what, got, want)
	}
}

// wantKernel compares with the kernel's files of the cgroup that a process is in, or of
// its parent.
func wantKernel(t *testing.T, what, pid, up string, cpu *cri.CpuUsage, memory *cri.MemoryUsage) {
	t.Helper()
	cpuDir, unified := cgroup(t, pid, "cpuacct")
	memoryDir, _ := cgroup(t, pid, "memory")
	cpuDir, memoryDir = filepath.Join(cpuDir, up), filepath.Join(memoryDir, up)
	files := [3]string{"cpuacct.usage", "memory.usage_in_bytes", "total_"}
	if unified {
		files = [3]string{"", "memory.current", ""}
		near(t, what+" CPU", cpu.GetUsageCoreNanoSeconds(), 1000*number(t, cpuDir+"/cpu.stat", "usage_usec"))
		near(t, what+" resident", memory.GetRssBytes(), number(t, memoryDir+"/memory.stat", "anon"))
	} else {
		near(t, what+" CPU", cpu.GetUsageCoreNanoSeconds(), number(t, cpuDir+"/"+files[0], ""))
		near(t, what+" resident", memory.GetRssBytes(), number(t, memoryDir+"/memory.stat", "total_rss"))
	}
	used := number(t, memoryDir+"/"+files[1], "")
	near(t, what+" memory", memory.GetUsageBytes(), used)
	near(t, what+" working set", memory.GetWorkingSetBytes(), used-min(used, number(t, memoryDir+"/memory.stat", files[2]+"inactive_file")))
	near(t, what+" page faults", memory.GetPageFaults(), number(t, memoryDir+"/memory.stat", files[2]+"pgfault"))
	if cpu.GetTimestamp() <= 0 || memory.GetTimestamp() <= 0 {
		t.Errorf("%s: a time is missing", what)
	}
}

// What is told of a container that burned CPU, holds memory, wrote a file and was sent
// something equals what the kernel and the disk say, on either engine.
func TestStatsEqualTheKernels(t *testing.T) {
	bothEngines(t, func(t *testing.T, version enginetest.Version) {
		n := newNode(t, version, userConf())
		n.importShell(t)
		for _, parent := range []string{"", "/" + os.Getenv("MASCRI_TEST_CGROUP") + "/podx"} {
			t.Run("cgroup_parent "+parent, func(t *testing.T) { n.compareStats(t, parent) })
		}
	})
}

func (n *node) compareStats(t *testing.T, parent string) {
	config := config("load")
	config.Linux = &cri.LinuxPodSandboxConfig{CgroupParent: parent}
	pod := n.runPod(t, config)
	defer n.removePod(t, pod.id)
	id := n.newShell(t, pod.id, config, "load",
		`head -c 3000000 /dev/zero > /big; x=$(head -c 20000000 /dev/zero | tr "\0" x); i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; echo > /ready; sleep 3600 & wait`)
	stats := func() *cri.ContainerStats {
		t.Helper()
		resp, err := n.cri.ContainerStats(t.Context(), &cri.ContainerStatsRequest{ContainerId: id})
		if err != nil {
			t.Fatal(err)
		}
		return resp.GetStats()
	}
	if s := stats(); s.GetCpu() != nil || s.GetAttributes().GetMetadata().GetName() != "load" {
		t.Errorf("before its start: %v", s)
	}
	n.startContainer(t, id)
	pid := n.docker(t, "inspect", "-f", "{{.State.Pid}}", id)
	waitFor(t, "the load is at rest", func() bool { _, err := os.Stat("/proc/" + pid + "/root/ready"); return err == nil })
	time.Sleep(200 * time.Millisecond)
	s := stats()
	wantKernel(t, "container's", pid, ".", s.GetCpu(), s.GetMemory())
	if s.GetCpu().GetUsageNanoCores() != nil {
		t.Errorf("rate %v of one sample", s.GetCpu().GetUsageNanoCores())
	}
	waitFor(t, "the layer is measured", func() bool { s = stats(); return s.GetWritableLayer().GetUsedBytes().GetValue() >= 3000000 })
	if l := s.GetWritableLayer(); l.GetUsedBytes().GetValue() > 3500000 || l.GetInodesUsed().GetValue() < 2 || l.GetInodesUsed().GetValue() > 30 || l.GetFsId().GetMountpoint() == "" {
		t.Errorf("writable layer %v", l)
	}
	time.Sleep(time.Second)
	if s = stats(); s.GetCpu().GetUsageNanoCores() == nil {
		t.Error("no rate after two samples")
	}

	sendTo(t, pod)
	linux := n.podStats(t, pod.id)
	if parent != "" {
		wantKernel(t, "pod's", pid, "..", linux.GetCpu(), linux.GetMemory())
	} else if got, least := linux.GetCpu().GetUsageCoreNanoSeconds().GetValue(), s.GetCpu().GetUsageCoreNanoSeconds().GetValue(); got <= least {
		t.Errorf("pod's CPU %d is not more than its container's %d", got, least)
	}
	if got := linux.GetProcess().GetProcessCount().GetValue(); got != 3 { // pause, sh, sleep
		t.Errorf("%d processes, want 3", got)
	}
	waitFor(t, "traffic equals the kernel's", func() bool { // which may send something just now
		i := n.podStats(t, pod.id).GetNetwork().GetDefaultInterface()
		text := run(t, "nsenter", "--net="+pod.netns, "cat", "/proc/net/dev")
		eth0 := strings.Fields(text[strings.Index(text, "eth0:"):])
		want := fmt.Sprint("eth0 ", eth0[1], " ", eth0[3], " ", eth0[9], " ", eth0[11])
		got := fmt.Sprint(i.GetName(), " ", i.GetRxBytes().GetValue(), " ", i.GetRxErrors().GetValue(), " ", i.GetTxBytes().GetValue(), " ", i.GetTxErrors().GetValue())
		t.Logf("traffic %q; the kernel says %q", got, want)
		return got == want && i.GetRxBytes().GetValue() > 3000
	})
	if len(linux.GetNetwork().GetInterfaces()) != 0 || len(linux.GetContainers()) != 1 || linux.GetContainers()[0].GetAttributes().GetId() != id {
		t.Errorf("pod's stats %v", linux)
	}
}

func (n *node) podStats(t *testing.T, id string) *cri.LinuxPodSandboxStats {
	t.Helper()
	resp, err := n.cri.PodSandboxStats(t.Context(), &cri.PodSandboxStatsRequest{PodSandboxId: id})
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetStats().GetLinux()
}

// sendTo sends three datagrams of 1000 bytes to a pod, where nobody listens.
func sendTo(t *testing.T, pod sandbox) {
	t.Helper()
	for range 3 {
		conn, err := net.Dial("udp", netip.AddrPortFrom(pod.ips[0], 9).String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}
