package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine/enginetest"
)

// What a user would put into /etc/cni/net.d.
const (
	bridgeConf = `{
  "cniVersion": "1.0.0", "name": "mynet", "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true,
  "ipam": {"type": "host-local", "subnet": "10.88.0.0/16", "routes": [{"dst": "0.0.0.0/0"}]}
}`
	dualStackConf = `{
  "cniVersion": "1.0.0", "name": "dual", "plugins": [
    {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "ipam": {"type": "host-local",
      "ranges": [[{"subnet": "10.88.0.0/16"}], [{"subnet": "fd00:88::/64"}]], "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}},
    {"type": "portmap", "capabilities": {"portMappings": true}, "snat": true}
  ]
}`
)

func userConf() map[string]string { return map[string]string{"10-bridge.conf": bridgeConf} }

// sandbox is what a test knows of a pod.
type sandbox struct {
	id     string
	netns  string
	ips    []netip.Addr
	status *cri.PodSandboxStatus
	info   map[string]json.RawMessage
}

func config(name string) *cri.PodSandboxConfig {
	return &cri.PodSandboxConfig{
		Metadata: &cri.PodSandboxMetadata{Name: name, Namespace: "default", Uid: "uid-" + name},
		Linux:    &cri.LinuxPodSandboxConfig{CgroupParent: "/" + os.Getenv("MASCRI_TEST_CGROUP") + "/" + name},
	}
}

// runPod runs a pod by the API.
func (n *node) runPod(t *testing.T, config *cri.PodSandboxConfig) sandbox {
	t.Helper()
	resp, err := n.cri.RunPodSandbox(t.Context(), &cri.RunPodSandboxRequest{Config: config})
	if err != nil {
		t.Fatal(err)
	}
	return n.inspect(t, resp.GetPodSandboxId())
}

func (n *node) inspect(t *testing.T, id string) sandbox {
	t.Helper()
	resp, err := n.cri.PodSandboxStatus(t.Context(), &cri.PodSandboxStatusRequest{PodSandboxId: id, Verbose: true})
	if err != nil {
		t.Fatal(err)
	}
	s := sandbox{id: resp.GetStatus().GetId(), status: resp.GetStatus()}
	if err := json.Unmarshal([]byte(resp.GetInfo()["info"]), &s.info); err != nil {
		t.Fatal(err)
	}
	if text := s.info["netnsPath"]; text != nil {
		if err := json.Unmarshal(text, &s.netns); err != nil {
			t.Fatal(err)
		}
	}
	network := s.status.GetNetwork()
	for _, text := range append([]string{network.GetIp()}, podIPs(network)...) {
		if ip, err := netip.ParseAddr(text); err == nil {
			s.ips = append(s.ips, ip)
		}
	}
	return s
}

// pid is that of the sandbox process.
func (s sandbox) pid(t *testing.T) int {
	t.Helper()
	pid, err := strconv.Atoi(string(s.info["pid"]))
	if err != nil || pid == 0 {
		t.Fatalf("pid of sandbox %s: %q", s.id, s.info["pid"])
	}
	return pid
}

// file returns a file as the sandbox process sees it.
func (s sandbox) file(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/root%s", s.pid(t), path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func podIPs(network *cri.PodSandboxNetworkStatus) (texts []string) {
	for _, ip := range network.GetAdditionalIps() {
		texts = append(texts, ip.GetIp())
	}
	return texts
}

// removePod stops and removes as the kubelet does.
func (n *node) removePod(t *testing.T, id string) {
	t.Helper()
	if err := n.tryRemove(t.Context(), id); err != nil {
		t.Fatal(err)
	}
}

func (n *node) tryRemove(ctx context.Context, id string) error {
	if _, err := n.cri.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: id}); err != nil {
		return err
	}
	_, err := n.cri.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: id})
	return err
}

