package cri

import (
	"context"

	"google.golang.org/grpc"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

// batchSize is how many items one message of a streaming list holds: 5 MiB with labels
// and annotations at their limits, where clients take 16 MiB.
const batchSize = 10

// ListPodSandbox answers from memory.
func (s *Server) ListPodSandbox(ctx context.Context, req *cri.ListPodSandboxRequest) (*cri.ListPodSandboxResponse, error) {
	items, err := s.listSandboxes(ctx, req.GetFilter())
	if err != nil {
		return nil, err
	}
	return &cri.ListPodSandboxResponse{Items: items}, nil
}

// StreamPodSandboxes is ListPodSandbox in batches.
func (s *Server) StreamPodSandboxes(req *cri.StreamPodSandboxesRequest, stream grpc.ServerStreamingServer[cri.StreamPodSandboxesResponse]) error {
	items, err := s.listSandboxes(stream.Context(), req.GetFilter())
	if err != nil {
		return err
	}
	return inBatches(items, func(batch []*cri.PodSandbox) error {
		return stream.Send(&cri.StreamPodSandboxesResponse{PodSandboxes: batch})
	})
}

// inBatches sends at least one batch, so that an empty list is an answer, too.
func inBatches[T any](items []T, send func([]T) error) error {
	for {
		n := min(batchSize, len(items))
		if err := send(items[:n]); err != nil {
			return err
		}
		if items = items[n:]; len(items) == 0 {
			return nil
		}
	}
}

func (s *Server) listSandboxes(ctx context.Context, filter *cri.PodSandboxFilter) ([]*cri.PodSandbox, error) {
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	var items []*cri.PodSandbox
	sandboxes := s.opts.Index.Sandboxes()
	for i, sandbox := range sandboxes {
		state := sandbox.State(s.attachment(sandbox.ID))
		if sandbox.Matches(filter, state) {
			items = append(items, s.keptSandboxes.item(sandboxes, i, int32(state), func() *cri.PodSandbox { return listed(sandbox, state) }))
		}
	}
	return items, nil
}

func listed(sandbox pod.Sandbox, state cri.PodSandboxState) *cri.PodSandbox {
	return &cri.PodSandbox{
		Id:             sandbox.ID,
		Metadata:       sandbox.Config.GetMetadata(),
		State:          state,
		CreatedAt:      sandbox.CreatedAt.UnixNano(),
		Labels:         sandbox.Config.GetLabels(),
		Annotations:    sandbox.Config.GetAnnotations(),
		RuntimeHandler: sandbox.RuntimeHandler,
	}
}

// attachment returns nil where the sandbox has none.
func (s *Server) attachment(id string) *pod.Attachment {
	if a, ok := s.opts.Network.Attachment(id); ok {
		return &a
	}
	return nil
}
