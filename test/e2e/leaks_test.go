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

// A state directory that was restored from a backup has the record of a pod that is long
// gone, and whose address a live pod was given since.
func TestStateRestoredFromABackup(t *testing.T) {
	conf := strings.Replace(bridgeConf, `"type": "bridge"`, `"plugins": [{"type": "bridge"`, 1)
	conf = strings.Replace(conf, `"subnet": "10.88.0.0/16"`, `"subnet": "10.88.0.0/16", "rangeStart": "10.88.0.2", "rangeEnd": "10.88.0.2"`, 1)
	conf = strings.TrimSuffix(conf, "\n}") + `}, {"type": "firewall", "backend": "iptables"}]}`
	n := newNode(t, enginetest.Engine28, map[string]string{"10-one.conflist": conf})
	old := n.runPod(t, config("old"))
	record := filepath.Join(n.state, "attachments", old.id+".json")
	backup, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	n.removePod(t, old.id)
	live := n.runPod(t, config("live"))
	o := newOutside(t)
	server(t, o.netns, 7000)
	wantDial(t, "the live pod to the outside", live.netns, o.v4, 7000, o.node4)
	rules := run(t, "iptables", "-w", "-S", "CNI-FORWARD")
	n.kill(t)
	if err := os.WriteFile(record, backup, 0o600); err != nil {
		t.Fatal(err)
	}
	says := func(command ...string) {
		t.Helper()
		out, _ := n.mascri(t, command...)
		if words := strings.Join(strings.Fields(out), " "); !strings.Contains(words, "gives 10.88.0.2 of network \"mynet\" to pod default/old, but the one that has it is pod default/live") {
			t.Errorf("%q: %s", command, out)
		}
	}
	says("doctor") // looks at what a daemon that started now would do
	if _, err := os.Stat(record); err != nil {
		t.Errorf("the doctor moved the record: %v", err)
	}

	n.start(t)

	if _, err := os.Stat(record); !os.IsNotExist(err) {
		t.Errorf("the record is still there: %v", err)
	}
	says("doctor")
	says("net", "status")
	if left := reservations(t); len(left) != 1 || left[0] != live.id {
		t.Errorf("the address is reserved for %q, want %s", left, live.id)
	}
	if now := run(t, "iptables", "-w", "-S", "CNI-FORWARD"); now != rules {
		t.Errorf("rules were\n%s\nand are\n%s", rules, now)
	}
	wantDial(t, "the live pod to the outside", live.netns, o.v4, 7000, o.node4)
	if err := os.RemoveAll(filepath.Join(n.state, "attachments", "quarantine")); err != nil {
		t.Fatal(err)
	}
	n.wantWhole(t, 1)
	n.removePod(t, live.id)
	n.wantWhole(t, 0)
}
