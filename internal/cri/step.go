package cri

import (
	"context"

	"github.com/mascri/mascri/internal/span"
)

// step does one step of a request. Its name is that of a span of the request's trace.
func (s *Server) step(ctx context.Context, name string, do func(context.Context) error) (err error) {
	s.opts.Step(name)
	ctx, end := span.Start(ctx, name)
	defer func() { end(err) }()
	return do(ctx)
}
