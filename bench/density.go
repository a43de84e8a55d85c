package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// density measures what depends on how many pods there are. All contestants have their
// pods at the same time. At the end each has the most.
func density(ctx context.Context, contestants []contestant, o options) ([]sample, []process, error) {
	var samples []sample
	var processes []process
	counts := slices.Concat(o.pods, o.pollPods)
	slices.Sort(counts)
	for _, count := range slices.Compact(counts) {
		for _, c := range contestants {
			began := time.Now()
			if err := c.fill(ctx, count); err != nil {
				return samples, processes, err
			}
			fmt.Fprintf(os.Stderr, "%s has %d pods, after %v\n", c.Name, count, time.Since(began).Round(time.Second))
		}
		if slices.Contains(o.pods, count) {
			taken, err := lists(ctx, contestants, count, o.lists)
			if samples = append(samples, taken...); err != nil {
				return samples, processes, err
			}
		}
		if slices.Contains(o.pollPods, count) {
			taken, seen, err := polls(ctx, own(contestants), count, o.poll)
			samples, processes = append(samples, taken...), append(processes, seen...)
			if err != nil {
				return samples, processes, err
			}
		}
	}
	taken, err := restarts(ctx, own(contestants), o.restarts)
	return append(samples, taken...), processes, err
}

// tidy removes what a phase that failed has left, so that the next one can do without it.
func tidy(ctx context.Context, contestants []contestant) error {
	var errs []error
	for _, c := range contestants {
		c.pods.things = nil
		if err := c.pods.removeAll(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", c.Name, err))
		}
	}
	return errors.Join(errs...)
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

// restarts measures how long the daemon that serves the CRI takes to be back, with all pods
// that there are.
func restarts(ctx context.Context, contestants []contestant, rounds int) ([]sample, error) {
	return turns(ctx, "restarts", rounds, contestants, func(ctx context.Context, c contestant, round int) ([]sample, error) {
		count := len(c.pods.things)
		took, err := c.pods.restart(ctx, count)
		if err != nil {
			return nil, err
		}
		return []sample{{c.Name, restart, withPods(count), round, milliseconds(took)}}, nil
	})
}
