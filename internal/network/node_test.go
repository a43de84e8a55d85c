package network

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mascri/mascri/internal/pod"
)

// inside marks the test process that runs in namespaces of its own.
const inside = "MASCRI_NETWORK_TEST_INSIDE"

// TestMain runs all tests in private mount and network namespaces: real plugins
// make real bridges there, and nothing of the machine is touched.
func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		fmt.Println("not root: tests with real plugins are skipped")
		os.Exit(m.Run())
	}
	if task := os.Getenv(crashTask); task != "" {
		fmt.Println("was not killed:", crash(task))
		os.Exit(1)
	}
	if os.Getenv(inside) == "" {
		if err := enterNamespaces(); err != nil {
			fmt.Fprintln(os.Stderr, "enter private namespaces:", err)
			os.Exit(1)
		}
	}
	if err := prepareNode(); err != nil {
		fmt.Fprintln(os.Stderr, "prepare private namespaces:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func enterNamespaces() error {
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	args := append([]string{"unshare", "-m", "-n", "--propagation", "private", self}, os.Args[1:]...)
	return syscall.Exec(unshare, args, append(os.Environ(), inside+"=1"))
}

func prepareNode() error {
	// Pins and the iptables lock are in /run.
	if err := unix.Mount("none", "/run", "tmpfs", 0, ""); err != nil {
		return err
	}
	return raiseLoopback()
}

// node is a node's directories, and a Network on them.
type node struct {
	*Network
	t       *testing.T
	cfg     Config
	ipam    string // host-local's directory
	forward *fakeForwarder
	log     *syncWriter
}

// newNode makes an empty node with the chaos plugin, too. Its Network is made by start.
func newNode(t *testing.T) *node {
	t.Helper()
	n := newPlainNode(t)
	n.cfg.BinDirs = append(n.cfg.BinDirs, chaosDir(t))
	return n
}

// newPlainNode makes one that has the standard plugins alone, and needs no Go to be made.
func newPlainNode(t *testing.T) *node {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: real plugins make interfaces")
	}
	plugins, err := filepath.Abs("../../bin/cni")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(plugins, "bridge")); err != nil {
		t.Fatalf("no CNI plugins in %s: run `make build` first", plugins)
	}
	t.Cleanup(func() { _ = exec.Command("ip", "link", "delete", "cni0").Run() })
	dir := t.TempDir()
	n := &node{t: t, ipam: filepath.Join(dir, "ipam"), forward: &fakeForwarder{}, log: &syncWriter{}}
	n.cfg = Config{
		ConfigDir: filepath.Join(dir, "net.d"),
		BinDirs:   []string{plugins},
		StateDir:  filepath.Join(dir, "state"),
		NetnsDir:  "/run/netns",
		Forward:   n.forward,
		Logger:    testLogger(n.log),
	}
	if err := os.MkdirAll(n.cfg.ConfigDir, 0o755); err != nil {
		t.Fatal(err)
	}
	return n
}

// start makes the Network, anew where there is one: a restart of the daemon.
func (n *node) start() *node {
	n.t.Helper()
	var err error
	if n.Network, err = New(n.cfg); err != nil {
		n.t.Fatal(err)
	}
	return n
}

