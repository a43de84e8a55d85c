package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/podview"
)

// asMascri makes the tests' binary be mascri.
const asMascri = "MASCRI_TEST_AS_MASCRI"

func TestMain(m *testing.M) {
	if os.Getenv(asMascri) != "" {
		main()
	}
	os.Exit(m.Run())
}

// A oneRuntime has one pod, which uses half a CPU.
type oneRuntime struct {
	cri.UnimplementedRuntimeServiceServer
	failing atomic.Bool
	begun   time.Time
}

func (r *oneRuntime) ListPodSandboxStats(context.Context, *cri.ListPodSandboxStatsRequest) (*cri.ListPodSandboxStatsResponse, error) {
	if r.failing.Load() {
		return nil, status.Error(codes.Internal, "out of order")
	}
	passed := time.Since(r.begun)
	cpu := &cri.CpuUsage{Timestamp: int64(passed), UsageCoreNanoSeconds: &cri.UInt64Value{Value: uint64(passed / 2)}}
	memory := &cri.MemoryUsage{WorkingSetBytes: &cri.UInt64Value{Value: 5_000_000}}
	return &cri.ListPodSandboxStatsResponse{Stats: []*cri.PodSandboxStats{{
		Attributes: &cri.PodSandboxAttributes{Id: "abc", Metadata: &cri.PodSandboxMetadata{Name: "web", Namespace: "default"}},
		Linux: &cri.LinuxPodSandboxStats{Cpu: cpu, Memory: memory, Containers: []*cri.ContainerStats{{
			Attributes: &cri.ContainerAttributes{Id: "def", Metadata: &cri.ContainerMetadata{Name: "sidecar"}}, Cpu: cpu, Memory: memory,
		}}},
	}}}, nil
}

func (r *oneRuntime) ListPodSandbox(context.Context, *cri.ListPodSandboxRequest) (*cri.ListPodSandboxResponse, error) {
	if r.failing.Load() {
		return nil, status.Error(codes.Unavailable, "not yet")
	}
	return &cri.ListPodSandboxResponse{Items: []*cri.PodSandbox{{
		Id: "abc", Metadata: &cri.PodSandboxMetadata{Name: "web", Namespace: "default"}, Labels: map[string]string{"app": "web"}, CreatedAt: r.begun.UnixNano(),
	}}}, nil
}

func (r *oneRuntime) PodSandboxStatus(context.Context, *cri.PodSandboxStatusRequest) (*cri.PodSandboxStatusResponse, error) {
	return &cri.PodSandboxStatusResponse{Status: &cri.PodSandboxStatus{Network: &cri.PodSandboxNetworkStatus{Ip: "10.88.0.2"}}}, nil
}

func (r *oneRuntime) ListContainers(context.Context, *cri.ListContainersRequest) (*cri.ListContainersResponse, error) {
	return &cri.ListContainersResponse{Containers: []*cri.Container{{
		Id: "def", PodSandboxId: "abc", Metadata: &cri.ContainerMetadata{Name: "sidecar"}, State: cri.ContainerState_CONTAINER_EXITED,
	}}}, nil
}

func (r *oneRuntime) ContainerStatus(context.Context, *cri.ContainerStatusRequest) (*cri.ContainerStatusResponse, error) {
	return &cri.ContainerStatusResponse{Status: &cri.ContainerStatus{ExitCode: 3, Reason: "Error", FinishedAt: 1}}, nil
}

func serveRuntime(t *testing.T) (r *oneRuntime, socket string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "top") // short enough for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket = filepath.Join(dir, "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	r = &oneRuntime{begun: time.Now().Add(-time.Minute)}
	server := grpc.NewServer()
	cri.RegisterRuntimeServiceServer(server, r)
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	return r, socket
}

// A terminal is a pseudo terminal on which a command runs.
type terminal struct {
	master, slave *os.File
	before        unix.Termios
	cmd           *exec.Cmd
	ended         chan struct{}

	mu   sync.Mutex // guards text
	text string     // all that was printed
}

