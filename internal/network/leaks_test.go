package network

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

// masqueraded is the bridge of the tests with ipMasq, host ports, and rules in nftables if
// asked.
func (n *node) masqueraded(nftables bool) string {
	backend := "iptables"
	if nftables {
		backend = "nftables"
	}
	conf := n.bridge(strings.Replace(portmap, `"snat"`, fmt.Sprintf(`"backend": %q, "snat"`, backend), 1))
	return strings.Replace(conf, `"isGateway": true`, fmt.Sprintf(`"isGateway": true, "ipMasq": true, "ipMasqBackend": %q`, backend), 1)
}

// kinds are those of leaks, sorted.
func kinds(found []pod.Leak) []string {
	var list []string
	for _, l := range found {
		list = append(list, string(l.Kind))
	}
	slices.Sort(list)
	return list
}

// ruleset is all of nftables and iptables, without counters.
func ruleset(t *testing.T) string {
	t.Helper()
	text, err := exec.Command("sh", "-c", "nft list ruleset && iptables-save && ip6tables-save").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return regexp.MustCompile(`(?m)^#.*|packets \d+ bytes \d+|\[\d+:\d+\]`).ReplaceAllString(string(text), "")
}

// Everything that an attachment can leave is found, without any change, and mended; what
// belongs to others, in the same network, is not even looked at.
func TestLeaksAreFoundAndMended(t *testing.T) {
	for name, tc := range map[string]struct {
		nftables, cache bool
		want            []string
	}{
		"iptables":         {false, false, []string{"address", "interface", "pin", "rules", "rules"}},
		"nftables":         {true, false, []string{"address", "interface", "pin", "rules", "rules", "rules"}},
		"DEL by the cache": {false, true, []string{"address", "cache", "interface", "pin", "rules", "rules"}},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			n.write("10-bridge.conflist", n.masqueraded(tc.nftables))
			n.start()
			mapping := &cri.PortMapping{HostPort: 8080, ContainerPort: 80}
			lost := n.attach(n.asking("lost", mapping))
			live := n.attach(n.asking("live", &cri.PortMapping{HostPort: 8081, ContainerPort: 80}))
			foreign := n.attach(n.asking("foreign", &cri.PortMapping{HostPort: 8082, ContainerPort: 80}))
			for _, a := range []pod.Attachment{lost, foreign} {
				if err := os.Remove(filepath.Join(n.recordDir(), recordFile(a.SandboxID))); err != nil {
					t.Fatal(err)
				}
				if tc.cache && a.SandboxID == lost.SandboxID {
					continue
				}
				if err := os.Remove(n.cacheFile("podnet", a.SandboxID, ifName)); err != nil {
					t.Fatal(err)
				}
			}
			n.forgetLedger(foreign.SandboxID)
			n.start()
			before, rules := n.left(), ruleset(t)
			sandboxes := []string{live.SandboxID}

			found, err := n.FindLeaks(t.Context(), sandboxes)

			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, kinds(found)); diff != "" {
				t.Errorf("found (-want +got):\n%s%+v", diff, found)
			}
			for _, l := range found {
				if l.SandboxID != lost.SandboxID || l.Network != "podnet" || l.Mended {
					t.Errorf("found is %+v", l)
				}
			}
			if diff := cmp.Diff(before, n.left()); diff != "" || ruleset(t) != rules {
				t.Errorf("looking changed (-before +after):\n%s", diff)
			}
			mended, err := n.MendLeaks(t.Context(), sandboxes)
			if err != nil || slices.ContainsFunc(mended, func(l pod.Leak) bool { return !l.Mended }) || len(mended) != len(tc.want) {
				t.Errorf("mended are %+v, %v", mended, err)
			}
			if again, err := n.FindLeaks(t.Context(), sandboxes); err != nil || len(again) > 0 {
				t.Errorf("still found are %+v, %v", again, err)
			}
			if got, want := n.left().Addresses, []string{live.IPs[0].String(), foreign.IPs[0].String()}; !cmp.Equal(got, want) {
				t.Errorf("reserved are %v, want %v", got, want)
			}
			if !pinned(foreign.NetnsPath, foreign.NetnsInode) || strings.Contains(ruleset(t), lost.SandboxID) || !strings.Contains(ruleset(t), foreign.SandboxID) || !strings.Contains(ruleset(t), live.SandboxID) {
				t.Errorf("pin or rules of another are gone, or some of the lost one's are left:\n%s", ruleset(t))
			}
			// The ledger knows the other again: it is mended as well.
			n.enterLedger(record{Attachment: foreign, Config: []byte(n.masqueraded(tc.nftables))})
			n.detach(live.SandboxID)
			if _, err := n.MendLeaks(t.Context(), nil); err != nil {
				t.Error(err)
			}
			n.nothingLeft()
			if left := ruleset(t); strings.Contains(left, foreign.SandboxID) {
				t.Errorf("rules are left:\n%s", left)
			}
		})
	}
}

