package enginetest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/moby/client"
	"golang.org/x/sys/unix"
)

// Version names an engine that tests run against.
type Version string

// The oldest engine that is supported, which is the machine's own, and a recent one.
const (
	Engine20 Version = "20.10"
	Engine28 Version = "28"
)

const (
	// engine28Variable names the directory where Engine28 is unpacked (usr/bin, usr/sbin):
	// its dockerd, containerd and shim. The runc is the machine's.
	engine28Variable = "MASCRI_TEST_ENGINE28"
	// cgroupVariable names the cgroup below which all containers of a test run are.
	cgroupVariable = "MASCRI_TEST_CGROUP"

	startLimit = time.Minute
	stopLimit  = time.Minute
)

// Start runs an engine of its own for t, with its containerd, and returns its address
// (unix://...). It ends with t, all its containers with it. flags are added to dockerd's.
// The test must run InNamespaces; without root it is skipped.
func Start(t testing.TB, version Version, flags ...string) string {
	t.Helper()
	return StartDaemon(t, version, flags...).Host()
}

// StartDaemon is Start for a test that restarts or stops the engine meanwhile.
func StartDaemon(t testing.TB, version Version, flags ...string) *Daemon {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("an engine needs root")
	}
	if os.Getenv(stage) == "" {
		t.Fatal("enginetest.Start needs a TestMain that calls enginetest.InNamespaces")
	}
	d := &Daemon{directory: mountTemp(t), path: binaries(t, version), flags: flags}
	t.Cleanup(func() { d.Stop(t) })
	d.Start(t)
	return d
}

// Daemon is one dockerd. Its methods are for one goroutine.
type Daemon struct {
	directory string // tmpfs of its own, which overlay2 works on whatever is below
	path      string // PATH to find its binaries
	flags     []string
	process   *exec.Cmd // nil while it does not run
	ended     chan error
}

// Host is the address, which stays over restarts.
func (d *Daemon) Host() string { return "unix://" + d.file("docker.sock") }

func (d *Daemon) file(name string) string { return filepath.Join(d.directory, name) }

