package registry

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
)

// address is reserved for documentation (RFC 5737), so that no machine has it.
const address = "192.0.2.80"

// Registry serves images until its test ends. It is safe for concurrent use.
type Registry struct {
	// Host is what image references begin with, such as 192.0.2.80:40123 or
	// registry.k8s.io.
	Host  string
	login Login
	store http.Handler

	mu       sync.Mutex // guards all following fields
	gate     chan struct{}
	refusal  int      // status code that every request gets, 0 for none
	requests []string // such as "GET /v2/a/manifests/1"
}

var blob = regexp.MustCompile(`^/v2/.+/blobs/`)

// Start runs a registry that asks for login, and makes engines that are asked for its
// images trust it.
func Start(t testing.TB, login Login) *Registry {
	t.Helper()
	return start(t, login, "0", nil)
}

// StartAs runs a registry that is each of the hosts with these names to engines, and
// asks for no login.
func StartAs(t testing.TB, names ...string) *Registry {
	t.Helper()
	resolve(t, names)
	return start(t, Login{}, "443", names)
}

// start listens at a port of address; without names, the address is the host's.
func start(t testing.TB, login Login, port string, names []string) *Registry {
	t.Helper()
	if out, err := exec.Command("ip", "addr", "replace", address+"/32", "dev", "lo").CombinedOutput(); err != nil {
		t.Fatalf("give lo an address: %v\n%s", err, out)
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(address, port))
	if err != nil {
		t.Fatal(err)
	}
	hosts := names
	if len(hosts) == 0 {
		hosts = []string{listener.Addr().String()}
	}
	r := &Registry{
		Host:  hosts[0],
		login: login,
		store: registry.New(registry.Logger(slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo))),
	}
	certificate, authority := certify(t, address, names)
	for _, host := range hosts {
		trust(t, host, authority)
	}
	server := httptest.NewUnstartedServer(r)
	server.Listener.Close()
	server.Listener = listener
	server.TLS = certificate
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo) // of clients that hang up
	server.StartTLS()
	t.Cleanup(func() {
		r.Resume()
		server.CloseClientConnections()
		server.Close()
	})
	return r
}

// trust makes Docker trust authority for host, see
// https://docs.docker.com/engine/security/certificates/.
func trust(t testing.TB, host string, authority []byte) {
	t.Helper()
	directory := filepath.Join("/etc/docker/certs.d", host)
	if err := os.MkdirAll(directory, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(directory) })
	if err := os.WriteFile(filepath.Join(directory, "ca.crt"), authority, 0o600); err != nil {
		t.Fatal(err)
	}
}

// resolve makes names stand for address, until t ends.
func resolve(t testing.TB, names []string) {
	t.Helper()
	const file = "/etc/hosts"
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(file, before, 0o644); err != nil {
			t.Error(err)
		}
	})
	lines := fmt.Appendf(bytes.Clone(before), "\n%s %s\n", address, strings.Join(names, " "))
	if err := os.WriteFile(file, lines, 0o644); err != nil {
		t.Fatal(err)
	}
}

// Stall makes the downloads of layers and image configs hang half-way, until Resume.
func (r *Registry) Stall() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gate = make(chan struct{})
}

// Resume ends Stall.
func (r *Registry) Resume() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gate != nil {
		close(r.gate)
		r.gate = nil
	}
}

// Fail makes every request fail with an HTTP status; 0 ends that.
func (r *Registry) Fail(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refusal = status
}

// Requests returns the requests so far whose text, such as "GET /v2/a/manifests/1",
// contains part.
func (r *Registry) Requests(part string) (found []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, request := range r.requests {
		if strings.Contains(request, part) {
			found = append(found, request)
		}
	}
	return found
}

// ServeHTTP implements http.Handler.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	r.requests = append(r.requests, req.Method+" "+req.URL.Path)
	gate, refusal := r.gate, r.refusal
	r.mu.Unlock()
	// The store knows only some forms of it; without it a client gets the whole.
	req.Header.Del("Range")
	switch {
	case refusal != 0:
		http.Error(w, "the registry fails as the test told it", refusal)
	case req.URL.Path == tokenPath:
		r.login.issue(w, req)
	case !r.login.admits(req):
		r.login.challenge(w, r.Host)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`) // a client that is gone misses nothing
	case gate != nil && req.Method == http.MethodGet && blob.MatchString(req.URL.Path):
		r.serveHalf(w, req, gate)
	default:
		r.store.ServeHTTP(errorsTyped{w}, req)
	}
}

// errorsTyped gives errors the media type that the store leaves out, without which a
// client can't read them.
type errorsTyped struct{ http.ResponseWriter }

func (w errorsTyped) WriteHeader(status int) {
	if status >= http.StatusBadRequest {
		w.Header().Set("Content-Type", "application/json")
	}
	w.ResponseWriter.WriteHeader(status)
}

// serveHalf sends a half of the answer, and the rest once gate opens.
func (r *Registry) serveHalf(w http.ResponseWriter, req *http.Request, gate <-chan struct{}) {
	whole := httptest.NewRecorder()
	r.store.ServeHTTP(whole, req)
	body := whole.Body.Bytes()
	for key, values := range whole.Header() {
		w.Header()[key] = values
	}
	w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	w.WriteHeader(whole.Code)
	_, _ = w.Write(body[:len(body)/2]) // a client that is gone shows in the next write
	_ = http.NewResponseController(w).Flush()
	select {
	case <-gate:
		_, _ = w.Write(body[len(body)/2:])
	case <-req.Context().Done():
	}
}

// put stores something as a client that is logged in would.
func (r *Registry) put(t testing.TB, method, path, mediaType string, body []byte) {
	t.Helper()
	req := httptest.NewRequest(method, path, bytes.NewReader(body))
	req.Header.Set("Content-Type", mediaType)
	answer := httptest.NewRecorder()
	r.store.ServeHTTP(answer, req)
	if answer.Code/100 != 2 {
		t.Fatalf("%s %s: %d %s", method, path, answer.Code, answer.Body)
	}
}
