package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine/enginetest"
	"github.com/mascri/mascri/internal/pod"
)

// chaosDir builds the chaos plugin and returns the flags by which a daemon finds it.
func chaosDir(t *testing.T) []string {
	t.Helper()
	dir := shortDir(t)
	run(t, "go", "build", "-o", filepath.Join(dir, "chaosplugin"), "github.com/mascri/mascri/test/chaosplugin")
	return []string{"--cni-bin-dir", dir}
}

// chaosConf is a bridge with the chaos plugin behind it, see test/chaosplugin.
func chaosConf(behaviour string) string {
	return fmt.Sprintf(`{"cniVersion": "1.0.0", "name": "mynet", "plugins": [
		{"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true,
		 "ipam": {"type": "host-local", "subnet": "10.88.0.0/16", "routes": [{"dst": "0.0.0.0/0"}]}},
		{"type": "chaosplugin", "chaos": %s}]}`, behaviour)
}

// waitFile waits until a plugin was called that writes the file.
func waitFile(t *testing.T, path string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(path); err == nil {
			return
		}
	}
	t.Fatalf("%s: nobody writes it", path)
}

// A plugin that hangs is ended in time for the answer, with all that it has made.
func TestAddHangs(t *testing.T) {
	bothEngines(t, func(t *testing.T, version enginetest.Version) {
		n := newNode(t, version, nil, chaosDir(t)...)
		n.writeConf(t, "10-hang.conflist", chaosConf(`{"verbs": ["ADD"], "stubborn": true, "child": "60s", "sleep": "60s"}`))
		_, err := n.tryPod(t, config("web"), 8*time.Second)
		if code := status.Code(err); code != codes.DeadlineExceeded {
			t.Errorf("error %v, want DeadlineExceeded", err)
		}
		n.wantWhole(t, 0)
		n.writeConf(t, "10-hang.conflist", chaosConf(`{}`))
		n.removePod(t, n.runPod(t, config("web")).id) // the same pod again
		n.wantWhole(t, 0)
	})
}

// failDel makes the plugin fail each DEL until the returned function is called.
// A record keeps the configuration of ADD, so the plugin itself must change.
func (n *node) failDel(t *testing.T) (mend func()) {
	t.Helper()
	dir := n.extra[1]
	real, aside := filepath.Join(dir, "chaosplugin"), filepath.Join(dir, "chaosplugin.real")
	if err := os.Rename(real, aside); err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf("#!/bin/sh\n[ \"$CNI_COMMAND\" = DEL ] || exec %s\n"+
		`echo '{"cniVersion": "1.0.0", "code": 11, "msg": "switch is down"}'; exit 1`+"\n", aside)
	if err := os.WriteFile(real, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Rename(aside, real); err != nil {
			t.Fatal(err)
		}
	}
}

// wantDirty stops and removes a sandbox whose DEL fails. Both succeed, and what is left
// of it stays known: Status and doctor name it, with what the plugin says.
func (n *node) wantDirty(t *testing.T, id string, says ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := n.cri.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: id}); err != nil {
		t.Fatalf("stop: %v", err)
	}
	if _, err := n.cri.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: id}); err != nil {
		t.Fatalf("remove: %v", err)
	}
	if list := n.list(t); len(list) != 0 {
		t.Errorf("listed: %v", list)
	}
	dirty := n.dirty(t)
	if len(dirty) != 1 || dirty[0].SandboxID != id {
		t.Fatalf("dirty are %+v, want sandbox %s", dirty, id)
	}
	report, _ := n.mascri(t, "doctor", "--output", "json")
	for _, text := range says {
		if !strings.Contains(dirty[0].Error, text) {
			t.Errorf("Status says %q, want %q in it", dirty[0].Error, text)
		}
		if quoted, _ := json.Marshal(text); !strings.Contains(report, strings.Trim(string(quoted), `"`)) || !strings.Contains(report, "dirty queue") {
			t.Errorf("doctor does not say %q: %s", text, report)
		}
	}
	if got := reservations(t); !slices.Contains(got, id) {
		t.Errorf("its address is given back: reserved are those of %q", got)
	}
}

// dirty returns the dirty queue as Status tells it.
func (n *node) dirty(t *testing.T) []pod.DirtyAttachment {
	t.Helper()
	return n.networkStatus(t).Dirty
}

