package network

import (
	"context"
	"encoding/json"
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

// Whatever a plugin does in ADD behind a bridge that succeeded: the right error,
// in time, and nothing left.
func TestAddFails(t *testing.T) {
	deadline := context.DeadlineExceeded
	for name, tc := range map[string]struct {
		chaos string
		want  string
		kind  error
		soon  time.Duration // the answer comes within; zero: 2 s
	}{
		"hangs":                        {`{"verbs": ["ADD"], "sleep": "60s"}`, "signal: terminated", deadline, 3 * time.Second},
		"hangs and ignores SIGTERM":    {`{"verbs": ["ADD"], "sleep": "60s", "stubborn": true}`, "signal: killed", deadline, 5 * time.Second},
		"hangs, a child holds stdout":  {`{"verbs": ["ADD"], "sleep": "60s", "child": "60s"}`, "signal: terminated", deadline, 3 * time.Second},
		"both ignore SIGTERM":          {`{"verbs": ["ADD"], "sleep": "60s", "child": "60s", "stubborn": true}`, "signal: killed", deadline, 5 * time.Second},
		"exits 1 silently":             {`{"verbs": ["ADD"], "fault": true, "exit": 1}`, `plugin "chaosplugin" ADD: exit status 1`, nil, 0},
		"exits 1 with a word":          {`{"verbs": ["ADD"], "fault": true, "exit": 1, "stderr": "no such bridge"}`, `exit status 1, stderr: "no such bridge"`, nil, 0},
		"prints garbage and exits 1":   {`{"verbs": ["ADD"], "fault": true, "exit": 1, "print": "<html>"}`, `exit status 1, printed "<html>"`, nil, 0},
		"prints garbage":               {`{"verbs": ["ADD"], "fault": true, "print": "<html>"}`, `printed "<html>" instead of a result`, nil, 0},
		"prints nothing":               {`{"verbs": ["ADD"], "fault": true}`, "printed no result", nil, 0},
		"prints null":                  {`{"verbs": ["ADD"], "fault": true, "print": "null"}`, "printed null instead of a result", nil, 0},
		"prints {}":                    {`{"verbs": ["ADD"], "fault": true, "print": "{}"}`, "gave eth0 of the sandbox no address", nil, 0},
		"prints a list":                {`{"verbs": ["ADD"], "fault": true, "print": "[]"}`, `printed "[]" instead of a result`, nil, 0},
		"index too high":               {badIndex(1), "on interface 1 of 1", nil, 0},
		"index below 0":                {badIndex(-1), "on interface -1 of 1", nil, 0},
		"null among addresses":         {`{"verbs": ["ADD"], "fault": true, "print": "{\"cniVersion\":\"0.4.0\",\"ips\":[null]}"}`, "a null among", nil, 0},
		"address of another interface": {otherInterface(), "gave eth0 of the sandbox no address", nil, 0},
		"says it is gone":              {`{"verbs": ["ADD"], "fault": true, "exit": 1, "code": 3}`, "CNI code 3: chaos; as told", nil, 0},
		"says try again later":         {`{"verbs": ["ADD"], "fault": true, "exit": 1, "code": 11}`, "CNI code 11: chaos; as told", errdefs.ErrUnavailable, 0},
		"says it is not ready":         {`{"verbs": ["ADD"], "fault": true, "exit": 1, "code": 50}`, "CNI code 50: chaos; as told", nil, 0},
		"writes megabytes":             {`{"verbs": ["ADD"], "flood": 4000000}`, "printed more than 1048576 bytes", nil, 0},
		"writes megabytes and exits 1": {`{"verbs": ["ADD"], "flood": 4000000, "fault": true, "exit": 1}`, "(1048576 bytes)", nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			n.write("10-bridge.conflist", n.bridge(chaos(tc.chaos)))
			n.start()
			req := n.sandbox("a")
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second) // of which ADD gets half
			defer cancel()
			begun := time.Now()

			_, err := n.Attach(ctx, req)

			took := time.Since(begun)
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "10-bridge.conflist") {
				t.Errorf("error is %v, want %q", err, tc.want)
			}
			if len(err.Error()) > 8000 {
				t.Errorf("error has %d bytes", len(err.Error()))
			}
			if tc.kind != nil && !errors.Is(err, tc.kind) {
				t.Errorf("error is no %v: %v", tc.kind, err)
			}
			if took > max(tc.soon, 2*time.Second) {
				t.Errorf("it took %v", took)
			}
			n.nothingLeft(req.SandboxID)
		})
	}
}

