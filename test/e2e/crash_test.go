package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine/enginetest"
)

// The steps at which the daemon can be made to die, in their order. Those of run come
// when a pod is made, those of stop when it is stopped, those of remove after that. The
// daemon dies as by kill -9. At add-start and del-start the plugin is running; complete
// is right after the record says that the attachment is.
var (
	runSteps    = []string{"files", "create", answerLost, "start", "inspect", "attach", "record", "pin", "add-start", "add-done", "complete", "hosts", "answer"}
	stopSteps   = []string{"stop-kill", "stop-detach", "detaching", "del-start", "del-done", "unpin", "stop-refresh"}
	removeSteps = []string{"remove", "remove-files"}
)

// answerLost is between the engine's creating the container and its answer.
const answerLost = "answer of create lost"

// Wherever the daemon is killed, after its next start all is as it should be: what the
// client had been told of is there, what it had not been told of is gone.
func TestKilledAtEachStep(t *testing.T) {
	const rounds = 5
	n := newNode(t, enginetest.Engine28, userConf())
	lost := n.loseAnswers(t)
	bystander := n.runPod(t, config("bystander"))
	landed := map[string]int{}
	for round := range rounds {
		for _, step := range runSteps {
			n.crashInRun(t, step, fmt.Sprintf("run-%d-%s", round, step), lost)
			landed[step]++
		}
		for _, step := range append(stopSteps[:len(stopSteps):len(stopSteps)], removeSteps...) {
			n.crashInStop(t, step, fmt.Sprintf("stop-%d-%s", round, step))
			landed[step]++
		}
		if s := n.inspect(t, bystander.id); s.status.GetState() != cri.PodSandboxState_SANDBOX_READY || s.ips[0] != bystander.ips[0] {
			t.Fatalf("the pod beside was touched: %v", s.status)
		}
	}
	total := 0
	var lines []string
	for _, step := range append(append(runSteps[:len(runSteps):len(runSteps)], stopSteps...), removeSteps...) {
		lines = append(lines, fmt.Sprintf("%-24s %d", step, landed[step]))
		total += landed[step]
		if landed[step] < 5 {
			t.Errorf("%s: %d kills landed, want 5", step, landed[step])
		}
	}
	t.Logf("%d kills landed:\n%s", total, strings.Join(lines, "\n"))
	n.removePod(t, bystander.id)
	n.wantWhole(t, 0)
}

// crashInRun kills the daemon at a step of RunPodSandbox and starts it again. The same
// pod then runs, as the kubelet or a user would ask again.
func (n *node) crashInRun(t *testing.T, step, name string, lost *atomic.Bool) {
	t.Helper()
	if step == answerLost {
		lost.Store(true)
	} else {
		n.arm(t, step)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	want := config(name)
	want.DnsConfig = &cri.DNSConfig{Servers: []string{"192.0.2.53"}}
	resp, err := n.cri.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: want})
	if err == nil {
		t.Fatalf("%s: the pod came up as %s: the kill did not land", step, resp.GetPodSandboxId())
	}
	n.wait(t)
	n.launch(t)
	// A sandbox that was complete, with only its answer missing, is kept; else none is. At
	// "inspect" it may have been attached beside the start.
	complete := slices.Contains([]string{"inspect", "complete", "hosts", "answer"}, step)
	for _, s := range n.list(t) {
		if s.GetMetadata().GetName() != name {
			continue
		}
		if !complete || s.GetState() != cri.PodSandboxState_SANDBOX_READY {
			t.Fatalf("%s: after the start the unfinished sandbox is listed: %v", step, s)
		}
		kept := n.inspect(t, s.GetId())
		if text := kept.file(t, "/etc/resolv.conf"); text != "nameserver 192.0.2.53\n" {
			t.Errorf("%s: resolv.conf of the kept sandbox:\n%s", step, text)
		}
		if text := kept.file(t, "/etc/hosts"); !strings.Contains(text, "localhost") || strings.Count(text, kept.ips[0].String()) != 1 {
			t.Errorf("%s: hosts of the kept sandbox:\n%s", step, text)
		}
		n.removePod(t, s.GetId())
	}
	n.wantWhole(t, 1)
	n.removePod(t, n.runPod(t, config(name)).id)
	n.wantWhole(t, 1)
}