// forgetLedger makes a sandbox one that this node's ledger has never known.
func (n *node) forgetLedger(id string) {
	n.t.Helper()
	path := filepath.Join(n.cfg.StateDir, ledgerFile)
	text, err := os.ReadFile(path)
	if err != nil {
		n.t.Fatal(err)
	}
	var kept []string
	for line := range strings.Lines(string(text)) {
		if !strings.Contains(line, id) {
			kept = append(kept, line)
		}
	}
	if err := os.WriteFile(path, []byte(strings.Join(kept, "")), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

// A crash between host-local's create and write leaves a file that no DEL matches; a loss
// of power may empty a file that is needed.
func TestReservationsWithoutAnOwner(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"empty": func(path string) error { return os.Truncate(path, 0) },
		"zeros": func(path string) error { return os.WriteFile(path, make([]byte, 70), 0o600) },
		"gone":  os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			n.write("10-bridge.conflist", n.bridge())
			n.start()
			a := n.attach(n.sandbox("a"))
			store := filepath.Join(n.ipam, "podnet")
			ghost := filepath.Join(store, "10.88.0.200")
			if err := errors.Join(os.WriteFile(ghost, []byte("x"), 0o600), damage(ghost), damage(filepath.Join(store, a.IPs[0].String()))); err != nil {
				t.Fatal(err)
			}
			want := []string{"address", "unreserved"}
			if name == "gone" {
				want = want[1:]
			}

			mended, err := n.MendLeaks(t.Context(), []string{a.SandboxID})

			if err != nil || !cmp.Equal(kinds(mended), want) || !mended[0].Mended || len(n.Status().Leaks) > 0 {
				t.Errorf("mended are %+v, %v; status tells %+v", mended, err, n.Status().Leaks)
			}
			if got := n.left().Addresses; !cmp.Equal(got, []string{a.IPs[0].String()}) {
				t.Errorf("reserved are %v", got)
			}
			n.detach(a.SandboxID) // host-local finds what was written for it
			n.nothingLeft()
		})
	}
}

// A plugin that is stopped while it has host-local's lock keeps nobody waiting for ever,
// and a leak that can't be mended is told.
func TestReservationsThatAreLocked(t *testing.T) {
	n := newNode(t)
	n.write("10-bridge.conflist", n.bridge())
	n.start()
	a := n.attach(n.sandbox("a"))
	lock := exec.Command("flock", "--no-fork", filepath.Join(n.ipam, "podnet", "lock"), "sh", "-c", "echo; exec sleep 60")
	out, err := lock.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := lock.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}

	_, err = n.MendLeaks(t.Context(), []string{a.SandboxID})

	if err == nil || !strings.Contains(err.Error(), "lock addresses in "+filepath.Join(n.ipam, "podnet")) {
		t.Errorf("error is %v", err)
	}
	_ = lock.Process.Kill()
	_ = lock.Wait()
	n.detach(a.SandboxID)
	n.nothingLeft()
}

// What somebody else is at work on is waited for.
func TestLeaksOfASandboxThatIsWorkedOn(t *testing.T) {
	n := newNode(t)
	n.write("10-bridge.conflist", n.bridge())
	n.start()
	a := n.attach(n.sandbox("a"))
	if err := errors.Join(os.Remove(filepath.Join(n.recordDir(), recordFile(a.SandboxID))), os.Remove(n.cacheFile("podnet", a.SandboxID, ifName))); err != nil {
		t.Fatal(err)
	}
	n.start()
	var found []pod.LeakKind
	n.Network.cfg.FoundLeak = func(kind pod.LeakKind) { found = append(found, kind) }
	unlock, err := n.locks.Lock(t.Context(), a.SandboxID)
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(500*time.Millisecond, unlock)

	mended, err := n.MendLeaks(t.Context(), nil)

	if err != nil || len(mended) != 3 || slices.ContainsFunc(mended, func(l pod.Leak) bool { return !l.Mended }) {
		t.Errorf("mended are %+v, %v", mended, err)
	}
	if len(found) != len(mended) {
		t.Errorf("told of %q", found)
	}
	n.nothingLeft()
}

