package cri_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/testing/protocmp"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine/enginetest"
	"github.com/mascri/mascri/internal/pod"
)

func TestLifeOfASandbox(t *testing.T) {
	d := newDaemon(t)
	config := podConfig("web")
	config.Labels, config.Annotations = map[string]string{"app": "web"}, map[string]string{"note": "x"}
	config.LogDirectory = t.TempDir() + "/pods/web"
	config.DnsConfig = &runtimeapi.DNSConfig{Servers: []string{"10.96.0.10"}, Searches: []string{"a.local", "b.local"}, Options: []string{"ndots:5"}}
	id := d.run(t, config)

	resp, err := d.PodSandboxStatus(t.Context(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: id[:60] + id[60:], Verbose: true})
	if err != nil {
		t.Fatal(err)
	}
	want := &runtimeapi.PodSandboxStatus{
		Id: id, Metadata: config.GetMetadata(), State: runtimeapi.PodSandboxState_SANDBOX_READY, CreatedAt: resp.GetStatus().GetCreatedAt(),
		Network: &runtimeapi.PodSandboxNetworkStatus{Ip: "10.88.0.2", AdditionalIps: []*runtimeapi.PodIP{{Ip: "fd00::1"}}},
		Linux:   &runtimeapi.LinuxPodSandboxStatus{Namespaces: &runtimeapi.Namespace{Options: &runtimeapi.NamespaceOption{}}},
		Labels:  config.GetLabels(), Annotations: config.GetAnnotations(),
	}
	if diff := cmp.Diff(want, resp.GetStatus(), protocmp.Transform()); diff != "" {
		t.Errorf("status (-want +got)\n%s", diff)
	}
	if resp.GetStatus().GetCreatedAt() <= 0 {
		t.Error("a time is missing")
	}
	if at := resp.GetTimestamp(); at != 0 {
		t.Errorf("timestamp %d: a kubelet with EventedPLEG restarts init containers for ever", at)
	}
	for _, text := range []string{`"netnsPath":"/run/netns/cni-` + id[:32] + `"`, `"app":"web"`, `"pid":`} {
		if !strings.Contains(resp.GetInfo()["info"], text) {
			t.Errorf("verbose info lacks %s:\n%s", text, resp.GetInfo()["info"])
		}
	}
	if _, err := os.Stat(config.GetLogDirectory()); err != nil {
		t.Error(err)
	}
	sandbox, err := d.engine.Inspect(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	wantFile(t, sandbox.Files.ResolvConf, "search a.local b.local\nnameserver 10.96.0.10\noptions ndots:5\n")
	hosts, err := os.ReadFile(sandbox.Files.Hosts)
	if err != nil || !strings.Contains(string(hosts), "127.0.0.1\tlocalhost\n") || !strings.HasSuffix(string(hosts), "\n10.88.0.2\t"+id[:12]+"\nfd00::1\t"+id[:12]+"\n") {
		t.Errorf("hosts: %v\n%s", err, hosts)
	}
	wantFile(t, sandbox.Files.Hostname, id[:12]+"\n")

	for range 2 { // idempotent
		if err := d.stop(t, id); err != nil {
			t.Fatal(err)
		}
		if got := d.listed(t, nil); got != "web SANDBOX_NOTREADY" {
			t.Errorf("after stop: %s", got)
		}
	}
	if left := d.network.String(); left != "" {
		t.Errorf("after stop still attached: %s", left)
	}
	for range 2 {
		if err := d.remove(t, id); err != nil {
			t.Fatal(err)
		}
	}
	d.wantClean(t)
	if err := d.stop(t, id); err != nil {
		t.Errorf("stop of a removed sandbox: %v", err)
	}
	_, err = d.PodSandboxStatus(t.Context(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: id})
	wantCode(t, err, codes.NotFound, id)
}

func wantFile(t *testing.T, path, want string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != want {
		t.Errorf("%s holds\n%swant\n%s", path, text, want)
	}
}

func TestRemoveOfARunningSandbox(t *testing.T) {
	d := newDaemon(t)
	if err := d.remove(t, d.run(t, podConfig("web"))); err != nil {
		t.Fatal(err)
	}
	d.wantClean(t)
}

func TestHostNetworkNeverCallsCNI(t *testing.T) {
	d := newDaemon(t)
	id := d.run(t, hostConfig("proxy"))
	if len(d.network.requests) != 0 {
		t.Error("CNI was called")
	}
	resp, err := d.PodSandboxStatus(t.Context(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: id})
	if err != nil {
		t.Fatal(err)
	}
	if s := resp.GetStatus(); s.GetState() != runtimeapi.PodSandboxState_SANDBOX_READY || s.GetNetwork().GetIp() != "" ||
		s.GetLinux().GetNamespaces().GetOptions().GetNetwork() != runtimeapi.NamespaceMode_NODE {
		t.Errorf("status %v", s)
	}
	if err := d.remove(t, id); err != nil {
		t.Fatal(err)
	}
	d.wantClean(t)
}

// Whatever call fails, and whether or not the engine had done the work, nothing is
// left, and the same request succeeds afterwards.
func TestRunFailsAtEachStep(t *testing.T) {
	for method, calls := range map[string]int{"EnsureImage": 1, "CreateSandbox": 1, "Start": 1, "Inspect": 2} {
		for call := 1; call <= calls; call++ {
			for _, done := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s call %d done %v", method, call, done), func(t *testing.T) {
					d := newDaemon(t)
					d.listed(t, nil)    // wait for the first resync, and have no hints:
					d.engine.Mute(true) // what the index asks by itself would be counted
					d.engine.Fail(enginetest.Fault{Method: method, Call: call, Done: done})
					_, err := d.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: podConfig("web")})
					d.engine.Heal()
					d.engine.Mute(false)
					wantCode(t, err, codes.Unavailable, "web")
					// What could not be undone while the engine was away is repaired.
					eventually(t, "all is cleaned up", func() bool { return d.engine.String() == "" })
					d.wantClean(t)
					d.run(t, podConfig("web"))
				})
			}
		}
	}
}

