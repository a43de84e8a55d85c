package cri_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine/enginetest"
)

// fakeBirths sees no sandbox before the engine has started it, unless it is told to.
type fakeBirths struct {
	mu    sync.Mutex
	pid   int
	ended bool
	asked []string // cgroup parents
}

func (b *fakeBirths) Born(ctx context.Context, _, cgroupParent string) (int, func() error, error) {
	b.mu.Lock()
	b.asked = append(b.asked, cgroupParent)
	pid, ended := b.pid, b.ended
	b.mu.Unlock()
	if pid == 0 {
		<-ctx.Done()
		return 0, nil, ctx.Err()
	}
	return pid, func() error {
		if ended {
			return fmt.Errorf("process %d has ended: %w", pid, fs.ErrNotExist)
		}
		return nil
	}, nil
}

func (b *fakeBirths) set(f func(*fakeBirths)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f(b)
}

// early is the pid that Born finds; firstInode is that of the network namespace of the first
// sandbox of a fake engine.
const (
	early      = 4711
	firstInode = 4_000_000_002
)

func wantListed(t *testing.T, d *daemon, want string) {
	t.Helper()
	if got := d.listed(t, nil); got != want {
		t.Errorf("listed: %q, want %q", got, want)
	}
}

// A pod has its place on the network before the engine has answered.
func TestAttachBesideTheStart(t *testing.T) {
	d := newDaemon(t)
	d.births.set(func(b *fakeBirths) { b.pid = early })
	d.network.set(func(n *fakeNetwork) { n.early = firstInode })
	release := d.engine.Hold("Start")
	config := podConfig("web")
	config.Linux = &runtimeapi.LinuxPodSandboxConfig{CgroupParent: "/kubepods/web"}
	done := make(chan error, 1)
	go func() {
		_, err := d.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: config})
		done <- err
	}()
	eventually(t, "it is attached", func() bool { return len(d.network.Attachments()) == 1 })
	wantListed(t, d, "")
	release()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	wantListed(t, d, "web SANDBOX_READY")
	if got := d.births.asked; !slices.Equal(got, []string{"/kubepods/web"}) {
		t.Errorf("asked for cgroups below %q", got)
	}
}

// What was attached early is the sandbox's in the end, or nothing is left of it.
func TestEarlyAttachments(t *testing.T) {
	script := filepath.Join(t.TempDir(), "plugin")
	if err := os.WriteFile(script, []byte("#!/no/such/interpreter\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	noInterpreter := exec.Command(script).Run()
	if !errors.Is(noInterpreter, fs.ErrNotExist) {
		t.Fatal(noInterpreter)
	}
	for name, test := range map[string]struct {
		prepare func(*daemon)
		want    error // code and text, or nil
		pids    []int // of the requests to the network; 0 is the engine's
	}{
		"its own":                  {func(*daemon) {}, nil, []int{early}},
		"not found in time":        {func(d *daemon) { d.births.set(func(b *fakeBirths) { b.pid = 0 }) }, nil, []int{0}},
		"another namespace":        {func(d *daemon) { d.network.set(func(n *fakeNetwork) { n.early = 7 }) }, nil, []int{early, 0}},
		"of a process that ended":  {func(d *daemon) { d.births.set(func(b *fakeBirths) { b.ended = true }) }, nil, []int{0}},
		"ADD fails":                {func(d *daemon) { d.network.set(func(n *fakeNetwork) { n.failAttach = errors.New("boom") }) }, errors.New("boom"), []int{early}},
		"a plugin can't be run":    {func(d *daemon) { d.network.set(func(n *fakeNetwork) { n.failAttach = noInterpreter }) }, fmt.Errorf("fork/exec %s: no such file", script), []int{early}},
		"the start fails":          {func(d *daemon) { d.engine.Fail(enginetest.Fault{Method: "Start", Err: errors.New("no shim")}) }, errors.New("no shim"), []int{early}},
		"the start's answer fails": {func(d *daemon) { d.engine.Fail(enginetest.Fault{Method: "Start", Done: true, Err: errors.New("lost")}) }, errors.New("lost"), []int{early}},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDaemon(t)
			d.births.set(func(b *fakeBirths) { b.pid = early })
			d.network.set(func(n *fakeNetwork) { n.early = firstInode })
			test.prepare(d)
			// The attachment comes first.
			attached := make(chan struct{})
			release := d.engine.Hold("Start")
			go func() {
				defer close(attached)
				eventually(t, "the network was asked, or nobody will", func() bool {
					return d.network.asked() > 0 || test.pids[0] == 0
				})
				release()
			}()
			_, err := d.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: podConfig("web")})
			<-attached
			if test.want == nil {
				if err != nil {
					t.Fatal(err)
				}
				wantListed(t, d, "web SANDBOX_READY")
			} else {
				wantCode(t, err, codes.Internal, test.want.Error())
				d.wantClean(t)
			}
			var pids []int
			d.network.set(func(n *fakeNetwork) {
				for _, req := range n.requests {
					pids = append(pids, req.PID)
				}
			})
			for i, pid := range pids {
				if pid != early {
					pids[i] = 0
				}
			}
			if !slices.Equal(pids, test.pids) {
				t.Errorf("attached by %v, want %v", pids, test.pids)
			}
		})
	}
}

// Sysctls come last in a start, and some are for the interfaces to come.
func TestNoEarlyAttachment(t *testing.T) {
	sysctls := podConfig("web")
	sysctls.Linux = &runtimeapi.LinuxPodSandboxConfig{Sysctls: map[string]string{"net.ipv4.conf.default.rp_filter": "2"}}
	for name, config := range map[string]*runtimeapi.PodSandboxConfig{"host network": hostConfig("web"), "sysctls": sysctls} {
		t.Run(name, func(t *testing.T) {
			d := newDaemon(t)
			d.run(t, config)
			if len(d.births.asked) > 0 {
				t.Error("its process was looked for")
			}
		})
	}
}
