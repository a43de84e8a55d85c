package stats_test

import (
	"bufio"
	"fmt"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mascri/mascri/internal/stats"
)

// loadVariable makes the test binary a process that burns CPU and holds memory.
const loadVariable = "MASCRI_TEST_LOAD"

func TestMain(m *testing.M) {
	if os.Getenv(loadVariable) != "" {
		load()
		return
	}
	os.Exit(m.Run())
}

// load waits for a line, works, says so, and stays until its input ends.
func load() {
	input := bufio.NewReader(os.Stdin)
	_, _ = input.ReadString('\n')
	memory := make([]byte, 64<<20)
	for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); {
		for i := range memory {
			memory[i]++
		}
	}
	fmt.Println("done")
	_, _ = input.ReadString('\n')
	_ = memory[0]
}

// realGroup makes a cgroup of the real kernel's that is named after id, and returns its
// directory by controller.
func realGroup(t testing.TB, id string) map[string]string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dirs := map[string]string{}
	for _, controller := range []string{"cpuacct", "memory", "pids"} {
		dirs[controller] = filepath.Join("/sys/fs/cgroup", controller, "mascri-test-"+id)
		if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
			dirs[controller] = filepath.Join("/sys/fs/cgroup", "mascri-test-"+id)
		}
		if err := os.MkdirAll(dirs[controller], 0o755); err != nil {
			t.Skipf("no cgroup can be made here: %v", err)
		}
		t.Cleanup(func() { _ = os.Remove(dirs[controller]) })
	}
	return dirs
}

// What is told equals what the kernel's own files say.
func TestRealKernel(t *testing.T) {
	id := fmt.Sprintf("%064x", os.Getpid())
	dirs := realGroup(t, id)
	process := exec.Command("/proc/self/exe")
	process.Env = append(os.Environ(), loadVariable+"=1")
	input, err := process.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { input.Close(); _ = process.Wait() })
	for _, dir := range dirs {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(process.Process.Pid)), 0); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := fmt.Fprintln(input); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(output).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond) // the load is at rest

	s := stats.New(stats.Options{Proc: "/proc", Cgroups: "/sys/fs/cgroup", Logger: slog.New(slog.DiscardHandler)})
	got := s.Container(container(id, process.Process.Pid)).Usage
	if got == nil || got.CPU == nil || got.Memory == nil {
		t.Fatalf("usage %+v", got)
	}
	near := func(what string, got, want uint64) {
		t.Helper()
		t.Logf("%s: %d; the kernel's file says %d", what, got, want)
		if math.Abs(float64(got)-float64(want)) > float64(want)/100 {
			t.Errorf("%s: %d, but the kernel's file says %d", what, got, want)
		}
	}
	keys := func(file string) map[string]uint64 {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		values := map[string]uint64{}
		for line := range strings.Lines(string(text)) {
			words := strings.Fields(line)
			values[words[0]], _ = strconv.ParseUint(words[len(words)-1], 10, 64)
		}
		return values
	}
	single := func(file string) uint64 {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	memory := keys(dirs["memory"] + "/memory.stat")
	if _, err := os.Stat(dirs["cpuacct"] + "/cpuacct.usage"); err == nil {
		near("CPU", uint64(got.CPU.Total), single(dirs["cpuacct"]+"/cpuacct.usage"))
		near("memory", got.Memory.Used, single(dirs["memory"]+"/memory.usage_in_bytes"))
		near("resident memory", got.Memory.RSS, memory["total_rss"])
		near("page faults", got.Memory.PageFaults, memory["total_pgfault"])
	} else {
		near("CPU", uint64(got.CPU.Total), 1000*keys(dirs["cpuacct"] + "/cpu.stat")["usage_usec"])
		near("memory", got.Memory.Used, single(dirs["memory"]+"/memory.current"))
		near("resident memory", got.Memory.RSS, memory["anon"])
		near("page faults", got.Memory.PageFaults, memory["pgfault"])
	}
	if got.CPU.Total < 50*time.Millisecond || got.Memory.RSS < 64<<20 {
		t.Errorf("%v of CPU and %d bytes, though it worked for 300 ms and used 64 MiB", got.CPU.Total, got.Memory.RSS)
	}
}
