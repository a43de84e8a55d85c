package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine"
	"github.com/mascri/mascri/internal/engine/enginetest"
	"github.com/mascri/mascri/internal/pod"
	"github.com/mascri/mascri/test/registry"
)

// shells is an engine with an image that has a shell, and a sandbox.
type shells struct {
	enginetest.Subject
	e       *engine.Engine
	image   pod.Image
	sandbox pod.Sandbox
}

func newShells(t *testing.T, version enginetest.Version) shells {
	t.Helper()
	s := enginetest.Real(t, enginetest.Start(t, version, "--bridge=none", "--iptables=false"))
	e, ok := s.Engine.(*engine.Engine)
	if !ok {
		t.Fatalf("%T is no engine", s.Engine)
	}
	r := registry.Start(t, registry.Login{})
	r.Push(t, "shell", "1", registry.Image{Entrypoint: []string{"/bin/busybox"}})
	if err := e.PullImage(t.Context(), r.Ref("shell", "1"), pod.RegistryAuth{}, func() {}); err != nil {
		t.Fatal(err)
	}
	image, err := e.Image(t.Context(), r.Ref("shell", "1"))
	if err != nil {
		t.Fatal(err)
	}
	return shells{s, e, image, run(t, e, pod.SandboxSpec{Name: "sandbox", Instance: s.Instance, Image: s.Image, Files: s.Files, Config: &cri.PodSandboxConfig{
		Metadata: &cri.PodSandboxMetadata{Name: "web"},
	}})}
}

