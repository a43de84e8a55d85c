package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine/enginetest"
	"github.com/mascri/mascri/internal/pod"
	"github.com/mascri/mascri/test/chaos"
)

// chaosNode is a node that a walk is taken on.
type chaosNode struct {
	*node
	behaviour string // file that tells the chaos plugin how to fail
	calls     string // file with a line for each call of the plugin since
	clock     string // file with the seconds that the daemon's clock is ahead
	known     [len(chaos.Model{}.Pods)]chaosPod
	runs      int // pods so far, as each has a uid of its own
}

// chaosPod is what was last asked for and seen of a pod.
type chaosPod struct {
	id, ip                string // "": none
	hostNetwork, hostPort bool
}

const (
	chaosConfig = "10-chaos.conflist"
	storeDir    = "/var/lib/cni"
	// diskSize is that of the state directory and of host-local's store: enough for the
	// walk, and soon full.
	diskSize = 8 << 20
)

// newChaosNode starts an engine, and a daemon of that binary, on small disks.
func newChaosNode(t *testing.T, binary string, version enginetest.Version, liveRestore bool) *chaosNode {
	t.Helper()
	var flags []string
	if liveRestore {
		flags = []string{"--live-restore"}
	}
	n := idleNode(t, enginetest.StartDaemon(t, version, flags...), nil, append(chaosDir(t), "--default-network=false")...)
	dir := filepath.Dir(n.logFile)
	c := &chaosNode{node: n, behaviour: filepath.Join(dir, "behaviour"), calls: filepath.Join(dir, "calls"), clock: filepath.Join(dir, "clock")}
	n.binary = binary
	n.prepare = func(daemon *exec.Cmd) { daemon.Env = append(daemon.Env, "MASCRI_CLOCK_JUMP="+c.clock) }
	size := fmt.Sprintf("size=%d", diskSize)
	if err := unix.Mount("", storeDir, "", unix.MS_REMOUNT, size+",mode=0755"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(n.state, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", n.state, "tmpfs", 0, size+",mode=0700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		n.kill(t)
		if err := unix.Unmount(n.state, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
		if link, err := netlink.LinkByName("cni1"); err == nil {
			if err := netlink.LinkDel(link); err != nil {
				t.Error(err)
			}
		}
	})
	c.makeBridges(t)
	return c
}

// makeBridges starts the daemon and has a first pod on each bridge. After a first ADD that
// fails for want of an address, the plugin bridge (v1.9) fails once more ("could not set
// bridge's mac"), as a bridge that lost its only port has no address to keep.
func (c *chaosNode) makeBridges(t *testing.T) {
	t.Helper()
	c.writeConf(t, chaosConfig, c.config(chaos.Other))
	c.start(t)
	c.removePod(t, c.runPod(t, config("first")).id)
	if !c.edit(t, chaos.Bridge) {
		t.Fatal("the daemon does not take notice of the config")
	}
	c.removePod(t, c.runPod(t, config("first")).id)
}

// config is the text of a config, "" for Empty. Every chain ends with the plugin that fails.
func (c *chaosNode) config(which chaos.Config) string {
	name, bridge, subnet, ports := "mynet", "cni0", "10.88.0.0/16", ""
	switch which {
	case chaos.Empty:
		return ""
	case chaos.Broken:
		return `{"cniVersion": "1.0.0", "name": "mynet", "plugins": [`
	case chaos.Other:
		name, bridge, subnet = "othernet", "cni1", "10.99.0.0/16"
	case chaos.Ports:
		ports = `{"type": "portmap", "capabilities": {"portMappings": true}},`
	}
	return fmt.Sprintf(`{"cniVersion": "1.0.0", "name": %q, "plugins": [
		{"type": "bridge", "bridge": %q, "isGateway": true, "ipMasq": true,
		 "ipam": {"type": "host-local", "subnet": %q, "routes": [{"dst": "0.0.0.0/0"}]}},
		%s {"type": "chaosplugin", "chaos": {"from": %q}}]}`, name, bridge, subnet, ports, c.behaviour)
}

// edit changes the config, and returns once the daemon knows.
func (c *chaosNode) edit(t *testing.T, which chaos.Config) (known bool) {
	t.Helper()
	if text := c.config(which); text != "" {
		c.writeConf(t, chaosConfig, text)
	} else if err := os.Remove(filepath.Join(c.conf, chaosConfig)); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); !known && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		status := c.networkStatus(t)
		invalid := len(status.Passed) > 0 && status.Passed[0].Invalid
		ports := slices.ContainsFunc(status.Plugins, func(p pod.Plugin) bool { return p.Type == "portmap" })
		switch which {
		case chaos.Empty:
			known = status.Network == "" && !invalid
		case chaos.Broken:
			known = invalid
		case chaos.Other:
			known = !invalid && status.Network == "othernet"
		case chaos.Ports:
			known = !invalid && ports
		default:
			known = !invalid && status.Network == "mynet" && !ports
		}
	}
	return known
}