// crashInStop kills the daemon at a step of StopPodSandbox or RemovePodSandbox and
// starts it again. The request is then repeated.
func (n *node) crashInStop(t *testing.T, step, name string) {
	t.Helper()
	pod := n.runPod(t, config(name))
	removing := slices.Contains(removeSteps, step)
	if removing {
		if _, err := n.cri.StopPodSandbox(t.Context(), &cri.StopPodSandboxRequest{PodSandboxId: pod.id}); err != nil {
			t.Fatal(err)
		}
	}
	n.arm(t, step)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var err error
	if removing {
		_, err = n.cri.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: pod.id})
	} else {
		_, err = n.cri.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: pod.id})
	}
	if err == nil {
		t.Fatalf("%s: the request succeeded: the kill did not land", step)
	}
	n.wait(t)
	n.launch(t)
	left := 2 // nothing of a known sandbox is forgotten
	if step == "remove-files" {
		left = 1 // its container is gone
	}
	n.wantWhole(t, left)
	n.removePod(t, pod.id)
	n.wantWhole(t, 1)
}

// toEngine passes requests on to the node's engine; answered may be nil.
func (n *node) toEngine(answered func(*http.Response) error) *httputil.ReverseProxy {
	engine := strings.TrimPrefix(n.host, "unix://")
	return &httputil.ReverseProxy{
		FlushInterval: -1, // events
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: "engine"}) },
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", engine)
		}},
		ModifyResponse: answered,
	}
}

// arm makes the daemon die at its next step of that name.
func (n *node) arm(t *testing.T, step string) {
	t.Helper()
	if err := os.WriteFile(n.crashAt, []byte(step), 0o600); err != nil {
		t.Fatal(err)
	}
}

// loseAnswers puts a proxy between daemon and engine. When armed, it kills the daemon
// after the engine created a container and before the daemon hears of it.
func (n *node) loseAnswers(t *testing.T) (armed *atomic.Bool) {
	t.Helper()
	armed = &atomic.Bool{}
	proxy := n.toEngine(func(r *http.Response) error {
		if strings.HasSuffix(r.Request.URL.Path, "/containers/create") && armed.CompareAndSwap(true, false) {
			return n.daemon.Process.Kill()
		}
		return nil
	})
	n.terminate(t)
	n.proxy = listen(t, proxy)
	n.start(t)
	return armed
}

// listen serves HTTP on a Unix socket and returns its address.
func listen(t *testing.T, handler http.Handler) string {
	t.Helper()
	path := filepath.Join(shortDir(t), "proxy.sock")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Close() })
	return "unix://" + path
}

// What others do to sandboxes with Docker's own commands, the daemon running or not.
func TestBehindOurBack(t *testing.T) {
	bothEngines(t, func(t *testing.T, version enginetest.Version) {
		n := newNode(t, version, userConf())
		for name, tt := range map[string]struct {
			do     func(t *testing.T, id string)
			listed int // sandboxes listed afterwards
		}{
			"docker rm -f":           {func(t *testing.T, id string) { n.docker(t, "rm", "-f", id) }, 0},
			"docker kill":            {func(t *testing.T, id string) { n.docker(t, "kill", id) }, 1},
			"docker container prune": {func(t *testing.T, id string) { n.docker(t, "kill", id); n.docker(t, "container", "prune", "-f") }, 0},
			"docker restart":         {func(t *testing.T, id string) { n.docker(t, "restart", id) }, 1},
		} {
			for _, running := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s with the daemon running %v", name, running), func(t *testing.T) {
					pod := n.runPod(t, config("web"))
					if !running {
						n.kill(t)
					}
					tt.do(t, pod.id)
					if !running {
						n.start(t)
					}
					n.wantWhole(t, tt.listed)
					for _, s := range n.list(t) {
						if s.GetState() != cri.PodSandboxState_SANDBOX_NOTREADY {
							t.Errorf("listed as %s", s.GetState())
						}
					}
					n.removePod(t, pod.id) // for one that is gone, too
					n.wantWhole(t, 0)
				})
			}
		}
	})
}

