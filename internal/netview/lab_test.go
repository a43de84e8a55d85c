package netview

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/network"
	"github.com/mascri/mascri/internal/network/firewall/netlab"
	"github.com/mascri/mascri/internal/pod"
)

// lab is a node with real plugins in namespaces of its own.
type lab struct {
	*network.Network
	t     *testing.T
	state string
}

// bridgeList is a network as most nodes have.
const bridgeList = `{"cniVersion": "1.0.0", "name": "podnet", "plugins": [
	{"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
	 "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.88.0.0/24"}], [{"subnet": "fd00:88::/64"}]],
	          "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}},
	{"type": "portmap", "capabilities": {"portMappings": true}}]}`

// newLab makes the node; nil: the test runs in another process, and is done here.
func newLab(t *testing.T, config string) *lab {
	t.Helper()
	if !netlab.Isolate(t) {
		return nil
	}
	plugins, err := filepath.Abs("../../bin/cni")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(plugins, "bridge")); err != nil {
		t.Fatalf("no CNI plugins in %s: run `make build` first", plugins)
	}
	dir := t.TempDir()
	conf := filepath.Join(dir, "net.d")
	if err := os.MkdirAll(conf, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(conf, "10-pods.conflist"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	l := &lab{t: t, state: filepath.Join(dir, "state")}
	l.Network, err = network.New(network.Config{
		ConfigDir: conf, BinDirs: []string{plugins}, StateDir: l.state, NetnsDir: "/run/netns",
		Forward: pass{}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// pass is a firewall that drops nothing.
type pass struct{}

func (pass) Ensure(context.Context, []netip.Prefix) pod.Forwarding { return pod.Forwarding{OK: true} }
func (pass) Verify(context.Context, []netip.Prefix) pod.Forwarding { return pod.Forwarding{OK: true} }

// run attaches the pod default/name, whose process sleeps.
func (l *lab) run(name string, ports ...*cri.PortMapping) pod.Attachment {
	l.t.Helper()
	sleeper := exec.Command("sleep", "600")
	sleeper.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := sleeper.Start(); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = sleeper.Process.Kill(); _ = sleeper.Wait() })
	a, err := l.Attach(l.t.Context(), pod.AttachRequest{
		SandboxID: fmt.Sprintf("%x", sha256.Sum256([]byte(name))), Namespace: "default", Name: name, UID: name,
		PID: sleeper.Process.Pid, Confirm: func(context.Context) error { return nil }, PortMappings: ports,
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return a
}

func (l *lab) sources() Sources {
	return Sources{StateDir: l.state, Network: func(context.Context) (pod.NetworkStatus, error) { return l.Status(), nil }}
}

// inPod runs a shell command in a pod's network namespace.
func inPod(t *testing.T, a pod.Attachment, command string) string {
	t.Helper()
	return strings.TrimSpace(netlab.Run(t, "ip netns exec "+filepath.Base(a.NetnsPath)+" "+command))
}

func TestLookAtRealPods(t *testing.T) {
	l := newLab(t, bridgeList)
	if l == nil {
		return
	}
	web := l.run("web", &cri.PortMapping{HostPort: 8080, ContainerPort: 80})
	gone := l.run("gone")
	netlab.Run(t, "umount "+gone.NetnsPath)
	node, err := Look(t.Context(), l.sources())
	if err != nil {
		t.Fatal(err)
	}
	if len(node.Networks) != 1 || len(node.Pods) != 2 || node.Problem != "" {
		t.Fatalf("node %+v", node)
	}
	net := node.Networks[0]
	if net.Name != "podnet" || !net.Next || net.Pods != 2 || len(net.Pools) != 2 || net.Pools[0].Used != 2 || net.Pools[0].Free != 251 {
		t.Errorf("network %+v", net)
	}
	if len(net.Links) != 1 || net.Links[0].Name != "cni0" || net.Links[0].Ports != 2 || !net.Links[0].Up {
		t.Errorf("links %+v", net.Links)
	}
	p := node.Pods[1]
	var result struct {
		Interfaces []struct{ Name, Mac, Sandbox string }
	}
	if err := json.Unmarshal(web.Result, &result); err != nil {
		t.Fatal(err)
	}
	mac, veth := inPod(t, web, "cat /sys/class/net/eth0/address"), ""
	for _, i := range result.Interfaces {
		if strings.HasPrefix(i.Name, "veth") {
			veth = i.Name
		}
	}
	if p.Pod != "default/web" || p.MAC != mac || p.Host != (HostSide{Link: veth, Bridge: "cni0"}) || len(p.IPs) != 2 || len(p.Ports) != 1 || p.Problem != "" {
		t.Errorf("pod %+v, want MAC %s and link %s", p, mac, veth)
	}
	if p := node.Pods[0]; p.Pod != "default/gone" || !strings.Contains(p.Problem, "not pinned") {
		t.Errorf("pod %+v", p)
	}
}
