package cri

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
	"github.com/mascri/mascri/internal/undo"
)

// StartContainer starts a container that was created and never started: the kubelet makes
// another one rather than start one twice.
func (s *Server) StartContainer(ctx context.Context, req *cri.StartContainerRequest) (*cri.StartContainerResponse, error) {
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	container, err := s.opts.Index.Container(req.GetContainerId())
	if err != nil {
		return nil, err
	}
	if err := s.startContainer(ctx, container); err != nil {
		return nil, fmt.Errorf("start container %q: %w", container.ID, err)
	}
	return &cri.StartContainerResponse{}, nil
}

// startContainer holds the sandbox, so that nothing starts in one that is being stopped.
func (s *Server) startContainer(ctx context.Context, container pod.Container) error {
	unlock, err := s.locks.Lock(ctx, container.SandboxID)
	if err != nil {
		return err
	}
	defer unlock()
	// Nor is it removed or changed meanwhile.
	unlockContainer, err := s.locks.Lock(ctx, container.ID)
	if err != nil {
		return err
	}
	defer unlockContainer()
	if err := s.repairs.settle(ctx, container.ID); err != nil {
		return err
	}
	if container, err = s.opts.Index.Container(container.ID); err != nil {
		return err
	}
	if state := container.State(); state != cri.ContainerState_CONTAINER_CREATED {
		return fmt.Errorf("it is %s, not %s; create another one: %w", state, cri.ContainerState_CONTAINER_CREATED, errdefs.ErrFailedPrecondition)
	}
	if _, err := s.readySandbox(container.SandboxID); err != nil {
		return err
	}
	if err := s.followLog(ctx, container); err != nil {
		return err
	}
	if err = s.startLimited(ctx, container.ID); errdefs.IsNotFound(err) && s.isThere(container.ID) {
		// What is missing is something that the container needs, not the container.
		return fmt.Errorf("%v: %w", err, errdefs.ErrFailedPrecondition)
	}
	return err
}

// startLimited sees to it that what could not be started and limited does not run: nobody
// would know that it does, or without limits. Where the engine is away, that is done when it
// is back.
func (s *Server) startLimited(ctx context.Context, id string) error {
	var back undo.Stack
	back.Push("start", func(ctx context.Context) error { return s.endContainer(ctx, id) })
	s.opts.Step("start-container")
	err := s.opts.Engine.Start(ctx, id)
	s.opts.Step("started-container")
	if err == nil {
		err = s.opts.Index.Refresh(ctx, id)
	}
	if err == nil {
		err = s.limit(id)
	}
	if err == nil {
		return nil
	}
	return errors.Join(err, s.undo(ctx, id, &back))
}

func (s *Server) endContainer(ctx context.Context, id string) error {
	return errors.Join(s.opts.Engine.Kill(ctx, id), s.opts.Index.Refresh(ctx, id))
}

// limit writes the limits that Docker's API has no words for, which only a running
// container can be given.
func (s *Server) limit(id string) error {
	container, err := s.opts.Index.Container(id)
	if err != nil || !container.Running {
		return err
	}
	err = s.opts.Limits.Set(container.PID, id, s.resources(container))
	// An update before the start is not in what the engine started it with.
	if score := s.updates.of(id).resources.GetOomScoreAdj(); err == nil && score != 0 {
		err = s.opts.Limits.SetOOMScore(container.PID, id, int(score))
	}
	if errdefs.IsNotFound(err) { // it ended meanwhile
		return nil
	}
	return err
}

// followLog begins or goes on with the container's CRI log file, where it has one.
func (s *Server) followLog(ctx context.Context, container pod.Container) error {
	if container.LogPath == "" {
		return nil
	}
	err := s.opts.Logs.Follow(ctx, pod.LogSource{ID: container.ID, Directory: container.LogSource, Path: container.LogPath, Root: logRoot(container), Running: container.Running})
	if err != nil {
		return fmt.Errorf("log file: %w", err)
	}
	return nil
}

// logRoot is the log directory that containerLog joined the container's log_path to.
func logRoot(container pod.Container) string {
	return filepath.Clean(strings.TrimSuffix(container.LogPath, filepath.Clean(container.Config.GetLogPath())))
}

// ReopenContainerLog makes what a running container writes from now on go to a new file,
// after its log file was renamed.
func (s *Server) ReopenContainerLog(ctx context.Context, req *cri.ReopenContainerLogRequest) (*cri.ReopenContainerLogResponse, error) {
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	container, err := s.opts.Index.Container(req.GetContainerId())
	switch {
	case err != nil:
		return nil, err
	case !container.Running:
		return nil, fmt.Errorf("container %q does not run, so nothing is written to its log: %w", container.ID, errdefs.ErrFailedPrecondition)
	case container.LogPath == "":
		return nil, fmt.Errorf("container %q has no log file: it was created without log_path or log_directory: %w", container.ID, errdefs.ErrFailedPrecondition)
	}
	if err := s.opts.Logs.Reopen(ctx, container.ID); err != nil {
		return nil, fmt.Errorf("reopen log of container %q: %w", container.ID, err)
	}
	return &cri.ReopenContainerLogResponse{}, nil
}