// An engine that restarts takes the sandboxes with it, unless it has live-restore.
func TestEngineRestarts(t *testing.T) {
	bothEngines(t, func(t *testing.T, version enginetest.Version) {
		n := newNode(t, version, userConf())
		o := newOutside(t)
		server(t, o.netns, 7000)
		dead := n.runPod(t, config("dead"))
		n.engine.Stop(t)
		n.waitRuntimeReady(t, false)
		n.engine.Start(t)
		n.waitRuntimeReady(t, true)
		n.wantWhole(t, 1)
		if s := n.inspect(t, dead.id); s.status.GetState() != cri.PodSandboxState_SANDBOX_NOTREADY {
			t.Errorf("after the restart: %s", s.status.GetState())
		}
		// The restarted engine has flushed its chains: pods must pass again.
		next := n.runPod(t, config("next"))
		waitDial(t, "a new pod to the outside", next.netns, o.v4, 7000)
		n.removePod(t, dead.id)
		n.removePod(t, next.id)
		n.wantWhole(t, 0)
	})
}

func TestEngineRestartsWithLiveRestore(t *testing.T) {
	bothEngines(t, func(t *testing.T, version enginetest.Version) {
		n := newNodeOn(t, enginetest.StartDaemon(t, version, "--live-restore"), userConf())
		o := newOutside(t)
		server(t, o.netns, 7000)
		before := n.runPod(t, config("web"))
		n.engine.Stop(t)
		n.waitRuntimeReady(t, false)
		n.engine.Start(t)
		n.waitRuntimeReady(t, true)
		n.wantWhole(t, 1)
		after := n.inspect(t, before.id)
		if after.status.GetState() != cri.PodSandboxState_SANDBOX_READY || after.ips[0] != before.ips[0] {
			t.Errorf("after the restart: %v", after.status)
		}
		waitDial(t, "the pod to the outside", after.netns, o.v4, 7000)
		n.removePod(t, before.id)
		n.wantWhole(t, 0)
	})
}

func (n *node) waitRuntimeReady(t *testing.T, want bool) {
	t.Helper()
	var condition *cri.RuntimeCondition
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		resp, err := n.cri.Status(t.Context(), &cri.StatusRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if condition = resp.GetStatus().GetConditions()[0]; condition.GetStatus() == want {
			return
		}
	}
	t.Fatalf("RuntimeReady stays %v: %s: %s", condition.GetStatus(), condition.GetReason(), condition.GetMessage())
}

// The daemon dies while it cleans up after an ADD that failed: nothing is left either.
func TestKilledWhileUndoing(t *testing.T) {
	n := newNode(t, enginetest.Engine28, nil, chaosDir(t)...)
	n.writeConf(t, "10-fail.conflist", chaosConf(`{"verbs": ["ADD"], "fault": true, "exit": 1}`))
	if _, err := n.tryPod(t, config("web"), time.Minute); err == nil || !strings.Contains(err.Error(), "chaosplugin") {
		t.Fatalf("ADD did not fail as it should: %v", err)
	}
	for _, step := range []string{"detaching", "del-start", "del-done", "unpin", "undo"} {
		for range 2 {
			n.arm(t, step)
			if _, err := n.tryPod(t, config("web"), time.Minute); status.Code(err) != codes.Unavailable {
				t.Fatalf("%s: error %v: the kill did not land", step, err)
			}
			n.wait(t)
			n.launch(t)
			n.wantWhole(t, 0)
		}
	}
}
