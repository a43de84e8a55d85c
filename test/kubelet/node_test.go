package kubelet

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine/enginetest"
	"github.com/mascri/mascri/test/registry"
)

func TestMain(m *testing.M) { enginetest.InNamespaces(m) }

// The node's address and where its kubelet serves.
const (
	nodeIP   = "192.0.2.10"
	port     = "10250"
	readOnly = "10255"
	password = "secret word"
	suffix   = "-node" // what the kubelet adds to the names of static pods
)

const cniConfig = `{
  "cniVersion": "1.0.0", "name": "pods",
  "plugins": [
    {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
     "ipam": {"type": "host-local", "subnet": "10.88.0.0/16", "routes": [{"dst": "0.0.0.0/0"}]}},
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}`

// node is a machine with all that a kubelet needs.
type node struct {
	engine   *enginetest.Daemon
	registry *registry.Registry
	image    string // reference of the workloads' image
	// What private asks for the kubelet knows, and what forbidden asks for it does not.
	private, forbidden *registry.Registry
	dir                string
	mascri             *process
	kubelet            *process
	cri                cri.RuntimeServiceClient
	images             cri.ImageServiceClient
	settings           map[string]any // the kubelet's configuration
}

func newNode(t *testing.T, engineFlags ...string) *node {
	t.Helper()
	n := &node{dir: machine(t)}
	n.registry = registry.Start(t, registry.Login{})
	n.registry.Push(t, "workload", "1", registry.Image{Cmd: []string{"/bin/sh"}, Env: []string{"PATH=/bin"}})
	n.image = n.registry.Ref("workload", "1")
	n.private = registry.Start(t, registry.Login{Username: "user", Password: password})
	n.forbidden = registry.Start(t, registry.Login{Username: "user", Password: "unknown"})
	for _, r := range []*registry.Registry{n.private, n.forbidden} {
		r.Push(t, "own/app", "1", registry.Image{Env: []string{"PATH=/bin"}})
	}
	auth := base64.StdEncoding.EncodeToString([]byte("user:" + password))
	write(t, "/var/lib/kubelet/config.json", fmt.Sprintf(`{"auths": {%q: {"auth": %q}}}`, n.private.Host, auth))
	n.engine = enginetest.StartDaemon(t, enginetest.Engine28, engineFlags...)
	for _, dir := range []string{"pods", "net.d"} {
		if err := os.Mkdir(n.file(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, n.file("net.d/10-pods.conflist"), cniConfig)
	n.mascri = &process{name: "mascri", log: n.file("mascri.log"), args: []string{
		n.file("mascri"), "serve", "--socket", n.file("mascri.sock"), "--state-dir", n.file("state"), "--log-level", "debug",
		"--cni-conf-dir", n.file("net.d"), "--cni-bin-dir", repo(t, "bin/cni"), "--engine-host", n.engine.Host(),
	}}
	run(t, "go", "build", "-race", "-o", n.file("mascri"), "github.com/mascri/mascri/cmd/mascri")
	n.kubelet = &process{name: "kubelet", log: n.file("kubelet.log"), args: []string{
		repo(t, "bin/kubelet"), "--config", n.file("kubelet.json"), "--hostname-override", strings.TrimPrefix(suffix, "-"),
		"--node-ip", nodeIP, "--v", "4",
	}}
	n.settings = n.configuration()
	conn, err := grpc.NewClient("unix://"+n.file("mascri.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	n.cri, n.images = cri.NewRuntimeServiceClient(conn), cri.NewImageServiceClient(conn)
	t.Cleanup(func() {
		n.kubelet.end(t, syscall.SIGKILL)
		n.mascri.end(t, syscall.SIGKILL)
		conn.Close()
		n.keepLogs(t)
	})
	n.startMascri(t)
	n.startKubelet(t)
	return n
}

// machine prepares what a kubelet expects of its machine, and returns an empty directory.
func machine(t *testing.T) string {
	t.Helper()
	for _, dir := range []string{"/var/lib/kubelet", "/var/log"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755"); err != nil {
			t.Fatalf("mount %s: %v", dir, err)
		}
		t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }) // pods' volumes go with it
	}
	// The kubelet puts pods below a cgroup that exists in each hierarchy.
	hierarchies, _ := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs") // the pattern is valid
	for _, file := range hierarchies {
		if err := os.MkdirAll(filepath.Join(filepath.Dir(file), os.Getenv("MASCRI_TEST_CGROUP")), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	run(t, "ip", "addr", "replace", nodeIP+"/32", "dev", "lo")
	dir, err := os.MkdirTemp("/run", "node")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func (n *node) file(name string) string { return filepath.Join(n.dir, name) }

func (n *node) configuration() map[string]any {
	return map[string]any{
		"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
		"containerRuntimeEndpoint": "unix://" + n.file("mascri.sock"),
		"staticPodPath":            n.file("pods"), "fileCheckFrequency": "1s",
		"cgroupDriver": "cgroupfs", "cgroupRoot": "/" + os.Getenv("MASCRI_TEST_CGROUP"), "failCgroupV1": false,
		"address": "127.0.0.1", "readOnlyPort": 10255, "healthzBindAddress": "127.0.0.1",
		"authentication": map[string]any{"anonymous": map[string]any{"enabled": true}, "webhook": map[string]any{"enabled": false}},
		"authorization":  map[string]any{"mode": "AlwaysAllow"},
		"registerNode":   false, "makeIPTablesUtilChains": false, "failSwapOn": false, "oomScoreAdj": 0,
		"volumePluginDir": n.file("volume-plugins"), "enableControllerAttachDetach": false,
		"containerLogMaxSize": "64Ki", "containerLogMaxFiles": 50, "containerLogMonitorInterval": "3s",
		"evictionHard":                map[string]string{"memory.available": "1Mi", "nodefs.available": "0%", "imagefs.available": "0%"},
		"allowedUnsafeSysctls":        []string{"net.core.somaxconn"},
		"imageGCHighThresholdPercent": 100, "imageMinimumGCAge": "1s",
		"serializeImagePulls": false,
		"featureGates":        map[string]bool{"ContainerStopSignals": true},
	}
}

func (n *node) startMascri(t *testing.T) {
	t.Helper()
	n.mascri.start(t)
	await(t, patience, "MasCRI answers", func() (struct{}, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err := n.cri.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{}, grpc.WaitForReady(true))
		return struct{}{}, err
	})
}

// startKubelet runs the kubelet by n.settings, and returns once it says that it is healthy.
func (n *node) startKubelet(t *testing.T) {
	t.Helper()
	text, err := json.Marshal(n.settings)
	if err != nil {
		t.Fatal(err)
	}
	write(t, n.file("kubelet.json"), string(text))
	n.kubelet.start(t)
	await(t, patience, "the kubelet is healthy", func() (string, error) {
		if err := n.kubelet.gone(); err != nil {
			t.Fatalf("%v\n%s", err, n.kubelet.tail())
		}
		return n.get("/healthz")
	})
}

// restartKubelet ends the kubelet by a signal and starts it by n.settings.
func (n *node) restartKubelet(t *testing.T, signal syscall.Signal) {
	t.Helper()
	n.kubelet.end(t, signal)
	n.startKubelet(t)
}

// keepLogs leaves the logs where CI keeps what it makes.
func (n *node) keepLogs(t *testing.T) {
	out := filepath.Join(filepath.Dir(repo(t, "go.mod")), "out/kubelet", filepath.Base(t.Name()))
	if err := os.MkdirAll(out, 0o755); err != nil {
		t.Error(err)
	}
	for _, p := range []*process{n.mascri, n.kubelet} {
		text, err := os.ReadFile(p.log)
		if err := errors.Join(err, os.WriteFile(filepath.Join(out, p.name+".log"), text, 0o644)); err != nil {
			t.Error(err)
		}
	}
}

// docker runs the docker client on the node's engine.
func (n *node) docker(t *testing.T, args ...string) string {
	t.Helper()
	return run(t, "docker", append([]string{"-H", n.engine.Host()}, args...)...)
}

// process is a program that a test ends and starts.
type process struct {
	name    string
	args    []string
	log     string
	command *exec.Cmd // nil while it does not run
	ended   chan struct{}
}

func (p *process) start(t *testing.T) {
	t.Helper()
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p.command = exec.Command(p.args[0], p.args[1:]...)
	p.command.Stdout, p.command.Stderr = log, log
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	p.ended = make(chan struct{})
	go func(command *exec.Cmd, ended chan struct{}) { _ = command.Wait(); close(ended) }(p.command, p.ended)
}

// gone returns how the process ended, nil while it runs.
func (p *process) gone() error {
	select {
	case <-p.ended:
		return errors.New(p.name + " ended: " + p.command.ProcessState.String())
	default:
		return nil
	}
}

// end ends the process, if it runs.
func (p *process) end(t *testing.T, signal syscall.Signal) {
	t.Helper()
	if p.command == nil {
		return
	}
	if err := p.command.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("%v to %s: %v", signal, p.name, err)
	}
	select {
	case <-p.ended:
	case <-time.After(time.Minute):
		t.Fatalf("%s goes on after %v\n%s", p.name, signal, p.tail())
	}
	p.command = nil
}

func (p *process) tail() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-4000):])
}
