package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/client"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mascri/mascri/internal/pod"
)

// Images returns all images that can be named, and those that lost their last name. The
// layers that a build leaves behind on its way are no images.
func (e *Engine) Images(ctx context.Context) ([]pod.Image, error) {
	c, err := e.connection(ctx)
	if err != nil {
		return nil, err
	}
	list, err := c.api.ImageList(ctx, client.ImageListOptions{})
	if err != nil {
		return nil, e.failed("list images", err)
	}
	var images []pod.Image
	present := map[string]bool{}
	for _, summary := range list.Items {
		present[summary.ID] = true
		config, err := e.imageConfig(ctx, c, summary.ID)
		if err != nil && (ctx.Err() != nil || errors.Is(err, errdefs.ErrUnavailable)) {
			return nil, err
		}
		if err != nil {
			// Removed meanwhile, or damaged: it must be listed for somebody to remove it.
			e.log.Debug("an image tells no config", "image", summary.ID, "error", err)
		}
		images = append(images, pod.Image{
			ID: summary.ID, Tags: names(summary.RepoTags), Digests: names(summary.RepoDigests), Size: uint64(max(0, summary.Size)), Config: config,
		})
	}
	for _, known := range []*sync.Map{&e.configs, &e.users} {
		known.Range(func(id, _ any) bool {
			if id, ok := id.(string); ok && !present[id] {
				known.Delete(id)
			}
			return true
		})
	}
	return images, nil
}

// imageConfig is asked of the engine once for each image, as an id never stands for
// another config.
func (e *Engine) imageConfig(ctx context.Context, c *connection, id string) (ocispec.Image, error) {
	if known, ok := e.configs.Load(id); ok {
		if config, ok := known.(ocispec.Image); ok {
			return config, nil
		}
	}
	image, err := e.inspectImage(ctx, c, id)
	if err != nil {
		return ocispec.Image{}, err
	}
	e.configs.Store(id, image.Config)
	return image.Config, nil
}

// Image returns the image that name stands for, of the form that pod.ImageName returns;
// errdefs.ErrNotFound where there is none.
func (e *Engine) Image(ctx context.Context, name string) (pod.Image, error) {
	c, err := e.connection(ctx)
	if err != nil {
		return pod.Image{}, err
	}
	return e.inspectImage(ctx, c, name)
}

func (e *Engine) inspectImage(ctx context.Context, c *connection, name string) (pod.Image, error) {
	what := fmt.Sprintf("inspect image %q", name)
	result, err := c.api.ImageInspect(ctx, name)
	if err != nil {
		return pod.Image{}, e.failed(what, err)
	}
	in := result.InspectResponse
	config, err := imageConfig(in)
	if err != nil {
		return pod.Image{}, fmt.Errorf("%s: %w", what, err)
	}
	return pod.Image{
		ID: in.ID, Tags: names(in.RepoTags), Digests: names(in.RepoDigests), Size: uint64(max(0, in.Size)), Config: config,
	}, nil
}

func imageConfig(in image.InspectResponse) (ocispec.Image, error) {
	config := ocispec.Image{
		Author:   in.Author,
		Platform: ocispec.Platform{Architecture: in.Architecture, Variant: in.Variant, OS: in.Os, OSVersion: in.OsVersion},
		RootFS:   ocispec.RootFS{Type: in.RootFS.Type},
	}
	if in.Config != nil {
		config.Config = in.Config.ImageConfig
	}
	for _, layer := range in.RootFS.Layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.Digest(layer))
	}
	if in.Created == "" {
		return config, nil
	}
	created, err := time.Parse(time.RFC3339Nano, in.Created)
	config.Created = &created
	return config, err
}

// names leaves out what engines before 24 call an image that has no name.
func names(texts []string) []string {
	return slices.DeleteFunc(texts, func(text string) bool { return text == "<none>:<none>" || text == "<none>@<none>" })
}
