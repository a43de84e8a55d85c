package cri_test

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
	"github.com/mascri/mascri/internal/stats"
)

// BenchmarkLists asks about 250 pods with a container each, in a cgroup of the real kernel's.
func BenchmarkLists(b *testing.B) {
	index, client := benchNode(b, 250)
	for name, ask := range map[string]func() error{
		"ListPodSandbox": func() error {
			_, err := client.ListPodSandbox(b.Context(), &runtimeapi.ListPodSandboxRequest{})
			return err
		},
		"ListContainers": func() error {
			_, err := client.ListContainers(b.Context(), &runtimeapi.ListContainersRequest{})
			return err
		},
		"ContainerStats": func() error {
			_, err := client.ContainerStats(b.Context(), &runtimeapi.ContainerStatsRequest{ContainerId: index.containers[0].ID})
			return err
		},
		"ListContainerStats": func() error {
			resp, err := client.ListContainerStats(b.Context(), &runtimeapi.ListContainerStatsRequest{})
			if err == nil && resp.GetStats()[249].GetCpu() == nil {
				err = fmt.Errorf("no usage is told")
			}
			return err
		},
	} {
		b.Run(name, func(b *testing.B) {
			var took []time.Duration
			runtime.GC()
			spent := cpuTime(b)
			for b.Loop() {
				began := time.Now()
				if err := ask(); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(began))
			}
			b.ReportMetric(float64((cpuTime(b)-spent).Microseconds())/1000/float64(b.N), "cpu-ms/op")
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
		})
	}
}

// cpuTime is what this process has used, on all CPUs: unlike the time that passes it hardly
// depends on what else the machine does.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

func benchNode(b *testing.B, n int) (*shelf, runtimeapi.RuntimeServiceClient) {
	b.Helper()
	if os.Geteuid() != 0 {
		b.Skip("needs root")
	}
	parent := "mascri-bench-" + strconv.Itoa(os.Getpid())
	proc := b.TempDir()
	index := &shelf{}
	roots := []string{"/sys/fs/cgroup/cpuacct", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/pids"}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		roots = []string{"/sys/fs/cgroup"}
	}
	b.Cleanup(func() {
		for _, root := range roots {
			_ = os.Remove(filepath.Join(root, parent))
		}
	})
	for i := range n {
		id := fmt.Sprintf("%064x", i)
		path := parent + "/" + id
		for _, root := range roots {
			if err := os.MkdirAll(filepath.Join(root, path), 0o755); err != nil {
				b.Skipf("no cgroup can be made here: %v", err)
			}
			b.Cleanup(func() { _ = os.Remove(filepath.Join(root, path)) })
		}
		dir := filepath.Join(proc, strconv.Itoa(i+1))
		text := fmt.Sprintf("3:memory:/%[1]s\n2:cpuacct:/%[1]s\n1:pids:/%[1]s\n0::/%[1]s\n", path)
		for name, text := range map[string]string{"cgroup": text, "mountinfo": ""} {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				b.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				b.Fatal(err)
			}
		}
		c := shelved("pod", id, map[string]string{"app": "web"})
		c.PID = i + 1
		index.containers = append(index.containers, c)
		index.sandboxes = append(index.sandboxes, pod.Sandbox{ID: id, Config: podConfig(fmt.Sprint("pod-", i)), Running: true, PID: i + 1})
	}
	usage := stats.New(stats.Options{Proc: proc, Cgroups: "/sys/fs/cgroup", Logger: slog.New(slog.DiscardHandler)})
	return index, serveShelf(b, index, usage)
}
