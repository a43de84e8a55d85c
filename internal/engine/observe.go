package engine

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/moby/moby/client"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/embedded"
)

// Observe is told of each call of the engine's API: an operation of a fixed list, how long
// the engine took to begin its answer, and what kind of failure it was, "" for none.
type Observe func(operation string, took time.Duration, failure string)

// observed makes a client tell of its calls. Its one seam around each request, those for
// streams included, is the tracer, so that is where they are counted as well; spans are
// made where a recorded trace leads here.
func (e *Engine) observed() client.Opt {
	return client.WithTraceOptions(
		otelhttp.WithTracerProvider(provider{observe: e.noteCall}),
		otelhttp.WithSpanNameFormatter(func(_ string, r *http.Request) string { return operation(r.Method, r.URL.Path) }),
	)
}

// provider gives the one tracer.
type provider struct {
	embedded.TracerProvider
	observe Observe
}

// Tracer implements trace.TracerProvider.
func (p provider) Tracer(string, ...trace.TracerOption) trace.Tracer {
	return tracer{observe: p.observe}
}

type tracer struct {
	embedded.Tracer
	observe Observe
}

// Start implements trace.Tracer.
func (t tracer) Start(ctx context.Context, name string, options ...trace.SpanStartOption) (context.Context, trace.Span) {
	began, span := time.Now(), trace.SpanFromContext(ctx)
	if span.SpanContext().IsSampled() {
		ctx, span = span.TracerProvider().Tracer("github.com/moby/moby/client").Start(ctx, "engine "+name, options...)
	} else {
		span = trace.SpanFromContext(context.Background()) // which takes nothing: the caller's is not to be changed
	}
	return ctx, &call{Span: span, ctx: ctx, operation: name, began: began, observe: t.observe}
}

// call is one request. otelhttp sets its status when the answer begins or there is to be
// none, and once more where the answer then breaks.
type call struct {
	trace.Span
	ctx       context.Context // to tell why there is no answer
	operation string
	began     time.Time
	observe   Observe
	code      int // of HTTP; 0: no answer
	told      bool
}

// SetAttributes implements trace.Span.
func (c *call) SetAttributes(attributes ...attribute.KeyValue) {
	for _, a := range attributes {
		if a.Key == "http.response.status_code" {
			c.code = int(a.Value.AsInt64())
		}
	}
	c.Span.SetAttributes(attributes...)
}

// SetStatus implements trace.Span.
func (c *call) SetStatus(code codes.Code, description string) {
	c.Span.SetStatus(code, description)
	if c.told {
		return
	}
	c.told = true
	c.observe(c.operation, time.Since(c.began), c.failure())
	if c.code == http.StatusSwitchingProtocols {
		c.End() // the rest is a stream, whose end nobody tells
	}
}

// failure is of a fixed list, too.
func (c *call) failure() string {
	switch {
	case c.code == 0 && errors.Is(c.ctx.Err(), context.Canceled):
		return "canceled"
	case c.code == 0 && c.ctx.Err() != nil:
		return "deadline"
	case c.code == 0:
		return "unreachable"
	case c.code == http.StatusNotFound:
		return "not_found"
	case c.code == http.StatusConflict:
		return "conflict"
	case c.code >= http.StatusInternalServerError:
		return "engine"
	case c.code >= http.StatusBadRequest:
		return "refused"
	}
	return ""
}

// operation names a request of the API without what is particular to it.
func operation(method, path string) string {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	if len(parts) > 1 && strings.HasPrefix(parts[0], "v1.") {
		parts = parts[1:]
	}
	verb := ""
	switch last := parts[len(parts)-1]; {
	case method == http.MethodDelete: // of an image, whose name may have slashes, too
		verb = "*"
	case len(parts) == 2:
		verb = last
	case len(parts) > 2:
		verb = "* " + last
	}
	if name, ok := operations[strings.TrimSpace(method+" "+parts[0]+" "+verb)]; ok {
		return name
	}
	return "other"
}

// operations are those that MasCRI uses, by method and path; * stands for what is particular.
var operations = map[string]string{
	"HEAD _ping": "ping", "GET _ping": "ping", "GET info": "info", "GET version": "version", "GET events": "events", "GET networks": "network_list",
	"GET containers json": "container_list", "POST containers create": "container_create", "DELETE containers *": "container_remove",
	"GET containers * json": "container_inspect", "POST containers * start": "container_start", "POST containers * stop": "container_stop",
	"POST containers * kill": "container_kill", "POST containers * wait": "container_wait", "POST containers * update": "container_update",
	"POST containers * attach": "container_attach", "POST containers * resize": "container_resize", "GET containers * archive": "container_copy",
	"POST containers * exec": "exec_create", "POST exec * start": "exec_start", "POST exec * resize": "exec_resize", "GET exec * json": "exec_inspect",
	"GET images json": "image_list", "GET images * json": "image_inspect", "DELETE images *": "image_remove",
	"POST images create": "image_pull", "POST images load": "image_load",
}
