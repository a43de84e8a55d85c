package network

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
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
	req := n.sandbox("whose child lives on")
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
