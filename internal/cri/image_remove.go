package cri

import (
	"context"

	"github.com/containerd/errdefs"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// RemoveImage removes an image with all its tags, by whichever of its names. It is
// idempotent. An image that a container was made from stays. The sandbox's is pinned,
// which is a recommendation: who asks for its removal by name is obliged, and MasCRI's
// own is loaded again for the next pod.
func (s *Server) RemoveImage(ctx context.Context, req *cri.RemoveImageRequest) (*cri.RemoveImageResponse, error) {
	name, err := s.imageName("image", req.GetImage())
	if err != nil {
		return nil, err
	}
	image, err := s.opts.Images.Image(ctx, name)
	if errdefs.IsNotFound(err) {
		return &cri.RemoveImageResponse{}, nil
	}
	if err != nil {
		return nil, err
	}
	unlock, err := s.locks.Lock(ctx, image.ID)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := s.opts.Images.RemoveImage(ctx, image.ID); err != nil {
		return nil, err
	}
	return &cri.RemoveImageResponse{}, nil
}
