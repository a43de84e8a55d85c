package e2e

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine/enginetest"
)

// runtimeCondition and networkCondition are the node's, which Status must tell within
// a second, whatever hangs.
func (n *node) runtimeCondition(t *testing.T) *cri.RuntimeCondition {
	return n.condition(t, cri.RuntimeReady)
}
func (n *node) networkCondition(t *testing.T) *cri.RuntimeCondition {
	return n.condition(t, cri.NetworkReady)
}

func (n *node) condition(t *testing.T, kind string) *cri.RuntimeCondition {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	resp, err := n.cri.Status(ctx, &cri.StatusRequest{Verbose: true})
	if err != nil {
		t.Fatalf("Status: %v", err)
	}
	for _, c := range resp.GetStatus().GetConditions() {
		if c.GetType() == kind {
			return c
		}
	}
	t.Fatalf("no condition %s", kind)
	return nil
}

// waitCondition waits for a condition with a reason; "" is true. Its message must say
// all texts.
func (n *node) waitCondition(t *testing.T, get func(*testing.T) *cri.RuntimeCondition, within time.Duration, reason string, says ...string) {
	t.Helper()
	c := get(t)
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		c = get(t)
		silent := slices.ContainsFunc(says, func(text string) bool { return !strings.Contains(c.GetMessage(), text) })
		if c.GetReason() == reason && c.GetStatus() == (reason == "") && !silent {
			return
		}
	}
	t.Fatalf("after %v %s is %v, want reason %q with words %q", within, c.GetType(), c, reason, says)
}

// tryPod asks for a pod within a deadline, and checks that the answer comes in time.
func (n *node) tryPod(t *testing.T, config *cri.PodSandboxConfig, deadline time.Duration) (id string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	began := time.Now()
	resp, err := n.cri.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: config})
	if took := time.Since(began); took > deadline+time.Second {
		t.Errorf("the answer to a request with a deadline of %v took %v: %v", deadline, took, err)
	}
	return resp.GetPodSandboxId(), err
}

// wantRefused checks the code and the words of an error.
func wantRefused(t *testing.T, err error, code codes.Code, says ...string) {
	t.Helper()
	if status.Code(err) != code {
		t.Errorf("error %v, want code %s", err, code)
	}
	for _, text := range says {
		if !strings.Contains(status.Convert(err).Message(), text) {
			t.Errorf("error %v does not say %q", err, text)
		}
	}
}

// Settings of the engine under which pods can't work are told by name, with what to do.
func TestEngineSettingsThatBreakPods(t *testing.T) {
	for name, tt := range map[string]struct {
		prepare func(t *testing.T) (flags []string)
		silent  bool // engine 20.10 does not tell
		reason  string
		says    []string
	}{
		"userns-remap": {func(t *testing.T) []string {
			// The engine reads the ids of an existing user from these files.
			overmount(t, "/etc/subuid", "daemon:100000:65536\n")
			overmount(t, "/etc/subgid", "daemon:100000:65536\n")
			return []string{"--userns-remap=daemon"}
		}, false, "EngineUsernsRemap", []string{"userns-remap", "restart dockerd"}},
		"no-new-privileges": {func(*testing.T) []string {
			return []string{"--no-new-privileges"}
		}, true, "EngineNoNewPrivileges", []string{"no-new-privileges", "restart dockerd"}},
		"authorization plugin": {func(t *testing.T) []string {
			authorize(t, "permit")
			return []string{"--authorization-plugin=permit"}
		}, false, "EngineAuthorizationPlugin", []string{"permit", "authorization-plugins", "restart dockerd"}},
	} {
		t.Run(name, func(t *testing.T) {
			bothEngines(t, func(t *testing.T, version enginetest.Version) {
				if tt.silent && version == enginetest.Engine20 {
					t.Skip("this engine does not tell")
				}
				flags := tt.prepare(t)
				n := newNodeOn(t, enginetest.StartDaemon(t, version, flags...), userConf())
				n.waitCondition(t, n.runtimeCondition, 10*time.Second, tt.reason, tt.says...)
			})
		})
	}
}

// overmount puts another content in place of a file, for this test alone.
func overmount(t *testing.T, path, text string) {
	t.Helper()
	file := filepath.Join(shortDir(t), filepath.Base(path))
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(file, path, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(path, 0); err != nil {
			t.Errorf("unmount %s: %v", path, err)
		}
	})
}

