package cri

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// notYet answers the RPCs that this version does not serve.
func notYet(rpc string) error {
	return fmt.Errorf("%s is not served by this version of MasCRI, which runs pod sandboxes and keeps images: %w", rpc, errdefs.ErrNotImplemented)
}

// ExecSync is not served yet.
func (s *Server) ExecSync(context.Context, *cri.ExecSyncRequest) (*cri.ExecSyncResponse, error) {
	return nil, notYet("ExecSync")
}

// Exec is not served yet.
func (s *Server) Exec(context.Context, *cri.ExecRequest) (*cri.ExecResponse, error) {
	return nil, notYet("Exec")
}

// Attach is not served yet.
func (s *Server) Attach(context.Context, *cri.AttachRequest) (*cri.AttachResponse, error) {
	return nil, notYet("Attach")
}

// PortForward is not served yet.
func (s *Server) PortForward(context.Context, *cri.PortForwardRequest) (*cri.PortForwardResponse, error) {
	return nil, notYet("PortForward")
}

// CheckpointContainer is not served yet.
func (s *Server) CheckpointContainer(context.Context, *cri.CheckpointContainerRequest) (*cri.CheckpointContainerResponse, error) {
	return nil, notYet("CheckpointContainer")
}

// CheckpointPod is not served yet.
func (s *Server) CheckpointPod(context.Context, *cri.CheckpointPodRequest) (*cri.CheckpointPodResponse, error) {
	return nil, notYet("CheckpointPod")
}

// RestorePod is not served yet.
func (s *Server) RestorePod(context.Context, *cri.RestorePodRequest) (*cri.RestorePodResponse, error) {
	return nil, notYet("RestorePod")
}
