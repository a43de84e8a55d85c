package network

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

// What is read from the state directory is what the daemon knows, and nothing is
// changed by reading.
func TestRecordsAreReadWithoutADaemon(t *testing.T) {
	n := newNode(t)
	n.write("10-bridge.conflist", n.bridge(`{"type": "portmap", "capabilities": {"portMappings": true}, "snat": false}`))
	n.start()
	req := n.sandbox("a")
	req.PortMappings = []*cri.PortMapping{{HostPort: 8080, ContainerPort: 80}, {ContainerPort: 81}}
	a := n.attach(req)
	damaged := filepath.Join(n.cfg.StateDir, "attachments", "x.json")
	if err := os.WriteFile(damaged, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}

	records, bad, err := ReadRecords(n.cfg.StateDir)
	if err != nil || len(records) != 1 || len(bad) != 1 || bad[0].File != damaged || bad[0].Why == "" {
		t.Fatalf("records %+v, damaged %+v, error %v", records, bad, err)
	}
	got := records[0]
	if diff := cmp.Diff(a, got.Attachment, compareAddrs()); diff != "" {
		t.Errorf("attachment (-daemon's +read):\n%s", diff)
	}
	var plugins []string
	for _, run := range got.Runs {
		plugins = append(plugins, run.Plugin)
		if run.Milliseconds <= 0 || run.Milliseconds > 60_000 {
			t.Errorf("%s took %v ms", run.Plugin, run.Milliseconds)
		}
	}
	want := []string{"bridge", "portmap"}
	if diff := cmp.Diff(want, plugins); diff != "" {
		t.Errorf("runs (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, got.Plugins); diff != "" {
		t.Errorf("plugins (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]Port{{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"}}, got.Ports); diff != "" {
		t.Errorf("ports (-want +got):\n%s", diff)
	}
	if len(got.Gateways) != 1 || got.Gateways[0] != netip.MustParseAddr("10.88.0.1") || got.Rebooted || len(got.Pools) != 1 || len(got.Links) != 1 {
		t.Errorf("record %+v", got)
	}
	if _, err := os.Stat(damaged); err != nil {
		t.Errorf("the damaged record was moved: %v", err)
	}
	if err := os.Remove(damaged); err != nil {
		t.Fatal(err)
	}
	n.detach(a.SandboxID)
	if records, bad, err := ReadRecords(n.cfg.StateDir); len(records) != 0 || len(bad) != 0 || err != nil {
		t.Errorf("after detaching: %v, %v, %v", records, bad, err)
	}
}

func TestNodeWithoutAnyState(t *testing.T) {
	records, bad, err := ReadRecords(filepath.Join(t.TempDir(), "none"))
	if len(records) != 0 || len(bad) != 0 || err != nil {
		t.Errorf("%v, %v, %v", records, bad, err)
	}
}

func TestDNSOfAResult(t *testing.T) {
	for _, tt := range []struct {
		result string
		want   pod.DNS
	}{
		{`{}`, pod.DNS{}},
		{`{"dns": {}}`, pod.DNS{}},
		{`{"dns": {"nameservers": ["10.0.0.10"], "domain": "a.b", "options": ["ndots:5"]}}`, pod.DNS{Nameservers: []string{"10.0.0.10"}, Search: []string{"a.b"}, Options: []string{"ndots:5"}}},
		{`{"dns": {"domain": "a.b", "search": ["c.d", "e.f"]}}`, pod.DNS{Search: []string{"c.d", "e.f"}}},
		{`{"dns": "8.8.8.8"}`, pod.DNS{}},
	} {
		if diff := cmp.Diff(tt.want, resultDNS([]byte(tt.result))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.result, diff)
		}
		if got, says := resultDNS([]byte(tt.result)).IsZero(), strings.Contains(tt.result, ":5") || strings.Contains(tt.result, "search"); got == says {
			t.Errorf("%s: zero is %t", tt.result, got)
		}
	}
}