// start runs a container whose process is "busybox ARGS".
func (s shells) start(t *testing.T, name string, change func(*cri.ContainerConfig), args ...string) pod.Container {
	t.Helper()
	config := &cri.ContainerConfig{Metadata: &cri.ContainerMetadata{Name: name}, Image: &cri.ImageSpec{Image: s.image.ID}, Args: args, Envs: []*cri.KeyValue{{Key: "GREETING", Value: []byte("hello")}}}
	if change != nil {
		change(config)
	}
	id, err := s.e.CreateContainer(t.Context(), pod.ContainerSpec{Name: name, Instance: s.Instance, Sandbox: s.sandbox, Image: s.image, Fixed: pod.Fixed{SandboxID: s.sandbox.ID, Config: config}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.e.Start(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	c, err := s.e.InspectContainer(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// inside lists the command lines in a container, by /proc, as the engine's cgroup says.
func inside(t *testing.T, container string) (lines []string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(text), container) {
			continue
		}
		line, err := os.ReadFile(filepath.Dir(file) + "/cmdline")
		if err == nil && len(line) > 0 { // zombies have none
			lines = append(lines, strings.TrimSpace(strings.ReplaceAll(string(line), "\x00", " ")))
		}
	}
	return lines
}

func onVersions(t *testing.T, test func(t *testing.T, s shells)) {
	for _, version := range versions {
		t.Run(string(version), func(t *testing.T) { test(t, newShells(t, version)) })
	}
}

// What a command says and how it ends come through, whatever way it ends.
func TestExecTellsOutputAndExitCode(t *testing.T) {
	onVersions(t, func(t *testing.T, s shells) {
		c := s.start(t, "box", nil, "sleep", "1000")
		for _, test := range []struct {
			name           string
			command        []string
			stdin          io.Reader
			code           int
			stdout, stderr string
			atLeast        time.Duration
		}{
			{"both outputs", []string{"sh", "-c", "echo out; echo err >&2; exit 3"}, nil, 3, "out\n", "err\n", 0},
			{"nothing", []string{"true"}, nil, 0, "", "", 0},
			{"a signal", []string{"sh", "-c", "kill -9 $$"}, nil, 137, "", "", 0},
			{"a shell's 127", []string{"sh", "-c", "exec 2>&-; nothing"}, nil, 127, "", "", 0},
			{"environment", []string{"sh", "-c", "echo $GREETING"}, nil, 0, "hello\n", "", 0},
			{"end of stdin", []string{"cat"}, strings.NewReader("in"), 0, "in", "", 0},
			{"no stdin", []string{"cat"}, nil, 0, "", "", 0},
			{"a child that holds the output", []string{"sh", "-c", "sleep 30 & echo main"}, nil, 0, "main\n", "", 0},
			{"closed output", []string{"sh", "-c", "exec >&- 2>&-; sleep 1; exit 5"}, nil, 5, "", "", time.Second},
			{"much output", []string{"sh", "-c", "busybox head -c 3000000 /dev/zero | busybox tr '\\0' x"}, nil, 0, strings.Repeat("x", 3000000), "", 0},
		} {
			var stdout, stderr bytes.Buffer
			began := time.Now()
			code, err := s.e.Exec(t.Context(), c.ID, test.command, pod.Streams{Stdin: test.stdin, Stdout: &stdout, Stderr: &stderr})
			took := time.Since(began)
			if err != nil || code != test.code || stdout.String() != test.stdout || stderr.String() != test.stderr {
				t.Errorf("%s: code %d, %d bytes %.40q, %.40q, %v", test.name, code, stdout.Len(), stdout.String(), stderr.String(), err)
			}
			if took > 5*time.Second || took < test.atLeast {
				t.Errorf("%s: took %v", test.name, took)
			}
			t.Logf("%s: %v", test.name, took)
		}
	})
}

func TestExecRefusals(t *testing.T) {
	onVersions(t, func(t *testing.T, s shells) {
		c := s.start(t, "box", nil, "sleep", "1000")
		for _, command := range []string{"/bin/nothing", "/bin"} {
			var stdout bytes.Buffer
			began := time.Now()
			_, err := s.e.Exec(t.Context(), c.ID, []string{command}, pod.Streams{Stdout: &stdout})
			if !errors.Is(err, errdefs.ErrInvalidArgument) || !strings.Contains(fmt.Sprint(err), command) || !strings.Contains(fmt.Sprint(err), "exec failed") || stdout.Len() > 0 {
				t.Errorf("%s: %v, output %q", command, err, stdout.String())
			}
			if took := time.Since(began); took > time.Second {
				t.Errorf("%s: took %v", command, took)
			}
			t.Log(err)
		}
		if _, err := s.e.Exec(t.Context(), "missing", []string{"true"}, pod.Streams{}); !errors.Is(err, errdefs.ErrNotFound) {
			t.Errorf("missing container: %v", err)
		}
		other := s.User.Run(t, "other", nil)
		if _, err := s.e.Exec(t.Context(), other, []string{"true"}, pod.Streams{}); !errors.Is(err, errdefs.ErrNotFound) {
			t.Errorf("foreign container: %v", err)
		}
		if err := s.e.Kill(t.Context(), c.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := s.e.Exec(t.Context(), c.ID, []string{"true"}, pod.Streams{}); !errors.Is(err, errdefs.ErrFailedPrecondition) {
			t.Errorf("ended container: %v", err)
		}
		if err := s.e.Attach(t.Context(), c.ID, pod.Streams{}); !errors.Is(err, errdefs.ErrFailedPrecondition) {
			t.Errorf("attach to an ended container: %v", err)
		}
	})
}

// A command that nobody waits for any more is gone with all that it started, before Exec
// returns, and the container goes on.
func TestExecKills(t *testing.T) {
	onVersions(t, func(t *testing.T, s shells) {
		// The container's first process reaps, so that nothing is left at all.
		c := s.start(t, "box", nil, "sh", "-c", "trap : USR1; while :; do sleep 1000 & wait; done")
		before := ""
		for end := time.Now().Add(10 * time.Second); !strings.HasSuffix(before, "sleep 1000"); before = strings.Join(inside(t, c.ID), "\n") {
			if time.Now().After(end) {
				t.Fatalf("the container's processes:\n%s", before)
			}
		}
		for name, script := range map[string]string{
			"a child":                "sleep 300; true",
			"ignores SIGTERM":        "trap '' TERM HUP INT; sleep 300; sleep 300",
			"background child":       "(sleep 300 &) ; sleep 300",
			"session of a child":     "busybox setsid sh -c 'sleep 300; true' & sleep 300",
			"many":                   "for i in 1 2 3 4 5 6 7 8 9; do sleep 300 & done; wait",
			"forks all the time":     "while :; do (sleep 0.01; sleep 0.01) & busybox usleep 3000; done",
			"output all the time":    "while :; do echo y; done",
			"closed output":          "exec >&- 2>&-; sleep 300; true",
			"session after closing ": "exec >&- 2>&-; busybox setsid sleep 300; true",
		} {
			ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
			began := time.Now()
			_, err := s.e.Exec(ctx, c.ID, []string{"sh", "-c", script}, pod.Streams{Stdout: io.Discard})
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) || strings.Contains(fmt.Sprint(err), "killing") {
				t.Errorf("%s: %v", name, err)
			}
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("%s: took %v", name, took)
			}
			if after := strings.Join(inside(t, c.ID), "\n"); after != before {
				t.Errorf("%s: processes before\n%s\nafter\n%s", name, before, after)
			}
		}
		// The same where its output can't be delivered.
		if _, err := s.e.Exec(t.Context(), c.ID, []string{"sh", "-c", "echo; sleep 300; true"}, pod.Streams{Stdout: broken{}}); err == nil {
			t.Error("output that nobody takes is no error")
		}
		if after := strings.Join(inside(t, c.ID), "\n"); after != before {
			t.Errorf("without a reader: processes before\n%s\nafter\n%s", before, after)
		}
		// And where the request is cut off at any time while it is being made.
		for i := range 120 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*time.Millisecond)
			_, err := s.e.Exec(ctx, c.ID, []string{"sleep", "300"}, pod.Streams{})
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) || strings.Contains(fmt.Sprint(err), "killing") {
				t.Errorf("cut off after %d ms: %v", i, err)
			}
			if after := strings.Join(inside(t, c.ID), "\n"); after != before {
				t.Fatalf("cut off after %d ms, %v: processes before\n%s\nafter\n%s", i, err, before, after)
			}
		}
		if after := strings.Join(inside(t, c.ID), "\n"); after != before {
			t.Errorf("cut off: processes before\n%s\nafter\n%s", before, after)
		}
	})
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("broken") }

