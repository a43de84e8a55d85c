package network

import (
	"errors"
	"testing"
	"time"

	"github.com/mascri/mascri/internal/pod"
)

// DEL does not wait for the process's end, but nothing is forgotten before.
func TestDetachBesideTheProcess(t *testing.T) {
	n := newNode(t)
	n.write("10-net.conflist", n.bridge())
	n.start()
	a := n.attach(n.sandbox("web"))
	ended := make(chan struct{})
	detached := make(chan error, 1)
	go func() { detached <- n.Detach(t.Context(), a.SandboxID, func() error { <-ended; return nil }) }()
	for end := time.Now().Add(10 * time.Second); len(n.left().Addresses) > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("DEL waits for the process")
		}
	}
	if left, ok := n.Attachment(a.SandboxID); !ok || left.Phase != pod.Detaching {
		t.Errorf("attachment before the process ended: %v, %v", left, ok)
	}
	close(ended)
	if err := <-detached; err != nil {
		t.Fatal(err)
	}
	n.nothingLeft()
}

// A process that can't be ended keeps its record: who asks again is served.
func TestDetachOfAProcessThatGoesOn(t *testing.T) {
	n := newNode(t)
	n.write("10-net.conflist", n.bridge())
	n.start()
	a := n.attach(n.sandbox("web"))
	goesOn := errors.New("goes on")
	if err := n.Detach(t.Context(), a.SandboxID, func() error { return goesOn }); !errors.Is(err, goesOn) {
		t.Errorf("error %v", err)
	}
	if left, ok := n.Attachment(a.SandboxID); !ok || left.Phase != pod.Detaching {
		t.Errorf("attachment: %v, %v", left, ok)
	}
	if err := n.Detach(t.Context(), a.SandboxID, nil); err != nil {
		t.Error(err)
	}
	n.nothingLeft()
}
