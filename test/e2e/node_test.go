package e2e

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine/enginetest"
	"github.com/mascri/mascri/internal/network/defaultnet"
)

func TestMain(m *testing.M) { enginetest.InNamespaces(m) }

// bothEngines runs a test on the oldest engine that is supported and on a recent one.
func bothEngines(t *testing.T, test func(t *testing.T, version enginetest.Version)) {
	for _, version := range []enginetest.Version{enginetest.Engine20, enginetest.Engine28} {
		t.Run("engine "+string(version), func(t *testing.T) { test(t, version) })
	}
}

// node is one MasCRI with its engine, its CNI configs and its state.
type node struct {
	engine  *enginetest.Daemon
	host    string // the engine's address
	proxy   string // the address that the daemon is given, if not host
	socket  string
	state   string // --state-dir
	conf    string // --cni-conf-dir
	bin     string // --cni-bin-dir
	crashAt string // file that arms a crash
	binary  string // of the daemon; "": daemonBinary
	extra   []string
	prepare func(*exec.Cmd) // changes the daemon's command before it is started, if set
	logFile string

	daemon *exec.Cmd
	ended  chan struct{} // closed when daemon ended
	conn   *grpc.ClientConn
	cri    cri.RuntimeServiceClient
	image  cri.ImageServiceClient
}

// newNode starts an engine and a daemon with the given CNI configs, by file name.
func newNode(t *testing.T, version enginetest.Version, configs map[string]string, flags ...string) *node {
	t.Helper()
	return newNodeOn(t, enginetest.StartDaemon(t, version), configs, flags...)
}

// newNodeOn is newNode on an engine that runs already.
func newNodeOn(t *testing.T, engine *enginetest.Daemon, configs map[string]string, flags ...string) *node {
	t.Helper()
	n := idleNode(t, engine, configs, flags...)
	n.start(t)
	return n
}

// idleNode is newNodeOn without its daemon.
func idleNode(t *testing.T, engine *enginetest.Daemon, configs map[string]string, flags ...string) *node {
	t.Helper()
	dir := shortDir(t)
	n := &node{
		engine:  engine,
		socket:  filepath.Join(dir, "mascri.sock"),
		state:   filepath.Join(dir, "state"),
		conf:    filepath.Join(dir, "net.d"),
		bin:     repo(t, "bin/cni"),
		crashAt: filepath.Join(dir, "crash-at"),
		logFile: filepath.Join(dir, "log"),
		extra:   flags,
	}
	n.host = n.engine.Host()
	freshCNI(t)
	if err := os.MkdirAll(n.conf, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range configs {
		n.writeConf(t, name, text)
	}
	t.Cleanup(func() {
		n.kill(t)
		if t.Failed() {
			t.Logf("the daemon's log ends with:\n%s", n.logTail())
			sweepNode(t)
		} else if left := without(files(t, "/run/netns"), "outside"); len(left) > 0 {
			t.Errorf("the test left pods: %q", left)
			sweepNode(t)
		}
	})
	return n
}

// sweepNode takes away what a failed test left, so that the next one is not failed by it.
func sweepNode(t *testing.T) {
	pins, _ := filepath.Glob("/run/netns/cni-*") // the pattern is valid
	for _, pin := range pins {
		if err := errors.Join(unix.Unmount(pin, unix.MNT_DETACH), os.Remove(pin)); err != nil {
			t.Log(err)
		}
	}
	for _, command := range []string{"iptables", "ip6tables"} {
		for _, flag := range []string{"-F", "-X"} {
			if _, err := try(command, "-w", "-t", "nat", flag); err != nil {
				t.Log(err)
			}
		}
	}
}

// freshCNI gives the test host-local's state and bridges that no other test used.
func freshCNI(t *testing.T) {
	t.Helper()
	const dir = "/var/lib/cni"
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755"); err != nil {
		t.Fatalf("mount %s: %v", dir, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
		for _, bridge := range []string{"cni0", defaultnet.Bridge} {
			if link, err := netlink.LinkByName(bridge); err == nil {
				if err := netlink.LinkDel(link); err != nil {
					t.Errorf("delete %s: %v", bridge, err)
				}
			}
		}
		removeMasquerade(t)
	})
}

