package cri

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

// ListImages asks the engine each time: an image that was just built is in the list.
func (s *Server) ListImages(ctx context.Context, req *cri.ListImagesRequest) (*cri.ListImagesResponse, error) {
	items, err := s.listImages(ctx, req.GetFilter())
	if err != nil {
		return nil, err
	}
	return &cri.ListImagesResponse{Images: items}, nil
}

// StreamImages is ListImages in batches.
func (s *Server) StreamImages(req *cri.StreamImagesRequest, stream grpc.ServerStreamingServer[cri.StreamImagesResponse]) error {
	items, err := s.listImages(stream.Context(), req.GetFilter())
	if err != nil {
		return err
	}
	return inBatches(items, func(batch []*cri.Image) error {
		return stream.Send(&cri.StreamImagesResponse{Images: batch})
	})
}

// listImages passes, by the filter's image, what pod.Image.Matches does.
func (s *Server) listImages(ctx context.Context, filter *cri.ImageFilter) ([]*cri.Image, error) {
	var name string
	if spec := filter.GetImage(); spec.GetImage() != "" || spec.GetRuntimeHandler() != "" {
		var err error
		if name, err = s.imageName("filter.image", spec); err != nil {
			return nil, err
		}
	}
	images, err := s.opts.Images.Images(ctx)
	if err != nil {
		return nil, err
	}
	pinned, err := s.pinned(ctx)
	if err != nil {
		return nil, err
	}
	var items []*cri.Image
	for _, image := range images {
		if name == "" || image.Matches(name) {
			items = append(items, criImage(image, pinned))
		}
	}
	return items, nil
}

// ImageStatus answers without an image where there is none.
func (s *Server) ImageStatus(ctx context.Context, req *cri.ImageStatusRequest) (*cri.ImageStatusResponse, error) {
	name, err := s.imageName("image", req.GetImage())
	if err != nil {
		return nil, err
	}
	image, err := s.opts.Images.Image(ctx, name)
	if errdefs.IsNotFound(err) {
		return &cri.ImageStatusResponse{}, nil
	}
	if err != nil {
		return nil, err
	}
	pinned, err := s.pinned(ctx)
	if err != nil {
		return nil, err
	}
	resp := &cri.ImageStatusResponse{Image: criImage(image, pinned)}
	if req.GetVerbose() {
		// The key under which containerd's users look for it.
		resp.Info, err = jsonInfo("info", map[string]any{"imageSpec": image.Config})
	}
	return resp, err
}

// ImageFsInfo measures the file system that holds the images. The engine keeps the
// containers' own layers there, too, which is what the kubelet wants to know of the other.
func (s *Server) ImageFsInfo(ctx context.Context, _ *cri.ImageFsInfoRequest) (*cri.ImageFsInfoResponse, error) {
	filesystem, err := s.opts.Images.ImageFilesystem(ctx)
	if err != nil {
		return nil, err
	}
	usage := []*cri.FilesystemUsage{{
		Timestamp:  time.Now().UnixNano(),
		FsId:       &cri.FilesystemIdentifier{Mountpoint: filesystem.MountPoint},
		UsedBytes:  &cri.UInt64Value{Value: filesystem.UsedBytes},
		InodesUsed: &cri.UInt64Value{Value: filesystem.UsedInodes},
	}}
	return &cri.ImageFsInfoResponse{ImageFilesystems: usage, ContainerFilesystems: usage}, nil
}

// pinned returns the id of the sandbox image, "" where the engine lacks it.
func (s *Server) pinned(ctx context.Context) (string, error) {
	image, err := s.opts.Images.Image(ctx, s.opts.SandboxImage)
	if err != nil && !errdefs.IsNotFound(err) {
		return "", fmt.Errorf("sandbox image: %w", err)
	}
	return image.ID, nil
}

// criImage says that an empty image has one byte: to the kubelet and kubeadm, a size of 0 is
// an error, and they would pull the image again and again although it is there.
func criImage(image pod.Image, pinned string) *cri.Image {
	item := &cri.Image{
		Id:          image.ID,
		RepoTags:    image.Tags,
		RepoDigests: image.Digests,
		Size:        max(1, image.Size),
		Pinned:      image.ID == pinned,
	}
	uid, name := image.User()
	if item.Username = name; uid != nil {
		item.Uid = &cri.Int64Value{Value: *uid}
	}
	return item
}
