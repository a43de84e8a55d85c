package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// lists measures what it takes to ask for everything.
func lists(ctx context.Context, contestants []contestant, count, rounds int) ([]sample, error) {
	return turns(ctx, fmt.Sprintf("lists of %d", count), rounds, contestants, func(ctx context.Context, c contestant, round int) ([]sample, error) {
		return c.list(ctx, count, round)
	})
}

func (c contestant) list(ctx context.Context, count, round int) ([]sample, error) {
	t := c.pods.things[rand.IntN(len(c.pods.things))]
	var samples []sample
	var all float64
	var bytes int
	for _, ask := range []struct {
		measure string
		do      func(context.Context) (items, bytes int, err error)
	}{
		{"list_pods", c.pods.listPods},
		{"list_containers", c.pods.listContainers},
		{"list_stats", c.pods.listStats},
		{"statuses", func(ctx context.Context) (int, int, error) {
			bytes, err := c.pods.statuses(ctx, t)
			return count, bytes, err
		}},
	} {
		began := time.Now()
		items, size, err := ask.do(ctx)
		took := milliseconds(time.Since(began))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", ask.measure, err)
		}
		if items != count {
			return nil, fmt.Errorf("%s has %d items, not %d", ask.measure, items, count)
		}
		samples = append(samples, sample{c.Name, ask.measure, withPods(count), round, took})
		all += took
		bytes += size
	}
	return append(samples,
		sample{c.Name, list, withPods(count), round, all},
		sample{c.Name, listBytes, withPods(count), round, float64(bytes) / 1e3}), nil
}

func (r *pods) listPods(ctx context.Context) (items, bytes int, err error) {
	resp, err := r.client.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
	return len(resp.GetItems()), proto.Size(resp), err
}

func (r *pods) listContainers(ctx context.Context) (items, bytes int, err error) {
	resp, err := r.client.ListContainers(ctx, &cri.ListContainersRequest{})
	return len(resp.GetContainers()), proto.Size(resp), err
}

func (r *pods) listStats(ctx context.Context) (items, bytes int, err error) {
	resp, err := r.client.ListContainerStats(ctx, &cri.ListContainerStatsRequest{})
	return len(resp.GetStats()), proto.Size(resp), err
}

func (r *pods) statuses(ctx context.Context, t *thing) (bytes int, err error) {
	pod, err := r.client.PodSandboxStatus(ctx, &cri.PodSandboxStatusRequest{PodSandboxId: t.id})
	if err != nil {
		return 0, err
	}
	container, err := r.client.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: t.container})
	return proto.Size(pod) + proto.Size(container), err
}
