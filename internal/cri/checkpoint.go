package cri

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// noCheckpoints answers the RPCs on checkpoints. Docker's own, which are experimental, stay
// in the engine's directory and can't be made the archive that the CRI asks for.
func noCheckpoints(rpc string) error {
	return fmt.Errorf("%s: Docker's API can't export a checkpoint: %w", rpc, errdefs.ErrNotImplemented)
}

// CheckpointContainer is not served: see noCheckpoints.
func (s *Server) CheckpointContainer(context.Context, *cri.CheckpointContainerRequest) (*cri.CheckpointContainerResponse, error) {
	return nil, noCheckpoints("CheckpointContainer")
}

// CheckpointPod is not served: see noCheckpoints.
func (s *Server) CheckpointPod(context.Context, *cri.CheckpointPodRequest) (*cri.CheckpointPodResponse, error) {
	return nil, noCheckpoints("CheckpointPod")
}

// RestorePod is not served: see noCheckpoints.
func (s *Server) RestorePod(context.Context, *cri.RestorePodRequest) (*cri.RestorePodResponse, error) {
	return nil, noCheckpoints("RestorePod")
}
