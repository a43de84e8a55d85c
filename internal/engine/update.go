package engine

import (
	"context"
	"errors"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine/translate"
)

// UpdateContainer sets the limits that Docker's API knows, running or not; a zero leaves
// one as it is. ErrFailedPrecondition tells of limits that the container can't be under,
// as of less memory than it uses.
func (e *Engine) UpdateContainer(ctx context.Context, id string, resources *cri.LinuxContainerResources) error {
	c, err := e.connection(ctx)
	if err != nil {
		return err
	}
	before, err := e.limits(ctx, c, id)
	if err != nil {
		return err
	}
	limits, err := translate.Update(resources, before, e.node(c))
	if err != nil {
		return err
	}
	if _, err := c.api.ContainerUpdate(ctx, id, client.ContainerUpdateOptions{Resources: &limits}); err != nil {
		err = e.failed("update container "+id, err)
		if errors.Is(err, errdefs.ErrConflict) {
			return errdefs.ErrFailedPrecondition.WithMessage(err.Error())
		}
		return err
	}
	return nil
}

// limits returns a container's limits as they are: what an update of memory has to say of
// swap depends on them.
func (e *Engine) limits(ctx context.Context, c *connection, id string) (container.Resources, error) {
	result, err := c.api.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	if err != nil {
		return container.Resources{}, e.failed("inspect container "+id, err)
	}
	if result.Container.HostConfig == nil {
		return container.Resources{}, nil
	}
	return result.Container.HostConfig.Resources, nil
}
