package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/test/chaos"
)

// reconcileLimit is how long the daemon may take to put right by itself what a fault left:
// it looks every ten seconds, DEL is tried again after ten, and the machine is slow.
const reconcileLimit = 45 * time.Second

// await waits until the node is as the model says, and returns what is not so in the end.
func (c *chaosNode) await(t *testing.T, want chaos.Model) (wrong string) {
	t.Helper()
	for end := time.Now().Add(reconcileLimit); ; time.Sleep(50 * time.Millisecond) {
		if wrong = c.compare(t, want); wrong == "" || time.Now().After(end) {
			return wrong
		}
	}
}

// compare returns how the node differs from the model, and from what its own sandboxes
// should have on it.
func (c *chaosNode) compare(t *testing.T, want chaos.Model) string {
	t.Helper()
	var out strings.Builder
	listed := map[string][]*cri.PodSandbox{}
	for _, s := range c.list(t) {
		listed[s.GetMetadata().GetName()] = append(listed[s.GetMetadata().GetName()], s)
	}
	ports, attached := 0, 0
	for i, pod := range want.Pods {
		sandboxes := listed[podName(i)]
		if wrong := c.comparePod(t, i, pod, sandboxes); wrong != "" {
			fmt.Fprintf(&out, "%s: %s\n", podName(i), wrong)
		}
		if len(sandboxes) == 0 || sandboxes[0].GetState() != cri.PodSandboxState_SANDBOX_READY || c.known[i].hostNetwork {
			continue
		}
		attached++
		if c.known[i].hostPort {
			ports++
		}
	}
	out.WriteString(c.left(t))
	if m := masqueradeChains(t); len(m) != attached {
		fmt.Fprintf(&out, "masquerade chains: %q for %d pods\n", m, attached)
	}
	if n := strings.Count(run(t, "iptables", "-w", "-t", "nat", "-S"), "-N CNI-DN-"); n != ports {
		fmt.Fprintf(&out, "%d chains of host ports for %d pods\n", n, ports)
	}
	status := c.networkStatus(t)
	if len(status.Dirty) > 0 || len(status.Leaks) > 0 {
		fmt.Fprintf(&out, "on the dirty queue: %+v, and leaks: %+v\n", status.Dirty, status.Leaks)
	}
	return out.String()
}

// comparePod also learns the sandbox of a pod, and the address that it must keep.
func (c *chaosNode) comparePod(t *testing.T, i int, want chaos.Pod, sandboxes []*cri.PodSandbox) string {
	t.Helper()
	known := &c.known[i]
	if len(sandboxes) == 0 {
		known.id, known.ip = "", ""
		if want.State == chaos.Absent || want.State == chaos.Doubt {
			return ""
		}
		return fmt.Sprintf("there is none, want it %s", want.State)
	}
	s := sandboxes[0]
	state := chaos.Stopped
	if s.GetState() == cri.PodSandboxState_SANDBOX_READY {
		state = chaos.Running
	}
	if len(sandboxes) > 1 || want.State != chaos.Doubt && want.State != state {
		return fmt.Sprintf("%d sandboxes, the first %s, want it %s", len(sandboxes), state, want.State)
	}
	if known.id != s.GetId() {
		known.id, known.ip = s.GetId(), ""
	}
	if state != chaos.Running || known.hostNetwork {
		return ""
	}
	resp, err := c.cri.PodSandboxStatus(t.Context(), &cri.PodSandboxStatusRequest{PodSandboxId: s.GetId()})
	if err != nil {
		return err.Error()
	}
	ip := resp.GetStatus().GetNetwork().GetIp()
	if ip == "" || known.ip != "" && known.ip != ip {
		return fmt.Sprintf("its address is %q, and was %q", ip, known.ip)
	}
	known.ip = ip
	var fs unix.Statfs_t
	if err := unix.Statfs("/run/netns/cni-"+s.GetId()[:32], &fs); err != nil || fs.Type != unix.NSFS_MAGIC {
		return fmt.Sprintf("nothing is pinned: %v", err)
	}
	return ""
}
