package cri

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sync/errgroup"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

// StopContainer ends a container's process, within the timeout by its stop signal. It is
// idempotent, and a container that is gone counts as stopped. A second request with a
// shorter timeout does not wait for the first.
func (s *Server) StopContainer(ctx context.Context, req *cri.StopContainerRequest) (*cri.StopContainerResponse, error) {
	if t := req.GetTimeout(); t < 0 || t > math.MaxInt32 {
		return nil, invalid("timeout", "%d is not between 0 and %d seconds", t, math.MaxInt32)
	}
	container, err := s.containerIfAny(ctx, req.GetContainerId())
	if err != nil || container == nil {
		return &cri.StopContainerResponse{}, err
	}
	if err := s.stopContainer(ctx, *container, time.Duration(req.GetTimeout())*time.Second); err != nil {
		return nil, fmt.Errorf("stop container %q: %w", container.ID, err)
	}
	return &cri.StopContainerResponse{}, nil
}

// containerIfAny returns nil where there is no container of that id or prefix of one.
func (s *Server) containerIfAny(ctx context.Context, id string) (*pod.Container, error) {
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	container, err := s.opts.Index.Container(id)
	switch {
	case errdefs.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return &container, nil
}

// stopContainer asks the engine also of one that was not seen to run yet: the answer to its
// start may have been lost.
func (s *Server) stopContainer(ctx context.Context, container pod.Container, grace time.Duration) error {
	if container.State() == cri.ContainerState_CONTAINER_EXITED {
		return nil
	}
	s.opts.Step("stop-container")
	var err error
	if grace > 0 {
		err = s.opts.Containers.Stop(ctx, container.ID, grace)
	} else {
		err = s.opts.Engine.Kill(ctx, container.ID)
	}
	return errors.Join(err, s.opts.Index.Refresh(ctx, container.ID))
}

// RemoveContainer removes a container, and kills it first where it runs. It is
// idempotent, and a container that is gone counts as removed. Its CRI log file stays:
// it is the kubelet's.
func (s *Server) RemoveContainer(ctx context.Context, req *cri.RemoveContainerRequest) (*cri.RemoveContainerResponse, error) {
	container, err := s.containerIfAny(ctx, req.GetContainerId())
	if err != nil || container == nil {
		return &cri.RemoveContainerResponse{}, err
	}
	if err := s.removeContainer(ctx, *container); err != nil {
		return nil, fmt.Errorf("remove container %q: %w", container.ID, err)
	}
	return &cri.RemoveContainerResponse{}, nil
}

// removeContainer kills before it removes, as what the container wrote goes with it: the
// refresh in between sees to it that the log file is complete.
func (s *Server) removeContainer(ctx context.Context, container pod.Container) error {
	unlock, err := s.locks.Lock(ctx, container.ID)
	if err != nil {
		return err
	}
	defer unlock()
	s.flights.forget(container.Name)
	if err := s.stopContainer(ctx, container, 0); err != nil {
		return err
	}
	s.opts.Step("remove-container")
	if err := s.removeFromEngine(ctx, container.ID); err != nil {
		return err
	}
	return s.forgetContainer(ctx, container.ID)
}

// removeFromEngine removes the container of a sandbox or a workload, which the index then
// shows no more.
func (s *Server) removeFromEngine(ctx context.Context, id string) error {
	err := s.opts.Engine.Remove(ctx, id)
	if err == nil {
		s.opts.Index.Removed(id)
	}
	return err
}

// forgetContainer drops what is kept of a container that is gone.
func (s *Server) forgetContainer(ctx context.Context, id string) error {
	return errors.Join(s.opts.Logs.Forget(ctx, id), s.updates.forget(id))
}

// ofSandbox runs do on each container of a sandbox, all at once.
func (s *Server) ofSandbox(ctx context.Context, sandbox string, do func(context.Context, pod.Container) error) error {
	var group errgroup.Group // without its context: one that fails does not stop the others
	for _, container := range s.opts.Index.Containers() {
		if container.SandboxID != sandbox {
			continue
		}
		group.Go(func() error {
			if err := do(ctx, container); err != nil {
				return fmt.Errorf("container %q: %w", container.ID, err)
			}
			return nil
		})
	}
	return group.Wait()
}
