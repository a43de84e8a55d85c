package main

import (
	"cmp"
	"context"
	"fmt"
	"time"
)

// thing is what a lane works on: a pod, or a part of one.
type thing struct {
	name      string // also the pod's uid
	id        string
	container string
	gate      string // directory of the gate that lets a writer write; see logs.go
}

// log is the path of the container's log, below the lane's directory.
func (t *thing) log() string { return t.name + ".log" }

// lane is the work that is timed: stages that a thing goes through.
type lane interface{ stages() []stage }

// stage is timed as a whole, and each of its steps.
type stage struct {
	measure string // empty: not recorded
	steps   []step
}

type step struct {
	measure string // empty: not recorded
	do      func(context.Context, *thing) error
}

// run takes one thing through the stage. It returns what each step took, in ms, and what all took.
func (s stage) run(ctx context.Context, t *thing) (each []float64, all float64, err error) {
	began := time.Now()
	for _, step := range s.steps {
		stepBegan := time.Now()
		if err := step.do(ctx, t); err != nil {
			return nil, 0, fmt.Errorf("%s of %s: %w", cmp.Or(step.measure, s.measure, "a step"), t.name, err)
		}
		each = append(each, milliseconds(time.Since(stepBegan)))
	}
	return each, milliseconds(time.Since(began)), nil
}

// cycle makes one thing and takes it away again.
func cycle(ctx context.Context, l lane, name string) error {
	t := &thing{name: name}
	for _, s := range l.stages() {
		if _, _, err := s.run(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
