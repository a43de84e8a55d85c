// Package tracing sends spans to a collector by OTLP over gRPC.
package tracing

import (
	"context"
	"log/slog"
	"path"
	"strings"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/stats"
)

// Options say where spans go.
type Options struct {
	Endpoint   string // host:port of the collector, not encrypted
	PerMillion int    // of requests that bring no trace of their own; 0 to 1000000
	Version    string // of MasCRI
	Instance   string // id of this daemon
	Logger     *slog.Logger
}

// Tracing makes a trace of each request that brings one, as the kubelet's do, and of a
// share of the others.
type Tracing struct {
	provider *sdk.TracerProvider
	log      *slog.Logger
}

// New connects to nothing yet: a collector that is missing costs spans, and nothing else.
func New(ctx context.Context, options Options) (*Tracing, error) {
	exporter, err := otlptracegrpc.New(ctx, otlptracegrpc.WithEndpoint(options.Endpoint), otlptracegrpc.WithInsecure())
	if err != nil {
		return nil, err
	}
	provider := sdk.NewTracerProvider(
		sdk.WithBatcher(quiet{exporter, options.Logger}),
		sdk.WithSampler(sdk.ParentBased(roots{sdk.TraceIDRatioBased(float64(options.PerMillion) / 1e6)})),
		sdk.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "mascri"), attribute.String("service.version", options.Version),
			attribute.String("service.instance.id", options.Instance),
		)),
	)
	return &Tracing{provider: provider, log: options.Logger}, nil
}

// Handler makes a span of each RPC, below that of the client where it sent one.
func (t *Tracing) Handler() stats.Handler {
	return otelgrpc.NewServerHandler(
		otelgrpc.WithTracerProvider(t.provider), otelgrpc.WithPropagators(propagation.TraceContext{}),
		otelgrpc.WithMeterProvider(noop.NewMeterProvider()),
	)
}

// Close sends what is left, as long as ctx lasts.
func (t *Tracing) Close(ctx context.Context) {
	if err := t.provider.Shutdown(ctx); err != nil {
		t.log.Warn("the last spans could not be sent", "error", err)
	}
}

// quiet logs what can't be sent, which would else go to standard error.
type quiet struct {
	sdk.SpanExporter
	log *slog.Logger
}

// ExportSpans implements sdk.SpanExporter.
func (q quiet) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	if err := q.SpanExporter.ExportSpans(ctx, spans); err != nil {
		q.log.Warn("spans could not be sent, and are lost", "spans", len(spans), "error", err)
	}
	return nil
}

// roots decides on requests without a trace of their own. Those by which clients look on,
// every second or so, would be most of all traces, and tell nothing.
type roots struct{ sdk.Sampler }

// ShouldSample implements sdk.Sampler.
func (r roots) ShouldSample(p sdk.SamplingParameters) sdk.SamplingResult {
	if looksOn(path.Base(p.Name)) {
		return sdk.SamplingResult{Decision: sdk.Drop, Tracestate: trace.SpanContextFromContext(p.ParentContext).TraceState()}
	}
	return r.Sampler.ShouldSample(p)
}

func looksOn(rpc string) bool {
	if rpc == "Version" || rpc == "GetContainerEvents" || rpc == "ImageFsInfo" {
		return true
	}
	return strings.HasPrefix(rpc, "List") || strings.HasPrefix(rpc, "Stream") || strings.HasSuffix(rpc, "Status") || strings.HasSuffix(rpc, "Stats")
}
