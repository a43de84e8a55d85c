package cri

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// RemoveImage removes an image with all its tags, by whichever of its names. It is
// idempotent. An image that a container was made from stays, and so does the sandbox's:
// it is needed for the next pod, and nobody may pull it again.
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
	pinned, err := s.pinned(ctx)
	if err != nil {
		return nil, err
	}
	if image.ID == pinned {
		return nil, fmt.Errorf("remove image %q: it is the sandbox image, from which every pod is made: %w", name, errdefs.ErrFailedPrecondition)
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
