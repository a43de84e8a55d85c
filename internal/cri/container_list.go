package cri

import (
	"context"

	"google.golang.org/grpc"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

// ListContainers answers from memory.
func (s *Server) ListContainers(ctx context.Context, req *cri.ListContainersRequest) (*cri.ListContainersResponse, error) {
	items, err := s.listContainers(ctx, req.GetFilter())
	if err != nil {
		return nil, err
	}
	return &cri.ListContainersResponse{Containers: items}, nil
}

// StreamContainers is ListContainers in batches.
func (s *Server) StreamContainers(req *cri.StreamContainersRequest, stream grpc.ServerStreamingServer[cri.StreamContainersResponse]) error {
	items, err := s.listContainers(stream.Context(), req.GetFilter())
	if err != nil {
		return err
	}
	return inBatches(items, func(batch []*cri.Container) error {
		return stream.Send(&cri.StreamContainersResponse{Containers: batch})
	})
}

func (s *Server) listContainers(ctx context.Context, filter *cri.ContainerFilter) ([]*cri.Container, error) {
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	var items []*cri.Container
	containers := s.opts.Index.Containers()
	for i, container := range containers {
		if container.Matches(filter) {
			items = append(items, s.keptContainers.item(containers, i, int32(container.State()), func() *cri.Container {
				return listedContainer(container)
			}))
		}
	}
	return items, nil
}

func listedContainer(c pod.Container) *cri.Container {
	return &cri.Container{
		Id:           c.ID,
		PodSandboxId: c.SandboxID,
		Metadata:     c.Config.GetMetadata(),
		Image:        c.Config.GetImage(),
		ImageRef:     c.ImageRef,
		ImageId:      c.Image,
		State:        c.State(),
		CreatedAt:    c.CreatedAt.UnixNano(),
		Labels:       c.Config.GetLabels(),
		Annotations:  c.Config.GetAnnotations(),
	}
}
