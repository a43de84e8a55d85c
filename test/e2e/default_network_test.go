package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine/enginetest"
	"github.com/mascri/mascri/internal/network/defaultnet"
)

// attachedTo is the name of the CNI network that a pod is on.
func (s sandbox) attachedTo(t *testing.T) string {
	t.Helper()
	text := string(s.info["attachment"])
	for _, name := range []string{defaultnet.Name, "mynet", "cluster"} {
		if strings.Contains(text, fmt.Sprintf(`"network":%q`, name)) {
			return name
		}
	}
	t.Fatalf("attachment of sandbox %s: %s", s.id, text)
	return ""
}

// wantDefaultGone waits until nothing of the default network is on the node.
func (n *node) wantDefaultGone(t *testing.T, within time.Duration) {
	t.Helper()
	var left string
	for end := time.Now().Add(within); ; time.Sleep(50 * time.Millisecond) {
		left = ""
		if out, err := try("ip", "link", "show", defaultnet.Bridge); err == nil {
			left += out + "\n"
		}
		for _, table := range masqueradeTables(t) {
			if strings.HasSuffix(table, "_"+n.instance(t)[:8]) {
				left += table + "\n"
			}
		}
		if left == "" {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("left of the default network:\n%s", left)
		}
	}
}

// masqueradeTables are the nftables tables that default networks have, such as
// "ip mascri_1a2b3c4d".
func masqueradeTables(t *testing.T) (tables []string) {
	t.Helper()
	for line := range strings.Lines(run(t, "nft", "list", "tables")) {
		if table := strings.TrimPrefix(strings.TrimSpace(line), "table "); strings.Contains(table, " mascri_") {
			tables = append(tables, table)
		}
	}
	return tables
}

func removeMasquerade(t *testing.T) {
	t.Helper()
	for _, table := range masqueradeTables(t) {
		run(t, "sh", "-c", "nft delete table "+table)
	}
}

