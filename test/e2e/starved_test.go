package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine/enginetest"
)

// contents returns the text of each file below the state directory, but for the logs' states,
// which change in place.
func (n *node) contents(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(n.state, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || filepath.Base(filepath.Dir(path)) == "logs" || entry.Name() == "ballast" {
			return err
		}
		text, err := os.ReadFile(path)
		all[strings.TrimPrefix(path, n.state)] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// A state directory without room: whatever has to be noted is refused by what is wrong, all
// else goes on, and nothing that was noted is lost, be it in a restart. With room again,
// everything can be asked for once more.
func TestStateDirectoryIsFull(t *testing.T) {
	n := idleNode(t, enginetest.StartDaemon(t, enginetest.Engine28), userConf())
	mountTmpfs(t, n.state)
	if err := unix.Mount("tmpfs", n.state, "tmpfs", unix.MS_REMOUNT, "size=8m"); err != nil {
		t.Fatal(err)
	}
	n.start(t)
	b := newBench(t, n)
	goes := b.runContainer(t, b.request("goes", "while :; do echo tick; sleep 0.1; done"))
	stays, other := b.runContainer(t, b.request("stays", "")), b.createContainer(t, b.request("other", ""))
	limits := func(shares int64) *cri.UpdateContainerResourcesRequest {
		return &cri.UpdateContainerResourcesRequest{ContainerId: stays.id, Linux: &cri.LinuxContainerResources{CpuShares: shares, OomScoreAdj: shares}}
	}
	if _, err := b.cri.UpdateContainerResources(t.Context(), limits(500)); err != nil {
		t.Fatal(err)
	}
	free := fill(t, n.state, 0)
	before := n.contents(t)
	noted := map[string]func(ctx context.Context) error{
		"RunPodSandbox": func(ctx context.Context) error {
			resp, err := b.cri.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: config("new")})
			if err == nil {
				b.removePod(t, resp.GetPodSandboxId())
			}
			return err
		},
		"StartContainer": func(ctx context.Context) error {
			_, err := b.cri.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: other})
			return err
		},
		"UpdateContainerResources": func(ctx context.Context) error {
			_, err := b.cri.UpdateContainerResources(ctx, limits(600))
			return err
		},
		"UpdatePodSandboxResources": func(ctx context.Context) error {
			_, err := b.cri.UpdatePodSandboxResources(ctx, &cri.UpdatePodSandboxResourcesRequest{PodSandboxId: b.pod.id, Resources: &cri.LinuxContainerResources{CpuShares: 100}})
			return err
		},
		"UpdateRuntimeConfig": func(ctx context.Context) error {
			_, err := b.cri.UpdateRuntimeConfig(ctx, &cri.UpdateRuntimeConfigRequest{RuntimeConfig: &cri.RuntimeConfig{NetworkConfig: &cri.NetworkConfig{PodCidr: "10.99.0.0/24"}}})
			return err
		},
	}
	check := func() {
		t.Helper()
		for rpc, call := range noted {
			err := call(t.Context())
			if status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "no space left on device") || !strings.Contains(err.Error(), n.state) {
				t.Errorf("%s: %v", rpc, err)
			}
		}
		resp, err := b.cri.ExecSync(t.Context(), &cri.ExecSyncRequest{ContainerId: stays.id, Cmd: []string{"echo", "x"}})
		if err != nil || string(resp.GetStdout()) != "x\n" {
			t.Errorf("ExecSync: %v, %v", resp, err)
		}
		if diff := cmp.Diff(before, n.contents(t)); diff != "" {
			t.Errorf("the state (-before +with the disk full)\n%s", diff)
		}
		if list := n.list(t); len(list) != 1 || list[0].GetState() != cri.PodSandboxState_SANDBOX_READY {
			t.Errorf("listed: %v", list)
		}
	}
	check()
	n.kill(t)
	n.start(t)
	check()
	size := func() int64 {
		stat, err := os.Stat(goes.status.GetLogPath())
		if err != nil {
			t.Fatal(err)
		}
		return stat.Size()
	}
	was := size()
	within(t, "the log goes on", func() bool { return size() > was })
	b.stopContainer(t, goes.id, 0)
	b.removeContainer(t, goes.id)

	free()
	delete(noted, "UpdateRuntimeConfig") // it would be the end of the user's own config's time
	for rpc, call := range noted {
		if err := call(t.Context()); err != nil {
			t.Errorf("%s, with room again: %v", rpc, err)
		}
	}
	if _, err := os.Stat(filepath.Join(n.state, "runtime.json")); !os.IsNotExist(err) {
		t.Errorf("the refused pod CIDR: %v", err)
	}
	b.removePod(t, b.pod.id)
	n.wantWhole(t, 0)
}

