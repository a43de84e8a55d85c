package network

import (
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// left is all that attachments may leave on a node.
type left struct {
	Addresses []string // reservations of host-local
	Veths     []string // in the node's network namespace
	Pins      []string
	Records   []string
	Cache     []string
	Chains    []string // of the plugins in iptables
	Memory    []string // phases and sandboxes
	Plugins   []int    // processes
}

// left looks at what there is.
func (n *node) left(sandboxes ...string) left {
	n.t.Helper()
	l := left{
		Addresses: names(n.t, filepath.Join(n.ipam, "podnet"), func(name string) bool {
			return name != "lock" && !strings.HasPrefix(name, "last_reserved_ip")
		}),
		Pins:    names(n.t, n.cfg.NetnsDir, all),
		Records: names(n.t, filepath.Join(n.cfg.StateDir, "attachments"), all),
		Cache:   names(n.t, filepath.Join(n.cfg.StateDir, "cni", "results"), all),
	}
	links, err := net.Interfaces()
	if err != nil {
		n.t.Fatal(err)
	}
	for _, link := range links {
		if strings.HasPrefix(link.Name, "veth") {
			l.Veths = append(l.Veths, link.Name)
		}
	}
	rules, err := exec.Command("iptables-save").CombinedOutput()
	if err != nil {
		n.t.Fatalf("iptables-save: %v: %s", err, rules)
	}
	for line := range strings.Lines(string(rules)) {
		chain := strings.TrimPrefix(strings.Fields(line)[0], ":")
		if strings.HasPrefix(line, ":CNI-") && !slices.Contains([]string{"CNI-HOSTPORT-DNAT", "CNI-HOSTPORT-MASQ", "CNI-HOSTPORT-SETMARK", "CNI-FORWARD", "CNI-ADMIN"}, chain) {
			l.Chains = append(l.Chains, chain)
		}
	}
	for _, a := range n.Attachments() {
		l.Memory = append(l.Memory, string(a.Phase)+" "+a.SandboxID)
	}
	for _, id := range sandboxes {
		l.Plugins = append(l.Plugins, pluginsOf(id)...)
	}
	return l
}

// nothingLeft fails the test if anything is left, of the sandboxes' plugins too.
func (n *node) nothingLeft(sandboxes ...string) {
	n.t.Helper()
	// A veth goes with its network namespace, which the kernel does in its own time.
	var diff string
	for range 100 {
		if diff = cmp.Diff(left{}, n.left(sandboxes...)); diff == "" {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	n.t.Fatalf("left (-want +got):\n%s", diff)
}

func all(string) bool { return true }

func names(t *testing.T, dir string, keep func(string) bool) []string {
	t.Helper()
	var kept []string
	for _, path := range children(dir) {
		if name := filepath.Base(path); keep(name) {
			kept = append(kept, name)
		}
	}
	return kept
}
