package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// left returns how the node differs from what the listed sandboxes and containers should
// have on it: Docker's containers, states of logs, records, pins, address reservations, cache files, veths and masquerade
// chains must be those of the Ready sandboxes that are not on the host network, no more
// and no fewer. It is "" when all is as it should be.
func (n *node) left(t *testing.T) string {
	t.Helper()
	resp, err := n.cri.ListPodSandbox(t.Context(), &cri.ListPodSandboxRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var all, attached, pins, cache []string
	for _, s := range resp.GetItems() {
		all = append(all, s.GetId())
		status, err := n.cri.PodSandboxStatus(t.Context(), &cri.PodSandboxStatusRequest{PodSandboxId: s.GetId()})
		if err != nil {
			return err.Error()
		}
		host := status.GetStatus().GetLinux().GetNamespaces().GetOptions().GetNetwork() == cri.NamespaceMode_NODE
		if s.GetState() == cri.PodSandboxState_SANDBOX_READY && !host {
			attached = append(attached, s.GetId())
			pins = append(pins, "cni-"+s.GetId()[:32])
			cache = append(cache, s.GetId())
		}
	}
	var out strings.Builder
	differ := func(what string, got, want []string) {
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			fmt.Fprintf(&out, "%s: %q, want %q\n", what, got, want)
		}
	}
	listed, err := n.cri.ListContainers(t.Context(), &cri.ListContainersRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var workloads []string
	for _, c := range listed.GetContainers() {
		workloads = append(workloads, c.GetId())
	}
	differ("containers", strings.Fields(n.docker(t, "ps", "-aq", "--no-trunc", "--filter", "label=io.mascri.v1")), append(workloads, all...))
	for _, dir := range []string{"logs", "updates"} {
		for _, id := range trimSuffixes(files(t, filepath.Join(n.state, dir)), ".json") {
			if !slices.Contains(append(workloads, all...), id) {
				fmt.Fprintf(&out, "%s of %s, which is gone\n", dir, id)
			}
		}
	}
	differ("records", trimSuffixes(files(t, filepath.Join(n.state, "attachments")), ".json"), slices.Clone(attached))
	differ("pins", without(files(t, "/run/netns"), "outside"), pins)
	differ("address reservations", unique(reservations(t)), slices.Clone(attached))
	differ("cache files", cachedIDs(t, filepath.Join(n.state, "cni", "results")), cache)
	if f := files(t, filepath.Join(n.state, "sandboxes")); len(f) != len(all) {
		fmt.Fprintf(&out, "sandbox files: %q for %d sandboxes\n", f, len(all))
	}
	if v := veths(t); len(v) != len(attached) {
		fmt.Fprintf(&out, "veths: %q for %d pods\n", v, len(attached))
	}
	if m := masqueradeChains(t); len(m)%max(1, len(attached)) != 0 || len(attached) == 0 && len(m) > 0 {
		fmt.Fprintf(&out, "masquerade chains: %q for %d pods\n", m, len(attached))
	}
	return out.String()
}

// wantClean waits until the node is as its sandboxes say, and they are as many as given.
func (n *node) wantWhole(t *testing.T, sandboxes int) {
	t.Helper()
	var left string
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if left = n.left(t); left == "" && len(n.list(t)) == sandboxes {
			return
		}
	}
	t.Fatalf("%d sandboxes, want %d; not as it should be:\n%s", len(n.list(t)), sandboxes, left)
}

func (n *node) list(t *testing.T) []*cri.PodSandbox {
	t.Helper()
	resp, err := n.cri.ListPodSandbox(t.Context(), &cri.ListPodSandboxRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetItems()
}

// reservations returns the owner of each of host-local's address files.
func reservations(t *testing.T) (ids []string) {
	t.Helper()
	paths, err := filepath.Glob("/var/lib/cni/networks/*/*[0-9a-f]")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		base := filepath.Base(path)
		if strings.HasPrefix(base, "last_reserved") || base == "lock" {
			continue
		}
		text, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		id, _, _ := strings.Cut(string(text), "\n")
		ids = append(ids, strings.TrimSpace(id))
	}
	return ids
}

// cachedIDs returns the sandbox ids that libcni's cache files are for.
func cachedIDs(t *testing.T, dir string) (ids []string) {
	t.Helper()
	for _, name := range files(t, dir) { // <network>-<sandbox>-<interface>
		parts := strings.Split(name, "-")
		if len(parts) < 3 {
			t.Fatalf("cache file %q", name)
		}
		ids = append(ids, parts[len(parts)-2])
	}
	return ids
}

// masqueradeChains returns the chains that the bridge plugin made for single pods.
func masqueradeChains(t *testing.T) (chains []string) {
	t.Helper()
	for _, command := range []string{"iptables", "ip6tables"} {
		out, err := try(command, "-w", "-t", "nat", "-S")
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(out, "\n") {
			if name, ok := strings.CutPrefix(line, "-N CNI-"); ok && !strings.HasPrefix(name, "HOSTPORT") && !strings.HasPrefix(name, "DN-") && !strings.HasPrefix(name, "SN-") {
				chains = append(chains, name)
			}
		}
	}
	return chains
}

func trimSuffixes(names []string, suffix string) (out []string) {
	for _, name := range names {
		out = append(out, strings.TrimSuffix(name, suffix))
	}
	return out
}

func without(names []string, name string) []string {
	return slices.DeleteFunc(names, func(n string) bool { return n == name })
}

func unique(ids []string) []string {
	slices.Sort(ids)
	return slices.Compact(ids)
}
