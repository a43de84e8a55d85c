package cri

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

// UpdateContainerResources changes the limits of a container that has not ended. A zero or
// an empty field leaves that limit as it is.
func (s *Server) UpdateContainerResources(ctx context.Context, req *cri.UpdateContainerResourcesRequest) (*cri.UpdateContainerResourcesResponse, error) {
	switch {
	case req.GetWindows() != nil:
		return nil, invalid("windows", "this is a Linux node")
	case len(req.GetAnnotations()) > 0:
		return nil, fmt.Errorf("annotations: there is nothing here that would read them: %w", errdefs.ErrNotImplemented)
	case req.GetLinux() == nil:
		return nil, invalid("linux", "missing")
	}
	if score := req.GetLinux().GetOomScoreAdj(); score < -1000 || score > 1000 {
		return nil, invalid("linux.oom_score_adj", "%d is not between -1000 and 1000", score)
	}
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	container, err := s.opts.Index.Container(req.GetContainerId())
	if err != nil {
		return nil, err
	}
	unlock, err := s.locks.Lock(ctx, container.ID)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := s.updateContainer(ctx, container.ID, req.GetLinux()); err != nil {
		return nil, fmt.Errorf("update container %q: %w", container.ID, err)
	}
	return &cri.UpdateContainerResourcesResponse{}, nil
}

// updateContainer checks all before it changes anything.
func (s *Server) updateContainer(ctx context.Context, id string, asked *cri.LinuxContainerResources) error {
	container, err := s.opts.Index.Container(id)
	if err != nil {
		return err
	}
	if container.State() == cri.ContainerState_CONTAINER_EXITED {
		return fmt.Errorf("it has ended: %w", errdefs.ErrFailedPrecondition)
	}
	sandbox, err := s.opts.Index.Sandbox(container.SandboxID)
	if err != nil {
		return err
	}
	pid, of := container.PID, id
	if !container.Running {
		pid, of = sandbox.PID, sandbox.ID
	}
	if err := s.checkLimits(pid, of, asked); err != nil {
		return err
	}
	if err := s.opts.Containers.UpdateContainer(ctx, id, asked); err != nil {
		return err
	}
	if container.Running {
		err = s.opts.Limits.Set(container.PID, id, asked)
		if err == nil && asked.GetOomScoreAdj() != 0 {
			err = s.opts.Limits.SetOOMScore(container.PID, id, int(asked.GetOomScoreAdj()))
		}
		if err != nil && !errdefs.IsNotFound(err) { // it ended meanwhile
			return errors.Join(err, s.opts.Index.Refresh(ctx, id))
		}
	}
	u := s.updates.of(id)
	u.resources = beyondEngine(u.resources, asked)
	return errors.Join(s.updates.put(id, u), s.opts.Index.Refresh(ctx, id))
}

// checkLimits looks at the cgroup of a process, of which there must be one.
func (s *Server) checkLimits(pid int, of string, asked *cri.LinuxContainerResources) error {
	err := s.opts.Limits.Check(pid, of, asked)
	if errdefs.IsNotFound(err) {
		return fmt.Errorf("%v: %w", err, errdefs.ErrFailedPrecondition)
	}
	return err
}

// beyondEngine returns what is in force, after an update by asked, of those limits that
// the engine keeps no account of.
func beyondEngine(before, asked *cri.LinuxContainerResources) *cri.LinuxContainerResources {
	after := &cri.LinuxContainerResources{
		OomScoreAdj: cmp.Or(asked.GetOomScoreAdj(), before.GetOomScoreAdj()), Unified: map[string]string{},
	}
	sizes := map[string]bool{}
	for _, limit := range slices.Concat(asked.GetHugepageLimits(), before.GetHugepageLimits()) {
		if !sizes[limit.GetPageSize()] {
			after.HugepageLimits = append(after.HugepageLimits, limit)
		}
		sizes[limit.GetPageSize()] = true
	}
	maps.Copy(after.Unified, before.GetUnified())
	maps.Copy(after.Unified, asked.GetUnified())
	return after
}

// resources are the limits in force: what the engine tells, and what it does not know.
func (s *Server) resources(c pod.Container) *cri.LinuxContainerResources {
	all := &cri.LinuxContainerResources{}
	if c.Resources != nil {
		all = proto.CloneOf(c.Resources)
	}
	beyond := beyondEngine(c.Config.GetLinux().GetResources(), s.updates.of(c.ID).resources)
	all.HugepageLimits, all.Unified = beyond.GetHugepageLimits(), beyond.GetUnified()
	all.OomScoreAdj = cmp.Or(s.updates.of(c.ID).resources.GetOomScoreAdj(), all.GetOomScoreAdj())
	return all
}

// UpdatePodSandboxResources takes note of a pod's new overhead and sums, which
// PodSandboxStatus shows in its verbose part. The pod's cgroup itself is the kubelet's.
func (s *Server) UpdatePodSandboxResources(ctx context.Context, req *cri.UpdatePodSandboxResourcesRequest) (*cri.UpdatePodSandboxResourcesResponse, error) {
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	sandbox, err := s.opts.Index.Sandbox(req.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	unlock, err := s.locks.Lock(ctx, sandbox.ID)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if sandbox, err = s.opts.Index.Sandbox(sandbox.ID); err != nil { // removed meanwhile
		return nil, err
	}
	err = s.updates.put(sandbox.ID, update{resources: req.GetResources(), overhead: req.GetOverhead()})
	if err != nil {
		return nil, fmt.Errorf("update sandbox %q: %w", sandbox.ID, err)
	}
	return &cri.UpdatePodSandboxResourcesResponse{}, nil
}