// The id of the image is asked for once, and again where the engine has lost it.
func TestSandboxImageIsLookedUpOnce(t *testing.T) {
	d := newDaemon(t)
	ids := []string{d.run(t, podConfig("a")), d.run(t, podConfig("b"))}
	if got := calls(d, "EnsureImage"); got != 1 {
		t.Errorf("for two sandboxes, %d look-ups of the image", got)
	}
	sandbox, err := d.engine.Inspect(t.Context(), ids[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		if err := d.remove(t, id); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.engine.RemoveImage(t.Context(), sandbox.Image); err != nil {
		t.Fatal(err)
	}
	d.run(t, podConfig("c"))
	if got := calls(d, "EnsureImage"); got != 2 {
		t.Errorf("after the engine had lost it, %d look-ups in all", got)
	}
}

func TestRunFailsAtAttach(t *testing.T) {
	d := newDaemon(t)
	boom := fmt.Errorf("plugin bridge: boom: %w", errdefs.ErrFailedPrecondition)
	d.network.set(func(n *fakeNetwork) { n.failAttach = boom })
	_, err := d.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: podConfig("web")})
	wantCode(t, err, codes.FailedPrecondition, "plugin bridge: boom")
	d.wantClean(t)
}

// A failed attach whose cleaning up fails too stays visible, as NotReady, until the
// plugin works again; then nothing is left.
func TestRunFailsAtAttachAndDetach(t *testing.T) {
	d := newDaemon(t)
	d.network.set(func(n *fakeNetwork) { n.failAttach, n.failDetach = errors.New("add: boom"), errors.New("del: boom") })
	_, err := d.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: podConfig("web")})
	wantCode(t, err, codes.Internal, "add: boom", "stays listed as NotReady")
	if got := d.listed(t, nil); got != "web SANDBOX_NOTREADY" {
		t.Fatalf("listed: %q", got)
	}
	id := strings.Fields(d.network.String())[0]
	if sandbox, err := d.engine.Inspect(t.Context(), id); err != nil || sandbox.Running {
		t.Errorf("the dead sandbox runs on: %v, %v", sandbox, err)
	}
	_, err = d.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: podConfig("web")})
	wantCode(t, err, codes.AlreadyExists, id)
	wantCode(t, d.remove(t, id), codes.Internal, "del: boom")
	d.network.set(func(n *fakeNetwork) { n.failAttach, n.failDetach = nil, nil })
	if err := d.remove(t, id); err != nil {
		t.Fatal(err)
	}
	d.wantClean(t)
}