func (n *node) writeConf(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(n.conf, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// start runs the daemon and returns once it is ready for all RPCs.
func (n *node) start(t *testing.T) {
	t.Helper()
	n.launch(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := n.cri.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{}); err != nil {
		t.Fatalf("daemon is not ready: %v", err)
	}
}

// launch runs the daemon and returns once its socket answers.
func (n *node) launch(t *testing.T) {
	t.Helper()
	log, err := os.OpenFile(n.logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if n.binary == "" {
		n.binary = daemonBinary(t)
	}
	n.daemon = exec.Command(n.binary, n.args("serve")...)
	n.daemon.Stdout, n.daemon.Stderr = log, log
	n.daemon.Env = append(os.Environ(), "MASCRI_CRASH_AT="+n.crashAt)
	if n.prepare != nil {
		n.prepare(n.daemon)
	}
	if err := n.daemon.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	n.ended = ended
	go func() { _ = n.daemon.Wait(); close(ended) }()
	n.conn, err = grpc.NewClient("unix://"+n.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	n.cri, n.image = cri.NewRuntimeServiceClient(n.conn), cri.NewImageServiceClient(n.conn)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		_, err := n.cri.Version(ctx, &cri.VersionRequest{})
		if err == nil {
			return
		}
		select {
		case <-n.ended:
			t.Fatalf("daemon ended: %v\n%s", n.daemon.ProcessState, n.logTail())
		case <-ctx.Done():
			t.Fatalf("daemon does not answer: %v\n%s", err, n.logTail())
		case <-time.After(10 * time.Millisecond):
			n.conn.ResetConnectBackoff()
		}
	}
}

// args are those of a command of mascri on this node.
func (n *node) args(command ...string) []string {
	return append(append(command, "--socket", n.socket, "--state-dir", n.state, "--log-level", "debug",
		"--cni-conf-dir", n.conf, "--cni-bin-dir", n.bin, "--engine-host", cmp.Or(n.proxy, n.host)), n.extra...)
}

// mascri runs a command of mascri, and returns all that it printed; ok is false for
// another exit code than 0.
func (n *node) mascri(t *testing.T, command ...string) (out string, ok bool) {
	t.Helper()
	out, err := try(daemonBinary(t), n.args(command...)...)
	if err != nil {
		return err.Error(), false
	}
	return out, true
}

// kill ends the daemon by SIGKILL, if it runs.
func (n *node) kill(t *testing.T) {
	t.Helper()
	if n.daemon == nil {
		return
	}
	if err := n.daemon.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("kill the daemon: %v", err)
	}
	n.wait(t)
}

// wait returns once the daemon ended by itself.
func (n *node) wait(t *testing.T) {
	t.Helper()
	select {
	case <-n.ended:
	case <-time.After(time.Minute):
		t.Fatalf("the daemon goes on\n%s", n.logTail())
	}
	n.conn.Close()
	n.daemon = nil
}

// terminate ends the daemon by SIGTERM and checks that it ended in order.
func (n *node) terminate(t *testing.T) {
	t.Helper()
	process := n.daemon
	if err := process.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	n.wait(t)
	if !process.ProcessState.Success() {
		t.Errorf("the daemon ended with %v on SIGTERM\n%s", process.ProcessState, n.logTail())
	}
}

func (n *node) logTail() string {
	log, err := os.ReadFile(n.logFile)
	if err != nil {
		return err.Error()
	}
	lines := slices.DeleteFunc(strings.Split(string(log), "\n"), func(line string) bool {
		// What tests ask for all the time.
		return strings.Contains(line, "msg=rpc ") && (strings.Contains(line, "/Status ") || strings.Contains(line, "PodSandboxStatus ") || strings.Contains(line, "/ListPodSandbox ") || strings.Contains(line, "/ListContainers "))
	})
	return strings.Join(lines[max(0, len(lines)-60):], "\n")
}

// crictl runs the real crictl and returns its standard output.
func (n *node) crictl(t *testing.T, args ...string) string {
	t.Helper()
	endpoint := "unix://" + n.socket
	return run(t, repo(t, "bin/crictl"), append([]string{"--runtime-endpoint", endpoint, "--image-endpoint", endpoint}, args...)...)
}

// docker runs the real docker client on the node's engine.
func (n *node) docker(t *testing.T, args ...string) string {
	t.Helper()
	return run(t, "docker", append([]string{"-H", n.host}, args...)...)
}

// run runs a program to its end and returns its standard output, trimmed.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := try(name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func try(name string, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s%s", filepath.Base(name), strings.Join(args, " "), err, stdout.String(), stderr.String())
	}
	return strings.TrimSpace(stdout.String()), nil
}

// repo returns the path of a file of the repository, which must exist.
func repo(t *testing.T, path string) string {
	t.Helper()
	full, err := filepath.Abs(filepath.Join("../..", path))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(full); err != nil {
		t.Fatalf("%v; run make build", err)
	}
	return full
}

// shortDir is a temporary directory whose path leaves room for a socket's name.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "e2e")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	return dir
}

var built struct {
	once sync.Once
	path string
	err  error
}

// daemonPath is private to the tests.
const daemonPath = "/run/mascri-e2e"

// daemonBinary builds the daemon with the race detector and with its crash steps.
func daemonBinary(t *testing.T) string {
	t.Helper()
	built.once.Do(func() {
		built.path = daemonPath
		race := "-race=" + strconv.FormatBool(os.Getenv(podsVariable) == "")
		_, built.err = try("go", "build", race, "-tags", "failpoint", "-o", built.path, "github.com/mascri/mascri/cmd/mascri")
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.path
}