// The main job, by a user's own hands: crictl, docker and a CNI config of their own.
func TestUserRunsAPod(t *testing.T) {
	bothEngines(t, func(t *testing.T, version enginetest.Version) {
		n := newNode(t, version, userConf())
		file := filepath.Join(shortDir(t), "sandbox.json")
		if err := os.WriteFile(file, []byte(`{"metadata": {"name": "web", "namespace": "default", "uid": "1"}}`), 0o600); err != nil {
			t.Fatal(err)
		}
		id := n.crictl(t, "runp", file)
		if got := n.docker(t, "inspect", "-f", "{{.Id}}", id); got != id {
			t.Errorf("crictl says %s, Docker %s", id, got)
		}
		var inspectp struct {
			Status struct {
				State   string
				Network struct{ IP string }
			}
			Info struct{ NetnsPath string }
		}
		if err := json.Unmarshal([]byte(n.crictl(t, "inspectp", id)), &inspectp); err != nil {
			t.Fatal(err)
		}
		ip := inspectp.Status.Network.IP
		if ip != "10.88.0.2" || inspectp.Status.State != "SANDBOX_READY" || !strings.HasPrefix(inspectp.Info.NetnsPath, "/run/netns/cni-") {
			t.Errorf("inspectp: %+v", inspectp)
		}
		addr := n.docker(t, "exec", id, "ip", "addr")
		if !strings.Contains(addr, "eth0") || !strings.Contains(addr, "inet "+ip+"/16") {
			t.Errorf("docker exec ip addr:\n%s", addr)
		}
		// The pin is what `ip netns` sees.
		if out := run(t, "ip", "netns", "exec", filepath.Base(inspectp.Info.NetnsPath), "ip", "-br", "addr"); !strings.Contains(out, ip) {
			t.Errorf("ip netns exec:\n%s", out)
		}
		if pods := n.crictl(t, "pods", "--name", "web", "-q", "--no-trunc"); pods != id {
			t.Errorf("crictl pods: %q", pods)
		}
		n.wantWhole(t, 1)
		short := id[:13]
		n.crictl(t, "stopp", short)
		n.crictl(t, "rmp", short)
		n.wantWhole(t, 0)
	})
}

// A container that joins the sandbox's network has its files, too.
func TestContainersThatJoin(t *testing.T) {
	bothEngines(t, func(t *testing.T, version enginetest.Version) {
		n := newNode(t, version, userConf())
		web := config("web")
		web.Hostname = "my-host"
		web.DnsConfig = &cri.DNSConfig{Servers: []string{"192.0.2.53"}}
		s := n.runPod(t, web)
		image := n.docker(t, "inspect", "-f", "{{.Image}}", s.id)
		id := n.docker(t, "run", "-d", "--network", "container:"+s.id, "--ipc", "container:"+s.id, image)
		joined := sandbox{id: id, info: map[string]json.RawMessage{"pid": json.RawMessage(n.docker(t, "inspect", "-f", "{{.State.Pid}}", id))}}
		for _, path := range []string{"/etc/resolv.conf", "/etc/hosts", "/etc/hostname"} {
			if got, want := joined.file(t, path), s.file(t, path); got != want || want == "" {
				t.Errorf("%s of the container:\n%s\nof the sandbox:\n%s", path, got, want)
			}
		}
		if got := joined.uname(t); got != "my-host" {
			t.Errorf("hostname %q", got)
		}
		if addr := n.docker(t, "exec", id, "ip", "addr"); !strings.Contains(addr, s.ips[0].String()) {
			t.Errorf("ip addr in the container:\n%s", addr)
		}
		n.docker(t, "rm", "-f", id)
		n.removePod(t, s.id)
		n.wantWhole(t, 0)
	})
}

// Pods reach each other, the outside by masquerade, and are reached on host ports,
// although Docker drops what it does not know; over IPv4 and IPv6.
func TestPodsReachEachOtherAndTheOutside(t *testing.T) {
	for name, configs := range map[string]map[string]string{
		"user's config":   {"10-dual.conflist": dualStackConf},
		"default network": nil,
	} {
		t.Run(name, func(t *testing.T) {
			bothEngines(t, func(t *testing.T, version enginetest.Version) {
				n := newNode(t, version, configs)
				if policy := run(t, "iptables", "-w", "-S", "FORWARD"); !strings.Contains(policy, "-P FORWARD DROP") {
					t.Fatalf("Docker did not set FORWARD to DROP: this test shows nothing\n%s", policy)
				}
				o := newOutside(t)
				server(t, o.netns, 7000)
				web := config("web")
				web.PortMappings = []*cri.PortMapping{{HostPort: 8080, ContainerPort: 80}}
				a, b := n.runPod(t, web), n.runPod(t, config("db"))
				if len(a.ips) != 2 || !a.ips[0].Is4() || !a.ips[1].Is6() || len(b.ips) != 2 {
					t.Fatalf("IPs %v and %v, want one of each family", a.ips, b.ips)
				}
				server(t, a.netns, 80)
				server(t, b.netns, 80)
				for family := range 2 {
					wantDial(t, "a to b", a.netns, b.ips[family], 80, a.ips[family])
					wantDial(t, "b to a", b.netns, a.ips[family], 80, b.ips[family])
				}
				wantDial(t, "a to the outside", a.netns, o.v4, 7000, o.node4)
				wantDial(t, "b to the outside", b.netns, o.v6, 7000, o.node6)
				wantDial(t, "outside to a's host port", o.netns, o.node4, 8080, o.v4)

				// An engine that starts anew writes its rules anew, and somebody flushes ours.
				run(t, "iptables", "-w", "-F", "DOCKER-USER")
				waitDial(t, "after a flush of DOCKER-USER", b.netns, o.v4, 7000)
				n.removePod(t, a.id)
				n.removePod(t, b.id)
				n.wantWhole(t, 0)
			})
		})
	}
}