// Records of sandboxes that the engine does not have are found, and left to Detach.
func TestARecordWithoutASandbox(t *testing.T) {
	n := newNode(t)
	n.write("10-bridge.conflist", n.bridge())
	n.start()
	a := n.attach(n.sandbox("a"))
	if found, err := n.FindLeaks(t.Context(), []string{a.SandboxID}); err != nil || len(found) > 0 {
		t.Errorf("found are %+v, %v", found, err)
	}
	found, err := n.FindLeaks(t.Context(), nil)
	if err != nil || len(found) != 1 || found[0].Kind != pod.LeakRecord || found[0].SandboxID != a.SandboxID {
		t.Errorf("found are %+v, %v", found, err)
	}
	if mended, err := n.MendLeaks(t.Context(), nil); err != nil || len(mended) > 0 {
		t.Errorf("mended are %+v, %v", mended, err)
	}
	n.detach(a.SandboxID)
	n.nothingLeft()
}

func TestTheLedgerForgetsTheOldest(t *testing.T) {
	dir := t.TempDir()
	l, err := loadLedger(dir)
	if err != nil {
		t.Fatal(err)
	}
	rec := goodRecord()
	for i := range 2*ledgerMost + 1 {
		rec.SandboxID = sandboxID(fmt.Sprint(i))
		if err := l.note(rec); err != nil {
			t.Fatal(err)
		}
	}
	if text, _ := os.ReadFile(l.path); strings.Count(string(text), "\n") != ledgerMost {
		t.Errorf("the file has %d lines", strings.Count(string(text), "\n"))
	}
	file, err := os.OpenFile(l.path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteString(`{"sandboxId": "torn`); err != nil {
		t.Fatal(err)
	}
	file.Close()
	for i := range 2 { // the second time with a line behind the torn one
		if l, err = loadLedger(dir); err != nil {
			t.Fatal(err)
		}
		all := l.all()
		if len(all) != ledgerMost || all[0].SandboxID != sandboxID(fmt.Sprint(ledgerMost+1+i)) || all[0].Network != "good" {
			t.Errorf("%d entries, the first is %+v", len(all), all[0])
		}
		if i > 0 && !l.knows(rec.SandboxID) {
			t.Error("what came after a torn line is lost")
		}
		rec.SandboxID = sandboxID("after the torn line")
		if err := l.note(rec); err != nil {
			t.Fatal(err)
		}
	}
}

// Some plugins name the host's end of a veth pair by the pod. While a pod of that name is
// being attached again, or has it, it is not what the former one left.
func TestAnInterfaceThatThePodAfterHas(t *testing.T) {
	n := newNode(t)
	n.write("10-bridge.conflist", n.bridge())
	n.start()
	const link = "cali0123456"
	if out, err := exec.Command("ip", "link", "add", link, "type", "veth", "peer", "name", "peer0123456").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("ip", "link", "delete", link).Run() })
	former := goodRecord()
	former.IPs, former.Result = nil, []byte(`{"interfaces":[{"name":"`+link+`"}]}`)
	n.enterLedger(former)
	next := former
	next.SandboxID = sandboxID("next")
	mend := func() []pod.Leak {
		t.Helper()
		found, err := n.MendLeaks(t.Context(), []string{next.SandboxID})
		if err != nil {
			t.Error(err)
		}
		return found
	}
	next.Phase, next.Result = pod.Attaching, nil
	n.show(next)
	if found := mend(); len(found) != 1 || found[0].Mended || !strings.Contains(found[0].Error, "is being attached") {
		t.Errorf("with ADD under way: %+v", found)
	}
	next.Phase, next.Result = pod.Attached, former.Result
	n.show(next)
	if found := mend(); len(found) != 0 || !n.mayHaveLink(link) {
		t.Errorf("with another that has it: %+v", found)
	}
	if _, err := net.InterfaceByName(link); err != nil {
		t.Fatal(err)
	}
	n.mu.Lock()
	delete(n.records, next.SandboxID)
	n.mu.Unlock()
	if found := mend(); len(found) != 1 || !found[0].Mended {
		t.Errorf("with nobody: %+v", found)
	}
}

// What is attached again since its leftovers were found is left alone.
func TestACacheFileOfWhatIsAttachedAgain(t *testing.T) {
	n := newNode(t)
	n.write("10-bridge.conflist", n.bridge())
	n.start()
	a := n.attach(n.sandbox("a"))
	if !n.detachCached(t.Context(), []pod.Leak{{Kind: pod.LeakCache, SandboxID: a.SandboxID}}) {
		t.Error("no cache file was seen")
	}
	if now, ok := n.Attachment(a.SandboxID); !ok || now.Phase != pod.Attached {
		t.Errorf("the attachment is %+v, %t", now, ok)
	}
	n.detach(a.SandboxID)
	n.nothingLeft()
}
