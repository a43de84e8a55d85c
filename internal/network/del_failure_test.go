package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

// A DEL that fails keeps nobody waiting: what is left goes on the dirty queue, with its
// address reserved, outlives a restart, and is undone once the plugin does its part.
func TestDelFails(t *testing.T) {
	for name, tc := range map[string]struct {
		fault string
		want  string
		soon  time.Duration
	}{
		"exits 1":                     {`"fault": true, "exit": 1, "stderr": "bad luck"`, `plugin "chaosplugin" DEL: exit status 1, stderr: "bad luck"`, 0},
		"says try again later":        {`"fault": true, "exit": 1, "code": 11`, "CNI code 11", 0},
		"prints garbage":              {`"fault": true, "exit": 1, "print": "<html>"`, `printed "<html>"`, 0},
		"hangs":                       {`"sleep": "60s"`, "deadline exceeded", 3 * time.Second},
		"hangs, a child holds stdout": {`"sleep": "60s", "child": "60s", "stubborn": true`, "deadline exceeded", 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			mended := filepath.Join(t.TempDir(), "mended")
			n.write("10-bridge.conflist", n.bridge(chaos(fmt.Sprintf(`{"verbs": ["DEL"], "until": %q, %s}`, mended, tc.fault))))
			n.start()
			n.delTimeout = time.Second
			req := n.sandbox("a")
			a := n.attach(req)
			begun := time.Now()

			n.detach(req.SandboxID)

			if took := time.Since(begun); took > max(tc.soon, 3*time.Second) {
				t.Errorf("it took %v", took)
			}
			n.wantDirty(a, tc.want)
			if rec := n.recordOnDisk(req.SandboxID); rec.Phase != pod.Dirty {
				t.Errorf("record is %s", rec.Phase)
			}
			n.detach(req.SandboxID) // again, as the kubelet does
			n.start()               // a restart forgets nothing
			n.wantDirty(a, tc.want)
			if err := os.WriteFile(mended, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			n.run()
			n.nothingLeft(req.SandboxID)
		})
	}
}

// wantDirty asks for a as the one attachment on the dirty queue.
func (n *node) wantDirty(a pod.Attachment, says string) {
	n.t.Helper()
	dirty := n.Status().Dirty
	if len(dirty) != 1 || dirty[0].SandboxID != a.SandboxID || dirty[0].Pod != a.Pod || !strings.Contains(dirty[0].Error, says) || dirty[0].Tries < 1 {
		n.t.Errorf("dirty are %+v, want sandbox %s with an error that says %q", dirty, a.SandboxID, says)
	}
	if _, ok := n.Attachment(a.SandboxID); ok || len(n.Attachments()) > 0 {
		n.t.Error("it is shown as the sandbox's attachment still")
	}
	if got, want := n.left().Addresses, []string{a.IPs[0].String()}; !slices.Equal(got, want) {
		n.t.Errorf("reserved are %v, want %v", got, want)
	}
}

// One failure is none: DEL is tried again at once.
func TestDelFailsOnce(t *testing.T) {
	n := newNode(t)
	counter := filepath.Join(t.TempDir(), "calls")
	n.write("10-bridge.conflist", n.bridge(chaos(fmt.Sprintf(`{"verbs": ["DEL"], "counter": %q, "call": 1, "fault": true, "exit": 1}`, counter))))
	n.start()
	req := n.sandbox("a")
	n.attach(req)
	n.detach(req.SandboxID)
	n.nothingLeft(req.SandboxID)
}

// The queue goes on by itself, with growing pauses, and says what is wrong only once.
func TestTheDirtyQueueIsWorkedOff(t *testing.T) {
	n := newNode(t)
	mended := filepath.Join(t.TempDir(), "mended")
	n.write("10-bridge.conflist", n.bridge(chaos(fmt.Sprintf(`{"verbs": ["DEL"], "until": %q, "fault": true, "exit": 1, "stderr": "bad luck"}`, mended))))
	n.start()
	n.retryFirst = 50 * time.Millisecond
	n.run()
	a := n.attach(n.sandbox("a"))
	n.detach(a.SandboxID)
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if dirty := n.Status().Dirty; len(dirty) == 1 && dirty[0].Tries >= 3 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("dirty are %+v", n.Status().Dirty)
		}
	}
	if got := strings.Count(n.log.String(), "level=WARN"); got != 1 {
		t.Errorf("%d warnings are logged: %s", got, n.log.String())
	}
	if !pinned(a.NetnsPath, a.NetnsInode) {
		t.Error("the pin is gone while the namespace still has the pod's interface")
	}
	if err := os.WriteFile(mended, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	n.nothingLeft(a.SandboxID)
	if !strings.Contains(n.log.String(), "is undone") {
		t.Error("it is not said that it is clean")
	}
}

func TestRetriesBackOff(t *testing.T) {
	n := &Network{retryFirst: retryFirst}
	for tries, want := range map[int]time.Duration{1: 10 * time.Second, 2: 20 * time.Second, 5: 160 * time.Second, 6: retryMost, 1000: retryMost} {
		if got := n.backoff(tries); got != want {
			t.Errorf("after %d tries: %v, want %v", tries, got, want)
		}
	}
}

