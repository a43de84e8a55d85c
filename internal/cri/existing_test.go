package cri_test

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine/enginetest"
	"github.com/mascri/mascri/internal/pod"
)

// A request for a sandbox that exists does not touch that one, nor hide it for as long
// as the engine may take to answer.
func TestRepeatedRunHidesNothing(t *testing.T) {
	d := newDaemon(t)
	id := d.run(t, podConfig("web"))
	release := d.engine.Hold("Inspect")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	answer := make(chan error, 1)
	go func() {
		_, err := d.RunPodSandbox(ctx, &runtimeapi.RunPodSandboxRequest{Config: podConfig("web")})
		answer <- err
	}()
	eventually(t, "the engine is asked for the name", func() bool {
		for _, call := range d.engine.Calls() {
			if call == "Inspect "+pod.SandboxName(podConfig("web").GetMetadata()) {
				return true
			}
		}
		return false
	})
	if got := d.listed(t, nil); got != "web SANDBOX_READY" {
		t.Errorf("listed meanwhile: %q", got)
	}
	release()
	wantCode(t, <-answer, codes.AlreadyExists, id)
}

// A sandbox that could not be undone keeps its files: its containers need them.
func TestFailedUndoKeepsFiles(t *testing.T) {
	d := newDaemon(t)
	d.listed(t, nil)    // wait for the first resync, and have no hints:
	d.engine.Mute(true) // what the index asks by itself would be counted
	d.engine.Fail(enginetest.Fault{Method: "Inspect", Call: 1})
	d.engine.Fail(enginetest.Fault{Method: "Remove"})
	_, err := d.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: hostConfig("proxy")})
	wantCode(t, err, codes.Unavailable, "cleaning up failed")
	sandbox, err := d.engine.Inspect(t.Context(), pod.SandboxName(hostConfig("proxy").GetMetadata()))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{sandbox.Files.ResolvConf, sandbox.Files.Hosts, sandbox.Files.Hostname} {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
	// It runs, and looks like any other on the host network; but nobody was told its id.
	d.engine.Heal()
	eventually(t, "it is removed", func() bool { return d.engine.String()+d.listed(t, nil) == "" })
	d.wantClean(t)
}

// An id that is not listed may all the same be that of a sandbox. One being made is
// stopped as a whole or left alone.
func TestStopOfASandboxBeingMade(t *testing.T) {
	d := newDaemon(t)
	waiting, release := d.network.holdAttach(t)
	made := make(chan error, 1)
	go func() {
		_, err := d.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: podConfig("web")})
		made <- err
	}()
	<-waiting
	sandbox, err := d.engine.Inspect(t.Context(), pod.SandboxName(podConfig("web").GetMetadata()))
	if err != nil {
		t.Fatal(err)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- d.stop(t, sandbox.ID) }()
	time.Sleep(50 * time.Millisecond) // let it wait for the sandbox's lock
	release()
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	err = <-stopped
	sandbox, inspectErr := d.engine.Inspect(t.Context(), sandbox.ID)
	if inspectErr != nil {
		t.Fatal(inspectErr)
	}
	attached := strings.Contains(d.network.String(), sandbox.ID)
	switch { // it may have come just before the end, or just after
	case err == nil && !sandbox.Running && !attached:
	case status.Code(err) == codes.Unavailable && sandbox.Running && attached:
	default:
		t.Errorf("answer %v; running %v, attached %v", err, sandbox.Running, attached)
	}
}
