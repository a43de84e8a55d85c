package e2e

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/test/chaos"
)

// outcome is what came of a step's fault.
type outcome struct {
	took  bool   // it hit something
	wrong string // what the contract forbids
}

// take does a step, up to the end of its fault.
func (c *chaosNode) take(t *testing.T, s chaos.Step, before chaos.Model) outcome {
	t.Helper()
	switch s.Fault {
	case chaos.CrashDaemon:
		return c.crash(t, s)
	case chaos.KillDaemon, chaos.RestartEngine, chaos.KillEngine:
		return c.end(t, s)
	case chaos.KillSandbox:
		pid := c.inspect(t, c.known[s.Victim].id).pid(t)
		return outcome{took: unix.Kill(pid, unix.SIGKILL) == nil}
	case chaos.RemoveSandbox:
		c.docker(t, "rm", "-f", c.known[s.Victim].id)
		return outcome{took: true}
	case chaos.EditConfig:
		if !c.edit(t, s.Config) {
			return outcome{wrong: "the daemon does not take notice of the config"}
		}
		return outcome{took: true}
	case chaos.FailPlugin:
		return c.failPlugin(t, s)
	case chaos.FillDisk:
		return c.fillDisk(t, s)
	case chaos.JumpClock:
		return c.jump(t, s, before)
	}
	return outcome{took: true, wrong: unlike(s, before, <-c.send(s.Requests, time.Minute))}
}

// unlike tells which answers are not those that a node without a fault gives.
func unlike(s chaos.Step, before chaos.Model, errs []error) string {
	var wrong []string
	for i, r := range s.Requests {
		refused := r.Verb == chaos.Run && !r.HostNetwork && before.InUse == chaos.Empty
		if (errs[i] != nil) != refused {
			wrong = append(wrong, fmt.Sprintf("answer to %s of pod %d: %v", r.Verb, r.Pod, errs[i]))
		}
	}
	return strings.Join(wrong, "\n")
}

func (c *chaosNode) crash(t *testing.T, s chaos.Step) outcome {
	t.Helper()
	c.arm(t, s.At)
	answers := c.send(s.Requests, time.Minute)
	landed := c.awaitDeath()
	if landed {
		c.wait(t)
		c.launch(t)
	}
	errs := <-answers
	if !landed {
		return outcome{wrong: fmt.Sprintf("the daemon did not come to its step %s: %v", s.At, errors.Join(errs...))}
	}
	return outcome{took: true}
}

func (c *chaosNode) awaitDeath() bool {
	select {
	case <-c.ended:
		return true
	case <-time.After(time.Minute):
		return false
	}
}

// restart is a kill -9 and a start.
func (c *chaosNode) restart(t *testing.T) {
	t.Helper()
	c.kill(t)
	c.launch(t)
}

// end kills the daemon or ends the engine while requests are served, and starts it again.
func (c *chaosNode) end(t *testing.T, s chaos.Step) outcome {
	t.Helper()
	answers := c.send(s.Requests, time.Minute)
	time.Sleep(s.After)
	switch s.Fault {
	case chaos.RestartEngine:
		c.engine.Stop(t)
	case chaos.KillEngine:
		c.engine.Kill(t)
	}
	if s.Restart || s.Fault == chaos.KillDaemon {
		c.restart(t)
	}
	if s.Fault != chaos.KillDaemon {
		c.engine.Start(t)
	}
	errs := <-answers
	return outcome{took: len(errs) == 0 || errors.Join(errs...) != nil}
}

// behaviours are those of the chaos plugin.
var behaviours = map[chaos.Plugin]string{
	chaos.AddDies:    `"verbs": ["ADD"], "fault": true, "exit": 1`,
	chaos.AddLater:   `"verbs": ["ADD"], "fault": true, "code": 11, "exit": 1`,
	chaos.AddGarbage: `"verbs": ["ADD"], "fault": true, "print": "}{"`,
	chaos.AddHangs:   `"verbs": ["ADD"], "sleep": "600s"`,
	chaos.DelFails:   `"verbs": ["DEL"], "fault": true, "code": 11, "exit": 1`,
	chaos.BothFail:   `"verbs": ["ADD", "DEL"], "fault": true, "exit": 1`,
}

func (c *chaosNode) failPlugin(t *testing.T, s chaos.Step) outcome {
	t.Helper()
	text := fmt.Sprintf(`{%s, "dump": %q}`, behaviours[s.Plugin], c.calls)
	if err := errors.Join(os.RemoveAll(c.calls), os.WriteFile(c.behaviour, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
	deadline := time.Minute
	if s.Plugin == chaos.AddHangs {
		deadline = 4 * time.Second
	}
	if s.At != "" {
		c.arm(t, s.At)
	}
	answers := c.send(s.Requests, deadline)
	if s.At != "" {
		if !c.awaitDeath() {
			return outcome{wrong: "the daemon did not come to its step " + s.At}
		}
		c.wait(t)
		c.launch(t)
	}
	errs := <-answers
	if err := os.Remove(c.behaviour); err != nil {
		t.Fatal(err)
	}
	if s.Restart {
		c.restart(t)
	}
	_, err := os.Stat(c.calls)
	o := outcome{took: err == nil}
	if failed := errs[0] != nil; failed != (s.Plugin != chaos.DelFails) {
		o.wrong = fmt.Sprintf("the answer is: %v", errs[0])
	}
	return o
}

func (c *chaosNode) fillDisk(t *testing.T, s chaos.Step) outcome {
	t.Helper()
	var full []func()
	if s.Disk != chaos.StoreDisk {
		full = append(full, fill(t, c.state, s.Pages))
	}
	if s.Disk != chaos.StateDisk {
		full = append(full, fill(t, storeDir, s.Pages))
	}
	errs := <-c.send(s.Requests, time.Minute)
	if s.Restart {
		c.restart(t)
	}
	for _, free := range full {
		free()
	}
	err := errors.Join(errs...)
	return outcome{took: err != nil && strings.Contains(err.Error(), unix.ENOSPC.Error())}
}

// jump sets the daemon's clock while requests are served, which must not notice.
func (c *chaosNode) jump(t *testing.T, s chaos.Step, before chaos.Model) outcome {
	t.Helper()
	answers := c.send(s.Requests, time.Minute)
	time.Sleep(s.After)
	temp := c.clock + ".new"
	text := strconv.Itoa(int(s.Clock.Seconds()))
	if err := errors.Join(os.WriteFile(temp, []byte(text), 0o600), os.Rename(temp, c.clock)); err != nil {
		t.Fatal(err)
	}
	wrong := unlike(s, before, <-answers)
	within(t, "the daemon's clock jumped", func() bool { return c.clockIs(t, s.Clock) })
	return outcome{took: true, wrong: wrong}
}

// clockIs tells by the daemon's log whether its clock is so far ahead.
func (c *chaosNode) clockIs(t *testing.T, ahead time.Duration) bool {
	t.Helper()
	if _, err := c.cri.Version(t.Context(), &cri.VersionRequest{}); err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile(c.logFile)
	if err != nil {
		t.Fatal(err)
	}
	whole, _, _ := strings.Cut(lastLine(string(log)), " ")
	text := strings.TrimPrefix(whole, "time=")
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		t.Fatal(err)
	}
	return time.Since(at.Add(-ahead)).Abs() < 3*time.Second
}

// lastLine is the last whole one that begins with a time: a race report does not.
func lastLine(log string) string {
	log = log[:strings.LastIndex(log, "\n")+1]
	return log[strings.LastIndex(log, "\ntime=")+1:]
}