// With its interface gone, a namespace is of no use to DEL any more.
func TestAnEmptyNamespaceIsUnpinned(t *testing.T) {
	n := newNode(t)
	bin := t.TempDir()
	real := filepath.Join(n.cfg.BinDirs[0], "host-local")
	if err := os.Symlink(real, filepath.Join(bin, "leaving")); err != nil {
		t.Fatal(err)
	}
	n.cfg.BinDirs = append(n.cfg.BinDirs, bin)
	n.write("10-bridge.conflist", strings.Replace(n.bridge(), "host-local", "leaving", 1))
	n.start()
	a := n.attach(n.sandbox("a"))
	if err := os.Remove(filepath.Join(bin, "leaving")); err != nil {
		t.Fatal(err)
	}

	n.detach(a.SandboxID)

	n.wantDirty(a, `"leaving"`)
	if l := n.left(); len(l.Veths)+len(l.Pins) > 0 {
		t.Errorf("left are %v and %v", l.Veths, l.Pins)
	}
	if err := os.Symlink(real, filepath.Join(bin, "leaving")); err != nil {
		t.Fatal(err)
	}
	n.start().run()
	n.nothingLeft()
}

// Code 3 means that there is nothing to clean: the plugins before it still clean.
func TestDelOfAnUnknownContainerGoesOn(t *testing.T) {
	n := newNode(t)
	n.write("10-bridge.conflist", n.bridge(chaos(`{"verbs": ["DEL"], "fault": true, "exit": 1, "code": 3}`)))
	n.start()
	req := n.sandbox("a")
	n.attach(req)
	n.detach(req.SandboxID)
	n.nothingLeft()
}

func TestAddAndDelFail(t *testing.T) {
	n := newNode(t)
	counter := filepath.Join(t.TempDir(), "calls")
	n.write("10-bridge.conflist", n.bridge(
		chaos(fmt.Sprintf(`{"verbs": ["DEL"], "counter": %q, "call": 1, "fault": true, "exit": 1, "stderr": "second"}`, counter)),
		chaos(`{"verbs": ["ADD"], "fault": true, "exit": 1, "stderr": "first"}`)))
	n.start()
	req := n.sandbox("a")

	_, err := n.Attach(t.Context(), req)

	if err == nil || !strings.Contains(err.Error(), "first") || !strings.Contains(err.Error(), "second") {
		t.Errorf("error is %v", err)
	}
	if a, ok := n.Attachment(req.SandboxID); !ok || a.Phase != pod.Detaching {
		t.Errorf("attachment is %+v, %v", a, ok)
	}
	n.detach(req.SandboxID)
	n.nothingLeft()
}

// The client's haste ends neither the cleaning up nor a DEL under way.
func TestCleaningUpOutlivesTheRequest(t *testing.T) {
	n := newNode(t)
	n.write("10-bridge.conflist", n.bridge(chaos(`{"verbs": ["DEL"], "sleep": "500ms"}`), chaos(`{"verbs": ["ADD"], "sleep": "60s"}`)))
	n.start()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := n.Attach(ctx, n.sandbox("a")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v", err)
	}
	n.nothingLeft()

	n.write("10-bridge.conflist", n.bridge(chaos(`{"verbs": ["DEL"], "sleep": "500ms"}`)))
	a := n.attach(n.sandbox("b"))
	ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := n.Detach(ctx, a.SandboxID, nil); err != nil {
		t.Error(err)
	}
	n.nothingLeft()
}

// One sandbox is worked on by one call at a time, and waiting ends with ctx.
func TestASecondCallWaitsForTheFirst(t *testing.T) {
	n := newNode(t)
	running := make(chan struct{}, 2)
	n.cfg.Step = func(name string) {
		if name == "add-start" {
			running <- struct{}{}
		}
	}
	n.write("10-bridge.conflist", n.bridge(chaos(`{"verbs": ["ADD"], "sleep": "1s"}`)))
	n.start()
	req := n.sandbox("a")
	done := make(chan error)
	go func() {
		_, err := n.Attach(t.Context(), req)
		done <- err
	}()
	<-running
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()

	if err := n.Detach(ctx, req.SandboxID, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v", err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	n.detach(req.SandboxID)
	n.nothingLeft()
}

// A plugin whose binary is missing keeps the others from nothing but the address: the
// host port is free again.
func TestDelWithAMissingPlugin(t *testing.T) {
	n := newNode(t)
	bin := t.TempDir()
	gone := filepath.Join(bin, "passing")
	target := filepath.Join(n.cfg.BinDirs[1], "chaosplugin")
	if err := os.Symlink(target, gone); err != nil {
		t.Fatal(err)
	}
	n.cfg.BinDirs = append(n.cfg.BinDirs, bin)
	dump := filepath.Join(t.TempDir(), "dump")
	n.write("10-bridge.conflist", n.bridge(chaos(fmt.Sprintf(`{"dump": %q}`, dump)), `{"type": "portmap", "capabilities": {"portMappings": true}}`, `{"type": "passing"}`))
	n.start()
	req := n.sandbox("a")
	req.PortMappings = []*cri.PortMapping{{HostPort: 8080, ContainerPort: 80}}
	a := n.attach(req)
	if err := os.Remove(gone); err != nil {
		t.Fatal(err)
	}

	n.detach(req.SandboxID)

	n.wantDirty(a, `plugin "passing" not found in `+strings.Join(n.cfg.BinDirs, ", "))
	if chains := n.left().Chains; len(chains) > 0 {
		t.Errorf("port mappings are left: %v", chains)
	}
	calls := n.calls(dump)
	if last := calls[len(calls)-1]; last.Verb != "DEL" || !strings.Contains(string(last.Config), `"prevResult"`) {
		t.Errorf("last call is %s with %s", last.Verb, last.Config)
	}
	if err := os.Symlink(target, gone); err != nil {
		t.Fatal(err)
	}
	n.start().run()
	n.nothingLeft()
}
