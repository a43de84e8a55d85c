package e2e

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine/enginetest"
	"github.com/mascri/mascri/internal/golden"
	"github.com/mascri/mascri/internal/podview"
)

// wantSchema validates what a command printed against its schema in docs.
func wantSchema(t *testing.T, name, output string) {
	t.Helper()
	golden.Schema(t, repo(t, filepath.Join("docs/schema", name+".json")), output)
}

// asJSON runs a command of mascri, whose output is of its schema.
func asJSON[T any](t *testing.T, n *node, command ...string) T {
	t.Helper()
	out, ok := n.mascri(t, append(command, "-o", "json")...)
	if !ok {
		t.Fatalf("%q: %s", command, out)
	}
	wantSchema(t, command[0], out)
	var value T
	if err := json.Unmarshal([]byte(out), &value); err != nil {
		t.Fatal(err)
	}
	return value
}

// What "mascri pods", "ps" and "top" show of a real engine.
func TestViewsOfRealPods(t *testing.T) {
	n := newNode(t, enginetest.Engine28, map[string]string{"10-bridge.conf": bridgeConf})
	n.importShell(t)
	ask := config("web")
	web := n.runPod(t, ask)
	busy := n.newShell(t, web.id, ask, "busy", "while :; do :; done")
	failed := n.newShell(t, web.id, ask, "failed", "exit 7")
	for _, id := range []string{busy, failed} {
		if _, err := n.cri.StartContainer(t.Context(), &cri.StartContainerRequest{ContainerId: id}); err != nil {
			t.Fatal(err)
		}
	}
	var ended podview.Container
	for deadline := time.Now().Add(time.Minute); ended.Exit == nil; time.Sleep(50 * time.Millisecond) {
		found := asJSON[podview.Containers](t, n, "ps", "--all", "--label", "name=failed").Containers
		if len(found) != 1 || time.Now().After(deadline) {
			t.Fatalf("containers %+v", found)
		}
		ended = found[0]
	}
	if ended.ID != failed || ended.Exit.Code != 7 || ended.Pod != "web" || ended.Image != shellImage || ended.PodID != web.id {
		t.Errorf("the container that ended: %+v", ended)
	}
	if out, ok := n.mascri(t, "ps", "-q"); !ok || out != busy {
		t.Errorf("ps -q: %t, %s", ok, out)
	}
	if out, ok := n.mascri(t, "ps", "-a", "-n", "default"); !ok || !strings.Contains(out, "Exited 7") || !strings.Contains(out, busy[:12]) {
		t.Errorf("ps: %t, %s", ok, out)
	}
	pods := asJSON[podview.Pods](t, n, "pods").Pods
	if len(pods) != 1 || pods[0].ID != web.id || len(pods[0].IPs) == 0 || pods[0].IPs[0] != web.ips[0] || pods[0].Running != 1 || pods[0].Total != 2 {
		t.Errorf("pods %+v", pods)
	}
	if out, ok := n.mascri(t, "pods", "--namespace", "other"); !ok || out != "no pod" {
		t.Errorf("pods of another namespace: %t, %s", ok, out)
	}
	used := asJSON[podview.Usage](t, n, "top").Pods
	if len(used) != 1 || len(used[0].Containers) != 1 || used[0].Network == nil || used[0].Network.ReceivedRate == nil {
		t.Fatalf("top %+v", used)
	}
	if c := used[0].Containers[0]; c.ID != busy || c.Cores == nil || *c.Cores <= 0.01 || *c.Cores > 1.5 || c.Memory == nil || *c.Memory == 0 {
		t.Errorf("what a busy loop uses: %+v", c)
	}
	if out, ok := n.mascri(t, "top", "--once", "--containers"); !ok || !strings.Contains(out, "\n  busy ") {
		t.Errorf("top: %t, %s", ok, out)
	} else if testing.Verbose() {
		t.Log("\n" + out)
	}
	bundle := filepath.Join(shortDir(t), "bundle.tar.gz")
	if out, ok := n.mascri(t, "support-bundle", "--file", bundle, "--log-file", n.logFile); !ok {
		t.Errorf("support-bundle: %s", out)
	}
	files := run(t, "tar", "-tzf", bundle)
	for _, name := range []string{"status.json", "doctor.json", "daemon.log", "state/attachments/" + web.id + ".json", "cni/10-bridge.conf"} {
		if !strings.Contains(files+"\n", "/"+name+"\n") {
			t.Errorf("the bundle has no %s:\n%s", name, files)
		}
	}
	if strings.Contains(files, "errors.txt") {
		t.Errorf("of a sound node: %s", run(t, "tar", "-xzOf", bundle, "--wildcards", "*/errors.txt"))
	}
	n.removePod(t, web.id)
	n.wantWhole(t, 0)
}
