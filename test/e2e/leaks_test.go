package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mascri/mascri/internal/engine/enginetest"
)

// store is where host-local keeps the addresses of the tests' network.
const store = "/var/lib/cni/networks/mynet"

// The command finds what is left, changes nothing unless told to, and refuses to work
// beside the daemon.
func TestLeaksCommand(t *testing.T) {
	n := newNode(t, enginetest.Engine28, userConf())
	live, gone := n.runPod(t, config("live")), n.runPod(t, config("gone"))
	if out, ok := n.mascri(t, "net", "leaks"); !ok || !strings.Contains(out, "nothing is left") {
		t.Errorf("on a whole node: %v, %s", ok, out)
	}
	if out, ok := n.mascri(t, "net", "leaks", "--repair"); ok || !strings.Contains(out, "in use by another mascri serve") {
		t.Errorf("beside the daemon: %v, %s", ok, out)
	}
	n.kill(t)
	n.docker(t, "rm", "-f", gone.id)
	ghost := filepath.Join(store, "10.88.0.77")
	if err := os.WriteFile(ghost, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // looking changes nothing
		out, ok := n.mascri(t, "net", "leaks", "--output", "json")
		for _, text := range []string{`"kind": "record"`, gone.id, filepath.Join(n.state, "attachments"), `"kind": "address"`, ghost} {
			if ok || !strings.Contains(out, text) {
				t.Errorf("exit code 0: %v, or it does not say %s: %s", ok, text, out)
			}
		}
		if strings.Contains(out, live.id) {
			t.Errorf("what is in use is said to be left: %s", out)
		}
	}
	if out, ok := n.mascri(t, "net", "leaks", "--repair"); !ok || !strings.Contains(out, "2 found, 0 left") {
		t.Errorf("repair: %v, %s", ok, out)
	}
	n.start(t)
	n.wantWhole(t, 1)
	n.removePod(t, live.id)
	n.wantWhole(t, 0)
}

// The daemon finds at its start what its records tell nothing of.
func TestLeaksAreMendedAtTheStart(t *testing.T) {
	n := newNode(t, enginetest.Engine28, userConf())
	live, gone := n.runPod(t, config("live")), n.runPod(t, config("gone"))
	n.kill(t)
	n.docker(t, "rm", "-f", gone.id)
	for _, path := range []string{
		filepath.Join(n.state, "attachments", gone.id+".json"),
		filepath.Join(n.state, "cni", "results", "mynet-"+gone.id+"-eth0"),
	} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(store, "10.88.0.77"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	n.start(t)
	n.wantWhole(t, 1)
	n.removePod(t, live.id)
	n.wantWhole(t, 0)
}
