package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The pin keeps the namespace alive, so that DEL also finds its masquerade rules.
func TestDelAfterTheSandboxDied(t *testing.T) {
	n := newNode(t)
	n.write("10-bridge.conflist", strings.Replace(n.bridge(), `"isGateway": true`, `"isGateway": true, "ipMasq": true`, 1))
	n.start()
	req := n.sandbox("a")
	n.attach(req)
	if got := n.left(); len(got.Chains) == 0 {
		t.Fatal("the bridge plugin made no masquerade chain: this test shows nothing")
	}
	process, err := os.FindProcess(req.PID)
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Kill(); err != nil {
		t.Fatal(err)
	}

	n.detach(req.SandboxID)

	n.nothingLeft()
}

// Where the recorded namespace is gone, plugins are told that there is none.
func TestDelWithoutTheNamespace(t *testing.T) {
	for name, spoil := range map[string]func(*node, record){
		"reboot": func(n *node, rec record) {
			rec.BootID = "another"
			if err := n.save(rec); err != nil {
				n.t.Fatal(err)
			}
		},
		"unpinned": func(n *node, rec record) {
			if err := unpin(rec.NetnsPath); err != nil {
				n.t.Fatal(err)
			}
		},
		"plain file": func(n *node, rec record) {
			if err := errors.Join(unpin(rec.NetnsPath), os.WriteFile(rec.NetnsPath, nil, 0o600)); err != nil {
				n.t.Fatal(err)
			}
		},
		"another namespace": func(n *node, rec record) {
			ns, err := openNetns(n.t.Context(), n.sandbox("other"))
			if err != nil {
				n.t.Fatal(err)
			}
			defer ns.Close()
			if err := pin(ns, rec.NetnsPath); err != nil {
				n.t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			dump := filepath.Join(t.TempDir(), "dump")
			n.write("10-bridge.conflist", n.bridge(chaos(fmt.Sprintf(`{"dump": %q}`, dump))))
			n.start()
			req := n.sandbox("a")
			n.attach(req)
			rec, _ := n.record(req.SandboxID)
			spoil(n, rec)
			n.start()

			n.detach(req.SandboxID)

			calls := n.calls(dump)
			if last := calls[len(calls)-1]; last.Verb != "DEL" || last.Netns != "" {
				t.Errorf("last call is %s with CNI_NETNS %q", last.Verb, last.Netns)
			}
			process, err := os.FindProcess(req.PID)
			if err != nil {
				t.Fatal(err)
			}
			if err := process.Kill(); err != nil { // its veth goes with it
				t.Fatal(err)
			}
			n.nothingLeft()
		})
	}
}

// libcni's cache file may be damaged by a loss of power: DEL gets the result that
// is recorded.
func TestDelWithADamagedCache(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"missing": os.Remove,
		"empty":   func(path string) error { return os.Truncate(path, 0) },
		"cut":     func(path string) error { return os.Truncate(path, 100) },
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			dump := filepath.Join(t.TempDir(), "dump")
			n.write("10-bridge.conflist", n.bridge(chaos(fmt.Sprintf(`{"dump": %q}`, dump))))
			n.start()
			req := n.sandbox("a")
			n.attach(req)
			if err := damage(filepath.Join(n.cfg.StateDir, "cni", "results", "podnet-"+req.SandboxID+"-eth0")); err != nil {
				t.Fatal(err)
			}

			n.detach(req.SandboxID)

			calls := n.calls(dump)
			var conf struct{ PrevResult json.RawMessage }
			if err := json.Unmarshal(calls[len(calls)-1].Config, &conf); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(conf.PrevResult), "10.88.0.2/16") {
				t.Errorf("DEL got prevResult %s", conf.PrevResult)
			}
			n.nothingLeft()
		})
	}
}

// Without its record, or with a damaged one, a sandbox is detached by what else
// tells of it.
func TestDelWithoutARecord(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"missing": os.Remove,
		"cut":     func(path string) error { return os.Truncate(path, 100) },
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			n.write("10-bridge.conflist", n.bridge())
			n.start()
			req := n.sandbox("a")
			n.attach(req)
			if err := damage(filepath.Join(n.recordDir(), recordFile(req.SandboxID))); err != nil {
				t.Fatal(err)
			}
			n.start()
			if a, ok := n.Attachment(req.SandboxID); ok {
				t.Errorf("attachment is %+v", a)
			}

			n.detach(req.SandboxID)

			aside := filepath.Join(n.recordDir(), "quarantine")
			if name == "cut" {
				if _, err := os.Stat(filepath.Join(aside, recordFile(req.SandboxID))); err != nil || !strings.Contains(n.log.String(), "damaged") {
					t.Errorf("the damaged record is not kept (%v), or it is not said: %s", err, n.log)
				}
				if err := os.RemoveAll(aside); err != nil {
					t.Fatal(err)
				}
			}
			n.nothingLeft()
		})
	}
}

// Without its record, too, an attachment that can't be undone is put on the dirty queue.
func TestDelWithoutARecordFails(t *testing.T) {
	n := newNode(t)
	mended := filepath.Join(t.TempDir(), "mended")
	n.write("10-bridge.conflist", n.bridge(chaos(fmt.Sprintf(`{"verbs": ["DEL"], "until": %q, "fault": true, "exit": 1, "stderr": "bad luck"}`, mended))))
	n.start()
	a := n.attach(n.sandbox("a"))
	if err := os.Remove(filepath.Join(n.recordDir(), recordFile(a.SandboxID))); err != nil {
		t.Fatal(err)
	}
	n.start()

	n.detach(a.SandboxID)

	n.wantDirty(a, "bad luck")
	if err := os.WriteFile(mended, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	n.start().run()
	n.nothingLeft()
}

// What a client names that is no sandbox's whole id must lead to no file, and to no
// other sandbox's pin.
func TestDetachOfWhatIsNoID(t *testing.T) {
	n := newNode(t)
	n.write("10-bridge.conflist", n.bridge())
	n.start()
	a := n.attach(n.sandbox("a"))
	file := filepath.Join(filepath.Dir(n.cfg.NetnsDir), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"/../../file", "", "no-sandbox", a.SandboxID[:40], a.SandboxID + "0"} {
		if err := n.Detach(t.Context(), id, nil); err != nil {
			t.Errorf("%q: %v", id, err)
		}
	}
	if _, err := os.Stat(file); err != nil {
		t.Error("a file of the node was removed")
	}
	if !pinned(a.NetnsPath, a.NetnsInode) {
		t.Error("the pin of a sandbox with another id was removed")
	}
	n.detach(a.SandboxID)
}

// Another daemon may pin its sandboxes in the same directory, and be asked for by mistake.
func TestDetachOfAnotherDaemonsSandbox(t *testing.T) {
	n := newNode(t)
	n.write("10-bridge.conflist", n.bridge())
	n.start()
	a := n.attach(n.sandbox("a"))
	other := newNode(t)
	other.write("10-bridge.conflist", other.bridge())
	other.start()

	other.detach(a.SandboxID)

	if !pinned(a.NetnsPath, a.NetnsInode) {
		t.Error("the pin of another daemon's sandbox was removed")
	}
	n.detach(a.SandboxID)
	n.nothingLeft()
}
