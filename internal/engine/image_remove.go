package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
)

// RemoveImage removes the image of this id, with all its tags. One that does not exist is
// no error; errdefs.ErrFailedPrecondition tells of one that something was made from, and
// nothing of it is removed then.
func (e *Engine) RemoveImage(ctx context.Context, id string) error {
	c, err := e.connection(ctx)
	if err != nil {
		return err
	}
	what := fmt.Sprintf("remove image %q", id)
	if err := e.imageUnused(ctx, c, id); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	for {
		// Forced, as the engine keeps an image of several names otherwise.
		_, err = c.api.ImageRemove(ctx, id, client.ImageRemoveOptions{Force: true, PruneChildren: true})
		if err == nil {
			return nil
		}
		err = e.failed(what, err)
		if errors.Is(err, errdefs.ErrConflict) {
			// Other images were built on this one, or a container was started meanwhile.
			return errdefs.ErrFailedPrecondition.WithMessage(err.Error())
		}
		// Where two remove it, the engine has various words for what the slower one meets.
		if _, inspectErr := e.inspectImage(ctx, c, id); errors.Is(inspectErr, errdefs.ErrNotFound) {
			return nil
		}
		if !errors.Is(err, errdefs.ErrNotFound) {
			return err
		}
		// Somebody else removes it: see it gone, or take over should he fail.
		select {
		case <-ctx.Done():
			return e.failed(what, ctx.Err())
		case <-time.After(removeAgain):
		}
	}
}

// imageUnused looks for containers of anybody's: by force the engine would take the image
// from those that don't run.
func (e *Engine) imageUnused(ctx context.Context, c *connection, id string) error {
	containers, err := c.api.ContainerList(ctx, client.ContainerListOptions{All: true})
	if err != nil {
		return e.failed("list containers", err)
	}
	for _, container := range containers.Items {
		if container.ImageID == id {
			name := strings.TrimPrefix(strings.Join(container.Names, ", "), "/")
			return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("container %s (%s, %s) was made from it; remove that first", container.ID, name, container.State))
		}
	}
	return nil
}
