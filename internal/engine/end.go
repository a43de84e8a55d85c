package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"github.com/mascri/mascri/internal/pod"
)

// removeAgain is how long to wait before asking again for a removal that another
// client has under way.
const removeAgain = 20 * time.Millisecond

// Kill ends a container's process by SIGKILL and returns once it ended. One that
// does not run or does not exist is no error.
func (e *Engine) Kill(ctx context.Context, idOrName string) error {
	c, id, err := e.own(ctx, idOrName)
	if err != nil || id == "" {
		return err
	}
	_, err = c.api.ContainerKill(ctx, id, client.ContainerKillOptions{Signal: "SIGKILL"})
	if err == nil {
		return nil // the engine answers a SIGKILL when the process has ended
	}
	err = e.failed("kill container "+id, err)
	if errors.Is(err, errdefs.ErrNotFound) || errors.Is(err, errdefs.ErrConflict) { // conflict: it does not run
		return nil
	}
	return err
}

// Stop sends a container's stop signal, SIGKILL after grace, which is of whole seconds,
// and returns once the process ended. One that does not run or does not exist is no error.
// The engine goes on with it where ctx ends first.
func (e *Engine) Stop(ctx context.Context, idOrName string, grace time.Duration) error {
	c, id, err := e.own(ctx, idOrName)
	if err != nil || id == "" {
		return err
	}
	seconds := int(grace / time.Second)
	_, err = c.api.ContainerStop(ctx, id, client.ContainerStopOptions{Timeout: &seconds})
	if err == nil {
		return nil
	}
	if err = e.failed("stop container "+id, err); errors.Is(err, errdefs.ErrNotFound) {
		return nil
	}
	return err
}

// Remove removes a container, running or not, with its anonymous volumes, and returns
// once it is gone and its name free. One that does not exist is no error.
func (e *Engine) Remove(ctx context.Context, idOrName string) error {
	c, id, err := e.own(ctx, idOrName)
	if err != nil || id == "" {
		return err
	}
	for {
		_, err := c.api.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
		if err != nil {
			err = e.failed("remove container "+id, err)
		}
		if err == nil || errors.Is(err, errdefs.ErrNotFound) {
			e.ours.Delete(id)
			return nil
		}
		if !errors.Is(err, errdefs.ErrConflict) {
			return err
		}
		// Somebody else removes it: see it gone, or take over should he fail.
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; before that: %v", ctx.Err(), err)
		case <-time.After(removeAgain):
		}
	}
}

// own returns the id of a sandbox or workload container of this instance, "" for what
// is none. The engine is asked unless it is the id of one that was seen before.
func (e *Engine) own(ctx context.Context, idOrName string) (*connection, string, error) {
	c, err := e.connection(ctx)
	if err != nil {
		return nil, "", err
	}
	if _, known := e.ours.Load(idOrName); known {
		return c, idOrName, nil
	}
	item, err := e.inspect(ctx, c, idOrName)
	switch {
	case errors.Is(err, errdefs.ErrNotFound) || errors.Is(err, pod.ErrForeign):
		return c, "", nil
	case err != nil:
		return c, "", err
	}
	return c, item.ID(), nil
}
