// Package undo is a named rollback stack: what a many-step operation registers
// before each step that can half-succeed, to be run in reverse if a later one fails.
package undo

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Stack is the rollback of one operation. The zero value is ready for use. It is
// not safe for concurrent use.
type Stack struct {
	steps []step
}

type step struct {
	name string
	run  func(context.Context) error
}

// Push registers how to undo a step that is about to be done. run must do no harm
// where the step was not done, or only half.
func (s *Stack) Push(name string, run func(context.Context) error) {
	s.steps = append(s.steps, step{name, run})
}

// Run undoes all steps in reverse and empties the stack. It runs on a context of
// its own that outlives ctx's end but has ctx's values, with the given time for all
// steps together: the client that gave up is the very case to clean up for. A step
// that fails does not keep the others from running; their errors are joined.
func (s *Stack) Run(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	var errs []error
	for i := len(s.steps) - 1; i >= 0; i-- {
		if err := s.steps[i].run(ctx); err != nil {
			errs = append(errs, fmt.Errorf("undo %s: %w", s.steps[i].name, err))
		}
	}
	s.steps = nil
	return errors.Join(errs...)
}
