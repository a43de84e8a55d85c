package cri

import (
	"context"
	"errors"
	"fmt"
	"regexp"

	"github.com/containerd/errdefs"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
	"github.com/mascri/mascri/internal/span"
)

// fullID is the form of the engine's container ids.
var fullID = regexp.MustCompile(`^[0-9a-f]{64}$`)

// StopPodSandbox ends the pod's containers and the sandbox, and gives back its place on the network. It is
// idempotent, and a sandbox that is gone counts as stopped.
func (s *Server) StopPodSandbox(ctx context.Context, req *cri.StopPodSandboxRequest) (*cri.StopPodSandboxResponse, error) {
	kill := func(ctx context.Context, c pod.Container) error { return s.stopContainer(ctx, c, 0) }
	err := s.withSandbox(ctx, req.GetPodSandboxId(), kill, func(ctx context.Context, sandbox pod.Sandbox) error {
		return s.stop(ctx, sandbox.ID)
	})
	if err != nil {
		return nil, fmt.Errorf("stop sandbox %q: %w", req.GetPodSandboxId(), err)
	}
	return &cri.StopPodSandboxResponse{}, nil
}

// RemovePodSandbox stops what still runs and removes the containers and the sandbox. It is idempotent,
// and a sandbox that is gone counts as removed.
func (s *Server) RemovePodSandbox(ctx context.Context, req *cri.RemovePodSandboxRequest) (*cri.RemovePodSandboxResponse, error) {
	err := s.withSandbox(ctx, req.GetPodSandboxId(), s.removeContainer, func(ctx context.Context, sandbox pod.Sandbox) error {
		s.flights.forget(sandbox.Name)
		return s.remove(ctx, sandbox)
	})
	if err != nil {
		return nil, fmt.Errorf("remove sandbox %q: %w", req.GetPodSandboxId(), err)
	}
	return &cri.RemovePodSandboxResponse{}, nil
}

// withSandbox runs each on the containers of the sandbox that id or a prefix of it names,
// and then do on it, alone. Of one that is not there, there may be containers and what
// orphaned looks for, by its full id.
func (s *Server) withSandbox(ctx context.Context, id string, each func(context.Context, pod.Container) error, do func(context.Context, pod.Sandbox) error) error {
	if id == "" {
		return invalid("pod_sandbox_id", "missing")
	}
	if err := s.ready(ctx); err != nil {
		return err
	}
	sandbox, err := s.opts.Index.Sandbox(id)
	gone := errdefs.IsNotFound(err)
	if err != nil && !gone {
		return err
	}
	if gone && !fullID.MatchString(id) {
		return nil
	}
	if !gone {
		id = sandbox.ID
	}
	unlock, err := s.locks.Lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	if err := s.ofSandbox(ctx, id, each); err != nil {
		return err
	}
	if gone {
		return s.orphaned(ctx, id, do)
	}
	return do(ctx, sandbox)
}

// orphaned gives back what is left on the network of a sandbox that somebody removed
// behind our back. The index does not show what is being made or what a crash left half
// made either, so the engine is asked: of those, only the latter is for do.
func (s *Server) orphaned(ctx context.Context, id string, do func(context.Context, pod.Sandbox) error) error {
	sandbox, err := s.opts.Engine.Inspect(ctx, id)
	switch {
	case errdefs.IsNotFound(err) || errors.Is(err, pod.ErrForeign):
		return s.opts.Network.Detach(ctx, id, nil)
	case err != nil:
		return err
	case s.flights.flies(sandbox.Name):
		return fmt.Errorf("it is being made: %w", errdefs.ErrUnavailable)
	}
	return do(ctx, sandbox)
}

// stop ends the process and gives back its network at the same time, as DEL takes the
// longer. The pin keeps the network namespace alive for it. The attachment is forgotten
// last: a daemon that dies in between finds a sandbox that is being stopped, not one that
// runs without a network and looks half made.
func (s *Server) stop(ctx context.Context, id string) error {
	s.opts.Step("stop-kill")
	var killErr error
	killed := make(chan struct{})
	go func() {
		defer close(killed)
		ctx, end := span.Start(ctx, "stop-kill")
		killErr = s.opts.Engine.Kill(ctx, id)
		end(killErr)
	}()
	ended := func() error { <-killed; return killErr }
	err := s.step(ctx, "stop-detach", func(ctx context.Context) error { return s.opts.Network.Detach(ctx, id, ended) })
	if killErr := ended(); killErr != nil {
		return killErr
	}
	return errors.Join(err, s.step(ctx, "stop-refresh", func(ctx context.Context) error { return s.opts.Index.Refresh(ctx, id) }))
}

// remove ends what still runs.
func (s *Server) remove(ctx context.Context, sandbox pod.Sandbox) error {
	var err error
	if sandbox.Running {
		err = s.stop(ctx, sandbox.ID)
	} else {
		err = s.step(ctx, "stop-detach", func(ctx context.Context) error { return s.opts.Network.Detach(ctx, sandbox.ID, nil) })
	}
	if err != nil {
		return err
	}
	if err := s.step(ctx, "remove", func(ctx context.Context) error { return s.removeFromEngine(ctx, sandbox.ID) }); err != nil {
		return err
	}
	s.opts.Step("remove-files")
	return errors.Join(s.files.remove(sandbox.Files), s.updates.forget(sandbox.ID))
}