func (n *node) networkStatus(t *testing.T) pod.NetworkStatus {
	t.Helper()
	resp, err := n.cri.Status(t.Context(), &cri.StatusRequest{Verbose: true})
	if err != nil {
		t.Fatal(err)
	}
	var network pod.NetworkStatus
	if err := json.Unmarshal([]byte(resp.GetInfo()["cni"]), &network); err != nil {
		t.Fatal(err)
	}
	return network
}

func TestDelFails(t *testing.T) {
	n := newNode(t, enginetest.Engine28, nil, chaosDir(t)...)
	n.writeConf(t, "10-chaos.conflist", chaosConf(`{}`))
	for name, restart := range map[string]bool{"the daemon tries again": false, "the daemon starts again": true} {
		t.Run(name, func(t *testing.T) {
			pod := n.runPod(t, config("web"))
			mend := n.failDel(t)
			n.wantDirty(t, pod.id, `plugin "chaosplugin" DEL`, "switch is down")
			mend()
			if restart {
				n.kill(t)
				n.start(t)
			}
			n.wantWhole(t, 0) // it tries after ten seconds, and at once when it starts
			if dirty := n.dirty(t); len(dirty) != 0 {
				t.Errorf("dirty are %+v", dirty)
			}
		})
	}
}

// A failed ADD whose cleaning up fails as well leaves a sandbox to be seen, until it is
// stopped or the daemon does so.
func TestAddAndDelFail(t *testing.T) {
	n := newNode(t, enginetest.Engine28, nil, chaosDir(t)...)
	n.writeConf(t, "10-chaos.conflist", chaosConf(`{"verbs": ["ADD"], "fault": true, "code": 7, "exit": 1}`))
	mend := n.failDel(t)
	_, err := n.tryPod(t, config("web"), 20*time.Second)
	for _, text := range []string{`plugin "chaosplugin" ADD`, "CNI code 7", "switch is down", "NotReady"} {
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("error %v does not say %q", err, text)
		}
	}
	list := n.list(t)
	if len(list) != 1 || list[0].GetState() != cri.PodSandboxState_SANDBOX_NOTREADY {
		t.Fatalf("listed: %v", list)
	}
	n.wantDirty(t, list[0].GetId(), "switch is down")
	mend()
	n.wantWhole(t, 0)
}

// A plugin whose binary went is named, with where it was looked for.
func TestPluginMissingAtDel(t *testing.T) {
	n := newNode(t, enginetest.Engine28, nil, chaosDir(t)...)
	n.writeConf(t, "10-chaos.conflist", chaosConf(`{}`))
	pod := n.runPod(t, config("web"))
	plugin := filepath.Join(n.extra[1], "chaosplugin")
	if err := os.Rename(plugin, plugin+".away"); err != nil {
		t.Fatal(err)
	}
	n.wantDirty(t, pod.id, `"chaosplugin" not found in`, n.bin, n.extra[1])
	n.waitCondition(t, n.networkCondition, 12*time.Second, "PluginMissing", `"chaosplugin"`)
	if err := os.Rename(plugin+".away", plugin); err != nil {
		t.Fatal(err)
	}
	n.wantWhole(t, 0)
}

// Teardown is by the record of ADD, whatever the directory holds by then.
func TestConfigGoesBeforeDel(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, n *node){
		"removed": func(t *testing.T, n *node) {
			if err := os.RemoveAll(n.conf); err != nil {
				t.Fatal(err)
			}
		},
		"broken": func(t *testing.T, n *node) { n.writeConf(t, "10-bridge.conf", "{") },
		"another": func(t *testing.T, n *node) {
			n.writeConf(t, "10-bridge.conf", strings.ReplaceAll(bridgeConf, "mynet", "other"))
		},
	} {
		for _, restarted := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, restarted %v", name, restarted), func(t *testing.T) {
				n := newNode(t, enginetest.Engine28, userConf(), "--default-network=false")
				pod := n.runPod(t, config("web"))
				change(t, n)
				if restarted {
					n.kill(t)
					n.start(t)
				}
				n.wantWhole(t, 1)
				n.removePod(t, pod.id)
				n.wantWhole(t, 0)
			})
		}
	}
}
