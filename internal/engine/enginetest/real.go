package enginetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/mascri/mascri/internal/engine"
	"github.com/mascri/mascri/test/registry"
)

// Real returns the subject that the engine at host is, reached through a proxy that can
// fail. All its containers are removed when t ends.
func Real(t *testing.T, host string) Subject {
	t.Helper()
	user := newDockerUser(t, host)
	t.Cleanup(func() { user.removeAll(t) })
	line := newProxy(t, strings.TrimPrefix(host, "unix://"))
	as := func(instance string) Engine {
		e, err := engine.New(engine.Options{Host: "unix://" + line.socket, Instance: instance, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	// Each subject has an instance of its own, as an engine tells new listeners of the
	// second before, in which another test's containers were removed.
	e := as(t.Name())
	image, err := e.EnsureImage(t.Context(), ImageRef, nil)
	if errors.Is(err, errdefs.ErrNotFound) {
		image, err = e.EnsureImage(t.Context(), ImageRef, Archive(t))
	}
	if err != nil {
		t.Fatal(err)
	}
	userImage, err := e.EnsureImage(t.Context(), UserImageRef, nil)
	if err != nil {
		t.Fatal(err)
	}
	return Subject{
		Instance: t.Name(), Engine: e, As: as, User: user, Line: line, Image: image, UserImage: userImage, Files: Files(t), Processes: true,
		Registry: func(t *testing.T, login registry.Login) Registry { return registry.Start(t, login) },
	}
}

// dockerUser is a User with an API client in place of the docker command.
type dockerUser struct{ api *client.Client }

func newDockerUser(t *testing.T, host string) dockerUser {
	t.Helper()
	api, err := client.New(client.WithHost(host))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { api.Close() })
	return dockerUser{api}
}

// background is for what must be done after t's own context ended.
var background = context.Background()

func (u dockerUser) Run(t testing.TB, name string, labels map[string]string) string {
	t.Helper()
	created, err := u.api.ContainerCreate(background, client.ContainerCreateOptions{
		Name: name, Image: ImageRef, Config: &container.Config{Labels: labels}, HostConfig: &container.HostConfig{NetworkMode: "none"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.api.ContainerStart(background, created.ID, client.ContainerStartOptions{}); err != nil {
		t.Fatal(err)
	}
	return created.ID
}

func (u dockerUser) Terminate(t testing.TB, id string) {
	t.Helper()
	u.Await(t, id)
	wait := u.api.ContainerWait(background, id, client.ContainerWaitOptions{})
	if _, err := u.api.ContainerKill(background, id, client.ContainerKillOptions{Signal: "SIGTERM"}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-wait.Result:
	case err := <-wait.Error:
		t.Fatal(err)
	case <-time.After(patience):
		t.Fatalf("container %s goes on after SIGTERM", id)
	}
}

// Await is needed as a program that is pid 1 loses a signal that it has no handler for yet.
func (u dockerUser) Await(t testing.TB, id string) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		logs, err := u.api.ContainerLogs(background, id, client.ContainerLogsOptions{ShowStdout: true})
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(logs)
		logs.Close()
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(text, []byte("paused")) {
			return
		}
	}
	t.Fatalf("container %s says nothing", id)
}

func (u dockerUser) Remove(t testing.TB, id string) {
	t.Helper()
	if _, err := u.api.ContainerRemove(background, id, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true}); err != nil {
		t.Fatal(err)
	}
}

func (u dockerUser) State(t testing.TB, id string) string {
	t.Helper()
	got, err := u.api.ContainerInspect(background, id, client.ContainerInspectOptions{})
	if errdefs.IsNotFound(err) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(got.Container.State.Status)
}

func (u dockerUser) Count(t testing.TB) int {
	t.Helper()
	list, err := u.api.ContainerList(background, client.ContainerListOptions{All: true})
	if err != nil {
		t.Fatal(err)
	}
	return len(list.Items)
}

func (u dockerUser) Tag(t testing.TB, image, tag string) {
	t.Helper()
	if _, err := u.api.ImageTag(background, client.ImageTagOptions{Source: image, Target: tag}); err != nil {
		t.Fatal(err)
	}
}

func (u dockerUser) removeAll(t *testing.T) {
	t.Helper()
	list, err := u.api.ContainerList(background, client.ContainerListOptions{All: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range list.Items {
		u.Remove(t, c.ID)
	}
}

// requests are how the methods whose answer can be lost look on the wire.
var requests = map[string]*regexp.Regexp{
	"CreateSandbox":   regexp.MustCompile(`^POST .*/containers/create$`),
	"CreateContainer": regexp.MustCompile(`^POST .*/containers/create$`),
	"Start":           regexp.MustCompile(`^POST .*/containers/[^/]+/start$`),
	"Kill":            regexp.MustCompile(`^POST .*/containers/[^/]+/kill$`),
	"Stop":            regexp.MustCompile(`^POST .*/containers/[^/]+/stop$`),
	"Remove":          regexp.MustCompile(`^DELETE .*/containers/[^/]+$`),
	"Inspect":         regexp.MustCompile(`^GET .*/containers/[^/]+/json$`),
	"UpdateContainer": regexp.MustCompile(`^POST .*/containers/[^/]+/update$`),
	"IDs":             regexp.MustCompile(`^GET .*/containers/json$`),
}

// proxy stands between an Engine and its engine.
type proxy struct {
	t      *testing.T
	socket string
	engine *http.Transport

	mu     sync.Mutex // guards all following fields
	server *http.Server
	lose   *regexp.Regexp // whose answer is lost next, nil for none
}

func newProxy(t *testing.T, socket string) *proxy {
	t.Helper()
	directory, err := os.MkdirTemp("/run", "proxy")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{t: t, socket: filepath.Join(directory, "s"), engine: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}
	p.Up()
	t.Cleanup(func() {
		p.Down()
		p.engine.CloseIdleConnections()
		os.RemoveAll(directory)
	})
	return p
}

func (p *proxy) LoseAnswer(method string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lose = requests[method]; p.lose == nil {
		p.t.Fatalf("the proxy does not know %s", method)
	}
}

func (p *proxy) Down() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.server.Close()
	os.Remove(p.socket)
}

func (p *proxy) Up() {
	p.mu.Lock()
	defer p.mu.Unlock()
	listener, err := net.Listen("unix", p.socket)
	if err != nil {
		p.t.Fatal(err)
	}
	p.server = &http.Server{Handler: &httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = "http", "engine" },
		Transport:      p.engine,
		FlushInterval:  -1, // events must not wait in a buffer
		ModifyResponse: p.answer,
		ErrorHandler:   func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}}
	go p.server.Serve(listener)
}

// answer cuts the connection instead of an answer that is to be lost.
func (p *proxy) answer(response *http.Response) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lose == nil || !p.lose.MatchString(response.Request.Method+" "+response.Request.URL.Path) {
		return nil
	}
	p.lose = nil
	return http.ErrAbortHandler
}
