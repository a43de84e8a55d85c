// Package span marks steps of a request for its trace. Without a trace that is recorded
// it does nothing: the tracer is that of the span that the context brings.
package span

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// Scope names MasCRI as the one that made a span.
const Scope = "github.com/mascri/mascri"

// Start begins a step below ctx's span. end must be called once, with the step's error.
func Start(ctx context.Context, name string, attributes ...attribute.KeyValue) (stepCtx context.Context, end func(error)) {
	parent := trace.SpanFromContext(ctx)
	if !parent.SpanContext().IsSampled() { // not whether it goes on: what outlives a request is of its trace, too
		return ctx, func(error) {}
	}
	ctx, span := parent.TracerProvider().Tracer(Scope).Start(ctx, name, trace.WithAttributes(attributes...))
	return ctx, func(err error) {
		if err != nil {
			span.SetStatus(codes.Error, err.Error())
		}
		span.End()
	}
}