// instance is the id of the node's daemon.
func (n *node) instance(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(n.state, "instance"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A user's own config may have the very subnet that the default network had: it is
// used once the pods on that are gone, and the node then reaches the new pods.
func TestOwnConfigTakesTheDefaultNetworksSubnet(t *testing.T) {
	bothEngines(t, func(t *testing.T, version enginetest.Version) {
		n := newNode(t, version, nil)
		o := newOutside(t)
		server(t, o.netns, 7000)
		old := n.runPod(t, config("old"))
		if name := old.attachedTo(t); name != defaultnet.Name || !netip.MustParsePrefix("10.88.0.0/16").Contains(old.ips[0]) {
			t.Fatalf("the pod is on network %q with %v", name, old.ips)
		}
		n.writeConf(t, "10-bridge.conf", bridgeConf)
		texts := []string{`"mynet"`, "10-bridge.conf", "10.88.0.0/16", "embedded default network", "default/old", "remove"}
		for _, restarted := range []bool{false, true} {
			if restarted {
				n.kill(t)
				n.start(t)
			}
			_, err := n.tryPod(t, config("new"), 20*time.Second)
			wantRefused(t, err, codes.FailedPrecondition, texts...)
			n.waitCondition(t, n.networkCondition, 3*time.Second, "NetworksOverlap", texts...)
			n.wantWhole(t, 1)
			waitDial(t, "the old pod to the outside", old.netns, o.v4, 7000)
		}
		n.removePod(t, old.id)
		n.waitCondition(t, n.networkCondition, time.Second, "", "mynet")

		next := n.runPod(t, config("new"))
		n.wantDefaultGone(t, 0)
		if name := next.attachedTo(t); name != "mynet" || !netip.MustParsePrefix("10.88.0.0/16").Contains(next.ips[0]) {
			t.Errorf("the new pod is on network %q with %v", name, next.ips)
		}
		server(t, next.netns, 80)
		wantDial(t, "the node to the new pod", nodeNetns, next.ips[0], 80, netip.MustParseAddr("10.88.0.1"))
		wantDial(t, "the new pod to the outside", next.netns, o.v4, 7000, o.node4)

		// Without a config again, the default network keeps off the subnet in use.
		if err := os.Remove(filepath.Join(n.conf, "10-bridge.conf")); err != nil {
			t.Fatal(err)
		}
		back := n.runPod(t, config("back"))
		if back.attachedTo(t) != defaultnet.Name || netip.MustParsePrefix("10.88.0.0/16").Contains(back.ips[0]) {
			t.Errorf("the last pod is on %q with %v", back.attachedTo(t), back.ips)
		}
		server(t, back.netns, 80)
		wantDial(t, "the node to the new pod", nodeNetns, next.ips[0], 80, netip.MustParseAddr("10.88.0.1"))
		waitDial(t, "the node to the last pod", nodeNetns, back.ips[0], 80)
		waitDial(t, "the last pod to the outside", back.netns, o.v4, 7000)
		n.removePod(t, next.id)
		n.removePod(t, back.id)
		n.wantWhole(t, 0)
	})
}

// Where the subnets differ, old pods live on beside new ones, and are taken down as
// they were set up. The default network goes with the last one.
func TestOwnConfigBesideTheDefaultNetwork(t *testing.T) {
	n := newNode(t, enginetest.Engine28, nil)
	o := newOutside(t)
	server(t, o.netns, 7000)
	old := n.runPod(t, config("old"))
	n.writeConf(t, "10-bridge.conf", strings.Replace(bridgeConf, "10.88.0.0", "10.99.0.0", 1))
	next := n.runPod(t, config("new"))
	if old.attachedTo(t) != defaultnet.Name || next.attachedTo(t) != "mynet" {
		t.Errorf("on %q and %q", old.attachedTo(t), next.attachedTo(t))
	}
	time.Sleep(11 * time.Second) // longer than the rules are left alone
	server(t, old.netns, 80)
	server(t, next.netns, 80)
	wantDial(t, "the old pod to the outside", old.netns, o.v4, 7000, o.node4)
	wantDial(t, "the new pod to the outside", next.netns, o.v4, 7000, o.node4)
	waitDial(t, "the old pod to the new one", old.netns, next.ips[0], 80)
	waitDial(t, "the new pod to the old one", next.netns, old.ips[0], 80)
	n.kill(t)
	n.start(t)
	n.removePod(t, old.id)
	n.wantWhole(t, 1)
	n.wantDefaultGone(t, 12*time.Second) // nobody asks for it
	wantDial(t, "the new pod to the outside", next.netns, o.v4, 7000, o.node4)
	n.removePod(t, next.id)
	n.wantWhole(t, 0)
}

// A pod CIDR tells that the node is in a cluster, whose network's config is to come: no
// pod gets another network's IP until then, and then it gets one of the CIDR.
func TestPodCIDRTurnsTheDefaultNetworkOff(t *testing.T) {
	n := newNode(t, enginetest.Engine28, nil)
	old := n.runPod(t, config("old"))
	_, err := n.cri.UpdateRuntimeConfig(t.Context(), &cri.UpdateRuntimeConfigRequest{RuntimeConfig: &cri.RuntimeConfig{
		NetworkConfig: &cri.NetworkConfig{PodCidr: "10.244.7.0/24,fd00:244:7::/64"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, restarted := range []bool{false, true} {
		if restarted {
			n.kill(t)
			n.start(t)
		}
		n.waitCondition(t, n.networkCondition, time.Second, "NoNetworkConfig", n.conf, "cluster is awaited", "pod CIDR")
		_, err := n.tryPod(t, config("new"), 10*time.Second)
		wantRefused(t, err, codes.FailedPrecondition, "cluster is awaited")
		if s := n.inspect(t, old.id); s.status.GetState() != cri.PodSandboxState_SANDBOX_READY {
			t.Errorf("the old pod: %v", s.status)
		}
	}
	n.writeConf(t, "10-cluster.conflist", `{"cniVersion": "1.0.0", "name": "cluster", "plugins": [
		{"type": "bridge", "bridge": "cni0", "isGateway": true, "capabilities": {"ipRanges": true},
		 "ipam": {"type": "host-local", "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}}]}`)
	next := n.runPod(t, config("new"))
	if next.attachedTo(t) != "cluster" || len(next.ips) != 2 ||
		!netip.MustParsePrefix("10.244.7.0/24").Contains(next.ips[0]) || !netip.MustParsePrefix("fd00:244:7::/64").Contains(next.ips[1]) {
		t.Errorf("on network %q with %v", next.attachedTo(t), next.ips)
	}
	n.removePod(t, old.id)
	n.removePod(t, next.id)
	n.wantWhole(t, 0)
	n.wantDefaultGone(t, 12*time.Second)
}

// Turned off, the default network serves those that are on it, and then goes.
func TestDefaultNetworkTurnedOff(t *testing.T) {
	n := newNode(t, enginetest.Engine28, nil)
	o := newOutside(t)
	server(t, o.netns, 7000)
	old := n.runPod(t, config("old"))
	n.terminate(t)
	removeMasquerade(t) // as a firewall's restart does
	n.extra = append(n.extra, "--default-network=false")
	n.start(t)
	n.waitCondition(t, n.networkCondition, 3*time.Second, "NoNetworkConfig", "turn the embedded default network on")
	_, err := n.tryPod(t, config("new"), 10*time.Second)
	wantRefused(t, err, codes.FailedPrecondition, n.conf)
	waitDial(t, "the old pod to the outside", old.netns, o.v4, 7000)
	n.removePod(t, old.id)
	n.wantWhole(t, 0)
	n.wantDefaultGone(t, 12*time.Second)
}