// Without file descriptors connections are not taken, which costs no CPU, and what needs one
// says so. Pods stay as they are. With some again, all goes on.
func TestNoMoreFileDescriptors(t *testing.T) {
	n := idleNode(t, enginetest.StartDaemon(t, enginetest.Engine28), userConf(), "--metrics-address=127.0.0.1:0")
	n.prepare = func(cmd *exec.Cmd) {
		cmd.Args = append([]string{"sh", "-c", `ulimit -n 80; exec "$0" "$@"`, cmd.Path}, cmd.Args[1:]...)
		cmd.Path = "/bin/sh"
	}
	n.start(t)
	b := newBench(t, n)
	c := b.runContainer(t, b.request("box", ""))
	addresses := map[string]string{n.socket: "unix", b.streamingAt(t, c): "tcp", n.metricsAt(t): "tcp"}
	stop := n.pulse(t)
	var open []net.Conn
	for address, network := range addresses {
		for range 200 {
			conn, err := net.DialTimeout(network, address, time.Second)
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, conn)
		}
	}
	fds := 0
	within(t, "no file descriptor is left", func() bool { fds, _ = n.held(t); return fds >= 78 })
	n.docker(t, "update", "--cpu-shares=128", b.pod.id) // so that the index looks at it again
	began := n.cpu(t)
	time.Sleep(3 * time.Second)
	if used := n.cpu(t) - began; used > 2*time.Second { // of two CPUs, with the race detector
		t.Errorf("it used %v of CPU in 3 s", used)
	}
	_, err := n.tryPod(t, config("new"), 20*time.Second)
	t.Logf("a pod meanwhile: %v", err)
	if code := status.Code(err); err != nil && code != codes.ResourceExhausted && code != codes.Unavailable && code != codes.DeadlineExceeded {
		t.Errorf("a pod meanwhile: %v", err)
	}
	for _, conn := range open {
		conn.Close()
	}
	stop()
	waitFor(t, "a pod runs again", func() bool {
		id, err := n.tryPod(t, config("again"), 20*time.Second)
		if err != nil {
			return false
		}
		n.removePod(t, id)
		return true
	})
	n.waitCondition(t, n.runtimeCondition, 10*time.Second, "")
	n.metricsText(t)
	if now := n.inspect(t, b.pod.id); now.status.GetState() != cri.PodSandboxState_SANDBOX_READY || !slices.Equal(now.ips, b.pod.ips) {
		t.Errorf("the pod that ran all the time is %s with %v, was ready with %v", now.status.GetState(), now.ips, b.pod.ips)
	}
	b.removePod(t, b.pod.id)
	n.wantWhole(t, 0)
}

// cpu is how much the daemon has used.
func (n *node) cpu(t *testing.T) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", n.daemon.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	user, _ := strconv.Atoi(fields[11])
	system, err := strconv.Atoi(fields[12])
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(user+system) * 10 * time.Millisecond // ticks of 100 a second
}

// Without processes to be had, plugins can't be run: that is said, nothing is left, and all
// goes on once there are some. Go ends a program that gets no thread; then the next start goes on.
func TestNoMoreProcesses(t *testing.T) {
	n := newNode(t, enginetest.Engine28, userConf())
	kept := n.runPod(t, config("kept"))
	cgroup := filepath.Join("/sys/fs/cgroup/pids", os.Getenv("MASCRI_TEST_CGROUP"), "starved")
	if err := os.MkdirAll(cgroup, 0o755); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() {
		n.kill(t)
		if err := os.Remove(cgroup); err != nil {
			t.Error(err)
		}
	})
	write := func(file, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(cgroup, file), []byte(text), 0); err != nil {
			t.Fatal(err)
		}
	}
	said, died := false, 0
	for range 10 {
		write("cgroup.procs", strconv.Itoa(n.daemon.Process.Pid))
		write("pids.max", "1") // what is there stays
		_, err := n.tryPod(t, config("new"), 20*time.Second)
		write("pids.max", "max")
		select {
		case <-n.ended:
			died++
			if log := n.logTail(); !strings.Contains(log, "failed to create new OS thread") && !strings.Contains(log, "pthread_create failed") {
				t.Fatalf("the daemon died of something else:\n%s", log)
			}
			n.wait(t)
			n.start(t)
		default:
			said = said || strings.Contains(err.Error(), "resource temporarily unavailable")
			if err == nil {
				t.Fatal("a pod runs without any process")
			}
			if code := status.Code(err); code != codes.ResourceExhausted {
				t.Errorf("%s: %v", code, err)
			}
		}
		n.wantWhole(t, 1)
		if said {
			break
		}
	}
	t.Logf("it was said: %t; the daemon died %d times", said, died)
	if !said && died == 0 {
		t.Error("no process was missing: this test shows nothing")
	}
	if s := n.inspect(t, kept.id); s.status.GetState() != cri.PodSandboxState_SANDBOX_READY {
		t.Errorf("the pod of before: %v", s.status)
	}
	n.removePod(t, n.runPod(t, config("new")).id)
	n.removePod(t, kept.id)
	n.wantWhole(t, 0)
}
