package cri

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
	"github.com/mascri/mascri/internal/span"
	"github.com/mascri/mascri/internal/undo"
)

// undoLimit bounds the cleaning up after a failed RunPodSandbox. It covers a CNI DEL,
// which has 60 s of its own.
const undoLimit = 90 * time.Second

// RunPodSandbox creates and starts a sandbox and gives it its place on the network.
// On error nothing of it is left; where cleaning up failed as well, the sandbox is
// listed as NotReady, to be stopped and removed again.
func (s *Server) RunPodSandbox(ctx context.Context, req *cri.RunPodSandboxRequest) (*cri.RunPodSandboxResponse, error) {
	if err := validateSandbox(req.GetConfig()); err != nil {
		return nil, err
	}
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	name := pod.SandboxName(req.GetConfig().GetMetadata())
	if id, ok := s.flights.claim(name, req); ok && s.isReady(id) {
		return &cri.RunPodSandboxResponse{PodSandboxId: id}, nil
	}
	id, err := s.flights.do(ctx, name, req, func(ctx context.Context) (string, error) {
		return s.makeSandbox(ctx, pod.SandboxSpec{
			Name:           name,
			Instance:       s.opts.Instance,
			Config:         req.GetConfig(),
			RuntimeHandler: req.GetRuntimeHandler(),
		})
	})
	if err != nil {
		return nil, fmt.Errorf("run sandbox of pod %s/%s: %w", req.GetConfig().GetMetadata().GetNamespace(), req.GetConfig().GetMetadata().GetName(), err)
	}
	return &cri.RunPodSandboxResponse{PodSandboxId: id}, nil
}

// isReady tells of a sandbox that was finished a while ago.
func (s *Server) isReady(id string) bool {
	sandbox, err := s.opts.Index.Sandbox(id)
	return err == nil && sandbox.Ready(s.attachment(id))
}

// makeSandbox is hidden from lists and status until it is through, one way or the
// other: the kubelet takes a sandbox without an IP for dead.
func (s *Server) makeSandbox(ctx context.Context, spec pod.SandboxSpec) (string, error) {
	if err := s.vacant(ctx, spec.Name); err != nil {
		return "", err
	}
	var files pod.Files
	var settled func()
	err := s.step(ctx, "files", func(context.Context) (err error) {
		files, settled, err = s.files.make(spec.Config)
		return err
	})
	if err != nil {
		return "", err
	}
	spec.Files = files
	defer settled() // after reveal, as a sweep must see the files in use either way
	reveal := s.opts.Index.Hide(spec.Name)
	defer reveal()
	var back undo.Stack
	id, err := s.runSteps(ctx, spec, &back)
	if err == nil {
		return id, nil
	}
	undoCtx, end := span.Start(ctx, "undo")
	left := back.Run(undoCtx, undoLimit)
	end(left)
	if left != nil {
		// The files stay, too: while there is a container it needs them.
		s.log.Error("cleaning up after a failed sandbox failed; it is tried again", "sandbox", id, "error", left)
		if id != "" { // without one it never started, which tells enough
			s.repairs.doom(id)
		}
		return "", fmt.Errorf("%w; and cleaning up failed, so sandbox %q stays listed as NotReady: %v", err, cmp.Or(id, spec.Name), left)
	}
	if left := s.files.remove(files); left != nil {
		s.log.Warn("files of a failed sandbox could not be deleted; it is tried again", "sandbox", id, "error", left)
	}
	return "", err
}

// vacant refuses the name of a sandbox that exists. The engine would do so as well, but
// by then that sandbox would be hidden for one being made.
func (s *Server) vacant(ctx context.Context, name string) error {
	if !slices.ContainsFunc(s.opts.Index.Sandboxes(), func(sandbox pod.Sandbox) bool { return sandbox.Name == name }) {
		return nil
	}
	owner, err := s.opts.Engine.Inspect(ctx, name)
	switch {
	case errdefs.IsNotFound(err) || errors.Is(err, pod.ErrForeign): // changed behind our back
		return nil
	case err != nil:
		return err
	}
	return exists(owner)
}

func exists(owner pod.Sandbox) error {
	return fmt.Errorf("sandbox %q of this attempt exists; stop and remove it, or use another attempt: %w", owner.ID, errdefs.ErrAlreadyExists)
}

