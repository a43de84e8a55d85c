package network

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// The STATUS verb's codes 50 and 51 inform; another failure says nothing.
func TestPluginsTellTheirStatus(t *testing.T) {
	for name, tc := range map[string]struct {
		version, fault string
		ready          bool
	}{
		"not available":          {"1.1.0", `"fault": true, "exit": 1, "code": 50`, false},
		"limited connectivity":   {"1.1.0", `"fault": true, "exit": 1, "code": 51`, false},
		"another error":          {"1.1.0", `"fault": true, "exit": 1, "code": 4`, true},
		"silence":                {"1.1.0", `"fault": true, "exit": 1`, true},
		"ready":                  {"1.1.0", `"stderr": "all is well"`, true},
		"spec without that verb": {"1.0.0", `"fault": true, "exit": 1, "code": 50`, true},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			conf := n.bridge(chaos(fmt.Sprintf(`{"verbs": ["STATUS"], %s}`, tc.fault)))
			n.write("10-bridge.conflist", strings.Replace(conf, "1.0.0", tc.version, 1))
			n.start()

			n.askPlugins(t.Context())

			status := n.Status()
			if status.Ready != tc.ready || !tc.ready && (status.Reason != "PluginNotReady" || !strings.Contains(status.Message, `plugin "chaosplugin" STATUS`)) {
				t.Errorf("status is %+v", status)
			}
			n.write("10-bridge.conflist", n.bridge())
			n.look(t.Context())
			if status := n.Status(); !status.Ready {
				t.Errorf("what another configuration answered counts: %+v", status)
			}
			n.nothingLeft()
		})
	}
}

func TestAttachOnTheDefaultNetwork(t *testing.T) {
	n := newNode(t)
	def := &fakeDefault{text: n.bridge()}
	n.cfg.Default = def
	n.start()

	a := n.attach(n.sandbox("a"))

	if a.ConfigFile != "" || a.Network != "podnet" || def.ensured == 0 {
		t.Errorf("attachment is %+v, masquerade asserted %d times", a, def.ensured)
	}
	n.write("10-other.conflist", goodList)
	n.look(t.Context())
	before := def.ensured
	if n.Reassert(t.Context()); def.ensured == before {
		t.Error("masquerade is not kept for a sandbox that is on the default network still")
	}
	n.detach(a.SandboxID)
	if def.removed != 0 {
		t.Error("the default network was removed from under a sandbox")
	}
	before = def.ensured
	for range 2 {
		if n.Reassert(t.Context()); def.ensured != before || def.removed != 1 {
			t.Errorf("for nobody: asserted %d times, removed %d times", def.ensured-before, def.removed)
		}
	}
	if calls, subnets := n.forward.noted(); calls == 0 || len(subnets) != 0 {
		t.Errorf("forwarding is kept for %v", subnets)
	}
	n.nothingLeft()
}

func TestAMasqueradeThatFails(t *testing.T) {
	n := newNode(t)
	def := &fakeDefault{text: n.bridge()}
	n.cfg.Default = def
	n.start()
	def.err = errors.New("no iptables")

	_, err := n.Attach(t.Context(), n.sandbox("a"))

	if err == nil || !strings.Contains(err.Error(), "no iptables") {
		t.Errorf("error is %v", err)
	}
	if status := n.Status(); status.Ready || status.Reason != "MasqueradeFailed" || !strings.Contains(status.Message, "no iptables") {
		t.Errorf("status is %+v", status)
	}
	n.nothingLeft()
	def.err = nil
	if n.Reassert(t.Context()); !n.Status().Ready {
		t.Errorf("status is %+v", n.Status())
	}
}

// Plugins that have nothing to do are left out of the default network, and only of it.
func TestTheDefaultNetworkRunsWhatIsNeeded(t *testing.T) {
	for name, tc := range map[string]struct {
		file  string // "": the default network
		ports bool
		want  string
	}{
		"no ports":             {"", false, "bridge"},
		"ports":                {"", true, "bridge portmap"},
		"user's configuration": {"10-a.conflist", false, "bridge portmap"},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			conf := n.bridge(`{"type": "portmap", "capabilities": {"portMappings": true}}`)
			if tc.file == "" {
				n.cfg.Default = &fakeDefault{text: conf}
			} else {
				n.write(tc.file, conf)
			}
			n.start()
			req := n.sandbox("a")
			if tc.ports {
				req.PortMappings = []*cri.PortMapping{{HostPort: 8080, ContainerPort: 80}}
			}
			a := n.attach(req)
			list, err := n.recordOnDisk(a.SandboxID).list()
			if err != nil {
				t.Fatal(err)
			}
			var types []string
			for _, plugin := range list.Plugins {
				types = append(types, plugin.Network.Type)
			}
			if got := strings.Join(types, " "); got != tc.want {
				t.Errorf("plugins are %s, want %s", got, tc.want)
			}
			n.detach(a.SandboxID)
			n.nothingLeft()
		})
	}
}

// Plugins print results in the version of their configuration.
func TestEveryVersionOfTheSpec(t *testing.T) {
	for _, version := range []string{"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		t.Run(version, func(t *testing.T) {
			n := newNode(t)
			n.write("10-bridge.conflist", strings.Replace(n.bridge(), "1.0.0", version, 1))
			n.start()
			a := n.attach(n.sandbox("a"))
			if len(a.IPs) != 1 || a.IPs[0].String() != "10.88.0.2" {
				t.Errorf("IPs are %v", a.IPs)
			}
			n.start() // the record can be read
			n.detach(a.SandboxID)
			n.nothingLeft()
		})
	}
}

// A list whose plugins are files beside it is recorded whole.
func TestPartsMayGoBeforeDetach(t *testing.T) {
	n := newNode(t)
	n.write("10-a.conflist", `{"cniVersion": "1.0.0", "name": "podnet"}`)
	conf := n.bridge()
	begin, end := strings.Index(conf, "[")+1, strings.LastIndex(conf, "]")
	n.write("podnet/10-bridge.conf", conf[begin:end])
	dump := filepath.Join(t.TempDir(), "dump")
	n.write("podnet/20-chaos.conf", chaos(fmt.Sprintf(`{"dump": %q}`, dump)))
	n.start()
	a := n.attach(n.sandbox("a"))
	n.write("podnet/10-bridge.conf", "")
	n.start()
	n.detach(a.SandboxID)
	if calls := n.calls(dump); len(calls) != 2 {
		t.Errorf("%d calls", len(calls))
	}
	n.nothingLeft()
}