// authorize is an authorization plugin that lets everybody do everything.
func authorize(t *testing.T, name string) {
	t.Helper()
	const dir = "/run/docker/plugins"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", filepath.Join(dir, name+".sock"))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := `{"Allow": true}`
		if strings.HasSuffix(r.URL.Path, "/Plugin.Activate") {
			answer = `{"Implements": ["authz"]}`
		}
		_, _ = io.WriteString(w, answer)
	})}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Close() })
}

// An engine whose socket is seen, but not its files, is on another machine or in a
// container: its processes and networks are not ours.
func TestEngineElsewhere(t *testing.T) {
	bothEngines(t, func(t *testing.T, version enginetest.Version) {
		n := newNode(t, version, userConf())
		n.terminate(t)
		n.proxy = listen(t, n.toEngine(nil))
		engineDir := filepath.Dir(strings.TrimPrefix(n.host, "unix://"))
		// In a mount namespace of its own, the daemon has something else in that place.
		n.prepare = func(cmd *exec.Cmd) {
			cmd.Args = append([]string{"unshare", "-m", "sh", "-c", `mount -t tmpfs none "$0" && exec "$@"`, engineDir}, cmd.Args...)
			cmd.Path = "/usr/bin/unshare"
		}
		n.start(t)
		n.waitCondition(t, n.runtimeCondition, 10*time.Second, "EngineElsewhere", engineDir, "over its Unix socket")
	})
}

// While the engine is away, what is known is told, and the rest is refused at once.
func TestEngineAway(t *testing.T) {
	bothEngines(t, func(t *testing.T, version enginetest.Version) {
		n := newNode(t, version, userConf())
		pod := n.runPod(t, config("web"))
		n.engine.Stop(t)
		n.waitCondition(t, n.runtimeCondition, 5*time.Second, "EngineUnavailable", n.host, "is it running?")
		_, err := n.tryPod(t, config("new"), 5*time.Second)
		wantRefused(t, err, codes.Unavailable, n.host)
		_, err = n.cri.StopPodSandbox(t.Context(), &cri.StopPodSandboxRequest{PodSandboxId: pod.id})
		wantRefused(t, err, codes.Unavailable, n.host)
		if list := n.list(t); len(list) != 1 || list[0].GetId() != pod.id {
			t.Errorf("listed: %v", list)
		}

		// A daemon that starts meanwhile waits for the engine.
		n.kill(t)
		n.launch(t)
		n.waitCondition(t, n.runtimeCondition, 5*time.Second, "EngineUnavailable", n.host)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = n.cri.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
		if code := status.Code(err); code != codes.Unavailable && code != codes.DeadlineExceeded {
			t.Errorf("list: %v", err)
		}
		n.engine.Start(t)
		n.waitCondition(t, n.runtimeCondition, 10*time.Second, "")
		n.wantWhole(t, 1)
		n.removePod(t, pod.id)
		n.wantWhole(t, 0)
	})
}

// An engine that hangs holds up neither Status nor a request past its deadline, and
// once it goes on all is as it should be.
func TestEngineHangs(t *testing.T) {
	bothEngines(t, func(t *testing.T, version enginetest.Version) {
		n := newNode(t, version, userConf())
		stays, goes := n.runPod(t, config("stays")), n.runPod(t, config("goes"))
		n.engine.Freeze(t)
		thawed := false
		t.Cleanup(func() {
			if !thawed {
				n.engine.Thaw(t)
			}
		})
		n.waitCondition(t, n.runtimeCondition, 5*time.Second, "EngineUnavailable", n.host, "does not answer", "restart it")
		n.wantNothingDone(t, goes)
		if s := n.inspect(t, stays.id); s.status.GetState() != cri.PodSandboxState_SANDBOX_READY {
			t.Errorf("while the engine hangs: %v", s.status)
		}
		n.engine.Thaw(t)
		thawed = true
		n.waitCondition(t, n.runtimeCondition, 5*time.Second, "")
		n.wantWhole(t, 2)
		if s := n.inspect(t, stays.id); s.status.GetState() != cri.PodSandboxState_SANDBOX_READY || s.ips[0] != stays.ips[0] {
			t.Errorf("after the engine went on: %v", s.status)
		}
		n.removePod(t, goes.id)
		n.removePod(t, n.runPod(t, config("new")).id)
		n.removePod(t, stays.id)
		n.wantWhole(t, 0)
	})
}

