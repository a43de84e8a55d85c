package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"golang.org/x/sync/errgroup"
)

// turnLimit is how long one turn may take: a runtime that hangs must not hold up the rest.
const turnLimit = 5 * time.Minute

// turns gives each contestant a turn in each round. Their order is another one each
// time, as the kernel is busy for a while with what the one before has left; it is the
// same in each run. What was measured before an error is returned as well.
func turns(ctx context.Context, what string, rounds int, contestants []contestant, turn func(context.Context, contestant, int) ([]sample, error)) ([]sample, error) {
	var samples []sample
	random := rand.New(rand.NewPCG(0, 0))
	for round := range rounds {
		if round%10 == 0 {
			fmt.Fprintf(os.Stderr, "%s, round %d of %d, load %s\n", what, round, rounds, loadAverage())
		}
		for _, i := range random.Perm(len(contestants)) {
			limited, cancel := context.WithTimeout(ctx, turnLimit)
			taken, err := turn(limited, contestants[i], round)
			cancel()
			if samples = append(samples, taken...); err != nil {
				return samples, fmt.Errorf("%s, %s, round %d: %w", contestants[i].Name, what, round, err)
			}
		}
	}
	return samples, nil
}

// latency times whole lives, one at a time and several at once. The latter are so many
// that there are as many samples of either.
func latency(ctx context.Context, contestants []contestant, rounds int, widths []int) ([]sample, error) {
	return turns(ctx, "pods", rounds, contestants, func(ctx context.Context, c contestant, round int) ([]sample, error) {
		samples, err := c.lives(ctx, round, 1, serial)
		if c.pods == nil {
			return samples, err
		}
		for _, width := range widths {
			if err == nil && round%width == width-1 {
				var more []sample
				more, err = c.lives(ctx, round, width, parallel(width))
				samples = append(samples, more...)
			}
		}
		return samples, err
	})
}

// lives takes several things at once through their stages. All are through one before
// the first enters the next.
func (c contestant) lives(ctx context.Context, round, width int, mode string) ([]sample, error) {
	things := make([]*thing, width)
	for i := range things {
		things[i] = &thing{name: fmt.Sprintf("r%d-%d-%d", round, width, i)}
	}
	var samples []sample
	for _, s := range c.stages() {
		taken, err := c.through(ctx, s, things, round, mode)
		if err != nil {
			return nil, err
		}
		samples = append(samples, taken...)
	}
	return samples, nil
}

// through takes things through a stage, all at once.
func (c contestant) through(ctx context.Context, s stage, things []*thing, round int, mode string) ([]sample, error) {
	taken := make([][]sample, len(things))
	group, ctx := errgroup.WithContext(ctx)
	for i, t := range things {
		group.Go(func() error {
			each, all, err := s.run(ctx, t)
			if err != nil {
				return err
			}
			if s.measure != "" {
				taken[i] = append(taken[i], sample{c.Name, s.measure, mode, round, all})
			}
			for j, step := range s.steps {
				if step.measure != "" {
					taken[i] = append(taken[i], sample{c.Name, step.measure, mode, round, each[j]})
				}
			}
			return nil
		})
	}
	err := group.Wait()
	var samples []sample
	for _, some := range taken {
		samples = append(samples, some...)
	}
	return samples, err
}
