package engine_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/mascri/mascri/internal/engine"
	"github.com/mascri/mascri/internal/engine/enginetest"
	"github.com/mascri/mascri/internal/pod"
)

// An engine that comes back as another version is spoken to in that one's, and sandboxes
// are made by what it can do.
func TestEngineIsReplaced(t *testing.T) {
	const flags = "--bridge=none"
	old := enginetest.StartDaemon(t, enginetest.Engine20, flags, "--iptables=false")
	recent := enginetest.StartDaemon(t, enginetest.Engine28, flags, "--iptables=false", "--ip6tables=false")
	socket := filepath.Join(t.TempDir(), "docker.sock")
	point := func(d *enginetest.Daemon) {
		t.Helper()
		next := socket + ".next"
		if err := errors.Join(os.Symlink(d.Host()[len("unix://"):], next), os.Rename(next, socket)); err != nil {
			t.Fatal(err)
		}
	}
	point(old)
	e, err := engine.New(engine.Options{Host: "unix://" + socket, Instance: "one", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	watch := func() (connected chan bool, ended chan error) {
		connected, ended = make(chan bool, 1), make(chan error, 1)
		go func() { ended <- e.Hints(t.Context(), func(pod.Hint) { connected <- true }) }()
		return connected, ended
	}
	// Only engine 20.10 has this runtime: the refusal tells which one is asked.
	create := func() error {
		_, err := e.CreateSandbox(t.Context(), pod.SandboxSpec{Name: "a", Instance: "one", Image: "missing", Files: enginetest.Files(t), RuntimeHandler: "io.containerd.runtime.v1.linux"})
		return err
	}
	connected, ended := watch()
	<-connected
	if err := create(); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("create on 20.10: %v, want NotFound for the image", err)
	}
	var busy sync.WaitGroup
	stop := make(chan struct{})
	busy.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				_, err := e.IDs(t.Context())
				if err != nil && !errors.Is(err, errdefs.ErrUnavailable) {
					t.Errorf("sandboxes meanwhile: %v", err)
				}
			}
		}
	})
	point(recent)
	old.Stop(t)
	if err := <-ended; !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("hints of the old engine ended with %v, want Unavailable", err)
	}
	connected, _ = watch()
	<-connected
	close(stop)
	busy.Wait()
	if err := create(); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("create on 28: %v, want InvalidArgument for the runtime", err)
	}
	if facts, err := e.Facts(t.Context()); err != nil || facts.APIVersion != "1.51" {
		t.Errorf("facts: %+v, %v; want API 1.51", facts, err)
	}
}