// wantNothingDone asks for a new pod and for the end of another, which an engine that hangs does
// not do, and wants answers within the deadlines.
func (n *node) wantNothingDone(t *testing.T, goes sandbox) {
	t.Helper()
	_, err := n.tryPod(t, config("new"), 2*time.Second)
	if code := status.Code(err); code != codes.DeadlineExceeded && code != codes.Unavailable {
		t.Errorf("run: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err = n.cri.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: goes.id})
	if code := status.Code(err); code != codes.DeadlineExceeded && code != codes.Unavailable {
		t.Errorf("stop: %v", err)
	}
}

// A containerd that hangs leaves the engine answering pings and lists, and nothing that runs.
func TestContainerdHangs(t *testing.T) {
	bothEngines(t, func(t *testing.T, version enginetest.Version) {
		n := newNode(t, version, userConf())
		stays, goes := n.runPod(t, config("stays")), n.runPod(t, config("goes"))
		n.engine.FreezeContainerd(t)
		thaw := sync.OnceFunc(func() { n.engine.ThawContainerd(t) })
		t.Cleanup(thaw)
		n.waitCondition(t, n.runtimeCondition, 15*time.Second, "EngineUnavailable", n.host, "its containerd does not", "restart it")
		if out, ok := n.mascri(t, "doctor"); ok || !strings.Contains(out, "its containerd does not") {
			t.Errorf("doctor: %s", out)
		}
		n.wantNothingDone(t, goes)
		if s := n.inspect(t, stays.id); s.status.GetState() != cri.PodSandboxState_SANDBOX_READY {
			t.Errorf("while containerd hangs: %v", s.status)
		}
		thaw()
		n.waitCondition(t, n.runtimeCondition, 5*time.Second, "")
		within(t, "what was begun is undone", func() bool { return len(n.list(t)) == 2 })
		n.removePod(t, goes.id)
		n.removePod(t, n.runPod(t, config("new")).id)
		n.removePod(t, stays.id)
		n.wantWhole(t, 0)
	})
}

// Status says in which file what is wrong and what to do, and follows the directory.
func TestNetworkStatusFollowsTheDirectory(t *testing.T) {
	n := newNode(t, enginetest.Engine28, nil, "--default-network=false")
	const soon = 3 * time.Second
	refused := func(says ...string) {
		t.Helper()
		_, err := n.tryPod(t, config("web"), 10*time.Second)
		wantRefused(t, err, codes.FailedPrecondition, says...)
	}
	n.waitCondition(t, n.networkCondition, soon, "NoNetworkConfig", n.conf, "turn the embedded default network on")
	refused(n.conf)
	host := config("proxy")
	host.Linux = &cri.LinuxPodSandboxConfig{SecurityContext: &cri.LinuxSandboxSecurityContext{
		NamespaceOptions: &cri.NamespaceOption{Network: cri.NamespaceMode_NODE},
	}}
	if s := n.runPod(t, host); s.status.GetState() != cri.PodSandboxState_SANDBOX_READY {
		t.Errorf("a pod on the host's network: %v", s.status)
	} else {
		n.removePod(t, s.id)
	}

	bridge := filepath.Join(n.conf, "10-bridge.conf")
	n.writeConf(t, "10-bridge.conf", "{\n  \"cniVersion\": \"1.0.0\",\n  \"name\": mynet\n}\n")
	n.waitCondition(t, n.networkCondition, soon, "NoNetworkConfig", bridge+":3:11")
	refused(bridge + ":3:11")
	n.writeConf(t, "10-bridge.conf", strings.Replace(bridgeConf, "host-local", "nonesuch", 1))
	n.waitCondition(t, n.networkCondition, soon, "PluginMissing", bridge, `"nonesuch"`, n.bin, "install it")
	refused(`"nonesuch"`, n.bin)
	n.wantWhole(t, 0)

	n.writeConf(t, "10-bridge.conf", bridgeConf)
	n.waitCondition(t, n.networkCondition, soon, "", "mynet", bridge)
	pod := n.runPod(t, config("web"))
	if err := os.Rename(bridge, bridge+".off"); err != nil {
		t.Fatal(err)
	}
	n.waitCondition(t, n.networkCondition, soon, "NoNetworkConfig", n.conf)
	if err := os.Rename(bridge+".off", filepath.Join(n.conf, "20-late.conf")); err != nil {
		t.Fatal(err)
	}
	n.waitCondition(t, n.networkCondition, soon, "", "20-late.conf")
	if err := os.RemoveAll(n.conf); err != nil {
		t.Fatal(err)
	}
	n.waitCondition(t, n.networkCondition, soon, "NoNetworkConfig", n.conf)
	if err := os.Mkdir(n.conf, 0o755); err != nil {
		t.Fatal(err)
	}
	n.writeConf(t, "30-again.conf", bridgeConf)
	n.waitCondition(t, n.networkCondition, 12*time.Second, "", "30-again.conf") // only polled while it is away
	n.removePod(t, pod.id)
	n.wantWhole(t, 0)
}
