package cri

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/containerd/errdefs"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

// maxOutput bounds stdout and stderr of an ExecSync together, in bytes: an answer of more
// than 16 MiB, with what is around them, the kubelet would not take at all. What comes
// after is read and thrown away, so that the command goes on.
const maxOutput = 16<<20 - 1<<10

// ExecSync runs a command in a running container and returns what it wrote and its exit
// code. When the timeout is over, the command and its descendants are killed, and the
// error is DeadlineExceeded.
func (s *Server) ExecSync(ctx context.Context, req *cri.ExecSyncRequest) (*cri.ExecSyncResponse, error) {
	if err := validateCommand(req.GetCmd()); err != nil {
		return nil, err
	}
	if req.GetTimeout() < 0 {
		return nil, invalid("timeout", "%d seconds; 0 means no limit", req.GetTimeout())
	}
	container, err := s.running(ctx, req.GetContainerId())
	if err != nil {
		return nil, err
	}
	if req.GetTimeout() > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, time.Duration(req.GetTimeout())*time.Second, errTimeout)
		defer cancel()
	}
	room := maxOutput
	stdout, stderr := output{room: &room}, output{room: &room}
	code, err := s.opts.Execs.Exec(ctx, container.ID, req.GetCmd(), pod.Streams{Stdout: &stdout, Stderr: &stderr})
	if err != nil && errors.Is(context.Cause(ctx), errTimeout) {
		err = fmt.Errorf("it did not end within %d s and was killed: %w", req.GetTimeout(), err)
	}
	if err != nil {
		return nil, fmt.Errorf("exec in container %q: %w", container.ID, err)
	}
	return &cri.ExecSyncResponse{Stdout: stdout.text, Stderr: stderr.text, ExitCode: int32(code)}, nil
}

// errTimeout tells the request's own timeout from its client's.
var errTimeout = fmt.Errorf("timeout of the request: %w", context.DeadlineExceeded)

// validateCommand refuses what can't be passed on: a NUL ends every string of a process,
// and Docker's API is JSON, which would change other bytes than UTF-8 in silence. The words
// may be secrets, and are not told.
func validateCommand(command []string) error {
	if len(command) == 0 {
		return invalid("cmd", "missing")
	}
	for i, word := range command {
		if strings.ContainsRune(word, 0) || !utf8.ValidString(word) {
			return invalid(fmt.Sprintf("cmd[%d]", i), "is no UTF-8 text without NUL")
		}
	}
	return nil
}

// output keeps what there is room for. Outputs that share room are for one goroutine.
type output struct {
	text []byte
	room *int
}

func (o *output) Write(p []byte) (int, error) {
	kept := p[:min(len(p), *o.room)]
	*o.room -= len(kept)
	o.text = append(o.text, kept...)
	return len(p), nil
}

// running returns a container that runs.
func (s *Server) running(ctx context.Context, id string) (pod.Container, error) {
	if err := s.ready(ctx); err != nil {
		return pod.Container{}, err
	}
	container, err := s.opts.Index.Container(id)
	if err == nil && !container.Running {
		err = fmt.Errorf("container %q is %s; it has to run for that: %w", container.ID, container.State(), errdefs.ErrFailedPrecondition)
	}
	return container, err
}
