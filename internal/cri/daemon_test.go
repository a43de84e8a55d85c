package cri_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/cri"
	"github.com/mascri/mascri/internal/engine/enginetest"
	"github.com/mascri/mascri/internal/health"
	"github.com/mascri/mascri/internal/index"
)

const instance = "0123456789abcdef0123456789abcdef"

// daemon is the real handlers, index and health monitor over a connection in memory,
// on a fake engine and a fake network.
type daemon struct {
	runtimeapi.RuntimeServiceClient
	image runtimeapi.ImageServiceClient
	conn  *grpc.ClientConn
	// changed is what the index tells of an id.
	changed func(id string)
	life
	end func() // as a crash does, but for what is under way
}

// life is what outlives a daemon.
type life struct {
	engine  *enginetest.Fake
	network *fakeNetwork
	limits  *fakeLimits
	births  *fakeBirths
	logs    *fakeLogs
	dir     string // state directory
}

func newLife(t *testing.T) life {
	engine := enginetest.NewFake(t, instance)
	return life{engine: engine, network: newFakeNetwork(engine), limits: &fakeLimits{}, births: &fakeBirths{}, logs: &fakeLogs{}, dir: t.TempDir()}
}

// newDaemon starts one on an engine of its own.
func newDaemon(t *testing.T) *daemon {
	t.Helper()
	return startDaemon(t, newLife(t))
}

// startDaemon starts one on what an earlier life left.
func startDaemon(t *testing.T, l life) *daemon {
	t.Helper()
	log := slog.New(slog.NewTextHandler(testWriter{t}, nil))
	var server *cri.Server
	monitor := health.New(l.engine, log)
	idx := index.New(index.Options{Source: l.engine, Logger: log, Changed: func(id string) { server.Changed(id) }, Connected: func(context.Context) {}})
	server = cri.New(cri.Options{
		Engine: l.engine, Containers: l.engine, Execs: fakeExecs{}, Streams: fakeStreams{}, Images: l.engine, Limits: l.limits, Births: l.births, Logs: l.logs, Network: l.network, Usage: fakeUsage{}, Index: idx, Health: monitor, Logger: log,
		Version: "1.2.3", FilesDir: filepath.Join(l.dir, "sandboxes"), UpdatesDir: filepath.Join(l.dir, "updates"), Instance: instance, Config: map[string]string{"socket": "/x"},
		SandboxImage: "pause:test", ImageArchive: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("tar")), nil },
	})
	listener := bufconn.Listen(1 << 20)
	grpcServer := grpc.NewServer(grpc.InTapHandle(server.Admit), grpc.MaxRecvMsgSize(16<<20), grpc.UnaryInterceptor(server.Unary), grpc.StreamInterceptor(server.Stream))
	server.Register(grpcServer)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{}, 4)
	for _, part := range []func(context.Context) error{monitor.Run, idx.Run, server.Run} {
		go func() { _ = part(ctx); done <- struct{}{} }()
	}
	go func() { _ = grpcServer.Serve(listener); done <- struct{}{} }()
	conn, err := grpc.NewClient("passthrough:///bufconn", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	end := sync.OnceFunc(func() {
		conn.Close()
		grpcServer.Stop()
		cancel()
		for range cap(done) {
			<-done
		}
	})
	t.Cleanup(end)
	return &daemon{
		RuntimeServiceClient: runtimeapi.NewRuntimeServiceClient(conn), image: runtimeapi.NewImageServiceClient(conn),
		conn: conn, changed: server.Changed, life: l, end: end,
	}
}

// testWriter sends the daemon's log to the test's.
type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimRight(string(p), "\n"))
	return len(p), nil
}

func podConfig(name string) *runtimeapi.PodSandboxConfig {
	return &runtimeapi.PodSandboxConfig{Metadata: &runtimeapi.PodSandboxMetadata{Name: name, Namespace: "default", Uid: "uid-" + name}}
}

func hostConfig(name string) *runtimeapi.PodSandboxConfig {
	config := podConfig(name)
	config.Linux = &runtimeapi.LinuxPodSandboxConfig{SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{
		NamespaceOptions: &runtimeapi.NamespaceOption{Network: runtimeapi.NamespaceMode_NODE},
	}}
	return config
}

func (d *daemon) run(t *testing.T, config *runtimeapi.PodSandboxConfig) string {
	t.Helper()
	resp, err := d.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: config})
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetPodSandboxId()
}

func (d *daemon) stop(t *testing.T, id string) error {
	t.Helper()
	_, err := d.StopPodSandbox(t.Context(), &runtimeapi.StopPodSandboxRequest{PodSandboxId: id})
	return err
}

func (d *daemon) remove(t *testing.T, id string) error {
	t.Helper()
	_, err := d.RemovePodSandbox(t.Context(), &runtimeapi.RemovePodSandboxRequest{PodSandboxId: id})
	return err
}

// listed returns the sandboxes as "name state", newest first.
func (d *daemon) listed(t *testing.T, filter *runtimeapi.PodSandboxFilter) string {
	t.Helper()
	resp, err := d.ListPodSandbox(t.Context(), &runtimeapi.ListPodSandboxRequest{Filter: filter})
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, s := range resp.GetItems() {
		lines = append(lines, s.GetMetadata().GetName()+" "+s.GetState().String())
	}
	return strings.Join(lines, ", ")
}

// wantClean checks that nothing is left, on the engine, the network or in lists.
func (d *daemon) wantClean(t *testing.T) {
	t.Helper()
	if left := d.engine.String() + d.network.String() + d.listed(t, nil) + d.containers(t, nil) + d.logs.String(); left != "" {
		t.Errorf("left behind:\n%s", left)
	}
}

// eventually waits for what a repair brings about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

func wantCode(t *testing.T, err error, code codes.Code, texts ...string) {
	t.Helper()
	if status.Code(err) != code {
		t.Errorf("error %v, want code %s", err, code)
	}
	for _, text := range texts {
		if !strings.Contains(status.Convert(err).Message(), text) {
			t.Errorf("error %v does not say %q", err, text)
		}
	}
}