func openTerminal(t *testing.T, args ...string) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	term := &terminal{master: master, slave: slave, ended: make(chan struct{})}
	term.resize(t, 80, 24)
	term.before = term.settings(t)
	term.cmd = exec.Command(os.Args[0], args...)
	term.cmd.Env = append(os.Environ(), asMascri+"=1", "NO_COLOR=")
	term.cmd.Stdin, term.cmd.Stdout, term.cmd.Stderr = slave, slave, slave
	term.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := term.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = term.cmd.Wait(); close(term.ended) }()
	t.Cleanup(func() { _ = term.cmd.Process.Kill(); <-term.ended })
	go func() {
		buffer := make([]byte, 4096)
		for {
			n, err := master.Read(buffer)
			if err != nil {
				return
			}
			term.mu.Lock()
			term.text += string(buffer[:n])
			term.mu.Unlock()
		}
	}()
	return term
}

func (term *terminal) resize(t *testing.T, columns, lines uint16) {
	t.Helper()
	if err := unix.IoctlSetWinsize(int(term.master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: lines}); err != nil {
		t.Fatal(err)
	}
}

func (term *terminal) settings(t *testing.T) unix.Termios {
	t.Helper()
	got, err := unix.IoctlGetTermios(int(term.slave.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return *got
}

func (term *terminal) printed() string {
	term.mu.Lock()
	defer term.mu.Unlock()
	return term.text
}

// await waits until the terminal has text after what it had at begin.
func (term *terminal) await(t *testing.T, begin int, want string) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !strings.Contains(term.printed()[begin:], want) {
		if time.Now().After(deadline) {
			text := term.printed()[begin:]
			t.Fatalf("no %q on the terminal:\n%q", want, text[max(0, len(text)-2000):])
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// press types text, and waits for what it brings.
func (term *terminal) press(t *testing.T, text, want string) {
	t.Helper()
	begin := len(term.printed())
	if _, err := term.master.WriteString(text); err != nil {
		t.Fatal(err)
	}
	term.await(t, begin, want)
}

// wantRestored waits for the end, after which the terminal is as it was.
func (term *terminal) wantRestored(t *testing.T) {
	t.Helper()
	select {
	case <-term.ended:
	case <-time.After(time.Minute):
		t.Fatal("top goes on")
	}
	if state := term.cmd.ProcessState; !state.Success() {
		t.Errorf("top ended with %v", state)
	}
	if got := term.settings(t); got != term.before {
		t.Errorf("the terminal's settings are %+v, and were %+v", got, term.before)
	}
	term.await(t, 0, "\x1b[?25h\x1b[?1049l")
}

func TestTopOnATerminal(t *testing.T) {
	runtime, socket := serveRuntime(t)
	term := openTerminal(t, "top", "--socket", socket, "--interval", "100ms")
	term.await(t, 0, "\x1b[?1049h")
	term.await(t, 0, "▸ default/web")
	term.await(t, 0, " 50.0 ")
	if got := term.settings(t); got.Lflag&(unix.ECHO|unix.ICANON) != 0 {
		t.Error("what is typed is shown")
	}
	term.press(t, "\r", "    sidecar")
	term.press(t, "m", "by memory")
	term.press(t, "n", "by network")
	term.press(t, "a", "by name")
	term.press(t, " ", "▸ default/web")
	begin := len(term.printed())
	runtime.failing.Store(true)
	term.await(t, begin, "no answer: ")
	runtime.failing.Store(false)
	term.await(t, len(term.printed()), "1 pods, 1 containers")
	if _, err := term.master.WriteString("q"); err != nil {
		t.Fatal(err)
	}
	term.wantRestored(t)
}

func TestTopFitsATerminalThatIsResized(t *testing.T) {
	_, socket := serveRuntime(t)
	term := openTerminal(t, "top", "--socket", socket, "--interval", "1h") // no second sample
	term.await(t, 0, "default/web")
	begin := len(term.printed())
	term.resize(t, 40, 10)
	term.await(t, begin, "  a na\x1b[K")
	if _, err := term.master.WriteString("q"); err != nil {
		t.Fatal(err)
	}
	term.wantRestored(t)
}

func TestTheTerminalIsRestoredOnEveryWayOut(t *testing.T) {
	_, socket := serveRuntime(t)
	for name, end := range map[string]func(term *terminal) error{
		"ctrl-C":  func(term *terminal) error { _, err := term.master.WriteString("\x03"); return err },
		"SIGINT":  func(term *terminal) error { return term.cmd.Process.Signal(syscall.SIGINT) },
		"SIGTERM": func(term *terminal) error { return term.cmd.Process.Signal(syscall.SIGTERM) },
		"SIGHUP":  func(term *terminal) error { return term.cmd.Process.Signal(syscall.SIGHUP) },
		"SIGQUIT": func(term *terminal) error { return term.cmd.Process.Signal(syscall.SIGQUIT) },
	} {
		t.Run(name, func(t *testing.T) {
			term := openTerminal(t, "top", "--socket", socket)
			term.await(t, 0, "default/web")
			if err := end(term); err != nil {
				t.Fatal(err)
			}
			term.wantRestored(t)
		})
	}
}

func TestTopWithoutATerminal(t *testing.T) {
	_, socket := serveRuntime(t)
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"top", "-c", "--socket", socket, "--interval", "100ms"}, &stdout, &stderr); code != exitOK {
		t.Fatalf("exit code %d: %s", code, stderr.String())
	}
	want := "POD          CPU %  MEMORY  MEM %  RX/S  TX/S  PIDS\n" +
		"default/web   50.0  5.0 MB      -     -     -     -\n" +
		"  sidecar     50.0  5.0 MB      -\n"
	if stdout.String() != want {
		t.Errorf("printed\n%s\nwant\n%s", stdout.String(), want)
	}
	stdout.Reset()
	if code := run(t.Context(), []string{"top", "-o", "json", "--socket", socket, "--interval", "100ms"}, &stdout, &stderr); code != exitOK {
		t.Fatalf("exit code %d: %s", code, stderr.String())
	}
	var usage podview.Usage
	if err := json.Unmarshal(stdout.Bytes(), &usage); err != nil || len(usage.Pods) != 1 || len(usage.Pods[0].Containers) != 1 {
		t.Errorf("%v: %s", err, stdout.String())
	}
}

func TestARuntimeThatCanNotTell(t *testing.T) {
	runtime, socket := serveRuntime(t)
	runtime.failing.Store(true)
	none := filepath.Join(t.TempDir(), "none.sock")
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]string{
		"top --socket " + socket:                     "mascri: ask what pods use: rpc error: code = Internal desc = out of order\n",
		"pods --socket " + none:                      "mascri: there is no socket " + none + ": start \"mascri serve\", or name another runtime's with --socket\n",
		"ps --socket " + file:                        "mascri: " + file + " is no socket: name a runtime's with --socket\n",
		"pods --label web --socket " + socket:        "mascri: --label \"web\": write KEY=VALUE, such as app=web\n",
		"top --interval 1ms --socket " + socket:      "mascri: --interval 1ms: at least 100ms, as counters must have something to count\n",
		"top --sort size --socket " + socket:         "must be one of cpu, memory, network, name",
		"pods --socket " + socket + " --output json": "mascri: the runtime at " + socket + " can't tell: see \"mascri doctor\": list pods: rpc error: code = Unavailable desc = not yet\n",
	} {
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), strings.Fields(args), &stdout, &stderr); code == exitOK || stdout.Len() > 0 || !strings.Contains(stderr.String(), want) {
			t.Errorf("%s: exit code %d, %q, want %q", args, code, stderr.String(), want)
		}
	}
}
