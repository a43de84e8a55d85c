package engine

import (
	"context"
	"errors"

	"github.com/containerd/errdefs"
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
	memorySwap, err := e.memorySwap(ctx, c, id)
	if err != nil {
		return err
	}
	limits, err := translate.Update(resources, memorySwap, e.node(c))
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

// memorySwap returns a container's limit of memory and swap: an update of memory that says
// nothing of it is refused by the engine where there is none.
func (e *Engine) memorySwap(ctx context.Context, c *connection, id string) (int64, error) {
	result, err := c.api.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	if err != nil {
		return 0, e.failed("inspect container "+id, err)
	}
	if result.Container.HostConfig == nil {
		return 0, nil
	}
	return result.Container.HostConfig.MemorySwap, nil
}
