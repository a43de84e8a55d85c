package stream

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/utils/exec"

	"github.com/mascri/mascri/internal/pod"
)

// runtime is the Server as the library calls it back.
type runtime struct{ *Server }

// Exec implements streaming.Runtime.
func (r runtime) Exec(ctx context.Context, container string, command []string, stdin io.Reader, stdout, stderr io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize) error {
	defer r.opts.Began("exec")()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	container, stdin = unmark(container, stdin)
	if stdin != nil {
		go prod(ctx, stdout, stderr)
	}
	code, err := r.opts.Exec(ctx, container, command, streams(ctx, stdin, stdout, stderr, tty, resize))
	if err == nil && code != 0 {
		return exec.CodeExitError{Err: fmt.Errorf("exit code %d", code), Code: code} // as the library knows it
	}
	return err
}

// Attach implements streaming.Runtime.
func (r runtime) Attach(ctx context.Context, container string, stdin io.Reader, stdout, stderr io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize) error {
	defer r.opts.Began("attach")()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	container, stdin = unmark(container, stdin)
	if stdin != nil {
		go prod(ctx, stdout, stderr)
	}
	return r.opts.Attach(ctx, container, streams(ctx, stdin, stdout, stderr, tty, resize))
}

// noStdin marks the container of a request without stdin. Over WebSocket the library makes
// of that one which ended at once, and that would be the end of an attach.
const noStdin = "/no-stdin"

func mark(container string, stdin bool) string {
	if stdin {
		return container
	}
	return container + noStdin
}

func unmark(container string, stdin io.Reader) (string, io.Reader) {
	if id, without := strings.CutSuffix(container, noStdin); without {
		return id, nil
	}
	return container, stdin
}

// prodInterval is how often a client that may send is written to.
const prodInterval = 5 * time.Second

// prod writes nothing at all to a client time and again, which makes frames. Where a
// process takes no more input, the end of a client that is gone is stuck in its kernel
// behind that input: something has to be sent there for the connection to break.
func prod(ctx context.Context, outputs ...io.Writer) {
	ticker := time.NewTicker(prodInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for _, output := range outputs {
			if output != nil {
				_, _ = output.Write(nil) // that it broke shows in the connection
			}
		}
	}
}

func streams(ctx context.Context, stdin io.Reader, stdout, stderr io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize) pod.Streams {
	s := pod.Streams{Stdin: stdin, TTY: tty}
	if stdout != nil {
		s.Stdout = stdout
	}
	if stderr != nil {
		s.Stderr = stderr
	}
	if tty && resize != nil {
		s.Resize = sizes(ctx, resize)
	}
	return s
}

// sizes passes terminal sizes on until ctx ends or there are no more.
func sizes(ctx context.Context, from <-chan remotecommand.TerminalSize) <-chan pod.TerminalSize {
	to := make(chan pod.TerminalSize)
	go func() {
		defer close(to)
		for {
			var size remotecommand.TerminalSize
			var ok bool
			select {
			case size, ok = <-from:
			case <-ctx.Done():
			}
			if !ok {
				return
			}
			select {
			case to <- pod.TerminalSize{Width: size.Width, Height: size.Height}:
			case <-ctx.Done():
				return
			}
		}
	}()
	return to
}
