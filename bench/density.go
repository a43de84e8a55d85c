package main

import (
	"context"
	"fmt"
	"os"
	"time"
)

// density measures what depends on how many pods there are, at each of counts, which
// rise. All contestants have their pods at the same time. At the end each has the most.
func density(ctx context.Context, contestants []contestant, o options) ([]sample, []process, error) {
	var samples []sample
	var processes []process
	add := func(taken []sample, err error) error {
		samples = append(samples, taken...)
		return err
	}
	for _, count := range o.pods {
		for _, c := range contestants {
			began := time.Now()
			if err := c.fill(ctx, count); err != nil {
				return nil, nil, err
			}
			fmt.Fprintf(os.Stderr, "%s has %d pods, after %v\n", c.Name, count, time.Since(began).Round(time.Second))
		}
		if count > 0 {
			if err := add(lists(ctx, contestants, count, o.lists)); err != nil {
				return nil, nil, err
			}
		}
		taken, seen, err := polls(ctx, contestants, count, o.poll)
		if add(taken, err) != nil {
			return nil, nil, err
		}
		processes = append(processes, seen...)
	}
	most := o.pods[len(o.pods)-1]
	err := add(restarts(ctx, contestants, most, o.restarts))
	return samples, processes, err
}

// atOnce is how many pods are started at the same time to fill a node.
const atOnce = 8

// fill starts pods until there are count.
func (c contestant) fill(ctx context.Context, count int) error {
	start := c.stages()[0]
	for len(c.pods.things) < count {
		some := make([]*thing, min(atOnce, count-len(c.pods.things)))
		for i := range some {
			some[i] = &thing{name: fmt.Sprintf("p%d", len(c.pods.things)+i)}
		}
		if _, err := c.through(ctx, start, some, 0, ""); err != nil {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
		c.pods.things = append(c.pods.things, some...)
	}
	return nil
}

// restarts measures how long the daemon that serves the CRI takes to be back.
func restarts(ctx context.Context, contestants []contestant, count, rounds int) ([]sample, error) {
	return turns(ctx, "restarts", rounds, contestants, func(ctx context.Context, c contestant, round int) ([]sample, error) {
		took, err := c.pods.restart(ctx, count)
		return []sample{{c.Name, restart, withPods(count), round, milliseconds(took)}}, err
	})
}
