package stats_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mascri/mascri/internal/pod"
	"github.com/mascri/mascri/internal/stats"
)

// openBelow counts the files that this process has open whose path holds part.
func openBelow(t *testing.T, part string) (n int) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		// One may be closed meanwhile.
		if link, err := os.Readlink("/proc/self/fd/" + entry.Name()); err == nil && strings.Contains(link, part) {
			n++
		}
	}
	return n
}

// A container that was started anew has a cgroup by the old name: what was kept open of the
// old one tells nothing, and is closed.
func TestRealCgroupIsMadeAnew(t *testing.T) {
	id := fmt.Sprintf("%064x", 1<<32+os.Getpid())
	dirs := realGroup(t, id)
	proc := t.TempDir()
	name := "mascri-test-" + id
	write := func(file, text string) {
		if err := os.MkdirAll(filepath.Join(proc, "7"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(proc, "7", file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("cgroup", fmt.Sprintf("3:memory:/%[1]s\n2:cpuacct:/%[1]s\n1:pids:/%[1]s\n0::/%[1]s\n", name))
	write("mountinfo", "")
	s := stats.New(stats.Options{Proc: proc, Cgroups: "/sys/fs/cgroup", Logger: slog.New(slog.DiscardHandler)})
	c := container(id, 7)
	for life := range 3 {
		for range 3 {
			if got := s.Container(c).Usage; got == nil || got.CPU == nil || got.Memory == nil {
				t.Fatalf("life %d: %+v", life, got)
			}
		}
		if n := openBelow(t, name); n < 3 || n > 12 {
			t.Errorf("life %d: %d files are kept open", life, n)
		}
		for _, dir := range dirs {
			if err := os.Remove(dir); err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
		}
		if life == 1 { // seen in between
			if got := s.Container(c).Usage; got != nil {
				t.Errorf("usage of a cgroup that is gone: %v", got)
			}
			if n := openBelow(t, name); n != 0 {
				t.Errorf("%d files of a cgroup that is gone are open", n)
			}
		}
		for _, dir := range dirs {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	c.Running = false
	if got := s.Container(c).Usage; got != nil {
		t.Errorf("usage of a container that does not run: %v", got)
	}
	if n := openBelow(t, name); n != 0 {
		t.Errorf("%d files of a container that does not run are open", n)
	}
}

func TestFilesAreClosedOnceNobodyAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		path := "docker/" + webID
		m.process(7, v1Process(path), "")
		m.v1(path, "1", "4096")
		s := m.stats()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		for range 10 {
			s.Container(container(webID, 7))
			time.Sleep(30 * time.Second)
			synctest.Wait()
		}
		if n := openBelow(t, m.root); n != 3 {
			t.Errorf("%d files are open while somebody asks, want 3: without limits, those are not read", n)
		}
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		if n := openBelow(t, m.root); n != 0 {
			t.Errorf("%d files are open, though nobody asks", n)
		}
		wantUsage(t, s.Container(container(webID, 7)).Usage, &pod.Usage{
			CPU:    &pod.CPUUsage{Total: 1, Rate: ptr[uint64](0)},
			Memory: &pod.MemoryUsage{Used: 4096, InactiveFile: 8192, RSS: 4096, PageFaults: 11, MajorPageFaults: 3, Swap: ptr[uint64](12288)},
		})
		cancel()
		<-done
	})
}

// Where the process may open few files, those that it can't keep are opened each time.
func TestFilesAreKeptWithinTheLimit(t *testing.T) {
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 64, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	m := newMachine(t)
	s := m.stats()
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	const containers = 20
	for i := range containers {
		id := fmt.Sprintf("%064x", i)
		m.process(i, v1Process("docker/"+id), "")
		m.v1("docker/"+id, fmt.Sprint(i), "4096")
	}
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for i := range 10 * containers {
				i %= containers
				usage := s.Container(container(fmt.Sprintf("%064x", i), i)).Usage
				if usage == nil || usage.CPU.Total != time.Duration(i) || usage.Memory.PageFaults != 11 {
					t.Errorf("container %d: %+v", i, usage)
				}
			}
		})
	}
	group.Wait()
	if n := openBelow(t, m.root); n == 0 || n > 32 {
		t.Errorf("%d files are open, want at most half of 64", n)
	}
}