// Start runs the engine, after Stop on the state that it had, and returns once it answers.
func (d *Daemon) Start(t testing.TB) {
	t.Helper()
	log, err := os.Create(d.file("log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	d.process = command(t, d.path, d.directory, d.directory, d.flags...)
	d.process.Stdout, d.process.Stderr = log, log
	if err := d.process.Start(); err != nil {
		t.Fatal(err)
	}
	d.ended = make(chan error, 1)
	go func(process *exec.Cmd, ended chan error) { ended <- process.Wait(); close(ended) }(d.process, d.ended)
	d.await(t)
}

// Command is dockerd, not started: with docker.sock and all that outlives a reboot in
// directory, a tmpfs, and the rest in runtime. It is for a test with a machine of its own to
// run it on.
func Command(t testing.TB, version Version, directory, runtime string) *exec.Cmd {
	t.Helper()
	return command(t, binaries(t, version), directory, runtime)
}

func command(t testing.TB, path, directory, runtime string, flags ...string) *exec.Cmd {
	t.Helper()
	binary, err := lookPath("dockerd", path)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(directory, "daemon.json")
	if err := os.WriteFile(config, []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	process := exec.Command(binary, append([]string{
		"--host", "unix://" + filepath.Join(directory, "docker.sock"),
		"--data-root", filepath.Join(directory, "data"),
		"--exec-root", filepath.Join(runtime, "exec"),
		"--pidfile", filepath.Join(runtime, "pid"),
		"--config-file", config,
		"--storage-driver", "overlay2",
		"--exec-opt", "native.cgroupdriver=cgroupfs",
		"--cgroup-parent", "/" + os.Getenv(cgroupVariable),
	}, flags...)...)
	process.Env = append(os.Environ(), "PATH="+path)
	return process
}

// await returns once the engine answers.
func (d *Daemon) await(t testing.TB) {
	t.Helper()
	api, err := client.New(client.WithHost(d.Host()))
	if err != nil {
		t.Fatal(err)
	}
	defer api.Close()
	ctx, cancel := context.WithTimeout(t.Context(), startLimit)
	defer cancel()
	for {
		if _, err = api.Ping(ctx, client.PingOptions{}); err == nil {
			return
		}
		select {
		case err := <-d.ended:
			t.Fatalf("dockerd ended: %v\n%s", err, d.logTail())
		case <-ctx.Done():
			t.Fatalf("dockerd does not answer within %v: %v\n%s", startLimit, err, d.logTail())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Stop ends the engine in order and its containerd with it; with them all containers,
// unless it has live-restore. One that does not run stays so.
func (d *Daemon) Stop(t testing.TB) {
	t.Helper()
	if t.Failed() {
		t.Logf("the engine's log ends with:\n%s", d.logTail())
	}
	if d.process == nil {
		return
	}
	if err := d.process.Process.Signal(syscall.SIGTERM); err != nil {
		t.Errorf("stop dockerd: %v", err)
	}
	select {
	case <-d.ended:
	case <-time.After(stopLimit):
		t.Errorf("dockerd did not end within %v\n%s", stopLimit, d.logTail())
		_ = d.process.Process.Kill()
		<-d.ended
	}
	d.process = nil
}

// Kill ends the engine by SIGKILL, and the kernel its containerd, its child, with it. With
// live-restore, its containers go on.
func (d *Daemon) Kill(t testing.TB) {
	t.Helper()
	containerd := d.containerd(t)
	d.signal(t, syscall.SIGKILL)
	<-d.ended
	d.process = nil
	for end := time.Now().Add(stopLimit); unix.Kill(containerd, 0) == nil; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("containerd outlives dockerd by %v", stopLimit)
		}
	}
}

func (d *Daemon) signal(t testing.TB, signal syscall.Signal) {
	t.Helper()
	if err := d.process.Process.Signal(signal); err != nil {
		t.Fatalf("%v to dockerd: %v", signal, err)
	}
}

// Logged tells whether the engine's log has text.
func (d *Daemon) Logged(t testing.TB, text string) bool {
	t.Helper()
	log, err := os.ReadFile(d.file("log"))
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Contains(log, []byte(text))
}

func (d *Daemon) logTail() []byte {
	log, err := os.ReadFile(d.file("log"))
	if err != nil {
		return []byte(err.Error())
	}
	lines := bytes.Split(log, []byte("\n"))
	return bytes.Join(lines[max(0, len(lines)-30):], []byte("\n"))
}

// mountTemp returns an empty tmpfs with a short name, as a Unix socket's path must be.
func mountTemp(t testing.TB) string {
	t.Helper()
	directory, err := os.MkdirTemp("/run", "engine")
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", directory, "tmpfs", 0, "mode=0755"); err != nil {
		t.Fatalf("mount %s: %v", directory, err)
	}
	t.Cleanup(func() {
		// What the engine left mounted in there is gone when the namespace is.
		if err := unix.Unmount(directory, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", directory, err)
		}
	})
	return directory
}

// binaries returns the PATH of version.
func binaries(t testing.TB, version Version) string {
	t.Helper()
	system := "/usr/sbin:/usr/bin:/sbin:/bin"
	if version == Engine20 {
		return system
	}
	directory := os.Getenv(engine28Variable)
	if directory == "" {
		_, source, _, _ := runtime.Caller(0)
		directory = filepath.Join(filepath.Dir(source), "../../../bin/engine28")
	}
	if _, err := os.Stat(filepath.Join(directory, "usr/sbin/dockerd")); err != nil {
		t.Fatalf("engine %s: %v: run make build, or name its directory in %s", version, err, engine28Variable)
	}
	return directory + "/usr/sbin:" + directory + "/usr/bin:" + system
}

func lookPath(name, path string) (string, error) {
	for _, directory := range strings.Split(path, ":") {
		if file := filepath.Join(directory, name); unix.Access(file, unix.X_OK) == nil {
			return file, nil
		}
	}
	return "", fmt.Errorf("%s: not in %s", name, path)
}
