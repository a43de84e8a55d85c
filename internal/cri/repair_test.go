package cri_test

import (
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine/enginetest"
	"github.com/mascri/mascri/internal/pod"
)

// What a start finds of an earlier life, and what becomes of it.
func TestRecovery(t *testing.T) {
	create := func(t *testing.T, l life, config *runtimeapi.PodSandboxConfig) string {
		t.Helper()
		id, err := l.engine.CreateSandbox(t.Context(), pod.SandboxSpec{
			Name: pod.SandboxName(config.GetMetadata()), Instance: instance, Config: config, Image: enginetest.FakeImage,
		})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	start := func(t *testing.T, l life, id string) pod.Sandbox {
		t.Helper()
		if err := l.engine.Start(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		sandbox, err := l.engine.Inspect(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return sandbox
	}
	for name, tt := range map[string]struct {
		before   func(t *testing.T, l life)
		listed   string
		attached bool
	}{
		"whole": {func(t *testing.T, l life) {
			s := start(t, l, create(t, l, podConfig("web")))
			l.network.put(s.ID, pod.Attached, s.NetnsInode)
		}, "web SANDBOX_READY", true},
		"whole, on the host network": {func(t *testing.T, l life) {
			start(t, l, create(t, l, hostConfig("web")))
		}, "web SANDBOX_READY", false},
		"created, never started": {func(t *testing.T, l life) {
			create(t, l, podConfig("web"))
		}, "", false},
		"started, never attached": {func(t *testing.T, l life) {
			start(t, l, create(t, l, podConfig("web")))
		}, "", false},
		"in the middle of ADD": {func(t *testing.T, l life) {
			l.network.put(start(t, l, create(t, l, podConfig("web"))).ID, pod.Attaching, 0)
		}, "", false},
		"in the middle of undoing a failed ADD": {func(t *testing.T, l life) {
			s := start(t, l, create(t, l, podConfig("web")))
			l.network.set(func(n *fakeNetwork) {
				n.attachments[s.ID] = pod.Attachment{SandboxID: s.ID, Phase: pod.Detaching, NetnsInode: s.NetnsInode, Network: "fake"}
			})
		}, "", false},
		"in the middle of stop": {func(t *testing.T, l life) {
			s := start(t, l, create(t, l, podConfig("web")))
			l.engine.User().Terminate(t, s.ID)
			l.network.put(s.ID, pod.Detaching, s.NetnsInode)
		}, "web SANDBOX_NOTREADY", false},
		"stopped": {func(t *testing.T, l life) {
			l.engine.User().Terminate(t, start(t, l, create(t, l, podConfig("web"))).ID)
		}, "web SANDBOX_NOTREADY", false},
		"died meanwhile": {func(t *testing.T, l life) {
			s := start(t, l, create(t, l, podConfig("web")))
			l.network.put(s.ID, pod.Attached, s.NetnsInode)
			l.engine.User().Terminate(t, s.ID)
		}, "web SANDBOX_NOTREADY", false},
		"restarted meanwhile: another netns": {func(t *testing.T, l life) {
			s := start(t, l, create(t, l, podConfig("web")))
			l.network.put(s.ID, pod.Attached, s.NetnsInode)
			l.engine.User().Terminate(t, s.ID)
			start(t, l, s.ID)
		}, "web SANDBOX_NOTREADY", false},
		"removed meanwhile": {func(_ *testing.T, l life) {
			l.network.put("gone", pod.Attached, 7)
		}, "", false},
		"somebody else's": {func(t *testing.T, l life) {
			l.engine.User().Run(t, "nginx", nil)
		}, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLife(t)
			tt.before(t, l)
			d := startDaemon(t, l)
			// Nothing half made is ever seen, not even right after the start.
			if got := d.listed(t, nil); tt.listed == "" && got != "" {
				t.Errorf("listed right after the start: %q", got)
			}
			eventually(t, "repaired", func() bool { return d.listed(t, nil) == tt.listed && (d.network.String() != "") == tt.attached })
			if name == "somebody else's" && d.engine.String() != "nginx running exit=0 foreign\n" {
				t.Errorf("somebody else's container was touched: %s", d.engine)
			}
			if tt.listed == "" && name != "somebody else's" {
				eventually(t, "removed", func() bool { return d.engine.String() == "" })
			}
		})
	}
}

// A sandbox whose attachment was lost goes with the containers that run in it.
func TestRecoveryRemovesTheContainers(t *testing.T) {
	d := newDaemon(t)
	id := d.run(t, podConfig("web"))
	d.mustStart(t, id, containerConfig("app"))
	d.end()
	d.network.set(func(n *fakeNetwork) { delete(n.attachments, id) })
	d = startDaemon(t, d.life)
	eventually(t, "nothing is left", func() bool { return d.engine.String() == "" })
	eventually(t, "nothing is shown", func() bool { return d.containers(t, nil)+d.listed(t, nil) == "" })
	d.wantClean(t)
}

func TestBehindOurBack(t *testing.T) {
	d := newDaemon(t)
	removed, died := d.run(t, podConfig("removed")), d.run(t, podConfig("died"))
	d.engine.User().Remove(t, removed)
	d.engine.User().Terminate(t, died)
	eventually(t, "both are off the network", func() bool { return d.network.String() == "" })
	eventually(t, "both are seen", func() bool { return d.listed(t, nil) == "died SANDBOX_NOTREADY" })
}

// A repair never touches a sandbox that is being made, however long that takes and
// whatever hints come meanwhile.
func TestRepairLeavesAlone(t *testing.T) {
	d := newDaemon(t)
	waiting, release := d.network.holdAttach(t)
	done := make(chan error, 1)
	go func() {
		_, err := d.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: podConfig("web")})
		done <- err
	}()
	<-waiting
	for range 20 {
		d.engine.Emit(pod.Hint{Kind: pod.HintConnected})
		time.Sleep(5 * time.Millisecond)
	}
	release()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := d.listed(t, nil); got != "web SANDBOX_READY" {
		t.Errorf("listed: %q", got)
	}
}

// Where the index shows what the engine contradicts, a repair asks it to look again.
func TestRepairRefreshesTheIndex(t *testing.T) {
	d := newDaemon(t)
	id := d.run(t, podConfig("web"))
	d.engine.Mute(true)
	d.engine.User().Terminate(t, id)
	if err := d.engine.Start(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	now, err := d.engine.Inspect(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	d.network.put(id, pod.Attached, now.NetnsInode)
	if got := d.listed(t, nil); got != "web SANDBOX_NOTREADY" {
		t.Fatalf("listed: %q", got)
	}
	d.changed(id)
	eventually(t, "it is shown as it is", func() bool { return d.listed(t, nil) == "web SANDBOX_READY" })
}

// Leaks are looked for once it is known what the engine has.
func TestLeaksAreLookedForAfterTheStart(t *testing.T) {
	l := newLife(t)
	calls := func() (list [][]string) {
		l.network.set(func(n *fakeNetwork) { list = n.mended })
		return list
	}
	first := startDaemon(t, l)
	eventually(t, "looked for", func() bool { return len(calls()) == 1 })
	id := first.run(t, podConfig("web"))
	startDaemon(t, l)
	eventually(t, "looked for again", func() bool { return len(calls()) == 2 })
	if got := calls(); len(got[0]) != 0 || len(got[1]) != 1 || got[1][0] != id {
		t.Errorf("sandboxes in use were %q", got)
	}
}
