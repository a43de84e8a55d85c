package network

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// The plan is compared with what a plugin that dumps its input really gets.
func TestPlanIsWhatPluginsGet(t *testing.T) {
	n := newNode(t)
	dump := filepath.Join(t.TempDir(), "dump")
	chaos := `{"type": "chaosplugin", "chaos": {"dump": ` + quoted(dump) + `}, "capabilities": {"portMappings": true, "bandwidth": true, "dns": true, "io.kubernetes.cri.pod-annotations": true}}`
	n.write("10-bridge.conflist", n.bridge(chaos))
	n.start()
	req := n.sandbox("a")
	req.PortMappings = []*cri.PortMapping{{HostPort: 8080, ContainerPort: 80, HostIp: "127.0.0.1"}}
	req.Annotations = map[string]string{"kubernetes.io/ingress-bandwidth": "10M"}
	req.DNS = &cri.DNSConfig{Servers: []string{"10.96.0.10"}}

	plan, err := n.Explain(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dump); err == nil {
		t.Error("a plugin was run")
	}
	n.nothingLeft(req.SandboxID)
	if len(plan.Calls) != 2 || plan.Calls[0].IPAM != "host-local" || plan.Calls[0].Plugin != "bridge" || plan.Network != "podnet" {
		t.Fatalf("plan %+v", plan)
	}
	if bytes.Contains(plan.Calls[0].Stdin, []byte("prevResult")) {
		t.Errorf("the first plugin gets %s", plan.Calls[0].Stdin)
	}

	a := n.attach(req)
	got := n.calls(dump)[0]
	planned := plan.Calls[1]
	for _, want := range []string{
		"CNI_ARGS=" + got.Args, "CNI_COMMAND=" + got.Verb, "CNI_CONTAINERID=" + req.SandboxID, "CNI_IFNAME=eth0", "CNI_NETNS=" + a.NetnsPath,
		"CNI_PATH=" + strings.Join(n.cfg.BinDirs, ":"),
	} {
		if !slices.Contains(planned.Env, want) {
			t.Errorf("no %s in %q", want, planned.Env)
		}
	}
	if len(planned.Env) != 6 {
		t.Errorf("environment %q", planned.Env)
	}
	real, want := without(t, got.Config, "prevResult"), without(t, planned.Stdin, "prevResult")
	if diff := cmp.Diff(want, real); diff != "" {
		t.Errorf("stdin (-planned +real):\n%s", diff)
	}
	if !bytes.Contains(planned.Stdin, []byte(`"prevResult":"what bridge prints"`)) {
		t.Errorf("planned %s", planned.Stdin)
	}
	n.detach(req.SandboxID)
}

func TestPlanOfWhatIsRefused(t *testing.T) {
	n := newNode(t)
	n.write("10-bridge.conflist", n.bridge())
	n.start()
	req := n.request("a")
	req.PortMappings = []*cri.PortMapping{{HostPort: 8080, ContainerPort: 80}}
	if _, err := n.Explain(t.Context(), req); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "portMappings") {
		t.Errorf("error %v", err)
	}
}

func quoted(text string) string {
	data, _ := json.Marshal(text)
	return string(data)
}

// without decodes a JSON object and drops one of its keys.
func without(t *testing.T, data []byte, key string) map[string]any {
	t.Helper()
	var object map[string]any
	if err := json.Unmarshal(data, &object); err != nil {
		t.Fatal(err)
	}
	if _, ok := object[key]; !ok {
		t.Errorf("no %s in %s", key, data)
	}
	delete(object, key)
	return object
}