func badIndex(index int) string {
	return printing(fmt.Sprintf(`{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"x"}],"ips":[{"address":"10.0.0.1/8","interface":%d}]}`, index))
}

func otherInterface() string {
	return printing(`{"cniVersion":"1.0.0","interfaces":[{"name":"eth0"},{"name":"eth1","sandbox":"x"}],"ips":[{"address":"10.0.0.1/8","interface":0},{"address":"10.0.0.1/8","interface":1}]}`)
}

func printing(result string) string {
	return fmt.Sprintf(`{"verbs": ["ADD"], "fault": true, "print": %q}`, result)
}

// A plugin that left a process holding its output has done what it was asked for.
func TestAddSucceedsThoughAChildHoldsStdout(t *testing.T) {
	n := newNode(t)
	n.write("10-bridge.conflist", n.bridge(chaos(`{"verbs": ["ADD"], "child": "8s"}`)))
	n.start()
	req := n.sandbox("a")
	begun := time.Now()

	n.attach(req)

	if took := time.Since(begun); took > 4*time.Second {
		t.Errorf("it took %v", took)
	}
	n.detach(req.SandboxID)
	n.nothingLeft()
}

func TestAddFailsWhereTheAddressesAreUsedUp(t *testing.T) {
	n := newNode(t)
	n.write("10-bridge.conflist", strings.Replace(n.bridge(), "10.88.0.0/16", "10.88.0.0/30", 1))
	n.start()
	first := n.attach(n.sandbox("a"))

	_, err := n.Attach(t.Context(), n.sandbox("b"))

	if err == nil || !strings.Contains(err.Error(), "no IP addresses available") {
		t.Errorf("error is %v", err)
	}
	n.detach(first.SandboxID)
	n.nothingLeft()
}

func TestAMissingPluginIsNamedBeforeAnythingIsMade(t *testing.T) {
	for name, conf := range map[string]func(*node) string{
		"plugin":   func(n *node) string { return n.bridge(`{"type": "absent"}`) },
		"delegate": func(n *node) string { return strings.Replace(n.bridge(), "host-local", "absent", 1) },
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			n.cfg.Step = func(name string) { t.Errorf("step %s is done", name) }
			n.write("10-bridge.conflist", conf(n))
			n.start()

			_, err := n.Attach(t.Context(), n.sandbox("a"))

			want := `plugin "absent" not found in ` + strings.Join(n.cfg.BinDirs, ", ")
			if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), want) {
				t.Errorf("error is %v", err)
			}
			if status := n.Status(); status.Ready || status.Reason != "PluginMissing" || !strings.Contains(status.Message, want) {
				t.Errorf("status is %+v", status)
			}
			n.nothingLeft()
		})
	}
}

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

// The pin keeps the namespace alive, so that DEL also finds its masquerade rules.
func TestDelAfterTheSandboxDied(t *testing.T) {
	n := newNode(t)
	n.write("10-bridge.conflist", strings.Replace(n.bridge(), `"isGateway": true`, `"isGateway": true, "ipMasq": true`, 1))
	n.start()
	req := n.sandbox("a")
	n.attach(req)
	if got := n.left(); len(got.Chains) == 0 {
		t.Fatal("the bridge plugin made no masquerade chain: this test shows nothing")
	}
	process, err := os.FindProcess(req.PID)
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Kill(); err != nil {
		t.Fatal(err)
	}

	n.detach(req.SandboxID)

	n.nothingLeft()
}

