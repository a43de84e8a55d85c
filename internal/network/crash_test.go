package network

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/mascri/mascri/internal/pod"
)

// crashTask holds the JSON form of a task for a process that is to be killed.
const crashTask = "MASCRI_NETWORK_TEST_CRASH"

// task is one call, and the step at which the process kills itself.
type task struct {
	ConfigDir, StateDir, NetnsDir string
	BinDirs                       []string
	SandboxID                     string
	PID                           int // 0: Detach
	Step                          string
	Delay                         time.Duration // after the step, until the kill
}

// crash does a task. It returns only if the step never comes.
func crash(text string) error {
	var do task
	if err := json.Unmarshal([]byte(text), &do); err != nil {
		return err
	}
	n, err := New(Config{
		ConfigDir: do.ConfigDir, BinDirs: do.BinDirs, StateDir: do.StateDir, NetnsDir: do.NetnsDir,
		Forward: &fakeForwarder{},
		Logger:  slog.New(slog.NewTextHandler(io.Discard, nil)),
		Step: func(name string) {
			if name == do.Step {
				time.Sleep(do.Delay)
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
		},
	})
	if err != nil {
		return err
	}
	if do.PID == 0 {
		err = n.Detach(context.Background(), do.SandboxID, nil)
	} else {
		_, err = n.Attach(context.Background(), pod.AttachRequest{
			SandboxID: do.SandboxID, PID: do.PID, Confirm: func(context.Context) error { return nil },
		})
	}
	return err
}

// crashAt runs one call in a process of its own, which is killed delay after step.
func (n *node) crashAt(step string, delay time.Duration, sandboxID string, pid int) {
	n.t.Helper()
	text, err := json.Marshal(task{
		ConfigDir: n.cfg.ConfigDir, StateDir: n.cfg.StateDir, NetnsDir: n.cfg.NetnsDir, BinDirs: n.cfg.BinDirs,
		SandboxID: sandboxID, PID: pid, Step: step, Delay: delay,
	})
	if err != nil {
		n.t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		n.t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), crashTask+"="+string(text))
	out, _ := cmd.CombinedOutput()
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() || status.Signal() != syscall.SIGKILL {
		n.t.Fatalf("step %s: %v: %s", step, cmd.ProcessState, out)
	}
}

// Killed at any step, the daemon leaves a record from which its next life undoes
// what happened, or an attachment that is complete.
func TestKilledAtAnyStep(t *testing.T) {
	for _, tc := range []struct {
		step   string
		detach bool      // the step is one of Detach
		want   pod.Phase // at the next start; "": no attachment
	}{
		{step: "record", want: pod.Attaching},
		{step: "pin", want: pod.Attaching},
		{step: "add-start", want: pod.Attaching},
		{step: "add-done", want: pod.Attaching},
		{step: "complete", want: pod.Attached},
		{step: "detaching", detach: true, want: pod.Detaching},
		{step: "del-start", detach: true, want: pod.Detaching},
		{step: "del-done", detach: true, want: pod.Detaching},
		{step: "unpin", detach: true, want: pod.Detaching},
	} {
		t.Run(tc.step, func(t *testing.T) {
			n := newNode(t)
			n.write("10-bridge.conflist", n.bridge(`{"type": "portmap", "capabilities": {"portMappings": true}}`))
			for round := range 4 {
				// At a plugin's start, this is what it gets done before the kill.
				delay := time.Duration(round) * 7 * time.Millisecond
				req := n.sandbox(fmt.Sprint(tc.step, round))
				if tc.detach {
					n.start()
					n.attach(req)
					n.crashAt(tc.step, delay, req.SandboxID, 0)
				} else {
					n.crashAt(tc.step, delay, req.SandboxID, req.PID)
				}

				n.start()

				if a, _ := n.Attachment(req.SandboxID); a.Phase != tc.want {
					t.Errorf("attachment is %q, want %q", a.Phase, tc.want)
				}
				n.detach(req.SandboxID)
				n.nothingLeft(req.SandboxID)
			}
		})
	}
}

// The daemon was killed, its plugin lives: DEL comes after that plugin's end.
func TestDetachWaitsForAPluginThatOutlivedTheDaemon(t *testing.T) {
	n := newNode(t)
	n.write("10-bridge.conflist", `{"cniVersion": "1.0.0", "name": "podnet", "plugins": [`+
		chaos(`{"verbs": ["ADD"], "sleep": "1s"}`)+`]}`)
	req := n.sandbox("a")
	n.crashAt("add-start", 100*time.Millisecond, req.SandboxID, req.PID)
	n.start()
	if len(pluginsOf(req.SandboxID)) == 0 {
		t.Fatal("the plugin has ended: this test shows nothing")
	}

	n.detach(req.SandboxID)

	n.nothingLeft(req.SandboxID)
}

func TestSettleKillsWhatNeverEnds(t *testing.T) {
	cmd := exec.Command("sleep", "600")
	cmd.Env = []string{"CNI_CONTAINERID=" + sandboxID("stuck")}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()

	err := settle(t.Context(), sandboxID("stuck"), 100*time.Millisecond)

	if err != nil {
		t.Error(err)
	}
	if err := <-ended; err == nil {
		t.Error("the process ended by itself")
	}
}
