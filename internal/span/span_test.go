package span

import (
	"context"
	"errors"
	"testing"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

func TestStepsOfWhatOutlivesItsRequestAreOfItsTrace(t *testing.T) {
	exporter := tracetest.NewInMemoryExporter()
	ctx, request := trace.NewTracerProvider(trace.WithSyncer(exporter)).Tracer("").Start(t.Context(), "request")
	request.End()
	exporter.Reset()
	_, end := Start(context.WithoutCancel(ctx), "undo")
	end(errors.New("it failed"))
	spans := exporter.GetSpans()
	if len(spans) != 1 || spans[0].Name != "undo" || spans[0].Parent.SpanID() != request.SpanContext().SpanID() ||
		spans[0].Status.Code != codes.Error || spans[0].Status.Description != "it failed" {
		t.Errorf("spans: %+v", spans)
	}
}

func TestNothingIsMadeWithoutATrace(t *testing.T) {
	ctx := t.Context()
	if allocs := testing.AllocsPerRun(100, func() {
		got, end := Start(ctx, "step")
		if got != ctx {
			t.Error("the context is another one")
		}
		end(nil)
	}); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
	unsampled, request := trace.NewTracerProvider(trace.WithSampler(trace.NeverSample())).Tracer("").Start(ctx, "request")
	defer request.End()
	if got, _ := Start(unsampled, "step"); got != unsampled {
		t.Error("a request that is not sampled has a span for its step")
	}
}