func podName(i int) string { return fmt.Sprintf("pod-%d", i) }

// send sends all requests at once. The channel gets their results, in their order.
func (c *chaosNode) send(requests []chaos.Request, deadline time.Duration) <-chan []error {
	results := make(chan []error, 1)
	var calls []func(context.Context) error
	for _, r := range requests {
		calls = append(calls, c.call(r))
	}
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		defer cancel()
		errs := make([]error, len(calls))
		done := make(chan struct{})
		for i, call := range calls {
			go func() { errs[i] = call(ctx); done <- struct{}{} }()
		}
		for range calls {
			<-done
		}
		results <- errs
	}()
	return results
}

// call prepares a request, and notes what it asks for.
func (c *chaosNode) call(r chaos.Request) func(context.Context) error {
	client, known := c.cri, &c.known[r.Pod]
	id := known.id
	switch r.Verb {
	case chaos.Stop:
		return func(ctx context.Context) error {
			_, err := client.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: id})
			return err
		}
	case chaos.Remove:
		return func(ctx context.Context) error {
			_, err := client.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: id})
			return err
		}
	}
	c.runs++
	*known = chaosPod{hostNetwork: r.HostNetwork, hostPort: r.HostPort}
	want := config(podName(r.Pod))
	want.Metadata.Uid = strconv.Itoa(c.runs)
	if r.HostNetwork {
		want.Linux = &cri.LinuxPodSandboxConfig{SecurityContext: &cri.LinuxSandboxSecurityContext{NamespaceOptions: &cri.NamespaceOption{Network: cri.NamespaceMode_NODE}}}
	}
	if r.HostPort {
		want.PortMappings = []*cri.PortMapping{{HostPort: int32(8000 + r.Pod), ContainerPort: 80}}
	}
	return func(ctx context.Context) error {
		_, err := client.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: want})
		return err
	}
}

// askAgain does what a client does that got no answer: it stops or removes once more, and
// removes what came of a pod that it was told nothing of.
func (c *chaosNode) askAgain(t *testing.T, r chaos.Request) error {
	t.Helper()
	if c.known[r.Pod].id == "" {
		return nil
	}
	if r.Verb == chaos.Run {
		r.Verb = chaos.Remove
	}
	return c.call(r)(t.Context())
}

// fill leaves so many pages free on a file system, until the returned function is called.
func fill(t *testing.T, dir string, pages int) (free func()) {
	t.Helper()
	path := filepath.Join(dir, "ballast")
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		t.Fatal(err)
	}
	if size := (int64(fs.Bavail) - int64(pages)) * fs.Bsize; size > 0 {
		if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil && !strings.Contains(err.Error(), unix.ENOSPC.Error()) {
			t.Fatal(err)
		}
	}
	return func() {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
}
