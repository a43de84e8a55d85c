package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sync/errgroup"
)

// How the kubelet asks: for the lists every second, for all usage every ten, and for the
// statuses of each pod that nothing happens to about once a minute.
const (
	pollEach   = time.Second
	statsEach  = 10 // polls; also a sample of CPU and memory
	statusEach = 60 // polls for the statuses of all pods
	// settle is for what the first poll begins.
	settle = 5 * time.Second
)

// polls polls all contestants at the same time, samples windows, and returns what was
// used in each, and by which processes.
func polls(ctx context.Context, contestants []contestant, count, windows int) ([]sample, []process, error) {
	fmt.Fprintf(os.Stderr, "polling %d pods, load %s\n", count, loadAverage())
	samples := make([][]sample, len(contestants))
	seen := make([][]process, len(contestants))
	group, ctx := errgroup.WithContext(ctx)
	for i, c := range contestants {
		group.Go(func() (err error) {
			// Not all in the same instant.
			if err := sleep(ctx, time.Duration(i)*pollEach/time.Duration(len(contestants))); err != nil {
				return err
			}
			if samples[i], seen[i], err = c.poll(ctx, count, windows); err != nil {
				return fmt.Errorf("%s, polling: %w", c.Name, err)
			}
			return nil
		})
	}
	err := group.Wait()
	var all []sample
	var processes []process
	for i := range contestants {
		all = append(all, samples[i]...)
		processes = append(processes, seen[i]...)
	}
	return all, processes, err
}

func (c contestant) poll(ctx context.Context, count, windows int) ([]sample, []process, error) {
	if err := c.pods.ask(ctx, 0); err != nil {
		return nil, nil, err
	}
	if err := sleep(ctx, settle); err != nil {
		return nil, nil, err
	}
	n := c.pods.daemon.node
	first, err := n.use()
	if err != nil {
		return nil, nil, err
	}
	var samples []sample
	tick := time.NewTicker(pollEach)
	defer tick.Stop()
	began, before, last := time.Now(), first, first
	windowBegan := began
	for i := range windows * statsEach {
		select {
		case <-ctx.Done():
			return samples, nil, ctx.Err()
		case <-tick.C:
		}
		if err := c.pods.ask(ctx, i); err != nil {
			return samples, nil, err
		}
		if i%statsEach < statsEach-1 {
			continue
		}
		if last, err = n.use(); err != nil {
			return samples, nil, err
		}
		now := time.Now()
		add := func(measure string, value float64) {
			samples = append(samples, sample{c.Name, measure, withPods(count), i / statsEach, value})
		}
		add(pollCPU, (last.cpu-before.cpu).Seconds()/now.Sub(windowBegan).Minutes())
		add(memory, last.pss()/1e6)
		if count > 0 {
			add(memoryPod, last.pss()/1e6/float64(count))
		}
		before, windowBegan = last, now
	}
	return samples, between(first, last, time.Since(began), c.Name, count), nil
}

// ask is one poll.
func (r *pods) ask(ctx context.Context, i int) error {
	if _, _, err := r.listPods(ctx); err != nil {
		return err
	}
	if _, _, err := r.listContainers(ctx); err != nil {
		return err
	}
	for at := i % statusEach; at < len(r.things); at += statusEach {
		if _, err := r.statuses(ctx, r.things[at]); err != nil {
			return err
		}
	}
	if i%statsEach > 0 {
		return nil
	}
	_, _, err := r.listStats(ctx)
	return err
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
