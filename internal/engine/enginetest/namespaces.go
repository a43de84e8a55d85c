package enginetest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// stage is the environment variable by which a re-executed test binary knows its part.
const stage = "MASCRI_TEST_STAGE"

// InNamespaces is the body of a TestMain whose tests start engines. It runs m in mount,
// network, pid and ipc namespaces of its own, so that nothing a test does reaches the
// machine, and ends with m's exit code. When the test process ends, however it does, so does
// everything that it started, and every mount is gone. Without root m runs as it is, and
// Start skips its test.
//
// Three processes of the same binary take part: the one that go test started, which waits;
// pid 1 of the new namespace, which mounts and reaps; and its child, which runs m.
func InNamespaces(m *testing.M) {
	if os.Getuid() != 0 {
		os.Exit(m.Run())
	}
	var code int
	var err error
	switch os.Getenv(stage) {
	case "":
		code, err = enter()
	case "init":
		code, err = initProcess()
	default:
		code = m.Run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "enter namespaces:", err)
		os.Exit(1)
	}
	os.Exit(code)
}

// enter runs this binary again as pid 1 of new namespaces.
func enter() (int, error) {
	// The kernel kills the child when the thread that started it ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	group := "mascri-test-" + strconv.Itoa(os.Getpid())
	defer removeCgroups(group)
	command := self("init")
	command.Env = append(command.Env, cgroupVariable+"="+group)
	command.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
	}
	// ^C reaches the whole process group: the tests end by it, and then this one.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT)
	defer signal.Stop(signals)
	return exitCode(command.Run())
}

// initProcess is pid 1: it prepares the mounts, runs the tests and reaps, as engines
// leave processes behind that only pid 1 can wait for.
func initProcess() (int, error) {
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT)
	if err := mountOwn(); err != nil {
		return 1, err
	}
	if err := closeForwarding(); err != nil {
		return 1, err
	}
	command := self("tests")
	if err := command.Start(); err != nil {
		return 1, err
	}
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return 1, fmt.Errorf("wait: %w", err)
		case pid == command.Process.Pid && status.Signaled():
			return 1, fmt.Errorf("the tests ended by signal: %v", status.Signal())
		case pid == command.Process.Pid:
			return status.ExitStatus(), nil
		}
	}
}

// closeForwarding sets what a new network namespace takes over from the machine's
// first one as a fresh machine has it. Docker drops what it does not know only where it
// was Docker that turned forwarding on.
func closeForwarding() error {
	return errors.Join(
		os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("0"), 0),
		os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("0"), 0),
	)
}

// mountOwn hides the machine's engine and networks behind empty directories.
func mountOwn() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	for _, directory := range []string{"/run", "/var/lib/cni"} {
		if err := os.MkdirAll(directory, 0o755); err != nil {
			return err
		}
		if err := unix.Mount("tmpfs", directory, "tmpfs", 0, "mode=0755"); err != nil {
			return fmt.Errorf("mount %s: %w", directory, err)
		}
	}
	if err := mountOwnEtc(); err != nil {
		return fmt.Errorf("mount /etc: %w", err)
	}
	return exec.Command("ip", "link", "set", "lo", "up").Run()
}

// mountOwnEtc makes what is written below /etc, such as an engine's key and the
// certificates that it trusts, seen by nobody else and gone in the end.
func mountOwnEtc() error {
	upper, work := "/run/etc/upper", "/run/etc/work"
	if err := errors.Join(os.MkdirAll(upper, 0o755), os.MkdirAll(work, 0o755)); err != nil {
		return err
	}
	return unix.Mount("overlay", "/etc", "overlay", 0, "lowerdir=/etc,upperdir="+upper+",workdir="+work)
}

func self(next string) *exec.Cmd {
	command := exec.Command("/proc/self/exe", os.Args[1:]...)
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	command.Env = append(os.Environ(), stage+"="+next)
	return command
}

func exitCode(err error) (int, error) {
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.Exited() {
		return exit.ExitCode(), nil
	}
	if err != nil {
		return 1, err
	}
	return 0, nil
}

// removeCgroups removes what the engines left: cgroups are the machine's, whatever the
// namespace, and those of killed containers stay behind.
func removeCgroups(group string) {
	for _, pattern := range []string{"/sys/fs/cgroup/" + group, "/sys/fs/cgroup/*/" + group} {
		roots, _ := filepath.Glob(pattern) // the pattern is valid
		for _, root := range roots {
			removeCgroup(root)
		}
	}
}

// removeCgroup removes bottom up; the files in there go with their directory.
func removeCgroup(directory string) {
	entries, _ := os.ReadDir(directory)
	for _, entry := range entries {
		if entry.IsDir() {
			removeCgroup(filepath.Join(directory, entry.Name()))
		}
	}
	_ = os.Remove(directory) // one that is in use shows up in the next run's machine
}
