package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine/enginetest"
)

// Who may speak to the socket owns the node.
func TestSocketIsRootsAlone(t *testing.T) {
	n := newNode(t, enginetest.Engine28, userConf())
	var stat unix.Stat_t
	if err := unix.Stat(n.socket, &stat); err != nil {
		t.Fatal(err)
	}
	if mode := stat.Mode & 0o7777; mode != 0o660 || stat.Uid != 0 || stat.Gid != 0 {
		t.Errorf("mode %o of %d:%d, want 660 of 0:0", mode, stat.Uid, stat.Gid)
	}
	n.kill(t)
	if _, err := os.Stat(n.socket); err != nil {
		t.Fatalf("no socket is left after a kill: this test shows nothing: %v", err)
	}
	n.start(t) // replaces it
	if left := files(t, filepath.Dir(n.socket)); strings.Contains(strings.Join(left, " "), "sock.") {
		t.Errorf("beside the socket: %q", left)
	}
}

// Two daemons on one state, or one socket, would undo each other's work.
func TestSecondDaemonIsRefused(t *testing.T) {
	n := newNode(t, enginetest.Engine28, userConf())
	dir := shortDir(t)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("a user's own"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		flags []string
		says  []string
	}{
		"same state": {[]string{"--socket", filepath.Join(dir, "other.sock"), "--state-dir", n.state},
			[]string{n.state, "in use by another mascri serve", "--state-dir"}},
		"same socket": {[]string{"--socket", n.socket, "--state-dir", filepath.Join(dir, "state")},
			[]string{n.socket, "another daemon answers", "--socket"}},
		"no socket": {[]string{"--socket", file, "--state-dir", filepath.Join(dir, "state")},
			[]string{file, "is no socket", "--socket"}},
	} {
		t.Run(name, func(t *testing.T) {
			out := n.wantNoDaemon(t, nil, tt.flags...)
			for _, text := range tt.says {
				if !strings.Contains(out, text) {
					t.Errorf("it says %q, not %q", out, text)
				}
			}
		})
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "a user's own" {
		t.Errorf("the user's file: %q, %v", text, err)
	}
	n.removePod(t, n.runPod(t, config("web")).id) // the first one goes on
	n.wantWhole(t, 0)
}

// wantNoDaemon checks that a daemon on the node's engine ends by itself with an error,
// and returns what it said.
func (n *node) wantNoDaemon(t *testing.T, prepare func(*exec.Cmd), flags ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, daemonBinary(t), append([]string{"serve", "--cni-conf-dir", n.conf, "--cni-bin-dir", n.bin, "--engine-host", n.host}, flags...)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if prepare != nil {
		prepare(cmd)
	}
	if err := cmd.Run(); ctx.Err() != nil || cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("%v ended with %v, want status 1\n%s", flags, err, out.String())
	}
	return out.String()
}

