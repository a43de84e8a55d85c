package enginetest

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Freeze makes the engine hang until Thaw: it still holds its connections, and takes
// new ones, but answers nothing. It returns once all of it has stopped.
func (d *Daemon) Freeze(t testing.TB) {
	t.Helper()
	freeze(t, d.process.Process.Pid)
}

// Thaw ends Freeze.
func (d *Daemon) Thaw(t testing.TB) {
	t.Helper()
	send(t, d.process.Process.Pid, unix.SIGCONT)
}

// FreezeContainerd makes the engine's containerd hang until ThawContainerd: the engine
// answers what it knows by itself.
func (d *Daemon) FreezeContainerd(t testing.TB) {
	t.Helper()
	freeze(t, d.containerd(t))
}

// ThawContainerd ends FreezeContainerd.
func (d *Daemon) ThawContainerd(t testing.TB) {
	t.Helper()
	send(t, d.containerd(t), unix.SIGCONT)
}

// containerd is the process of the engine's containerd.
func (d *Daemon) containerd(t testing.TB) int {
	t.Helper()
	text, err := os.ReadFile(d.file("exec/containerd/containerd.pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func freeze(t testing.TB, pid int) {
	t.Helper()
	send(t, pid, unix.SIGSTOP)
	for end := time.Now().Add(stopLimit); time.Now().Before(end); time.Sleep(time.Millisecond) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			t.Fatal(err)
		}
		if _, state, _ := strings.Cut(string(text), ") "); strings.HasPrefix(state, "T") {
			return
		}
	}
	t.Fatalf("process %d goes on after SIGSTOP", pid)
}

func send(t testing.TB, pid int, signal unix.Signal) {
	t.Helper()
	if err := unix.Kill(pid, signal); err != nil {
		t.Fatalf("%v to process %d: %v", signal, pid, err)
	}
}