// runSteps returns the id also with an error, where there is one already.
func (s *Server) runSteps(ctx context.Context, spec pod.SandboxSpec, back *undo.Stack) (id string, err error) {
	err = s.step(ctx, "create", func(ctx context.Context) (err error) {
		id, err = s.create(ctx, spec, back)
		return err
	})
	if err != nil {
		return "", err
	}
	unlock, err := s.locks.Lock(ctx, id)
	if err != nil {
		return id, err
	}
	defer unlock()
	if err = s.files.name(spec.Files, id, spec.Config); err != nil {
		return id, err
	}
	sandbox, attachment, err := s.startAttached(ctx, id, spec.Config, back)
	if err != nil {
		return id, err
	}
	if err = s.step(ctx, "hosts", func(context.Context) error { return s.files.finish(sandbox, attachment) }); err != nil {
		return id, err
	}
	s.opts.Step("answer")
	return id, ctx.Err()
}

// create makes the container. Its undo goes by the name, as the engine's answer may
// get lost after the engine did the work.
func (s *Server) create(ctx context.Context, spec pod.SandboxSpec, back *undo.Stack) (string, error) {
	if dir := spec.Config.GetLogDirectory(); dir != "" {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return "", fmt.Errorf("config.log_directory: %v: %w", err, errdefs.ErrFailedPrecondition)
		}
	}
	var id string
	var err error = errdefs.ErrNotFound
	if known := s.pauseID.Load(); known != nil {
		spec.Image = *known
		id, err = s.opts.Engine.CreateSandbox(ctx, spec)
	}
	if errdefs.IsNotFound(err) { // the image may be missing
		if spec.Image, err = s.image(ctx); err != nil {
			return "", err
		}
		id, err = s.opts.Engine.CreateSandbox(ctx, spec)
	}
	if errdefs.IsAlreadyExists(err) {
		return "", s.taken(ctx, spec, err)
	}
	back.Push("create", func(ctx context.Context) error { return s.uncreate(ctx, spec.Name) })
	if err != nil {
		return "", err
	}
	return id, nil
}

// image returns the id of the sandbox image, loading it where the engine lacks it.
func (s *Server) image(ctx context.Context) (string, error) {
	id, err := s.opts.Engine.EnsureImage(ctx, s.opts.SandboxImage, s.opts.ImageArchive)
	if errdefs.IsNotFound(err) {
		// The request named no image: to its client this is no NotFound.
		return "", fmt.Errorf("sandbox image: %v: %w", err, errdefs.ErrFailedPrecondition)
	}
	if err != nil {
		return "", fmt.Errorf("sandbox image: %w", err)
	}
	if s.opts.ImageArchive != nil { // its name is made of its content; a user's may be given to another
		s.pauseID.Store(&id)
	}
	return id, nil
}

// taken names who has the name that the engine refused.
func (s *Server) taken(ctx context.Context, spec pod.SandboxSpec, cause error) error {
	owner, err := s.opts.Engine.Inspect(ctx, spec.Name)
	switch {
	case errors.Is(err, pod.ErrForeign):
		return fmt.Errorf("the engine has a container named %q that is not ours; remove it: %w", spec.Name, errdefs.ErrAlreadyExists)
	case err != nil:
		return cause
	}
	return exists(owner)
}

// uncreate removes the container, unless something of it is still on the network:
// then only its process ends, and it stays listed for another try.
func (s *Server) uncreate(ctx context.Context, name string) error {
	s.opts.Step("undo")
	sandbox, err := s.opts.Engine.Inspect(ctx, name)
	if errdefs.IsNotFound(err) || errors.Is(err, pod.ErrForeign) { // another's name is another's
		return nil
	}
	if err != nil {
		return err
	}
	if a, left := s.opts.Network.Attachment(sandbox.ID); left {
		err = fmt.Errorf("sandbox %q is still attached to network %q", sandbox.ID, a.Network)
		return errors.Join(err, s.opts.Engine.Kill(ctx, sandbox.ID), s.opts.Index.Refresh(ctx, sandbox.ID))
	}
	return errors.Join(s.opts.Engine.Remove(ctx, sandbox.ID), s.opts.Index.Refresh(ctx, sandbox.ID))
}

func (s *Server) attachRequest(sandbox pod.Sandbox) pod.AttachRequest {
	req := pod.RequestOf(sandbox.ID, sandbox.Config)
	req.PID = sandbox.PID
	req.Confirm = func(ctx context.Context) error {
		now, err := s.opts.Engine.Inspect(ctx, sandbox.ID)
		if err != nil {
			return err
		}
		if !now.Running || now.PID != sandbox.PID {
			return fmt.Errorf("the sandbox process ended right after its start, with exit code %d; see docker logs %s: %w", now.ExitCode, sandbox.ID, errdefs.ErrFailedPrecondition)
		}
		return nil
	}
	return req
}
