package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

// watched is output that a test waits for.
type watched struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(p)
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

func (w *watched) await(t *testing.T, text string) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if strings.Contains(w.String(), text) {
			return
		}
	}
	t.Fatalf("no %q in %q", text, w.String())
}

const echoScript = "echo before; while read -r line; do echo got:$line; echo err:$line >&2; done; echo end of input; busybox usleep 200000"

func withStdin(once, tty bool) func(*cri.ContainerConfig) {
	return func(c *cri.ContainerConfig) { c.Stdin, c.StdinOnce, c.Tty = true, once, tty }
}

// A container goes on when whoever was attached leaves, and serves the next.
func TestAttachAndLeave(t *testing.T) {
	onVersions(t, func(t *testing.T, s shells) {
		for _, tty := range []bool{false, true} {
			c := s.start(t, fmt.Sprint("box-", tty), withStdin(false, tty), "sh", "-c", echoScript)
			for i := range 3 {
				ctx, cancel := context.WithCancel(t.Context())
				in, keys := io.Pipe()
				stdout, stderr := &watched{}, &watched{}
				ended := make(chan error, 1)
				go func() { ended <- s.e.Attach(ctx, c.ID, pod.Streams{Stdin: in, Stdout: stdout, Stderr: stderr}) }()
				fmt.Fprintf(keys, "line%d\n", i)
				stdout.await(t, fmt.Sprint("got:line", i))
				if tty {
					stdout.await(t, fmt.Sprint("err:line", i))
				} else {
					stderr.await(t, fmt.Sprint("err:line", i))
				}
				cancel()
				if err := <-ended; !errors.Is(err, context.Canceled) {
					t.Errorf("tty %t: %v", tty, err)
				}
				if i > 0 && strings.Contains(stdout.String(), "before") {
					t.Errorf("tty %t: output of before: %q", tty, stdout.String())
				}
				keys.Close()
			}
			if now, err := s.e.InspectContainer(t.Context(), c.ID); err != nil || !now.Running {
				t.Errorf("tty %t: the container ended: %v", tty, err)
			}
		}
	})
}

// Where the container is made so, the end of the first attachment's input is the end of
// its input, be it closed or cut off.
func TestAttachOnce(t *testing.T) {
	onVersions(t, func(t *testing.T, s shells) {
		for _, cut := range []bool{false, true} {
			c := s.start(t, fmt.Sprint("box-", cut), withStdin(true, false), "sh", "-c", echoScript)
			ctx, cancel := context.WithCancel(t.Context())
			in, keys := io.Pipe()
			stdout := &watched{}
			ended := make(chan error, 1)
			go func() { ended <- s.e.Attach(ctx, c.ID, pod.Streams{Stdin: in, Stdout: stdout}) }()
			fmt.Fprintln(keys, "line")
			stdout.await(t, "got:line")
			if cut {
				cancel()
			}
			keys.Close()
			if err := <-ended; cut != (err != nil) {
				t.Errorf("cut %t: %v", cut, err)
			}
			if !cut && !strings.Contains(stdout.String(), "end of input") {
				t.Errorf("output %q", stdout.String())
			}
			cancel()
			for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
				now, err := s.e.InspectContainer(t.Context(), c.ID)
				if err != nil {
					t.Fatal(err)
				}
				if !now.Running {
					break
				}
				if time.Now().After(end) {
					t.Fatalf("cut %t: the container goes on", cut)
				}
			}
		}
	})
}
