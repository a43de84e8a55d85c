package stats_test

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mascri/mascri/internal/pod"
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

// startLoads starts processes in a cgroup, lets all work at the same time, and returns their
// pids once they are at rest. They stay until the test ends.
func startLoads(t *testing.T, dirs map[string]string, number int) (pids []int) {
	t.Helper()
	var inputs []io.Writer
	var outputs []*bufio.Reader
	for range number {
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
		inputs, outputs, pids = append(inputs, input), append(outputs, bufio.NewReader(output)), append(pids, process.Process.Pid)
	}
	for _, input := range inputs {
		if _, err := fmt.Fprintln(input); err != nil {
			t.Fatal(err)
		}
	}
	for _, output := range outputs {
		if _, err := output.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(100 * time.Millisecond) // the loads are at rest
	return pids
}

func near(t *testing.T, what string, got, want uint64) {
	t.Helper()
	t.Logf("%s: %d; the kernel's file says %d", what, got, want)
	if math.Abs(float64(got)-float64(want)) > float64(want)/100 {
		t.Errorf("%s: %d, but the kernel's file says %d", what, got, want)
	}
}

// keys reads a file of lines that begin with a key and end with its number.
func keys(t *testing.T, file string) map[string]uint64 {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]uint64{}
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		values[words[0]], _ = strconv.ParseUint(strings.TrimPrefix(words[len(words)-1], "total="), 10, 64)
	}
	return values
}

