package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine/enginetest"
)

// What "mascri net" shows of real pods, with the daemon running and without.
func TestNetCommandsOnRealPods(t *testing.T) {
	n := newNode(t, enginetest.Engine28, map[string]string{"10-dual.conflist": dualStackConf})
	ask := config("web")
	ask.PortMappings = []*cri.PortMapping{{HostPort: 8080, ContainerPort: 80}}
	ask.DnsConfig = &cri.DNSConfig{Servers: []string{"10.88.0.1"}, Searches: []string{"default.svc.cluster.local"}}
	web, client := n.runPod(t, ask), n.runPod(t, config("client"))
	server(t, web.netns, 80)
	wantDial(t, "the client to the web pod", client.netns, web.ips[0], 80, client.ips[0])
	plan := filepath.Join(shortDir(t), "sandbox.json")
	if err := os.WriteFile(plan, []byte(`{"metadata": {"name": "next", "namespace": "default", "uid": "u"}, "port_mappings": [{"host_port": 9090, "container_port": 90}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, running := range []bool{true, false} {
		t.Run(fmt.Sprintf("daemon running %t", running), func(t *testing.T) {
			if !running {
				n.kill(t)
			}
			for command, texts := range map[string][]string{
				"net status":                {"dual *", "10.88.0.0/16", "cni0, 2 ports", "fd00:88::/64", "10-dual.conflist", "default/web", web.id[:12]},
				"net ls":                    {"default/client", client.ips[0].String(), client.ips[1].String(), "veth"},
				"net inspect " + web.id[:8]: {web.id, web.netns, "default via 10.88.0.1 dev eth0", "nameserver 10.88.0.1", "search default.svc.cluster.local", "*:8080 -> 80/tcp", "portmap", " ms"},
				"net inspect default/web":   {"on cni0", `"cniVersion": "1.0.0"`},
				"net plan " + plan:          {"K8S_POD_NAME=next", `"hostPort": 9090`, "what bridge prints", "/portmap"},
				"net graph -o mermaid":      {"flowchart LR", "cni0", "default/web", "port *:8080 -#gt; 80/tcp"},
				"net graph":                 {"<svg ", "default/client", "</svg>"},
			} {
				out, ok := n.mascri(t, strings.Fields(command)...)
				if !ok {
					t.Errorf("%s: %s", command, out)
				}
				if testing.Verbose() {
					t.Logf("mascri %s\n%s", command, out)
				}
				for _, text := range texts {
					if !strings.Contains(out, text) {
						t.Errorf("%s does not say %q:\n%s", command, text, out)
					}
				}
				table := command == "net status" || command == "net ls"
				for line := range strings.Lines(out) {
					if table && utf8.RuneCountInString(line) > 81 {
						t.Errorf("%s: a line of more than 80 columns: %s", command, line)
					}
				}
				if strings.Contains(out, "\x1b") {
					t.Errorf("%s is in colour", command)
				}
				if strings.HasSuffix(command, "mermaid") || command == "net graph" {
					continue
				}
				out, ok = n.mascri(t, append(strings.Fields(command), "-o", "json")...)
				if !ok {
					t.Errorf("%s as JSON: %s", command, out)
				}
				wantSchema(t, strings.Join(strings.Fields(command)[:2], "-"), out)
			}
			// The name server is not there, and is the hop that is named.
			out, ok := n.mascri(t, "net", "probe", "default/web")
			if ok || !strings.Contains(out, "ok    gateway") || !strings.Contains(out, "default/client") || !strings.Contains(out, "fails at: 10.88.0.1") {
				t.Errorf("net probe: %t, %s", ok, out)
			}
			if out, ok := n.mascri(t, "net", "probe", "default/client", "--to", "default/web"); testing.Verbose() {
				t.Logf("net probe: %t\n%s", ok, out)
			}
			for _, command := range []string{"graph", "leaks"} {
				if out, ok = n.mascri(t, "net", command, "-o", "json"); !ok {
					t.Errorf("net %s: %s", command, out)
				}
				wantSchema(t, "net-"+command, out)
			}
			if out, ok = n.mascri(t, "net", "capture", "default/web", "--duration", "100ms", "--write", os.DevNull, "-o", "json"); !ok {
				t.Errorf("net capture: %s", out)
			}
			wantSchema(t, "net-capture", out)
			if out, ok = n.mascri(t, "net", "probe", "default/client", "--to", "default/web", "-o", "json"); ok {
				wantSchema(t, "net-probe", out)
			} else if json, _, found := strings.Cut(out[max(0, strings.Index(out, "\n{")):], "\n}"); found {
				wantSchema(t, "net-probe", json+"\n}") // after the error of the exit code
			}
			file := filepath.Join(shortDir(t), "web.pcapng")
			done := make(chan string, 1)
			go func() {
				out, _ := n.mascri(t, "net", "capture", "default/web", "--filter", "tcp port 80", "--count", "2", "--duration", "20s", "--write", file)
				done <- out
			}()
			for captured := false; !captured; {
				wantDial(t, "the client to the web pod", client.netns, web.ips[0], 80, client.ips[0])
				select {
				case out := <-done:
					captured = true
					if !strings.Contains(out, "default/web: 2 packets") {
						t.Errorf("net capture: %s", out)
					}
				case <-time.After(20 * time.Millisecond):
				}
			}
			if stat, err := os.Stat(file); err != nil || stat.Size() < 300 {
				t.Errorf("the capture: %v, %v", stat, err)
			}
		})
	}
	n.start(t)
	n.removePod(t, web.id)
	n.removePod(t, client.id)
	if out, ok := n.mascri(t, "net", "ls"); !ok || strings.TrimSpace(out) != "no pod is on a network" {
		t.Errorf("net ls: %t, %s", ok, out)
	}
	n.wantWhole(t, 0)
}

// The result's DNS is the pod's, where the request has none.
func TestDNSOfTheNetwork(t *testing.T) {
	n := newNode(t, enginetest.Engine28, map[string]string{"10-bridge.conf": strings.Replace(bridgeConf, `"ipam"`,
		`"dns": {"nameservers": ["10.88.0.53"], "domain": "pods.example"}, "ipam"`, 1)})
	own := config("own")
	own.DnsConfig = &cri.DNSConfig{Servers: []string{"10.96.0.10"}}
	for _, tt := range []struct {
		config *cri.PodSandboxConfig
		want   string
	}{
		{config("plain"), "search pods.example\nnameserver 10.88.0.53"},
		{own, "nameserver 10.96.0.10"},
	} {
		s := n.runPod(t, tt.config)
		if got := strings.TrimSpace(n.resolvConf(t, s.id)); got != tt.want {
			t.Errorf("pod %s has %q, want %q", tt.config.GetMetadata().GetName(), got, tt.want)
		}
		n.removePod(t, s.id)
	}
	n.wantWhole(t, 0)
}

// resolvConf is what the sandbox's container has.
func (n *node) resolvConf(t *testing.T, id string) string {
	t.Helper()
	text, err := os.ReadFile(n.docker(t, "inspect", "-f", "{{range .Mounts}}{{if eq .Destination \"/etc/resolv.conf\"}}{{.Source}}{{end}}{{end}}", id))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
