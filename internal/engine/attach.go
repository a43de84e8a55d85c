package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"github.com/mascri/mascri/internal/pod"
)

// Attach joins streams to the first process of a workload container that runs, and returns
// when that ended. What the process wrote before is not shown. Whether there is a TTY is
// the container's to say. The end of Stdin closes the process's where the container was
// made so (StdinOnce, no TTY); elsewhere it ends the attachment alone.
//
// When ctx ends, or nobody takes the output any more, the container goes on. The error is
// ErrFailedPrecondition for one that does not run, else as InspectContainer's.
func (e *Engine) Attach(ctx context.Context, idOrName string, streams pod.Streams) error {
	c, err := e.connection(ctx)
	if err != nil {
		return err
	}
	container, err := e.runningContainer(ctx, idOrName)
	if err != nil {
		return err
	}
	what := "attach to container " + container.ID
	attached, err := c.api.ContainerAttach(ctx, container.ID, client.ContainerAttachOptions{
		Stream: true, Stdin: streams.Stdin != nil, DetachKeys: noDetachKeys,
		// Always attached, as it is by their end that the engine tells of the process's.
		Stdout: true, Stderr: !container.Config.GetTty(),
	})
	if err != nil {
		return e.notUpgraded(ctx, container.ID, e.failed(what, err))
	}
	// The engine attaches to what has ended as well, and then waits for its next start.
	if _, err := e.runningContainer(ctx, container.ID); err != nil {
		attached.Close()
		return err
	}
	streams.TTY = container.Config.GetTty()
	l := line{conn: attached.HijackedResponse, streams: streams, halfClose: true, resize: func(ctx context.Context, size pod.TerminalSize) error {
		_, err := c.api.ContainerResize(ctx, container.ID, client.ContainerResizeOptions{Height: uint(size.Height), Width: uint(size.Width)})
		return err
	}}
	if err := l.carry(ctx); err != nil {
		if errors.Is(err, errNobodyReads) {
			return fmt.Errorf("%s: %w", what, err)
		}
		return e.failed(what, err)
	}
	return nil
}

func (e *Engine) runningContainer(ctx context.Context, idOrName string) (pod.Container, error) {
	container, err := e.InspectContainer(ctx, idOrName)
	if err == nil && !container.Running {
		err = errdefs.ErrFailedPrecondition.WithMessage("container " + container.ID + " does not run")
	}
	return container, err
}