// terminal runs a script on a terminal until the test's end.
func (s shells) terminal(t *testing.T, container, script string, sizes <-chan pod.TerminalSize) (keys io.Writer, out *watched) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	in, keysIn := io.Pipe()
	out = &watched{}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, err := s.e.Exec(ctx, container, []string{"sh", "-c", script}, pod.Streams{Stdin: in, Stdout: out, TTY: true, Resize: sizes})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("terminal: %v", err)
		}
		in.Close()
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return keysIn, out
}

// A terminal has the size that it is given, and each later one.
func TestExecTerminalSize(t *testing.T) {
	onVersions(t, func(t *testing.T, s shells) {
		c := s.start(t, "box", nil, "sleep", "1000")
		sizes := make(chan pod.TerminalSize, 1)
		sizes <- pod.TerminalSize{Width: 101, Height: 41}
		_, out := s.terminal(t, c.ID, "while :; do busybox stty size; sleep 0.05; done", sizes)
		out.await(t, "41 101")
		sizes <- pod.TerminalSize{Width: 80, Height: 24}
		out.await(t, "24 80")
	})
}

// No key cuts a terminal off, and all of them get through.
func TestExecTerminalKeys(t *testing.T) {
	onVersions(t, func(t *testing.T, s shells) {
		c := s.start(t, "box", nil, "sleep", "1000")
		keys, out := s.terminal(t, c.ID, "busybox stty raw -echo; echo ready; cat", nil)
		out.await(t, "ready")
		typed := "\x10\x11a\x1e\x1e\x1eb"
		for _, key := range typed {
			time.Sleep(20 * time.Millisecond)
			fmt.Fprint(keys, string(key))
		}
		out.await(t, typed)
	})
}
