package e2e

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine/enginetest"
)

// docBlock returns the code of docs/multi-node.md that begins so.
func docBlock(t *testing.T, begin string) string {
	t.Helper()
	text, err := os.ReadFile(repo(t, "docs/multi-node.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(string(text), "\n"+begin)
	code, _, closed := strings.Cut(after, "\n```\n")
	if !found || !closed {
		t.Fatalf("docs/multi-node.md has no code that begins with %q", begin)
	}
	_, start, _ := strings.Cut(begin, "\n")
	return start + code
}

// twoNodes are A and B of docs/multi-node.md.
type twoNodes struct {
	a, b *machine
	way  string // by which their pods reach each other
}

func newTwoNodes(t *testing.T, way string) twoNodes {
	t.Helper()
	newSwitch(t, outside4+"/24", outside6+"/64")
	configs := map[string]string{"10-pods.conflist": docBlock(t, "```json\n")}
	n := twoNodes{
		newMachine(t, "A", "192.0.2.1", "2001:db8::1", configs),
		newMachine(t, "B", "192.0.2.2", "2001:db8::2", configs), way,
	}
	n.boot(t, n.a)
	n.boot(t, n.b)
	n.a.giveCIDRs(t, "10.244.1.0/24,fd00:10:244:1::/64")
	n.b.giveCIDRs(t, "10.244.2.0/24,fd00:10:244:2::/64")
	return n
}

// What the switch has for pods to call.
const (
	outside4 = "192.0.2.254"
	outside6 = "2001:db8::ff"
)

func (n twoNodes) boot(t *testing.T, m *machine) {
	t.Helper()
	m.boot(t)
	m.sh(t, docBlock(t, "# every node"))
	m.sh(t, docBlock(t, "# node "+m.name+": "+n.way))
}

// reached asks for two pods that see each other with their own addresses.
func reached(t *testing.T, what string, from, to sandbox) {
	t.Helper()
	for family := range 2 {
		// What the nodes remember of each other's link layer may be of another life.
		waitDial(t, what, from.netns, to.ips[family], 80)
		wantDial(t, what, from.netns, to.ips[family], 80, from.ips[family])
		wantDial(t, what+" and back", to.netns, from.ips[family], 80, to.ips[family])
	}
}

// Pods of two nodes reach each other as docs/multi-node.md says, and come back from all that
// happens to nodes.
func TestPodsOnTwoNodes(t *testing.T) {
	for _, way := range []string{"host routes", "vxlan"} {
		t.Run(way, func(t *testing.T) {
			n := newTwoNodes(t, way)
			server(t, "/run/netns/"+switchNetns, 7000)
			a, b := n.a.runPod(t, "on-a"), n.b.runPod(t, "on-b")
			if len(a.ips) != 2 || a.ips[0].String() != "10.244.1.2" || len(b.ips) != 2 || b.ips[1].String() != "fd00:10:244:2::2" {
				t.Fatalf("addresses are %v and %v", a.ips, b.ips)
			}
			reached(t, "at first", a, b)
			wantDial(t, "the outside from A", a.netns, netip.MustParseAddr(outside4), 7000, n.a.v4)
			wantDial(t, "the outside from B", b.netns, netip.MustParseAddr(outside6), 7000, n.b.v6)

			run(t, "ip", "-n", switchNetns, "link", "set", n.a.cable(), "down")
			if _, err := dial(t, b.netns, a.ips[0], 80); err == nil {
				t.Error("A is reached without its cable")
			}
			alone := n.a.runPod(t, "alone")
			for family := range 2 {
				wantDial(t, "two pods of a node that is cut off", alone.netns, a.ips[family], 80, alone.ips[family])
			}
			n.a.removePod(t, alone.id)
			run(t, "ip", "-n", switchNetns, "link", "set", n.a.cable(), "up")
			reached(t, "healed", a, b)
			n.a.wantPods(t, 1)
			n.b.wantPods(t, 1)

			n.b.crash(t)
			n.boot(t, n.b)
			if s := n.b.inspect(t, b.id); s.status.GetState() != cri.PodSandboxState_SANDBOX_NOTREADY {
				t.Errorf("after the reboot: %v", s.status)
			}
			if s := n.a.inspect(t, a.id); s.status.GetState() != cri.PodSandboxState_SANDBOX_READY {
				t.Errorf("on the other node: %v", s.status)
			}
			n.b.removePod(t, b.id)
			n.b.wantPods(t, 0)
			b = n.b.runPod(t, "on-b")
			reached(t, "after the reboot", b, a)
			n.a.wantPods(t, 1)
			n.b.wantPods(t, 1)
			n.a.removePod(t, a.id)
			n.b.removePod(t, b.id)
			n.a.wantPods(t, 0)
			n.b.wantPods(t, 0)
		})
	}
}

// Two daemons on one engine, with the same directories of pins and of host-local: neither
// sees the other's pods, takes them for lost, or cleans up after them.
func TestTwoDaemonsOnOneEngine(t *testing.T) {
	one := newNode(t, enginetest.Engine28, userConf())
	two := one.beside(t, map[string]string{"10-other.conf": strings.NewReplacer("mynet", "other", "cni0", "cni1", "10.88", "10.89").Replace(bridgeConf)})
	a, b := one.runPod(t, config("one")), two.runPod(t, config("two"))
	server(t, a.netns, 80)
	server(t, b.netns, 80)
	wantBoth := func(when string) {
		t.Helper()
		for n, s := range map[*node]sandbox{one: a, two: b} {
			if list := n.list(t); len(list) != 1 || list[0].GetId() != s.id || list[0].GetState() != cri.PodSandboxState_SANDBOX_READY {
				t.Errorf("%s: listed are %v, want %s", when, list, s.id)
			}
			if out, ok := n.mascri(t, "net", "leaks"); !ok {
				t.Errorf("%s: leaks: %s", when, out)
			}
		}
		waitDial(t, when, a.netns, b.ips[0], 80)
		waitDial(t, when, b.netns, a.ips[0], 80)
	}
	wantBoth("at first")
	for _, n := range []*node{one, two} {
		n.kill(t)
		n.start(t) // and looks for what is left
	}
	wantBoth("after both were killed")
	if _, err := two.cri.StopPodSandbox(t.Context(), &cri.StopPodSandboxRequest{PodSandboxId: a.id}); err != nil {
		t.Errorf("the other's sandbox is one that is gone: %v", err)
	}
	if _, err := two.cri.RemovePodSandbox(t.Context(), &cri.RemovePodSandboxRequest{PodSandboxId: a.id}); err != nil {
		t.Errorf("the other's sandbox is one that is gone: %v", err)
	}
	wantBoth("after one was asked to remove the other's")
	two.removePod(t, b.id)
	if list := one.list(t); len(list) != 1 || list[0].GetState() != cri.PodSandboxState_SANDBOX_READY {
		t.Errorf("listed are %v", list)
	}
	two.kill(t)
	one.wantWhole(t, 1)
	one.removePod(t, a.id)
	one.wantWhole(t, 0)
}

// beside is a second daemon on the node and its engine.
func (n *node) beside(t *testing.T, configs map[string]string) *node {
	t.Helper()
	dir := shortDir(t)
	second := *n
	second.daemon, second.conn = nil, nil
	second.socket, second.state, second.conf, second.logFile = dir+"/mascri.sock", dir+"/state", dir+"/net.d", dir+"/log"
	if err := os.MkdirAll(second.conf, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range configs {
		second.writeConf(t, name, text)
	}
	t.Cleanup(func() {
		second.kill(t)
		_, _ = try("ip", "link", "del", "cni1")
		if t.Failed() {
			t.Logf("the second daemon's log ends with:\n%s", second.logTail())
		}
	})
	second.start(t)
	return &second
}