// Where the recorded namespace is gone, plugins are told that there is none.
func TestDelWithoutTheNamespace(t *testing.T) {
	for name, spoil := range map[string]func(*node, record){
		"reboot": func(n *node, rec record) {
			rec.BootID = "another"
			if err := n.save(rec); err != nil {
				n.t.Fatal(err)
			}
		},
		"unpinned": func(n *node, rec record) {
			if err := unpin(rec.NetnsPath); err != nil {
				n.t.Fatal(err)
			}
		},
		"plain file": func(n *node, rec record) {
			if err := errors.Join(unpin(rec.NetnsPath), os.WriteFile(rec.NetnsPath, nil, 0o600)); err != nil {
				n.t.Fatal(err)
			}
		},
		"another namespace": func(n *node, rec record) {
			ns, err := openNetns(n.t.Context(), n.sandbox("other"))
			if err != nil {
				n.t.Fatal(err)
			}
			defer ns.Close()
			if err := pin(ns, rec.NetnsPath); err != nil {
				n.t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			dump := filepath.Join(t.TempDir(), "dump")
			n.write("10-bridge.conflist", n.bridge(chaos(fmt.Sprintf(`{"dump": %q}`, dump))))
			n.start()
			req := n.sandbox("a")
			n.attach(req)
			rec, _ := n.record(req.SandboxID)
			spoil(n, rec)
			n.start()

			n.detach(req.SandboxID)

			calls := n.calls(dump)
			if last := calls[len(calls)-1]; last.Verb != "DEL" || last.Netns != "" {
				t.Errorf("last call is %s with CNI_NETNS %q", last.Verb, last.Netns)
			}
			process, err := os.FindProcess(req.PID)
			if err != nil {
				t.Fatal(err)
			}
			if err := process.Kill(); err != nil { // its veth goes with it
				t.Fatal(err)
			}
			n.nothingLeft()
		})
	}
}

// libcni's cache file may be damaged by a loss of power: DEL gets the result that
// is recorded.
func TestDelWithADamagedCache(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"missing": os.Remove,
		"empty":   func(path string) error { return os.Truncate(path, 0) },
		"cut":     func(path string) error { return os.Truncate(path, 100) },
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			dump := filepath.Join(t.TempDir(), "dump")
			n.write("10-bridge.conflist", n.bridge(chaos(fmt.Sprintf(`{"dump": %q}`, dump))))
			n.start()
			req := n.sandbox("a")
			n.attach(req)
			if err := damage(filepath.Join(n.cfg.StateDir, "cni", "results", "podnet-"+req.SandboxID+"-eth0")); err != nil {
				t.Fatal(err)
			}

			n.detach(req.SandboxID)

			calls := n.calls(dump)
			var conf struct{ PrevResult json.RawMessage }
			if err := json.Unmarshal(calls[len(calls)-1].Config, &conf); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(conf.PrevResult), "10.88.0.2/16") {
				t.Errorf("DEL got prevResult %s", conf.PrevResult)
			}
			n.nothingLeft()
		})
	}
}

// Without its record, or with a damaged one, a sandbox is detached by what else
// tells of it.
func TestDelWithoutARecord(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"missing": os.Remove,
		"cut":     func(path string) error { return os.Truncate(path, 100) },
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			n.write("10-bridge.conflist", n.bridge())
			n.start()
			req := n.sandbox("a")
			n.attach(req)
			if err := damage(filepath.Join(n.recordDir(), recordFile(req.SandboxID))); err != nil {
				t.Fatal(err)
			}
			n.start()
			if a, ok := n.Attachment(req.SandboxID); ok {
				t.Errorf("attachment is %+v", a)
			}

			n.detach(req.SandboxID)

			aside := filepath.Join(n.recordDir(), "quarantine")
			if name == "cut" {
				if _, err := os.Stat(filepath.Join(aside, recordFile(req.SandboxID))); err != nil || !strings.Contains(n.log.String(), "damaged") {
					t.Errorf("the damaged record is not kept (%v), or it is not said: %s", err, n.log)
				}
				if err := os.RemoveAll(aside); err != nil {
					t.Fatal(err)
				}
			}
			n.nothingLeft()
		})
	}
}
