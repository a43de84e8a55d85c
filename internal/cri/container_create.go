package cri

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
	"github.com/mascri/mascri/internal/undo"
)

// CreateContainer makes a container in a sandbox that is ready; it does not run yet. On
// error nothing of it is left.
func (s *Server) CreateContainer(ctx context.Context, req *cri.CreateContainerRequest) (*cri.CreateContainerResponse, error) {
	if err := validateContainer(req.GetConfig()); err != nil {
		return nil, err
	}
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	sandbox, err := s.opts.Index.Sandbox(req.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	name := pod.ContainerName(req.GetConfig().GetMetadata(), sandbox.Config.GetMetadata())
	if id, ok := s.flights.claim(name, req); ok && s.isThere(id) {
		return &cri.CreateContainerResponse{ContainerId: id}, nil
	}
	id, err := s.flights.do(ctx, name, req, func(ctx context.Context) (string, error) {
		return s.makeContainer(ctx, sandbox.ID, name, req)
	})
	if err != nil {
		return nil, fmt.Errorf("create container %q in sandbox %q: %w", req.GetConfig().GetMetadata().GetName(), sandbox.ID, err)
	}
	return &cri.CreateContainerResponse{ContainerId: id}, nil
}

// isThere tells of a container that was made a while ago.
func (s *Server) isThere(id string) bool {
	_, err := s.opts.Index.Container(id)
	return err == nil
}

// makeContainer holds the sandbox, so that none is made in one that is being stopped.
func (s *Server) makeContainer(ctx context.Context, sandboxID, name string, req *cri.CreateContainerRequest) (id string, err error) {
	unlock, err := s.locks.Lock(ctx, sandboxID)
	if err != nil {
		return "", err
	}
	defer unlock()
	sandbox, err := s.readySandbox(sandboxID)
	if err != nil {
		return "", err
	}
	// Nor is what an earlier attempt left taken for this one.
	unlockName, err := s.locks.Lock(ctx, name)
	if err != nil {
		return "", err
	}
	defer unlockName()
	if err := s.repairs.settle(ctx, name); err != nil {
		return "", err
	}
	if err := s.vacantContainer(ctx, name); err != nil {
		return "", err
	}
	spec, err := s.containerSpec(ctx, sandbox, req)
	if err != nil {
		return "", err
	}
	spec.Name = name
	s.opts.Step("create-container")
	id, err = s.opts.Containers.CreateContainer(ctx, spec)
	if errdefs.IsAlreadyExists(err) {
		return "", s.takenContainer(ctx, name, err)
	}
	var back undo.Stack
	back.Push("create", func(ctx context.Context) error { return s.uncreateContainer(ctx, name) })
	if err == nil {
		s.opts.Step("refresh-container")
		err = errors.Join(s.opts.Index.Refresh(ctx, id), ctx.Err())
	}
	if err == nil {
		return id, nil
	}
	return "", errors.Join(err, s.undo(ctx, name, &back))
}

// uncreateContainer goes by the name, as the engine's answer may get lost after the engine
// did the work. What was made here never ran: it may be another's name.
func (s *Server) uncreateContainer(ctx context.Context, name string) error {
	container, err := s.opts.Containers.InspectContainer(ctx, name)
	switch {
	case errdefs.IsNotFound(err) || errors.Is(err, pod.ErrForeign):
		return nil
	case err != nil:
		return err
	case container.State() != cri.ContainerState_CONTAINER_CREATED:
		return nil
	}
	return errors.Join(s.opts.Engine.Remove(ctx, container.ID), s.opts.Index.Refresh(ctx, container.ID))
}

// vacantContainer refuses the name of a container that exists, whatever else is wrong with
// the request: nothing is to be undone then.
func (s *Server) vacantContainer(ctx context.Context, name string) error {
	if !slices.ContainsFunc(s.opts.Index.Containers(), func(c pod.Container) bool { return c.Name == name }) {
		return nil
	}
	owner, err := s.opts.Containers.InspectContainer(ctx, name)
	switch {
	case errdefs.IsNotFound(err) || errors.Is(err, pod.ErrForeign): // changed behind our back
		return nil
	case err != nil:
		return err
	}
	return containerExists(owner)
}

func containerExists(owner pod.Container) error {
	return fmt.Errorf("container %q of this attempt exists; remove it, or use another attempt: %w", owner.ID, errdefs.ErrAlreadyExists)
}

// readySandbox returns a sandbox that containers may run in.
func (s *Server) readySandbox(id string) (pod.Sandbox, error) {
	sandbox, err := s.opts.Index.Sandbox(id)
	if err != nil {
		return pod.Sandbox{}, err
	}
	if !sandbox.Ready(s.attachment(sandbox.ID)) {
		return pod.Sandbox{}, fmt.Errorf("sandbox %q is not ready: its process or its network is gone; stop and remove it, and run another: %w", sandbox.ID, errdefs.ErrFailedPrecondition)
	}
	return sandbox, nil
}

// takenContainer names who has the name that the engine refused.
func (s *Server) takenContainer(ctx context.Context, name string, cause error) error {
	owner, err := s.opts.Containers.InspectContainer(ctx, name)
	switch {
	case errors.Is(err, pod.ErrForeign):
		return fmt.Errorf("the engine has a container named %q that is not ours; remove it: %w", name, errdefs.ErrAlreadyExists)
	case err != nil:
		return cause
	}
	return containerExists(owner)
}

// containerSpec settles all that the engine is not asked for.
func (s *Server) containerSpec(ctx context.Context, sandbox pod.Sandbox, req *cri.CreateContainerRequest) (pod.ContainerSpec, error) {
	none := pod.ContainerSpec{}
	config := proto.CloneOf(req.GetConfig())
	image, err := s.containerImage(ctx, "config.image", config.GetImage())
	if err != nil {
		return none, err
	}
	security := config.GetLinux().GetSecurityContext()
	if security.GetPrivileged() && !sandboxConfig(sandbox, req).GetLinux().GetSecurityContext().GetPrivileged() {
		return none, invalid("config.linux.security_context.privileged", "by its sandbox_config, the pod of sandbox %q is not privileged", sandbox.ID)
	}
	if err := s.resolveTarget(sandbox, security.GetNamespaceOptions()); err != nil {
		return none, err
	}
	if err := s.resolveMounts(ctx, config.GetMounts()); err != nil {
		return none, err
	}
	if err := s.checkLimits(sandbox.PID, sandbox.ID, config.GetLinux().GetResources()); err != nil {
		return none, fmt.Errorf("config.%w", err)
	}
	logPath, err := containerLog(sandbox, req)
	if err != nil {
		return none, err
	}
	return pod.ContainerSpec{
		Fixed: pod.Fixed{
			SandboxID: sandbox.ID, Config: config, LogPath: logPath,
			ImageName: imageLabel(image, config.GetImage()), ImageRef: imageRef(image),
		},
		Instance: s.opts.Instance, Sandbox: sandbox, Image: image,
	}, nil
}

// containerImage looks an image up that a container needs.
func (s *Server) containerImage(ctx context.Context, field string, spec *cri.ImageSpec) (pod.Image, error) {
	name, err := s.imageName(field, spec)
	if err != nil {
		return pod.Image{}, err
	}
	image, err := s.opts.Images.Image(ctx, name)
	if err != nil {
		return pod.Image{}, fmt.Errorf("%s.image: %w", field, err)
	}
	return image, nil
}

// imageRef is what the kubelet compares: a digest of the image's, or its id where it was
// built here and has none.
func imageRef(image pod.Image) string {
	if len(image.Digests) > 0 {
		return image.Digests[0]
	}
	return image.ID
}

// imageLabel is what people call the image: what was asked for, unless that is an id, as
// the kubelet asks by.
func imageLabel(image pod.Image, asked *cri.ImageSpec) string {
	switch {
	case !image.MatchesID(asked.GetImage()):
		return asked.GetImage()
	case len(image.Tags) > 0:
		return image.Tags[0]
	}
	return cmp.Or(asked.GetUserSpecifiedImage(), asked.GetImage())
}

// resolveTarget names the container whose processes are to be seen by its full id.
func (s *Server) resolveTarget(sandbox pod.Sandbox, options *cri.NamespaceOption) error {
	const field = "config.linux.security_context.namespace_options.target_id"
	target := options.GetTargetId()
	if options.GetPid() != cri.NamespaceMode_TARGET {
		if target != "" {
			return invalid(field, "%q given with pid %s", target, options.GetPid())
		}
		return nil
	}
	container, err := s.opts.Index.Container(target)
	switch {
	case err != nil:
		return invalid(field, "%v", err)
	case container.SandboxID != sandbox.ID:
		return invalid(field, "container %q is in another sandbox, %q", container.ID, container.SandboxID)
	case !container.Running:
		return invalid(field, "container %q does not run", container.ID)
	}
	options.TargetId = container.ID
	return nil
}

// resolveMounts makes host paths that are missing, as the kubelet expects of a runtime,
// and names images by their ids, with the digest that the kubelet shows as the volume's.
func (s *Server) resolveMounts(ctx context.Context, mounts []*cri.Mount) error {
	for i, m := range mounts {
		field := fmt.Sprintf("config.mounts[%d].", i)
		if m.GetImage().GetImage() != "" {
			image, err := s.containerImage(ctx, field+"image", m.GetImage())
			if err != nil {
				return err
			}
			m.Image.Image, m.Image.ImageRef = image.ID, imageRef(image)
			continue
		}
		if !filepath.IsAbs(m.GetHostPath()) {
			return invalid(field+"host_path", "%q is not absolute", m.GetHostPath())
		}
		if _, err := os.Stat(m.GetHostPath()); !os.IsNotExist(err) {
			continue // what else is wrong with it, the engine tells
		}
		if err := os.MkdirAll(m.GetHostPath(), 0o755); err != nil {
			return fmt.Errorf("%shost_path: %v: %w", field, err, errdefs.ErrFailedPrecondition)
		}
	}
	return nil
}

// sandboxConfig is what the request says of the pod, which can have got ephemeral containers
// since RunPodSandbox; without it, what that was told.
func sandboxConfig(sandbox pod.Sandbox, req *cri.CreateContainerRequest) *cri.PodSandboxConfig {
	return cmp.Or(req.GetSandboxConfig(), sandbox.Config)
}

// containerLog returns the path of the CRI log file, "" for none.
func containerLog(sandbox pod.Sandbox, req *cri.CreateContainerRequest) (string, error) {
	directory := sandboxConfig(sandbox, req).GetLogDirectory()
	name := req.GetConfig().GetLogPath()
	if directory == "" || name == "" {
		return "", nil
	}
	if strings.ContainsRune(directory+name, 0) {
		return "", invalid("config.log_path", "holds a NUL byte, or the sandbox's log_directory does")
	}
	if !filepath.IsAbs(directory) || !filepath.IsLocal(name) || filepath.Clean(name) == "." {
		return "", invalid("config.log_path", "%q does not stay in the sandbox's log_directory %q", name, directory)
	}
	return filepath.Join(directory, name), nil
}
