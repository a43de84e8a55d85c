package engine

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/client"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

func TestOperationsHaveNothingParticular(t *testing.T) {
	for _, tt := range []struct{ method, path, want string }{
		{"HEAD", "/_ping", "ping"},
		{"GET", "/v1.41/info", "info"},
		{"GET", "/v1.51/containers/json", "container_list"},
		{"GET", "/v1.51/containers/0123abcd/json", "container_inspect"},
		{"DELETE", "/v1.51/containers/0123abcd", "container_remove"},
		{"POST", "/v1.51/containers/create", "container_create"},
		{"POST", "/v1.51/exec/0123abcd/start", "exec_start"},
		{"GET", "/v1.51/images/localhost:5000/team/app:1/json", "image_inspect"},
		{"DELETE", "/v1.51/images/localhost:5000/team/app:1", "image_remove"},
		{"DELETE", "/v1.51/images/sha256:0123", "image_remove"},
		{"POST", "/v1.51/containers/0123abcd/rename", "other"},
		{"GET", "/", "other"},
	} {
		if got := operation(tt.method, tt.path); got != tt.want {
			t.Errorf("%s %s is %q, want %q", tt.method, tt.path, got, tt.want)
		}
	}
}

// seen is one call as Observe is told of it.
type seen [2]string // operation, failure

// observedEngine speaks to a server that answers like an engine.
func observedEngine(t *testing.T, handler http.HandlerFunc) (*Engine, *[]seen) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.51")
		if strings.HasSuffix(r.URL.Path, "/_ping") {
			return
		}
		if strings.HasSuffix(r.URL.Path, "/info") || strings.HasSuffix(r.URL.Path, "/version") {
			_ = json.NewEncoder(w).Encode(map[string]any{})
			return
		}
		handler(w, r)
	})}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Close() })
	var mu sync.Mutex
	var calls []seen
	e, err := New(Options{Host: "unix://" + socket, Logger: slog.New(slog.DiscardHandler), Observe: func(operation string, took time.Duration, failure string) {
		if took <= 0 {
			t.Errorf("%s took %v", operation, took)
		}
		mu.Lock()
		defer mu.Unlock()
		calls = append(calls, seen{operation, failure})
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := e.PingContainerd(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]seen{{"ping", ""}, {"info", ""}, {"ping", ""}, {"version", ""}}, calls); diff != "" {
		t.Errorf("calls at first (-want +got):\n%s", diff)
	}
	calls = nil
	return e, &calls
}

func TestCallsAreToldWithTheKindOfTheirFailure(t *testing.T) {
	for _, tt := range []struct {
		failure string
		answer  http.HandlerFunc
	}{
		{"", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }},
		{"", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) }},
		{"not_found", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }},
		{"conflict", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusConflict) }},
		{"refused", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) }},
		{"engine", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }},
		{"unreachable", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
	} {
		e, calls := observedEngine(t, tt.answer)
		_ = e.Start(t.Context(), "abc")
		if diff := cmp.Diff([]seen{{"container_start", tt.failure}}, *calls); diff != "" {
			t.Errorf("calls (-want +got):\n%s", diff)
		}
	}
	e, calls := observedEngine(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = w.Write([]byte("{"))
	})
	if _, err := e.Images(t.Context()); err == nil {
		t.Error("an answer that breaks is no error")
	}
	if diff := cmp.Diff([]seen{{"image_list", ""}}, *calls); diff != "" {
		t.Errorf("calls with an answer that breaks (-want +got):\n%s", diff)
	}
	arrived := make(chan bool)
	e, calls = observedEngine(t, func(_ http.ResponseWriter, r *http.Request) { arrived <- true; <-r.Context().Done() })
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-arrived; cancel() }()
	_ = e.Start(ctx, "abc")
	if diff := cmp.Diff([]seen{{"container_start", "canceled"}}, *calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

// An exec's connection goes another way through moby's client.
func TestStreamsAreToldOf(t *testing.T) {
	exporter := tracetest.NewInMemoryExporter()
	provider := trace.NewTracerProvider(trace.WithSyncer(exporter))
	e, calls := observedEngine(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "tcp")
		w.WriteHeader(http.StatusSwitchingProtocols)
	})
	ctx, parent := provider.Tracer("test").Start(t.Context(), "step")
	attached, err := e.current.Load().api.ExecAttach(ctx, "0123", client.ExecAttachOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer attached.Close()
	if diff := cmp.Diff([]seen{{"exec_start", ""}}, *calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	spans := exporter.GetSpans()
	if len(spans) != 1 || spans[0].Name != "engine exec_start" || spans[0].Parent.SpanID() != parent.SpanContext().SpanID() {
		t.Errorf("spans: %+v", spans)
	}
}

// What is sent in headers and bodies, such as credentials and environments, is in no span.
func TestSpansHoldNoSecrets(t *testing.T) {
	exporter := tracetest.NewInMemoryExporter()
	provider := trace.NewTracerProvider(trace.WithSyncer(exporter))
	e, _ := observedEngine(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	ctx, parent := provider.Tracer("test").Start(t.Context(), "step")
	answer, err := e.current.Load().api.ImagePull(ctx, "registry.example.com/team/app:1", client.ImagePullOptions{RegistryAuth: "c2VjcmV0"})
	if err != nil {
		t.Fatal(err)
	}
	answer.Close()
	parent.End()
	spans := exporter.GetSpans()
	if len(spans) != 2 || spans[0].Name != "engine image_pull" {
		t.Fatalf("spans: %+v", spans)
	}
	for _, a := range spans[0].Attributes {
		if a.Value.Type() == attribute.STRING && strings.Contains(a.Value.AsString(), "c2VjcmV0") {
			t.Errorf("%s is %q", a.Key, a.Value.AsString())
		}
	}
}
