package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
)

// EnsureImage returns the id (sha256:...) of the image that ref names. A missing one is
// loaded from archive, a tar as docker save writes it that holds ref; archive may be nil,
// a missing image is then ErrNotFound. Simultaneous calls load it once.
func (e *Engine) EnsureImage(ctx context.Context, ref string, archive func() (io.ReadCloser, error)) (string, error) {
	c, err := e.connection(ctx)
	if err != nil {
		return "", err
	}
	what := fmt.Sprintf("sandbox image %q", ref)
	id, err := e.imageID(ctx, c, ref)
	if !errors.Is(err, errdefs.ErrNotFound) {
		return id, err
	}
	if archive == nil {
		return "", errdefs.ErrNotFound.WithMessage(what + ": the engine does not have it: run docker pull " + ref + ", or don't set a sandbox image to use MasCRI's own")
	}
	// Many pods may be the first: loading takes time, CPU and memory.
	unlock, err := e.once.Lock(ctx, "load "+ref)
	if err != nil {
		return "", err
	}
	defer unlock()
	if id, err = e.imageID(ctx, c, ref); !errors.Is(err, errdefs.ErrNotFound) {
		return id, err
	}
	if err := e.loadImage(ctx, c, archive); err != nil {
		return "", fmt.Errorf("%s: %w", what, err)
	}
	return e.imageID(ctx, c, ref)
}

func (e *Engine) imageID(ctx context.Context, c *connection, ref string) (string, error) {
	image, err := c.api.ImageInspect(ctx, ref)
	if err != nil {
		return "", e.failed(fmt.Sprintf("inspect image %q", ref), err)
	}
	return image.ID, nil
}

func (e *Engine) loadImage(ctx context.Context, c *connection, archive func() (io.ReadCloser, error)) (err error) {
	tar, err := archive()
	if err != nil {
		return fmt.Errorf("open the image archive: %w", err)
	}
	defer func() { err = errors.Join(err, tar.Close()) }()
	answer, err := c.api.ImageLoad(ctx, tar, client.ImageLoadWithQuiet(true))
	if err != nil {
		return e.failed("load the image archive", err)
	}
	defer func() { err = errors.Join(err, answer.Close()) }()
	return e.loadOutcome(answer)
}

// loadOutcome reads the engine's progress to its end: the load is over only then, and
// its failure stands in there, as the status was sent before.
func (e *Engine) loadOutcome(answer io.Reader) error {
	for decoder := json.NewDecoder(answer); ; {
		var message struct {
			Error string `json:"error"`
		}
		err := decoder.Decode(&message)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return e.failed("load the image archive", err)
		case message.Error != "":
			return fmt.Errorf("load the image archive: %w", errdefs.ErrInternal.WithMessage(message.Error))
		}
	}
}
