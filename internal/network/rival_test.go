package network

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mascri/mascri/internal/pod"
)

// accepting is the plugin that knows pods by their addresses alone.
const accepting = `{"type": "firewall", "backend": "iptables"}`

// accepted tells whether the plugin firewall has a rule for an address.
func accepted(t *testing.T, a pod.Attachment) bool {
	t.Helper()
	return strings.Contains(ruleset(t), "-A CNI-FORWARD -s "+a.IPs[0].String()+"/32 -j ACCEPT")
}

// backup writes files that tell of a sandbox what those of a tell of its own, as an old
// state directory does of a sandbox that had the address before.
func (n *node) backup(a pod.Attachment, id string, cache bool) {
	n.t.Helper()
	copyAs := func(path string) {
		text, err := os.ReadFile(path)
		if err != nil {
			n.t.Fatal(err)
		}
		as := func(text string) string {
			return strings.NewReplacer(a.SandboxID, id, a.NetnsPath, n.pinPath(id), "pod-live", "pod-gone").Replace(text)
		}
		if err := os.WriteFile(as(path), []byte(as(string(text))), 0o600); err != nil {
			n.t.Fatal(err)
		}
	}
	copyAs(filepath.Join(n.recordDir(), recordFile(a.SandboxID)))
	if cache {
		copyAs(n.cacheFile("podnet", a.SandboxID, ifName))
	}
}

// dels are the sandboxes that a chaos plugin was asked to detach.
func (n *node) dels(dump string) (ids []string) {
	n.t.Helper()
	for _, c := range n.calls(dump) {
		if c.Verb == "DEL" {
			ids = append(ids, c.Args)
		}
	}
	return ids
}

