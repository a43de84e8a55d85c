package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/network/firewall"
	"github.com/mascri/mascri/internal/pod"
)

// engine answers as its fields say.
type engine struct {
	facts    pod.EngineFacts
	err      error
	imageErr error
}

func (e engine) Facts(context.Context) (pod.EngineFacts, error) { return e.facts, e.err }

func (e engine) EnsureImage(_ context.Context, ref string, archive func() (io.ReadCloser, error)) (string, error) {
	if archive != nil {
		return "", errors.New("the doctor loads images")
	}
	return "sha256:0", e.imageErr
}

func (e engine) Pools(context.Context) ([]netip.Prefix, error) {
	return []netip.Prefix{netip.MustParsePrefix("172.17.0.0/16")}, e.err
}

// server is a daemon of the given name.
type server struct {
	cri.UnimplementedRuntimeServiceServer
	name string
	hang bool
}

func (r server) Version(ctx context.Context, _ *cri.VersionRequest) (*cri.VersionResponse, error) {
	if r.hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return &cri.VersionResponse{RuntimeName: r.name, RuntimeVersion: "1.2.3"}, nil
}

func (r server) Status(_ context.Context, req *cri.StatusRequest) (*cri.StatusResponse, error) {
	if !req.GetVerbose() {
		return nil, errors.New("not asked for info")
	}
	return &cri.StatusResponse{
		Status: &cri.RuntimeStatus{Conditions: []*cri.RuntimeCondition{{Type: "RuntimeReady", Status: true}}},
		Info:   map[string]string{"cni": `{"ready":true,"network":"of the daemon"}`},
	}, nil
}

// serve runs r on a socket and returns its path.
func serve(t *testing.T, r server) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	cri.RegisterRuntimeServiceServer(s, r)
	done := make(chan error)
	go func() { done <- s.Serve(listener) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return socket
}

func sources(t *testing.T, socket string) Sources {
	return Sources{
		EngineHost: "unix:///e",
		Engine:     engine{facts: pod.EngineFacts{Version: "28.5.2"}, imageErr: errdefs.ErrNotFound},
		Image:      Image{Ref: "image"},
		Socket:     socket,
		NetnsDir:   t.TempDir(),
		Network: func(context.Context) (pod.NetworkStatus, error) {
			return pod.NetworkStatus{Network: "of the doctor"}, nil
		},
		Firewall: func(context.Context) (firewall.Report, error) { return firewall.Report{IPv4: true}, nil },
		OOMFloor: func() (int, bool) { return -5, true },
	}
}

func TestLookWithoutDaemon(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "none")
	s := look(t.Context(), sources(t, socket))
	if !errors.Is(s.daemon.statErr, os.ErrNotExist) || s.network.Network != "of the doctor" {
		t.Errorf("daemon %+v, network %+v", s.daemon, s.network)
	}
	if s.engine.Version != "28.5.2" || !errors.Is(s.imageErr, errdefs.ErrNotFound) {
		t.Errorf("engine %+v, image %v", s.engine, s.imageErr)
	}
	if !slices.Contains(s.addresses, address{"lo", netip.MustParsePrefix("127.0.0.1/8")}) {
		t.Errorf("addresses %v", s.addresses)
	}
	if !s.firewall.IPv4 || s.oomFloor != -5 || !s.oomRestricted || s.euid != os.Geteuid() {
		t.Errorf("%+v", s)
	}
}

func TestDaemonKnowsItsNetworkBest(t *testing.T) {
	s := look(t.Context(), sources(t, serve(t, server{name: "mascri"})))
	if s.daemon.err != nil || s.daemon.version != "1.2.3" || len(s.daemon.conditions) != 1 {
		t.Errorf("daemon %+v", s.daemon)
	}
	if s.network.Network != "of the daemon" {
		t.Errorf("network %+v", s.network)
	}
}

func TestAnotherRuntimesNetworkIsNotOurs(t *testing.T) {
	s := look(t.Context(), sources(t, serve(t, server{name: "containerd"})))
	if s.daemon.name != "containerd" || s.network.Network != "of the doctor" {
		t.Errorf("daemon %+v, network %+v", s.daemon, s.network)
	}
}

func TestDaemonThatHangsIsNotWaitedFor(t *testing.T) {
	d := askDaemon(t.Context(), serve(t, server{name: "mascri", hang: true}))
	if d.err == nil || !strings.Contains(d.err.Error(), "DeadlineExceeded") {
		t.Errorf("error %v", d.err)
	}
}

func TestSocketThatADaemonLeft(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket})
	if err != nil {
		t.Fatal(err)
	}
	listener.SetUnlinkOnClose(false)
	listener.Close()
	d := askDaemon(t.Context(), socket)
	if d.err == nil || !strings.Contains(d.err.Error(), "connection refused") {
		t.Errorf("error %v", d.err)
	}
}

func TestEngineThatFailsIsNotAskedForTheImage(t *testing.T) {
	src := sources(t, "/nowhere")
	src.Engine = engine{err: errors.New("down"), imageErr: errors.New("asked all the same")}
	s := look(t.Context(), src)
	if s.engineErr == nil || s.imageErr != nil {
		t.Errorf("engine %v, image %v", s.engineErr, s.imageErr)
	}
}

func TestPinIsTriedWithoutATrace(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dir := t.TempDir()
	mounts := readMounts(t)
	// The second directory is missing, as /run/netns is before the first pod.
	for _, at := range []string{dir, filepath.Join(dir, "a", "b")} {
		if err := tryPin(at); err != nil {
			t.Errorf("%s: %v", at, err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		t.Errorf("left %v, error %v", entries, err)
	}
	if diff := cmp.Diff(mounts, readMounts(t)); diff != "" {
		t.Errorf("mounts (-before +after):\n%s", diff)
	}
}

func TestPinFailsWhereThereIsNoDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err := tryPin(file)
	if want := fmt.Sprintf("use %s: not a directory", file); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func readMounts(t *testing.T) string {
	t.Helper()
	// Not /proc/self: the thread that was thrown away may be the process's main one.
	text, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
