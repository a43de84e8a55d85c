package cri

import (
	"context"
	"runtime"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

// ContainerStats asks the kernel. Of a container that does not run, only the writable
// layer is told.
func (s *Server) ContainerStats(ctx context.Context, req *cri.ContainerStatsRequest) (*cri.ContainerStatsResponse, error) {
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	c, err := s.opts.Index.Container(req.GetContainerId())
	if err != nil {
		return nil, err
	}
	return &cri.ContainerStatsResponse{Stats: s.containerStats(c, containerAttributes(c))}, nil
}

// ListContainerStats is ContainerStats for all that pass the filter, running or not.
func (s *Server) ListContainerStats(ctx context.Context, req *cri.ListContainerStatsRequest) (*cri.ListContainerStatsResponse, error) {
	stats, err := s.listContainerStats(ctx, req.GetFilter())
	if err != nil {
		return nil, err
	}
	return &cri.ListContainerStatsResponse{Stats: stats}, nil
}

// StreamContainerStats is ListContainerStats in batches.
func (s *Server) StreamContainerStats(req *cri.StreamContainerStatsRequest, stream grpc.ServerStreamingServer[cri.StreamContainerStatsResponse]) error {
	stats, err := s.listContainerStats(stream.Context(), req.GetFilter())
	if err != nil {
		return err
	}
	return inBatches(stats, func(batch []*cri.ContainerStats) error {
		return stream.Send(&cri.StreamContainerStatsResponse{ContainerStats: batch})
	})
}

// PodSandboxStats is for a sandbox and all containers in it.
func (s *Server) PodSandboxStats(ctx context.Context, req *cri.PodSandboxStatsRequest) (*cri.PodSandboxStatsResponse, error) {
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	sandbox, err := s.opts.Index.Sandbox(req.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	return &cri.PodSandboxStatsResponse{Stats: s.podStats(sandbox, s.containersBySandbox()[sandbox.ID])}, nil
}

// ListPodSandboxStats is PodSandboxStats for all that pass the filter, running or not.
func (s *Server) ListPodSandboxStats(ctx context.Context, req *cri.ListPodSandboxStatsRequest) (*cri.ListPodSandboxStatsResponse, error) {
	stats, err := s.listPodStats(ctx, req.GetFilter())
	if err != nil {
		return nil, err
	}
	return &cri.ListPodSandboxStatsResponse{Stats: stats}, nil
}

// StreamPodSandboxStats is ListPodSandboxStats in batches.
func (s *Server) StreamPodSandboxStats(req *cri.StreamPodSandboxStatsRequest, stream grpc.ServerStreamingServer[cri.StreamPodSandboxStatsResponse]) error {
	stats, err := s.listPodStats(stream.Context(), req.GetFilter())
	if err != nil {
		return err
	}
	return inBatches(stats, func(batch []*cri.PodSandboxStats) error {
		return stream.Send(&cri.StreamPodSandboxStatsResponse{PodSandboxStats: batch})
	})
}

func (s *Server) listContainerStats(ctx context.Context, filter *cri.ContainerStatsFilter) ([]*cri.ContainerStats, error) {
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	wanted := &cri.ContainerFilter{Id: filter.GetId(), PodSandboxId: filter.GetPodSandboxId(), LabelSelector: filter.GetLabelSelector()}
	containers := s.opts.Index.Containers()
	var matching []int
	for i := range containers {
		if containers[i].Matches(wanted) {
			matching = append(matching, i)
		}
	}
	return forEach(ctx, matching, func(i int) *cri.ContainerStats {
		c := containers[i]
		return frozen(s.containerStats(c, s.keptAttributes.item(containers, i, 0, func() *cri.ContainerAttributes { return containerAttributes(c) })))
	})
}

func (s *Server) listPodStats(ctx context.Context, filter *cri.PodSandboxStatsFilter) ([]*cri.PodSandboxStats, error) {
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	wanted := &cri.PodSandboxFilter{Id: filter.GetId(), LabelSelector: filter.GetLabelSelector()}
	var sandboxes []pod.Sandbox
	for _, sandbox := range s.opts.Index.Sandboxes() {
		if sandbox.Matches(wanted, cri.PodSandboxState_SANDBOX_READY) { // no state is asked for
			sandboxes = append(sandboxes, sandbox)
		}
	}
	containers := s.containersBySandbox()
	return forEach(ctx, sandboxes, func(sandbox pod.Sandbox) *cri.PodSandboxStats {
		return frozen(s.podStats(sandbox, containers[sandbox.ID]))
	})
}

// forEach calls f for each item, on all CPUs, and returns what it returned in order.
func forEach[T, R any](ctx context.Context, items []T, f func(T) R) ([]R, error) {
	results := make([]R, len(items))
	var next atomic.Int64
	var group errgroup.Group
	for range min(runtime.GOMAXPROCS(0), len(items)) {
		group.Go(func() error {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(items) {
					return nil
				}
				results[i] = f(items[i])
			}
			return ctx.Err()
		})
	}
	return results, group.Wait()
}

func (s *Server) containersBySandbox() map[string][]pod.Container {
	by := map[string][]pod.Container{}
	for _, c := range s.opts.Index.Containers() {
		by[c.SandboxID] = append(by[c.SandboxID], c)
	}
	return by
}

func containerAttributes(c pod.Container) *cri.ContainerAttributes {
	return &cri.ContainerAttributes{Id: c.ID, Metadata: c.Config.GetMetadata(), Labels: c.Config.GetLabels(), Annotations: c.Config.GetAnnotations()}
}

func (s *Server) containerStats(c pod.Container, attributes *cri.ContainerAttributes) *cri.ContainerStats {
	used := s.opts.Usage.Container(c)
	stats := &cri.ContainerStats{Attributes: attributes, WritableLayer: layerStats(used.Layer)}
	if u := used.Usage; u != nil {
		stats.Cpu, stats.Memory, stats.Swap, stats.Io = cpuStats(u), memoryStats(u), swapStats(u), ioStats(u)
	}
	return stats
}

func (s *Server) podStats(sandbox pod.Sandbox, containers []pod.Container) *cri.PodSandboxStats {
	used := s.opts.Usage.Pod(sandbox, s.attachment(sandbox.ID), containers)
	linux := &cri.LinuxPodSandboxStats{Network: trafficStats(used.Network)}
	if u := used.Usage; u != nil {
		linux.Cpu, linux.Memory, linux.Io = cpuStats(u), memoryStats(u), ioStats(u)
		linux.Process = &cri.ProcessUsage{Timestamp: u.At.UnixNano(), ProcessCount: value(used.Processes)}
	}
	for _, c := range containers {
		linux.Containers = append(linux.Containers, s.containerStats(c, containerAttributes(c)))
	}
	return &cri.PodSandboxStats{
		Attributes: &cri.PodSandboxAttributes{
			Id: sandbox.ID, Metadata: sandbox.Config.GetMetadata(), Labels: sandbox.Config.GetLabels(), Annotations: sandbox.Config.GetAnnotations(),
		},
		Linux: linux,
	}
}