// single reads a file of one number.
func single(t *testing.T, file string) uint64 {
	t.Helper()
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

// What is told equals what the kernel's own files say.
func TestRealKernel(t *testing.T) {
	id := fmt.Sprintf("%064x", os.Getpid())
	dirs := realGroup(t, id)
	pid := startLoads(t, dirs, 1)[0]
	s := stats.New(stats.Options{Proc: "/proc", Cgroups: "/sys/fs/cgroup", Logger: slog.New(slog.DiscardHandler)})
	got := s.Container(container(id, pid)).Usage
	if got == nil || got.CPU == nil || got.Memory == nil {
		t.Fatalf("usage %+v", got)
	}
	memory := keys(t, dirs["memory"]+"/memory.stat")
	if _, err := os.Stat(dirs["cpuacct"] + "/cpuacct.usage"); err == nil {
		near(t, "CPU", uint64(got.CPU.Total), single(t, dirs["cpuacct"]+"/cpuacct.usage"))
		near(t, "memory", got.Memory.Used, single(t, dirs["memory"]+"/memory.usage_in_bytes"))
		near(t, "resident memory", got.Memory.RSS, memory["total_rss"])
		near(t, "page faults", got.Memory.PageFaults, memory["total_pgfault"])
		if swap, ok := memory["total_swap"]; ok != (got.Memory.Swap != nil) || ok && *got.Memory.Swap != swap {
			t.Errorf("swap %v, but the kernel's file says %d (%v)", got.Memory.Swap, swap, ok)
		}
	} else {
		near(t, "CPU", uint64(got.CPU.Total), 1000*keys(t, dirs["cpuacct"]+"/cpu.stat")["usage_usec"])
		near(t, "memory", got.Memory.Used, single(t, dirs["memory"]+"/memory.current"))
		near(t, "resident memory", got.Memory.RSS, memory["anon"])
		near(t, "page faults", got.Memory.PageFaults, memory["pgfault"])
		if _, err := os.Stat(dirs["memory"] + "/memory.swap.current"); (err == nil) != (got.Memory.Swap != nil) {
			t.Errorf("swap %v, but of the kernel's file: %v", got.Memory.Swap, err)
		}
		if _, err := os.Stat(dirs["memory"] + "/memory.pressure"); err == nil {
			wantPressure(t, "memory", got.Memory.Pressure, dirs["memory"]+"/memory.pressure")
		}
	}
	if got.CPU.Total < 50*time.Millisecond || got.Memory.RSS < 64<<20 {
		t.Errorf("%v of CPU and %d bytes, though it worked for 300 ms and used 64 MiB", got.CPU.Total, got.Memory.RSS)
	}
}

// wantPressure compares with the kernel's file.
func wantPressure(t *testing.T, what string, got *pod.Pressure, file string) {
	t.Helper()
	if got == nil {
		t.Errorf("no pressure on %s is told", what)
		return
	}
	total := keys(t, file)
	near(t, "some wait for "+what, uint64(got.Some.Total.Microseconds()), total["some"])
	if _, ok := total["full"]; ok != (got.Full != nil) {
		t.Errorf("%s: all wait: %v, but the kernel's file says %v", what, got.Full, total)
	} else if ok {
		near(t, "all wait for "+what, uint64(got.Full.Total.Microseconds()), total["full"])
	}
}

// Pressure is counted in cgroup v2 only, which a machine with cgroup v1 has as well, for want
// of controllers without the memory's.
func TestRealPressure(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	root := t.TempDir()
	if err := unix.Mount("none", root, "cgroup2", 0, ""); err != nil {
		t.Skipf("no cgroup v2 can be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(root, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	id := fmt.Sprintf("%064x", 1<<33+os.Getpid())
	dir := filepath.Join(root, "mascri-test-"+id)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	if _, err := os.ReadFile(dir + "/cpu.pressure"); err != nil {
		t.Skipf("this kernel does not count pressure: %v", err)
	}
	pid := startLoads(t, map[string]string{"": dir}, 2*runtime.NumCPU())[0] // who have to wait for each other
	s := stats.New(stats.Options{Proc: "/proc", Cgroups: root, Logger: slog.New(slog.DiscardHandler)})
	for range 2 { // the second time from files that are open
		got := s.Container(container(id, pid)).Usage
		if got == nil || got.CPU == nil {
			t.Fatalf("usage %+v", got)
		}
		near(t, "CPU", uint64(got.CPU.Total.Microseconds()), keys(t, dir+"/cpu.stat")["usage_usec"])
		wantPressure(t, "the CPU", got.CPU.Pressure, dir+"/cpu.pressure")
		wantPressure(t, "I/O", got.IO, dir+"/io.pressure")
		if got.CPU.Pressure == nil || got.CPU.Pressure.Some.Total < 10*time.Millisecond {
			t.Errorf("pressure %+v, though twice as many worked as there are CPUs", got.CPU.Pressure)
		}
	}
}

// A limit is told as it is now, whoever set it.
func TestRealLimit(t *testing.T) {
	id := fmt.Sprintf("%064x", 1<<33+os.Getpid())
	dirs := realGroup(t, id)
	name, none := "memory.limit_in_bytes", "-1"
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		name, none = "memory.max", "max"
	}
	proc := t.TempDir()
	if err := os.Mkdir(filepath.Join(proc, "7"), 0o755); err != nil {
		t.Fatal(err)
	}
	path := "mascri-test-" + id
	for file, text := range map[string]string{"cgroup": fmt.Sprintf("3:memory:/%[1]s\n2:cpuacct:/%[1]s\n0::/%[1]s\n", path), "mountinfo": ""} {
		if err := os.WriteFile(filepath.Join(proc, "7", file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s := stats.New(stats.Options{Proc: proc, Cgroups: "/sys/fs/cgroup", Logger: slog.New(slog.DiscardHandler)})
	for _, limit := range []uint64{0, 64 << 20, 128 << 20, 32 << 20, 0} {
		text := none
		if limit > 0 {
			text = strconv.FormatUint(limit, 10)
		}
		if err := os.WriteFile(filepath.Join(dirs["memory"], name), []byte(text), 0); err != nil {
			t.Fatal(err)
		}
		usage := s.Container(container(id, 7)).Usage
		if usage == nil || usage.Memory == nil {
			t.Fatalf("limit %d: no usage: %+v", limit, usage)
		}
		if got := usage.Memory.Limit; (got == nil) != (limit == 0) || got != nil && *got != limit {
			t.Errorf("limit %v, want %d", got, limit)
		}
	}
}