func TestStopWhoseDetachFails(t *testing.T) {
	d := newDaemon(t)
	id := d.run(t, podConfig("web"))
	d.network.set(func(n *fakeNetwork) { n.failDetach = errors.New("del: boom") })
	wantCode(t, d.stop(t, id), codes.Internal, "del: boom")
	if got := d.listed(t, nil); got != "web SANDBOX_NOTREADY" {
		t.Errorf("listed: %q", got)
	}
	d.network.set(func(n *fakeNetwork) { n.failDetach = nil })
	if err := d.remove(t, id); err != nil {
		t.Fatal(err)
	}
	d.wantClean(t)
}

func TestRepeatedRunJoinsTheOneInFlight(t *testing.T) {
	d := newDaemon(t)
	waiting, release := d.network.holdAttach(t)
	type answer struct {
		id  string
		err error
	}
	answers := make(chan answer, 2)
	ask := func(ctx context.Context) {
		resp, err := d.RunPodSandbox(ctx, &runtimeapi.RunPodSandboxRequest{Config: podConfig("web")})
		answers <- answer{resp.GetPodSandboxId(), err}
	}
	first, giveUp := context.WithCancel(t.Context())
	go ask(first)
	<-waiting
	if got := d.listed(t, nil); got != "" {
		t.Errorf("a sandbox being made is listed: %s", got)
	}
	go ask(t.Context())
	other := podConfig("web")
	other.Hostname = "other"
	_, err := d.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: other})
	wantCode(t, err, codes.AlreadyExists, "another config")
	time.Sleep(50 * time.Millisecond) // let the second one board
	giveUp()
	a := <-answers
	wantCode(t, a.err, codes.Canceled)
	release()
	a = <-answers
	if a.err != nil {
		t.Fatalf("the second caller suffered from the first one's end: %v", a.err)
	}
	_, err = d.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: podConfig("web")})
	wantCode(t, err, codes.AlreadyExists, a.id)
	if n := strings.Count(d.engine.String(), "\n"); n != 1 {
		t.Errorf("%d containers, want 1:\n%s", n, d.engine)
	}
}

func TestRunIsUndoneWhenNobodyWaits(t *testing.T) {
	d := newDaemon(t)
	waiting, release := d.network.holdAttach(t)
	defer release()
	ctx, giveUp := context.WithCancel(t.Context())
	go func() { <-waiting; giveUp() }()
	_, err := d.RunPodSandbox(ctx, &runtimeapi.RunPodSandboxRequest{Config: podConfig("web")})
	wantCode(t, err, codes.Canceled)
	eventually(t, "undone", func() bool { return d.engine.String()+d.network.String() == "" })
	d.run(t, podConfig("web"))
	if got := d.listed(t, nil); got != "web SANDBOX_READY" {
		t.Errorf("listed: %q", got)
	}
}

func TestTakenNameOfSomebodyElse(t *testing.T) {
	d := newDaemon(t)
	d.engine.User().Run(t, pod.SandboxName(podConfig("web").GetMetadata()), nil)
	before := d.engine.String()
	_, err := d.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: podConfig("web")})
	wantCode(t, err, codes.AlreadyExists, "not ours")
	if after := d.engine.String(); after != before {
		t.Errorf("the engine held\n%sand now\n%s", before, after)
	}
}