// handOver gives open files to a command as systemd does: from number 3 on.
func handOver(files ...*os.File) func(*exec.Cmd) {
	return func(cmd *exec.Cmd) {
		cmd.ExtraFiles = files
		cmd.Env = append(cmd.Env, fmt.Sprint("LISTEN_FDS=", len(files)))
		cmd.Args = append([]string{"sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`}, cmd.Args...)
		cmd.Path = "/bin/sh"
	}
}

// listenFile is a socket that systemd would make.
func listenFile(t *testing.T, network, path string) *os.File {
	t.Helper()
	kind := map[string]int{"unix": unix.SOCK_STREAM, "unixgram": unix.SOCK_DGRAM}[network]
	fd, err := unix.Socket(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), path)
	t.Cleanup(func() { f.Close() })
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	if network == "unix" {
		if err := unix.Listen(fd, 16); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func TestSocketActivation(t *testing.T) {
	n := newNode(t, enginetest.Engine28, userConf())
	n.terminate(t)
	if err := os.Remove(n.socket); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	dir := shortDir(t)
	socket := listenFile(t, "unix", n.socket)
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer notify.Close()
	n.prepare = func(cmd *exec.Cmd) {
		handOver(socket)(cmd)
		cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+notify.LocalAddr().String(), "WATCHDOG_USEC=3000000")
	}
	told := func(want string) {
		t.Helper()
		if err := notify.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		message := make([]byte, 4096)
		for {
			size, err := notify.Read(message)
			if err != nil {
				t.Fatalf("systemd is not told %q: %v", want, err)
			}
			if strings.HasPrefix(string(message[:size]), want) {
				return
			}
		}
	}
	n.extra = append(n.extra, "--socket", filepath.Join(dir, "unused.sock"))
	for range 2 { // a client's connection waits while the daemon is down
		n.start(t)
		told("READY=1\nWATCHDOG=1\nSTATUS=0 pods, 0 containers")
		told("WATCHDOG=1")
		n.removePod(t, n.runPod(t, config("web")).id)
		n.wantWhole(t, 0)
		n.terminate(t)
		told("STOPPING=1")
		if _, err := os.Stat(n.socket); err != nil {
			t.Errorf("systemd's socket is gone after the daemon's end: %v", err)
		}
	}
	if log := n.logTail(); !strings.Contains(log, "socket="+n.socket) || strings.Contains(log, "unused.sock") {
		t.Errorf("the log names another socket:\n%s", log)
	}
	if left := files(t, dir); len(left) != 1 {
		t.Errorf("sockets beside systemd's own: %q", left)
	}

	state := []string{"--state-dir", filepath.Join(dir, "state")}
	out := n.wantNoDaemon(t, handOver(socket, socket), state...)
	if !strings.Contains(out, "handed over 2 sockets") {
		t.Errorf("two sockets: %s", out)
	}
	out = n.wantNoDaemon(t, handOver(listenFile(t, "unixgram", filepath.Join(dir, "datagram"))), state...)
	if !strings.Contains(out, "not of type unix stream") {
		t.Errorf("a datagram socket: %s", out)
	}
}

// A stuck engine is nothing that a restart of the daemon would mend: systemd is told so, and
// that the daemon lives.
func TestStuckEngineDoesNotStopTheWatchdog(t *testing.T) {
	n := newNode(t, enginetest.Engine28, userConf())
	n.terminate(t)
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(shortDir(t), "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer notify.Close()
	n.prepare = func(cmd *exec.Cmd) {
		cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+notify.LocalAddr().String(), "WATCHDOG_USEC=3000000")
	}
	n.start(t)
	n.engine.Freeze(t)
	if err := notify.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	message, beats := make([]byte, 4096), 0
	for stuck := false; !stuck || beats < 3; {
		size, err := notify.Read(message)
		if err != nil {
			t.Fatalf("%d messages since systemd is told that the engine does not answer, then %v", beats, err)
		}
		text := string(message[:size])
		stuck = stuck || strings.Contains(text, "the engine does not answer")
		if stuck && strings.Contains(text, "WATCHDOG=1") {
			beats++
		}
	}
	n.engine.Thaw(t)
}

// SIGTERM lets requests under way finish and takes no new ones; pods run on.
func TestSIGTERMDrains(t *testing.T) {
	n := newNode(t, enginetest.Engine28, nil, chaosDir(t)...)
	begun := filepath.Join(shortDir(t), "calls")
	n.writeConf(t, "10-slow.conflist", chaosConf(fmt.Sprintf(`{"verbs": ["ADD"], "sleep": "3s", "dump": %q}`, begun)))
	type answer struct {
		id  string
		err error
	}
	answers := make(chan answer)
	go func() {
		id, err := n.tryPod(t, config("slow"), 30*time.Second)
		answers <- answer{id, err}
	}()
	waitFile(t, begun)
	daemon := n.daemon
	if err := daemon.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	var err error
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end) && err == nil; time.Sleep(10 * time.Millisecond) {
		_, err = n.cri.Version(t.Context(), &cri.VersionRequest{})
	}
	if status.Code(err) != codes.Unavailable {
		t.Errorf("a new request while the daemon drains: %v", err)
	}
	got := <-answers
	if got.err != nil {
		t.Errorf("the request under way: %v", got.err)
	}
	n.wait(t)
	if !daemon.ProcessState.Success() {
		t.Errorf("the daemon ended with %v", daemon.ProcessState)
	}
	n.start(t)
	n.wantWhole(t, 1)
	if s := n.inspect(t, got.id); s.status.GetState() != cri.PodSandboxState_SANDBOX_READY || len(s.ips) != 1 {
		t.Errorf("the pod after a restart: %v", s.status)
	}
	n.removePod(t, got.id)
	n.wantWhole(t, 0)
}
