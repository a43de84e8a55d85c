package cri

import (
	"context"
	"errors"
	"io/fs"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
	"github.com/mascri/mascri/internal/undo"
)

// startAttached starts a sandbox and gives it its place on the network. The network
// namespace is there well before the engine has answered, and CNI ADD takes about as long as
// the rest of the start, so that the two go on side by side where they can.
func (s *Server) startAttached(ctx context.Context, id string, config *cri.PodSandboxConfig, back *undo.Stack) (pod.Sandbox, pod.Attachment, error) {
	detach := func(ctx context.Context) error { return s.opts.Network.Detach(ctx, id, nil) }
	var early func() (*pod.Attachment, error)
	err := s.step(ctx, "start", func(startCtx context.Context) error {
		early = s.attachEarly(ctx, id, config)
		return s.opts.Engine.Start(startCtx, id)
	})
	var sandbox pod.Sandbox
	if err == nil {
		err = s.step(ctx, "inspect", func(ctx context.Context) (err error) {
			sandbox, err = s.opts.Index.Inspect(ctx, id)
			return err
		})
	}
	attached, attachErr := early()
	if attached != nil {
		back.Push("attach", detach)
	}
	err = errors.Join(err, attachErr)
	switch {
	case err != nil || sandbox.HostNetwork():
		return sandbox, pod.Attachment{}, err
	case attached != nil && attached.NetnsInode == sandbox.NetnsInode:
		return sandbox, *attached, nil
	case attached != nil: // to what has ended, or with a runtime that is not like runc
		if err := detach(ctx); err != nil {
			return sandbox, pod.Attachment{}, err
		}
	}
	attachment, err := s.attach(ctx, s.attachRequest(sandbox))
	if err == nil {
		back.Push("attach", detach)
	}
	return sandbox, attachment, err
}

func (s *Server) attach(ctx context.Context, req pod.AttachRequest) (attachment pod.Attachment, err error) {
	err = s.step(ctx, "attach", func(ctx context.Context) error {
		attachment, err = s.opts.Network.Attach(ctx, req)
		return err
	})
	return attachment, err
}

// attachEarly attaches a sandbox as soon as it has a network namespace. The function that
// it returns must be called once the engine has started the sandbox, or failed to; it
// returns nil where there was no early attachment, so that a later one is to be made.
func (s *Server) attachEarly(ctx context.Context, id string, config *cri.PodSandboxConfig) func() (*pod.Attachment, error) {
	// runc applies sysctls last, and some are for interfaces that are made afterwards.
	if pod.HostNetwork(config) || len(config.GetLinux().GetSysctls()) > 0 {
		return func() (*pod.Attachment, error) { return nil, nil }
	}
	waiting, stop := context.WithCancel(ctx)
	var attached *pod.Attachment
	var failed error
	done := make(chan struct{})
	go func() {
		defer close(done)
		pid, alive, err := s.opts.Births.Born(waiting, id, config.GetLinux().GetCgroupParent())
		if err != nil {
			return
		}
		req := pod.RequestOf(id, config)
		req.PID = pid
		req.Confirm = func(context.Context) error { return alive() }
		a, err := s.attach(ctx, req)
		switch {
		case err == nil:
			attached = &a
		case !errors.Is(alive(), fs.ErrNotExist): // else the start tells why it ended
			failed = err
		}
	}()
	return func() (*pod.Attachment, error) {
		stop()
		<-done
		return attached, failed
	}
}