// write writes a file of the configuration directory.
func (n *node) write(name, text string) {
	n.t.Helper()
	path := filepath.Join(n.cfg.ConfigDir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		n.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

// bridge is a configuration of the real bridge and host-local plugins, with more
// plugins behind them.
func (n *node) bridge(more ...string) string {
	plugins := append([]string{fmt.Sprintf(`{"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
		"ipam": {"type": "host-local", "dataDir": %q, "subnet": "10.88.0.0/16", "routes": [{"dst": "0.0.0.0/0"}]}}`, n.ipam)}, more...)
	return fmt.Sprintf(`{"cniVersion": "1.0.0", "name": "podnet", "plugins": [%s]}`, strings.Join(plugins, ",\n"))
}

// chaos is a plugin that behaves as told, see test/chaosplugin.
func chaos(behaviour string) string {
	return fmt.Sprintf(`{"type": "chaosplugin", "chaos": %s}`, behaviour)
}

// chaosDir builds the chaos plugin once.
func chaosDir(t *testing.T) string {
	t.Helper()
	dir, err := buildChaos()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

var buildChaos = sync.OnceValues(func() (string, error) {
	// In the tmpfs that goes with this process's mount namespace.
	dir := "/run/chaos"
	out, err := exec.Command("go", "build", "-o", dir+"/chaosplugin", "../../test/chaosplugin").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build chaos plugin: %w: %s", err, out)
	}
	return dir, nil
})

// sandbox starts a process in a network namespace of its own, and returns a
// request to attach it.
func (n *node) sandbox(id string) pod.AttachRequest {
	n.t.Helper()
	cmd := exec.Command("sleep", "600")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	req := n.request(id)
	req.PID = cmd.Process.Pid
	return req
}

// request is that of a sandbox without a process.
func (n *node) request(id string) pod.AttachRequest {
	return pod.AttachRequest{
		SandboxID: sandboxID(id), Namespace: "default", Name: "pod-" + id, UID: "uid-" + id,
		Confirm: func(context.Context) error { return nil },
	}
}

// sandboxID makes a Docker-like id of 64 digits.
func sandboxID(seed string) string {
	return fmt.Sprintf("%x", sha256.Sum256([]byte(seed)))
}

func (n *node) attach(req pod.AttachRequest) pod.Attachment {
	n.t.Helper()
	a, err := n.Attach(n.t.Context(), req)
	if err != nil {
		n.t.Fatal(err)
	}
	return a
}

func (n *node) detach(id string) {
	n.t.Helper()
	if err := n.Detach(n.t.Context(), id, nil); err != nil {
		n.t.Fatal(err)
	}
}

// fakeForwarder notes the subnets that it was last asked for.
type fakeForwarder struct {
	mu      sync.Mutex // guards all following fields
	calls   int
	subnets []netip.Prefix
}

func (f *fakeForwarder) Ensure(_ context.Context, subnets []netip.Prefix) pod.Forwarding {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	f.subnets = subnets
	return pod.Forwarding{OK: true, Message: "noted"}
}

func (f *fakeForwarder) Verify(ctx context.Context, subnets []netip.Prefix) pod.Forwarding {
	return f.Ensure(ctx, subnets)
}

func (f *fakeForwarder) noted() (int, []netip.Prefix) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls, f.subnets
}

func testLogger(w *syncWriter) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

type syncWriter struct {
	mu sync.Mutex // guards w
	w  strings.Builder
}

func (s *syncWriter) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Write(p)
}

func (s *syncWriter) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.String()
}

// call is one call of the chaos plugin, as it dumped it.
type call struct {
	Verb, Args, Netns string
	Config            json.RawMessage
}

// calls reads the dump of a chaos plugin, and empties it.
func (n *node) calls(dump string) []call {
	n.t.Helper()
	data, err := os.ReadFile(dump)
	if err != nil {
		n.t.Fatal(err)
	}
	var calls []call
	for line := range bytes.Lines(data) {
		var c call
		if err := json.Unmarshal(line, &c); err != nil {
			n.t.Fatal(err)
		}
		calls = append(calls, c)
	}
	if err := os.Remove(dump); err != nil {
		n.t.Fatal(err)
	}
	return calls
}

// recordOnDisk reads a sandbox's record file.
func (n *node) recordOnDisk(id string) record {
	n.t.Helper()
	data, err := os.ReadFile(filepath.Join(n.recordDir(), recordFile(id)))
	if err != nil {
		n.t.Fatal(err)
	}
	var rec record
	if err := json.Unmarshal(data, &rec); err != nil {
		n.t.Fatal(err)
	}
	return rec
}
