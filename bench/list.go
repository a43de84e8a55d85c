package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"time"

	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// lists measures what it takes to ask for everything.
func lists(ctx context.Context, contestants []contestant, count, rounds int) ([]sample, error) {
	return turns(ctx, fmt.Sprintf("lists of %d", count), rounds, contestants, func(ctx context.Context, c contestant, round int) ([]sample, error) {
		return c.listTurn(ctx, count, round)
	})
}

// In a turn a contestant is asked for all so often, that its p99 is more than the worst of a few,
// and no more once it took so long.
const (
	listAsks = 10
	listLong = time.Second
)

// listTurn keeps this program's garbage collection out of it, which would be in the way now
// and then. To decode an answer stays a part of what a client waits for.
func (c contestant) listTurn(ctx context.Context, count, round int) (samples []sample, err error) {
	runtime.GC()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	for i, began := 0, time.Now(); i < listAsks && time.Since(began) < listLong; i++ {
		taken, err := c.list(ctx, count, round)
		if samples = append(samples, taken...); err != nil {
			return samples, err
		}
	}
	return samples, nil
}

func (c contestant) list(ctx context.Context, count, round int) ([]sample, error) {
	t := c.pods.things[rand.IntN(len(c.pods.things))]
	var samples []sample
	var all float64
	var bytes int
	for _, ask := range []struct {
		measure string
		do      func(context.Context) (items int, answers []proto.Message, err error)
	}{
		{"list_pods", c.pods.listPods},
		{"list_containers", c.pods.listContainers},
		{"list_stats", c.pods.listStats},
		{"statuses", func(ctx context.Context) (int, []proto.Message, error) {
			answers, err := c.pods.statuses(ctx, t)
			return count, answers, err
		}},
	} {
		began := time.Now()
		items, answers, err := ask.do(ctx)
		took := milliseconds(time.Since(began))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", ask.measure, err)
		}
		if items != count {
			return nil, fmt.Errorf("%s has %d items, not %d", ask.measure, items, count)
		}
		samples = append(samples, sample{c.Name, ask.measure, withPods(count), round, took})
		all += took
		for _, answer := range answers {
			bytes += proto.Size(answer)
		}
	}
	return append(samples,
		sample{c.Name, list, withPods(count), round, all},
		sample{c.Name, listBytes, withPods(count), round, float64(bytes) / 1e3}), nil
}

func (r *pods) listPods(ctx context.Context) (items int, answers []proto.Message, err error) {
	resp, err := r.client.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
	return len(resp.GetItems()), []proto.Message{resp}, err
}

func (r *pods) listContainers(ctx context.Context) (items int, answers []proto.Message, err error) {
	resp, err := r.client.ListContainers(ctx, &cri.ListContainersRequest{})
	return len(resp.GetContainers()), []proto.Message{resp}, err
}

func (r *pods) listStats(ctx context.Context) (items int, answers []proto.Message, err error) {
	resp, err := r.client.ListContainerStats(ctx, &cri.ListContainerStatsRequest{})
	return len(resp.GetStats()), []proto.Message{resp}, err
}

func (r *pods) statuses(ctx context.Context, t *thing) (answers []proto.Message, err error) {
	pod, err := r.client.PodSandboxStatus(ctx, &cri.PodSandboxStatusRequest{PodSandboxId: t.id})
	if err != nil {
		return nil, err
	}
	container, err := r.client.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: t.container})
	return []proto.Message{pod, container}, err
}