// What is not ours under a sandbox's name is nothing that a failed RunPodSandbox left.
func TestRunFailsBesideSomebodyElse(t *testing.T) {
	d := newDaemon(t)
	d.engine.User().Run(t, pod.SandboxName(podConfig("web").GetMetadata()), nil)
	before := d.engine.String()
	d.engine.Fail(enginetest.Fault{Method: "CreateSandbox"})
	_, err := d.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: podConfig("web")})
	wantCode(t, err, codes.Unavailable)
	if strings.Contains(err.Error(), "cleaning up") {
		t.Errorf("error %v", err)
	}
	if after := d.engine.String(); after != before {
		t.Errorf("the engine held\n%sand now\n%s", before, after)
	}
}

func TestListFilters(t *testing.T) {
	d := newDaemon(t)
	web, db := podConfig("web"), podConfig("db")
	web.Labels, db.Labels = map[string]string{"app": "web", "tier": "1"}, map[string]string{"app": "db", "tier": "1"}
	webID, dbID := d.run(t, web), d.run(t, db)
	if err := d.stop(t, webID); err != nil {
		t.Fatal(err)
	}
	ready := &runtimeapi.PodSandboxStateValue{State: runtimeapi.PodSandboxState_SANDBOX_READY}
	for name, tt := range map[string]struct {
		filter *runtimeapi.PodSandboxFilter
		want   string
	}{
		"none, newest first": {nil, "db SANDBOX_READY, web SANDBOX_NOTREADY"},
		"id":                 {&runtimeapi.PodSandboxFilter{Id: dbID}, "db SANDBOX_READY"},
		"state":              {&runtimeapi.PodSandboxFilter{State: ready}, "db SANDBOX_READY"},
		"label":              {&runtimeapi.PodSandboxFilter{LabelSelector: map[string]string{"app": "web"}}, "web SANDBOX_NOTREADY"},
		"all at once":        {&runtimeapi.PodSandboxFilter{Id: dbID, State: ready, LabelSelector: map[string]string{"tier": "1"}}, "db SANDBOX_READY"},
		"nothing fits":       {&runtimeapi.PodSandboxFilter{Id: webID, State: ready}, ""},
	} {
		if got := d.listed(t, tt.filter); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
		if got := d.streamed(t, tt.filter); got != tt.want {
			t.Errorf("%s, streamed: %q, want %q", name, got, tt.want)
		}
	}
}

func (d *daemon) streamed(t *testing.T, filter *runtimeapi.PodSandboxFilter) string {
	t.Helper()
	var lines []string
	for _, batch := range d.batches(t, filter) {
		for _, s := range batch {
			lines = append(lines, s.GetMetadata().GetName()+" "+s.GetState().String())
		}
	}
	return strings.Join(lines, ", ")
}

func (d *daemon) batches(t *testing.T, filter *runtimeapi.PodSandboxFilter) (batches [][]*runtimeapi.PodSandbox) {
	t.Helper()
	stream, err := d.StreamPodSandboxes(t.Context(), &runtimeapi.StreamPodSandboxesRequest{Filter: filter})
	if err != nil {
		t.Fatal(err)
	}
	for {
		resp, err := stream.Recv()
		if errors.Is(err, context.Canceled) || err != nil && err.Error() == "EOF" {
			return batches
		}
		if err != nil {
			t.Fatal(err)
		}
		batches = append(batches, resp.GetPodSandboxes())
	}
}

func TestStreamComesInBatches(t *testing.T) {
	d := newDaemon(t)
	if got := d.batches(t, nil); len(got) != 1 || len(got[0]) != 0 {
		t.Errorf("empty list: %v, want one empty batch", got)
	}
	for i := range 25 {
		d.run(t, podConfig(fmt.Sprint("p", i)))
	}
	var sizes []int
	seen := map[string]bool{}
	for _, batch := range d.batches(t, nil) {
		sizes = append(sizes, len(batch))
		for _, s := range batch {
			seen[s.GetId()] = true
		}
	}
	if diff := cmp.Diff([]int{10, 10, 5}, sizes); diff != "" || len(seen) != 25 {
		t.Errorf("batches of %v with %d different sandboxes", sizes, len(seen))
	}
}
