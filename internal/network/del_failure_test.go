package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/mascri/mascri/internal/pod"
)

// A DEL that fails is told in time, is listed, and succeeds once the plugin does.
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
			counter := filepath.Join(t.TempDir(), "calls")
			n.write("10-bridge.conflist", n.bridge(chaos(fmt.Sprintf(`{"verbs": ["DEL"], "counter": %q, "call": 1, %s}`, counter, tc.fault))))
			n.start()
			n.delTimeout = time.Second
			req := n.sandbox("a")
			n.attach(req)
			begun := time.Now()

			err := n.Detach(t.Context(), req.SandboxID)

			took := time.Since(begun)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error is %v, want %q", err, tc.want)
			}
			if errdefs.IsNotFound(err) {
				t.Errorf("error would be taken for success: %v", err)
			}
			if took > max(tc.soon, 2*time.Second) {
				t.Errorf("it took %v", took)
			}
			if a, ok := n.Attachment(req.SandboxID); !ok || a.Phase != pod.Detaching {
				t.Errorf("attachment is %+v, %v", a, ok)
			}
			if rec := n.recordOnDisk(req.SandboxID); rec.Phase != pod.Detaching {
				t.Errorf("record is %s", rec.Phase)
			}
			n.start() // a restart forgets nothing
			n.detach(req.SandboxID)
			n.nothingLeft(req.SandboxID)
		})
	}
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
	if err := n.Detach(ctx, a.SandboxID); err != nil {
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

	if err := n.Detach(ctx, req.SandboxID); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v", err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	n.detach(req.SandboxID)
	n.nothingLeft()
}

func TestDelWithAMissingPluginNamesThePaths(t *testing.T) {
	n := newNode(t)
	bin := t.TempDir()
	gone := filepath.Join(bin, "passing")
	target := filepath.Join(n.cfg.BinDirs[1], "chaosplugin")
	if err := os.Symlink(target, gone); err != nil {
		t.Fatal(err)
	}
	n.cfg.BinDirs = append(n.cfg.BinDirs, bin)
	n.write("10-bridge.conflist", n.bridge(`{"type": "passing"}`))
	n.start()
	req := n.sandbox("a")
	n.attach(req)
	if err := os.Remove(gone); err != nil {
		t.Fatal(err)
	}

	err := n.Detach(t.Context(), req.SandboxID)

	if err == nil || !strings.Contains(err.Error(), `plugin "passing" not found in `+strings.Join(n.cfg.BinDirs, ", ")) || errdefs.IsNotFound(err) {
		t.Errorf("error is %v", err)
	}
	if err := os.Symlink(target, gone); err != nil {
		t.Fatal(err)
	}
	n.detach(req.SandboxID)
	n.nothingLeft()
}
