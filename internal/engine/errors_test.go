package engine

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/mascri/mascri/internal/pod"
)

// serve answers as an engine that has handle for everything but ping and info.
func serve(t *testing.T, handle http.HandlerFunc) *Engine {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/_ping"):
			w.Header().Set("Api-Version", "1.47")
		case strings.HasSuffix(r.URL.Path, "/info"):
			io.WriteString(w, "{}")
		default:
			handle(w, r)
		}
	})}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	return newEngine(t, "unix://"+socket)
}

func newEngine(t *testing.T, host string) *Engine {
	t.Helper()
	e, err := New(Options{Host: host, Instance: "one", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestErrorKinds(t *testing.T) {
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(code)
			io.WriteString(w, `{"message":"the engine's own words"}`)
		}
	}
	for name, test := range map[string]struct {
		handle http.HandlerFunc
		kind   error
		says   string
	}{
		"invalid":       {status(400), errdefs.ErrInvalidArgument, "the engine's own words"},
		"forbidden":     {status(403), errdefs.ErrPermissionDenied, "the engine's own words"},
		"missing":       {status(404), errdefs.ErrNotFound, "the engine's own words"},
		"internal":      {status(500), errdefs.ErrInternal, "the engine's own words"},
		"unimplemented": {status(501), errdefs.ErrNotImplemented, "the engine's own words"},
		"unavailable":   {status(503), errdefs.ErrUnavailable, "the engine's own words"},
		"no answer": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
			errdefs.ErrUnavailable, "can't be reached: it closed the connection in the middle of an answer; is it running?"},
		"half an answer": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			io.WriteString(w, `{"Id":"abc"`)
		}, errdefs.ErrUnavailable, "in the middle of an answer"},
		"nonsense":     {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") }, errdefs.ErrInternal, "invalid character"},
		"no container": {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "{}") }, errdefs.ErrInternal, "lacks Config or State"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := serve(t, test.handle).Inspect(t.Context(), "abc")
			if !errors.Is(err, test.kind) || !strings.Contains(err.Error(), test.says) || !strings.HasPrefix(err.Error(), "inspect container abc: ") {
				t.Errorf("got %v; want a %v that says %q", err, test.kind, test.says)
			}
		})
	}
}

func TestUnreachable(t *testing.T) {
	closed, err := net.Listen("unix", filepath.Join(t.TempDir(), "closed"))
	if err != nil {
		t.Fatal(err)
	}
	closed.(*net.UnixListener).SetUnlinkOnClose(false)
	closed.Close()
	for name, host := range map[string]string{
		"no socket": "unix://" + filepath.Join(t.TempDir(), "none"),
		"no server": "unix://" + closed.Addr().String(),
		"no engine": "tcp://127.0.0.1:1",
	} {
		err := newEngine(t, host).Ping(t.Context())
		if !errors.Is(err, errdefs.ErrUnavailable) || !strings.Contains(err.Error(), "Docker Engine at "+host+" can't be reached: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := New(Options{Host: "docker.sock"}); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("a host without a scheme: %v, want InvalidArgument", err)
	}
}

// An engine that hangs must not hold a caller past its deadline, and one that can't be
// spoken to must not be guessed at.
func TestSickEngines(t *testing.T) {
	done := make(chan struct{})
	t.Cleanup(func() { close(done) })
	hanging := serve(t, func(http.ResponseWriter, *http.Request) { <-done })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	for method, call := range map[string]func() error{
		"create": func() error {
			_, err := hanging.CreateSandbox(ctx, pod.SandboxSpec{Name: "a", Image: "x"})
			return err
		},
		"start":  func() error { return hanging.Start(ctx, "a") },
		"kill":   func() error { return hanging.Kill(ctx, "a") },
		"remove": func() error { return hanging.Remove(ctx, "a") },
		"ids":    func() error { _, err := hanging.IDs(ctx); return err },
		"hints":  func() error { return hanging.Hints(ctx, func(h pod.Hint) { t.Errorf("hint %v", h) }) },
	} {
		if err := call(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v, want DeadlineExceeded", method, err)
		}
	}
	refusing := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no events today", http.StatusServiceUnavailable)
	})
	err := refusing.Hints(t.Context(), func(h pod.Hint) { t.Errorf("hint %v from a stream that was refused", h) })
	if !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("hints that are refused: %v, want Unavailable", err)
	}
}

// The removal that another client has under way counts once it is over; one that fails
// is taken over.
func TestRemoveWaitsForAnother(t *testing.T) {
	label, err := pod.Labels(pod.SandboxSpec{Instance: "one"})
	if err != nil {
		t.Fatal(err)
	}
	conflicts := 3
	e := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodGet:
			writeJSON(t, w, map[string]any{"Id": "abc", "State": map[string]any{}, "Config": map[string]any{"Labels": label}})
		case conflicts > 0:
			conflicts--
			http.Error(w, "removal is already in progress", http.StatusConflict)
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	})
	if err := e.Remove(t.Context(), "abc"); err != nil || conflicts != 0 {
		t.Errorf("remove: %v, %d conflicts left", err, conflicts)
	}
	conflicts = 1 << 30
	ctx, cancel := context.WithTimeout(t.Context(), 3*removeAgain)
	defer cancel()
	if err := e.Remove(ctx, "abc"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("remove during an endless removal: %v, want DeadlineExceeded", err)
	}
}

// A load fails in the middle of an answer whose status was a success.
func TestLoadFailure(t *testing.T) {
	e := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			http.Error(w, "no such image", http.StatusNotFound)
			return
		}
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, `{"stream":"Loading"}`+"\n"+`{"errorDetail":{"message":"disk full"},"error":"disk full"}`)
	})
	_, err := e.EnsureImage(t.Context(), "x:1", func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("tar")), nil })
	if !errors.Is(err, errdefs.ErrInternal) || !strings.Contains(err.Error(), `sandbox image "x:1"`) || !strings.Contains(err.Error(), "disk full") {
		t.Errorf("got %v", err)
	}
}

func writeJSON(t *testing.T, w io.Writer, v any) {
	t.Helper()
	if err := json.NewEncoder(w).Encode(v); err != nil {
		t.Error(err)
	}
}
