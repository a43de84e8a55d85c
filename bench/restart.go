package main

import (
	"context"
	"fmt"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// restart kills the daemon that serves the CRI, starts it, and returns how long it took
// until it listed all pods and containers as running.
func (r *pods) restart(ctx context.Context, count int) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := r.daemon.kill(); err != nil {
		return 0, err
	}
	if err := r.conn.Close(); err != nil {
		return 0, err
	}
	began := time.Now()
	if err := r.daemon.start(); err != nil {
		return 0, err
	}
	for {
		// A connection of its own for each attempt, as one that failed takes a second off.
		conn, err := dial(r.daemon.socket)
		if err != nil {
			return 0, err
		}
		r.client, r.conn = cri.NewRuntimeServiceClient(conn), conn
		pods, containers, err := r.running(ctx)
		if err == nil && pods == count && containers == count {
			return time.Since(began), nil
		}
		if ctx.Err() != nil {
			return 0, fmt.Errorf("after a restart: %d pods and %d containers, not %d: %w\n%s", pods, containers, count, err, tail(r.daemon.log()))
		}
		if err := conn.Close(); err != nil {
			return 0, err
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func (r *pods) running(ctx context.Context) (pods, containers int, err error) {
	listed, err := r.client.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{Filter: &cri.PodSandboxFilter{
		State: &cri.PodSandboxStateValue{State: cri.PodSandboxState_SANDBOX_READY},
	}})
	if err != nil {
		return 0, 0, err
	}
	resp, err := r.client.ListContainers(ctx, &cri.ListContainersRequest{Filter: &cri.ContainerFilter{
		State: &cri.ContainerStateValue{State: cri.ContainerState_CONTAINER_RUNNING},
	}})
	return len(listed.GetItems()), len(resp.GetContainers()), err
}
