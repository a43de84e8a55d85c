package network

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// run starts Run, and returns what waits until a network is chosen.
func (n *node) run() (become func(want string)) {
	n.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- n.Run(ctx) }()
	n.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			n.t.Error(err)
		}
	})
	return func(want string) {
		n.t.Helper()
		for begun := time.Now(); n.Status().Network != want; time.Sleep(10 * time.Millisecond) {
			if time.Since(begun) > 10*time.Second {
				n.t.Fatalf("network is %q, want %q", n.Status().Network, want)
			}
		}
	}
}

// Changes are seen by the watch alone.
func TestRunWatchesTheDirectory(t *testing.T) {
	n := configNode(t)
	n.write("parts/1.conf", "")
	n.start()
	n.rescanEvery = time.Hour
	become := n.run()

	n.write("20-a.conflist", goodList)
	become("good")
	temp := filepath.Join(n.cfg.ConfigDir, "temp")
	if err := errors.Join(os.WriteFile(temp, []byte(goodSingle), 0o600), os.Rename(temp, filepath.Join(n.cfg.ConfigDir, "10-b.conf"))); err != nil {
		t.Fatal(err)
	}
	become("single")
	n.write("05-c.conflist", goodHeader)
	n.write("parts/1.conf", `{"type": "bridge"}`)
	become("parts")
	if err := os.RemoveAll(n.cfg.ConfigDir); err != nil {
		t.Fatal(err)
	}
	become("")
}

// What the watch can't see is seen sooner or later.
func TestRunLooksAgainNowAndThen(t *testing.T) {
	n := configNode(t)
	n.start()
	n.rescanEvery = 50 * time.Millisecond
	become := n.run()

	for range 2 { // absent at first, and again
		n.write("10-a.conflist", goodList)
		become("good")
		if err := os.RemoveAll(n.cfg.ConfigDir); err != nil {
			t.Fatal(err)
		}
		become("")
	}
	if calls, _ := n.forward.noted(); calls < 2 {
		t.Errorf("forwarding was asserted %d times", calls)
	}
}
