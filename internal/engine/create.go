package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/mascri/mascri/internal/engine/translate"
	"github.com/mascri/mascri/internal/pod"
)

// CreateSandbox makes the container of a sandbox and returns its id; it does not run
// yet. ErrAlreadyExists tells of a taken name, ErrNotFound of a missing image.
//
// After ErrUnavailable or the end of ctx the container may exist or may still come to
// be: nothing is cleaned up here. Remove takes the name for that.
func (e *Engine) CreateSandbox(ctx context.Context, spec pod.SandboxSpec) (string, error) {
	c, err := e.connection(ctx)
	if err != nil {
		return "", err
	}
	config, hostConfig, err := translate.Sandbox(spec, e.node(c))
	if err != nil {
		return "", err
	}
	return e.create(ctx, c, spec.Name, config, hostConfig)
}

// node is what translation must know of the node.
func (e *Engine) node(c *connection) translate.Host {
	return translate.Host{Facts: c.facts, OOMFloor: e.oomFloor(), SharedShims: e.sharedShims, ReadFile: translate.ReadProfile}
}

// create is one request.
func (e *Engine) create(ctx context.Context, c *connection, name string, config *container.Config, hostConfig *container.HostConfig) (string, error) {
	result, err := c.api.ContainerCreate(ctx, client.ContainerCreateOptions{Name: name, Config: config, HostConfig: hostConfig})
	if err != nil {
		err = e.failed(fmt.Sprintf("create container %q", name), err)
		if errors.Is(err, errdefs.ErrConflict) { // the only one that a create can have
			return "", errdefs.ErrAlreadyExists.WithMessage(err.Error())
		}
		return "", err
	}
	for _, warning := range result.Warnings {
		e.log.Debug("the engine warned of a container that it made", "container", result.ID, "warning", warning)
	}
	return result.ID, nil
}

// Start runs a container. Starting one that runs is no error. ErrFailedPrecondition tells
// of one whose sandbox does not run.
func (e *Engine) Start(ctx context.Context, id string) error {
	c, err := e.connection(ctx)
	if err != nil {
		return err
	}
	if _, err := c.api.ContainerStart(ctx, id, client.ContainerStartOptions{}); err != nil {
		err = e.failed("start container "+id, err)
		if errors.Is(err, errdefs.ErrConflict) {
			return errdefs.ErrFailedPrecondition.WithMessage(err.Error())
		}
		return err
	}
	return nil
}
