package sandboximage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// startPause runs the built pause as the first process of a pid namespace.
func startPause(t *testing.T) *exec.Cmd {
	t.Helper()
	data, err := files.ReadFile("rootfs/" + runtime.GOARCH + "/pause")
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("built without the sandbox image: run make build")
	}
	if err != nil {
		t.Fatal(err)
	}
	if os.Getuid() != 0 {
		t.Skip("a pid namespace needs root")
	}
	file := filepath.Join(t.TempDir(), "pause")
	if err := os.WriteFile(file, data, 0o700); err != nil {
		t.Fatal(err)
	}
	pause := exec.CommandContext(t.Context(), file)
	pause.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	if err := pause.Start(); err != nil {
		t.Fatal(err)
	}
	// It runs its own code once it ignores SIGCHLD and is blocked in a wait.
	wait(t, "pause sleeps", func() bool {
		status := procFile(t, pause, "status")
		ignored, err := strconv.ParseUint(field(t, status, "SigIgn"), 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		return strings.HasPrefix(field(t, status, "State"), "S") && ignored&(1<<(syscall.SIGCHLD-1)) != 0
	})
	return pause
}

func procFile(t *testing.T, cmd *exec.Cmd, name string) string {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", cmd.Process.Pid, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// field returns a value of /proc/PID/status.
func field(t *testing.T, status, name string) string {
	t.Helper()
	found := regexp.MustCompile(`(?m)^` + name + `:\s+(.*)$`).FindStringSubmatch(status)
	if found == nil {
		t.Fatalf("no %s in\n%s", name, status)
	}
	return found[1]
}

func wait(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after 10 s not yet: %s", what)
		}
	}
}

func TestPauseEndsOnSignal(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(signal.String(), func(t *testing.T) {
			pause := startPause(t)
			began := time.Now()
			if err := pause.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			if err := pause.Wait(); err != nil {
				t.Errorf("pause ended with %v, want exit code 0", err)
			}
			if took := time.Since(began); took > time.Second {
				t.Errorf("pause took %s to end", took)
			}
		})
	}
}

func TestPauseReaps(t *testing.T) {
	pause := startPause(t)
	pid := strconv.Itoa(pause.Process.Pid)
	children := func() string { return strings.TrimSpace(procFile(t, pause, "task/"+pid+"/children")) }

	// The shell ends at once, so its child falls to pause.
	orphan := exec.CommandContext(t.Context(), "nsenter", "--target", pid, "--pid", "sh", "-c", "sleep 0.5 >/dev/null 2>&1 &")
	if out, err := orphan.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	wait(t, "the orphan is a child of pause", func() bool { return children() != "" })
	wait(t, "the orphan is reaped", func() bool { return children() == "" })
}

func TestPauseIsSmall(t *testing.T) {
	resident := field(t, procFile(t, startPause(t), "status"), "VmRSS")
	t.Logf("pause has %s resident", resident)
	if kB, err := strconv.Atoi(strings.TrimSuffix(resident, " kB")); err != nil || kB > 128 {
		t.Errorf("pause has %s resident, want at most 128 kB", resident)
	}
}