func TestOfTwoRecordsForOneAddressTheKernelKnowsTheTrueOne(t *testing.T) {
	for name, tc := range map[string]struct{ cache, reserved, down bool }{
		"record":           {},
		"record and cache": {cache: true},
		"and reservation":  {cache: true, reserved: true},
		"while it runs":    {down: true}, // seen by Detach alone
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			dump := filepath.Join(t.TempDir(), "dump")
			n.write("10-bridge.conflist", n.bridge(accepting, chaos(fmt.Sprintf(`{"dump": %q}`, dump))))
			n.start()
			live, gone := n.attach(n.sandbox("live")), sandboxID("gone")
			n.backup(live, gone, tc.cache)
			store := filepath.Join(n.ipam, "podnet", live.IPs[0].String())
			if tc.reserved {
				if err := os.WriteFile(store, []byte(gone+"\r\neth0"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if tc.down {
				rec := n.recordOnDisk(gone)
				n.show(rec)
			} else {
				n.start().start() // the second finds nothing to do
				if all := n.Attachments(); len(all) != 1 || all[0].SandboxID != live.SandboxID {
					t.Errorf("attachments are %+v", all)
				}
			}

			n.detach(gone)
			if _, err := n.MendLeaks(t.Context(), []string{live.SandboxID}); err != nil {
				t.Error(err)
			}

			aside := n.Status().Quarantined
			if len(aside) != 1 || !strings.Contains(aside[0].Reason, "gives 10.88.0.2 of network \"podnet\" to pod default/pod-gone, but the one that has it is pod default/pod-live") ||
				aside[0].File != filepath.Join(quarantineDir(n.recordDir()), recordFile(gone)) || !strings.Contains(n.log.String(), aside[0].File) {
				t.Errorf("status tells %+v; log:\n%s", aside, n.log)
			}
			if ids := n.dels(dump); len(ids) > 0 {
				t.Errorf("DEL was run: %q", ids)
			}
			owner, err := os.ReadFile(store)
			if err != nil || !strings.HasPrefix(string(owner), live.SandboxID) || !accepted(t, live) {
				t.Errorf("the address is %s's, %v, accepted: %v", owner, err, accepted(t, live))
			}
			if found, err := n.FindLeaks(t.Context(), []string{live.SandboxID}); err != nil || len(found) > 0 {
				t.Errorf("left are %+v, %v", found, err)
			}
			n.detach(live.SandboxID)
			if err := os.RemoveAll(quarantineDir(n.recordDir())); err != nil {
				t.Fatal(err)
			}
			n.noteQuarantine()
			if n.nothingLeft(); accepted(t, live) || len(n.Status().Quarantined) > 0 {
				t.Errorf("the last one is not detached: %+v", n.Status())
			}
		})
	}
}

// Where two sandboxes really have one address, both stay; the first to go takes nothing
// from the other, and leaves nothing that is its own.
func TestTwoSandboxesWithOneAddress(t *testing.T) {
	n := newNode(t)
	dump := filepath.Join(t.TempDir(), "dump")
	conf := n.bridge(portmap, accepting, chaos(fmt.Sprintf(`{"dump": %q}`, dump)))
	conf = strings.Replace(conf, fmt.Sprintf(`"type": "host-local", "dataDir": %q, "subnet": "10.88.0.0/16"`, n.ipam), `"type": "static", "addresses": [{"address": "10.88.0.77/16"}]`, 1)
	n.write("10-bridge.conflist", strings.Replace(conf, `"isGateway": true`, `"ipMasq": true`, 1))
	n.start()
	first, second := n.attach(n.sandbox("first")), n.attach(n.sandbox("second"))
	if n.start(); len(n.Attachments()) != 2 || !strings.Contains(n.log.String(), "two sandboxes have the same address") {
		t.Fatalf("attachments are %+v; log:\n%s", n.Attachments(), n.log)
	}

	n.detach(first.SandboxID)

	if ids := n.dels(dump); len(ids) > 0 {
		t.Errorf("DEL was run: %q", ids)
	}
	if rules := ruleset(t); !accepted(t, second) || strings.Contains(rules, first.SandboxID) || !strings.Contains(rules, second.SandboxID) {
		t.Errorf("rules:\n%s", rules)
	}
	if got := n.left(); len(got.Veths) != 1 || len(got.Pins) != 1 || len(got.Cache) != 1 {
		t.Errorf("left is %+v", got)
	}
	n.detach(second.SandboxID)
	if err := os.RemoveAll(quarantineDir(n.recordDir())); err != nil {
		t.Fatal(err)
	}
	if n.nothingLeft(); accepted(t, second) {
		t.Error("the last one is not detached")
	}
}

// Where nobody has the address, as after a reboot, each gives back what is its own.
func TestTwoRecordsForAnAddressThatNobodyHas(t *testing.T) {
	n := newNode(t)
	dump := filepath.Join(t.TempDir(), "dump")
	n.write("10-bridge.conflist", n.bridge(chaos(fmt.Sprintf(`{"dump": %q}`, dump))))
	n.start()
	req := n.sandbox("live")
	live, gone := n.attach(req), sandboxID("gone")
	process, err := os.FindProcess(req.PID)
	if err := errors.Join(err, process.Kill(), unpin(live.NetnsPath)); err != nil {
		t.Fatal(err)
	}
	n.backup(live, gone, true)
	n.start()

	for _, id := range []string{gone, live.SandboxID} {
		n.detach(id)
	}

	if ids := n.dels(dump); len(ids) != 2 || len(n.Status().Quarantined) > 0 {
		t.Errorf("DEL was run for %q; status tells %+v", ids, n.Status().Quarantined)
	}
	n.nothingLeft()
}

// A record with the pin of another sandbox must never lead to DEL in that one's namespace.
func TestTwoRecordsForOnePin(t *testing.T) {
	n := newNode(t)
	n.write("10-bridge.conflist", n.bridge())
	n.start()
	live, gone := n.attach(n.sandbox("live")), sandboxID("gone")
	rec := n.recordOnDisk(live.SandboxID)
	rec.SandboxID = gone
	if err := os.WriteFile(filepath.Join(n.recordDir(), recordFile(gone)), encode(t, rec), 0o600); err != nil {
		t.Fatal(err)
	}
	n.start()

	n.detach(gone)

	aside := n.Status().Quarantined
	if len(aside) != 1 || !strings.Contains(aside[0].Reason, "not the sandbox's own") || !pinned(live.NetnsPath, live.NetnsInode) || !n.holds(n.recordOnDisk(live.SandboxID), live.IPs[0]) {
		t.Errorf("status tells %+v, or the pod lost its place", aside)
	}
	n.detach(live.SandboxID)
	if err := os.RemoveAll(quarantineDir(n.recordDir())); err != nil {
		t.Fatal(err)
	}
	n.nothingLeft()
}

// The plugin firewall's rules name no sandbox: they go only while nobody has the address.
func TestForwardRulesOfFormerPods(t *testing.T) {
	n := newNode(t)
	n.write("10-bridge.conflist", n.bridge(accepting))
	n.start()
	lost, live := n.attach(n.sandbox("lost")), n.attach(n.sandbox("live"))
	for _, path := range []string{filepath.Join(n.recordDir(), recordFile(lost.SandboxID)), n.cacheFile("podnet", lost.SandboxID, ifName)} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	n.start()
	store := filepath.Join(n.ipam, "podnet", lost.IPs[0].String())
	reserveFor := func(id string) {
		if err := os.WriteFile(store, []byte(id+"\r\neth0"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	forwards := func() bool {
		found, err := n.FindLeaks(t.Context(), []string{live.SandboxID})
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(found, func(l pod.Leak) bool {
			return l.SandboxID == lost.SandboxID && strings.Contains(l.What, "rules for 10.88.0.2 in chain CNI-FORWARD of iptables-nft")
		})
	}
	reserveFor("another runtime's")
	if forwards() {
		t.Error("rules for an address that somebody else has are said to be left")
	}
	reserveFor(lost.SandboxID)
	if !forwards() {
		t.Fatal("the rules are not found")
	}

	if _, err := n.MendLeaks(t.Context(), []string{live.SandboxID}); err != nil {
		t.Fatal(err)
	}

	if forwards() || accepted(t, lost) || !accepted(t, live) {
		t.Errorf("rules:\n%s", ruleset(t))
	}
	n.detach(live.SandboxID)
	n.nothingLeft()
}
