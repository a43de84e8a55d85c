package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	together   = 8  // pods at once in a parallel sample
	leastRound = 30 // whatever the time
	// parallelEach: a parallel batch takes some ten times as long as a single pod.
	parallelEach = 4 // rounds
)

// How a sample was taken.
const (
	serial   = "serial"   // one pod at a time
	parallel = "parallel" // one of 8 pods at once
	batch    = "batch"    // until the last of 8 pods at once
)

// The operations, in their order.
const (
	opRun    = "RunPodSandbox"
	opStop   = "StopPodSandbox"
	opRemove = "RemovePodSandbox"
)

// sample is one timed call.
type sample struct {
	Contestant string  `json:"contestant"`
	Op         string  `json:"op"`
	Mode       string  `json:"mode"`
	Round      int     `json:"round"`
	Ms         float64 `json:"ms"`
}

// measure takes samples in rounds until length is over. A round has each contestant
// once. Their order is another one each time, as the kernel is busy for a while with
// what the one before has left.
func measure(ctx context.Context, contestants []contestant, length time.Duration) ([]sample, error) {
	var samples []sample
	began := time.Now()
	random := rand.New(rand.NewPCG(0, 0)) // the same orders in each run
	for round := 0; round < leastRound || time.Since(began) < length; round++ {
		if round%10 == 0 {
			fmt.Fprintf(os.Stderr, "round %d, %v\n", round, time.Since(began).Round(time.Second))
		}
		for _, i := range random.Perm(len(contestants)) {
			c := contestants[i]
			taken, err := c.single(ctx, round)
			if err == nil && c.Pods && round%parallelEach == parallelEach-1 {
				var more []sample
				more, err = c.batch(ctx, round)
				taken = append(taken, more...)
			}
			if err != nil {
				return nil, fmt.Errorf("%s, round %d: %w", c.Name, round, err)
			}
			samples = append(samples, taken...)
		}
	}
	return samples, nil
}

// single times one pod.
func (c contestant) single(ctx context.Context, round int) ([]sample, error) {
	var samples []sample
	id := fmt.Sprintf("r%d", round)
	for _, op := range []string{opRun, opStop, opRemove} {
		took, err := c.time(ctx, op, &id)
		if err != nil {
			return nil, err
		}
		samples = append(samples, sample{c.Name, op, serial, round, took})
	}
	return samples, nil
}

// batch times several pods at once: all are made before the first is stopped, and
// all are stopped before the first is removed.
func (c contestant) batch(ctx context.Context, round int) ([]sample, error) {
	var samples []sample
	var ids [together]string
	for i := range ids {
		ids[i] = fmt.Sprintf("r%d-%d", round, i)
	}
	for _, op := range []string{opRun, opStop, opRemove} {
		var took [together]float64
		var group errgroup.Group
		began := time.Now()
		for i := range ids {
			group.Go(func() (err error) {
				took[i], err = c.time(ctx, op, &ids[i])
				return err
			})
		}
		if err := group.Wait(); err != nil {
			return nil, err
		}
		samples = append(samples, sample{c.Name, op, batch, round, milliseconds(time.Since(began))})
		for _, ms := range took {
			samples = append(samples, sample{c.Name, op, parallel, round, ms})
		}
	}
	return samples, nil
}

// time does op and returns how long it took. opRun turns id from the pod's name into
// its id.
func (c contestant) time(ctx context.Context, op string, id *string) (ms float64, err error) {
	began := time.Now()
	switch op {
	case opRun:
		*id, err = c.run(ctx, *id)
	case opStop:
		err = c.stop(ctx, *id)
	case opRemove:
		err = c.remove(ctx, *id)
	}
	took := time.Since(began)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", op, err)
	}
	return milliseconds(took), nil
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
