package network

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/netns"
	"github.com/mascri/mascri/internal/pod"
)

func addresses(texts ...string) []netip.Addr {
	var addrs []netip.Addr
	for _, text := range texts {
		addrs = append(addrs, netip.MustParseAddr(text))
	}
	return addrs
}

func compareAddrs() cmp.Option {
	return cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
}

// inPod runs a command in the pinned network namespace, by what `ip netns` sees.
func inPod(t *testing.T, a pod.Attachment, command ...string) string {
	t.Helper()
	args := append([]string{"netns", "exec", filepath.Base(a.NetnsPath)}, command...)
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("ip %v: %v: %s", args, err, out)
	}
	return string(out)
}

func TestAttachGivesAnAddress(t *testing.T) {
	n := newNode(t)
	n.write("10-bridge.conflist", n.bridge())
	n.start()
	req := n.sandbox("a")

	a := n.attach(req)

	want := pod.Attachment{
		SandboxID: req.SandboxID, Pod: "default/pod-a", Phase: pod.Attached,
		Network: "podnet", ConfigFile: filepath.Join(n.cfg.ConfigDir, "10-bridge.conflist"),
		NetnsPath: "/run/netns/cni-" + req.SandboxID[:32], NetnsInode: a.NetnsInode,
		IPs: addresses("10.88.0.2"), CreatedAt: a.CreatedAt, Result: a.Result, Runs: a.Runs,
	}
	if diff := cmp.Diff(want, a, compareAddrs()); diff != "" {
		t.Errorf("attachment (-want +got):\n%s", diff)
	}
	if out := inPod(t, a, "ip", "-o", "addr", "show", "eth0"); !strings.Contains(out, "inet 10.88.0.2/16") {
		t.Errorf("eth0 is %s", out)
	}
	if kept, ok := n.Attachment(req.SandboxID); !ok || !cmp.Equal(kept, a, compareAddrs()) {
		t.Errorf("Attachment gives %v, %v", kept, ok)
	}
	if calls, subnets := n.forward.noted(); calls == 0 || !cmp.Equal(subnets, []netip.Prefix{netip.MustParsePrefix("10.88.0.0/16")}, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })) {
		t.Errorf("forwarding is asserted %d times, last for %v", calls, subnets)
	}
	n.detach(req.SandboxID)
	n.nothingLeft(req.SandboxID)
	n.detach(req.SandboxID) // and once more
}

func TestAttachmentsSurviveARestart(t *testing.T) {
	n := newNode(t)
	n.write("10-bridge.conflist", n.bridge())
	n.start()
	before := []pod.Attachment{n.attach(n.sandbox("a")), n.attach(n.sandbox("b"))}
	if before[0].SandboxID > before[1].SandboxID {
		before[0], before[1] = before[1], before[0]
	}

	n.start()

	if diff := cmp.Diff(before, n.Attachments(), compareAddrs()); diff != "" {
		t.Errorf("attachments (-before +after):\n%s", diff)
	}
	for _, a := range before {
		n.detach(a.SandboxID)
	}
	n.nothingLeft()
}

func TestAttachPreparesLoopbackAndIPv6(t *testing.T) {
	n := newNode(t)
	n.write("10-bridge.conflist", n.bridge())
	n.start()
	req := n.sandbox("a")
	ns, err := openNetns(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	// As Docker 20.10 leaves it.
	err = netns.Do(ns.File, func() error {
		var errs []error
		for _, name := range []string{"all", "default", "lo"} {
			errs = append(errs, os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/disable_ipv6", []byte("1"), 0))
		}
		return errors.Join(errs...)
	})
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("the kernel has no IPv6")
	}
	if err != nil {
		t.Fatal(err)
	}

	a := n.attach(req)

	if out := inPod(t, a, "ip", "-o", "addr", "show", "lo"); !strings.Contains(out, "127.0.0.1/8") || !strings.Contains(out, "::1/128") {
		t.Errorf("lo is %s", out)
	}
	if out := inPod(t, a, "ip", "-o", "-6", "addr", "show", "eth0"); !strings.Contains(out, "fe80::") {
		t.Errorf("eth0 has no IPv6: %s", out)
	}
	n.detach(req.SandboxID)
}

func TestAttachDualStack(t *testing.T) {
	n := newNode(t)
	conf := strings.Replace(n.bridge(), `"subnet": "10.88.0.0/16"`,
		`"ranges": [[{"subnet": "fd00:88::/64"}], [{"subnet": "10.88.0.0/16"}]]`, 1)
	n.write("10-bridge.conflist", conf)
	n.start()

	a := n.attach(n.sandbox("a"))

	if want := addresses("10.88.0.2", "fd00:88::2"); !cmp.Equal(want, a.IPs, compareAddrs()) {
		t.Errorf("IPs are %v, want %v", a.IPs, want)
	}
	n.detach(a.SandboxID)
	n.nothingLeft()
}

// Plugins get the same at ADD and at DEL, whatever became of the configuration.
func TestPluginsAreToldTheSameAtAddAndDel(t *testing.T) {
	n := newNode(t)
	dump := filepath.Join(t.TempDir(), "dump")
	n.write("10-bridge.conflist", n.bridge(strings.Replace(chaos(`{"dump": "`+dump+`"}`), `{`,
		`{"capabilities": {"portMappings": true, "bandwidth": true, "dns": true, "ipRanges": true, "cgroupPath": true, "io.kubernetes.cri.pod-annotations": true, "mac": true}, `, 1)))
	n.start()
	if err := n.SetPodCIDRs([]netip.Prefix{netip.MustParsePrefix("10.88.0.0/16"), netip.MustParsePrefix("fd00::/64")}); err != nil {
		t.Fatal(err)
	}
	req := n.sandbox("a")
	req.PortMappings = []*cri.PortMapping{{HostPort: 8080, ContainerPort: 80, Protocol: cri.Protocol_UDP, HostIp: "127.0.0.1"}, {ContainerPort: 81}}
	req.Annotations = map[string]string{"kubernetes.io/ingress-bandwidth": "10M"}
	req.DNS = &cri.DNSConfig{Servers: []string{"10.0.0.10"}, Searches: []string{"local"}, Options: []string{"ndots:5"}}
	req.CgroupParent = "/kubepods/pod1"

	a := n.attach(req)
	if err := os.RemoveAll(n.cfg.ConfigDir); err != nil {
		t.Fatal(err)
	}
	n.start() // nothing is remembered but the record
	n.detach(req.SandboxID)

	calls := n.calls(dump)
	if len(calls) != 2 || calls[0].Verb != "ADD" || calls[1].Verb != "DEL" {
		t.Fatalf("calls are %+v", calls)
	}
	wantArgs := "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=pod-a;K8S_POD_INFRA_CONTAINER_ID=" + req.SandboxID + ";K8S_POD_UID=uid-a"
	wantRuntime := `{"bandwidth":{"ingressRate":10000000,"ingressBurst":1000000},"cgroupPath":"/kubepods/pod1",` +
		`"dns":{"servers":["10.0.0.10"],"searches":["local"],"options":["ndots:5"]},` +
		`"io.kubernetes.cri.pod-annotations":{"kubernetes.io/ingress-bandwidth":"10M"},` +
		`"ipRanges":[[{"subnet":"10.88.0.0/16"}],[{"subnet":"fd00::/64"}]],` +
		`"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"udp","hostIP":"127.0.0.1"}]}`
	for _, c := range calls {
		var conf struct {
			RuntimeConfig any
			PrevResult    struct{ IPs []struct{ Address string } }
		}
		if err := json.Unmarshal(c.Config, &conf); err != nil {
			t.Fatal(err)
		}
		var want any
		if err := json.Unmarshal([]byte(wantRuntime), &want); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, conf.RuntimeConfig); diff != "" {
			t.Errorf("%s: runtimeConfig (-want +got):\n%s", c.Verb, diff)
		}
		if c.Args != wantArgs || c.Netns != a.NetnsPath {
			t.Errorf("%s: CNI_ARGS %s, CNI_NETNS %s", c.Verb, c.Args, c.Netns)
		}
		if len(conf.PrevResult.IPs) != 1 || conf.PrevResult.IPs[0].Address != "10.88.0.2/16" {
			t.Errorf("%s: prevResult has %v", c.Verb, conf.PrevResult.IPs)
		}
	}
	n.nothingLeft()
}

func TestHostPorts(t *testing.T) {
	n := newNode(t)
	n.write("10-bridge.conflist", n.bridge(`{"type": "portmap", "capabilities": {"portMappings": true}}`))
	n.start()
	req := n.sandbox("a")
	req.PortMappings = []*cri.PortMapping{{HostPort: 8080, ContainerPort: 80}}

	n.attach(req)
	if got := n.left(); len(got.Chains) == 0 {
		t.Error("portmap made no rules")
	}
	n.detach(req.SandboxID)

	n.nothingLeft()
}

func TestWhatNoPluginWouldSeeToIsRefused(t *testing.T) {
	n := newNode(t)
	n.write("10-bridge.conflist", n.bridge())
	n.start()
	for name, ask := range map[string]func(*pod.AttachRequest){
		"portMappings": func(req *pod.AttachRequest) {
			req.PortMappings = []*cri.PortMapping{{HostPort: 80, ContainerPort: 80}}
		},
		"bandwidth": func(req *pod.AttachRequest) {
			req.Annotations = map[string]string{"kubernetes.io/egress-bandwidth": "1M"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			req := n.sandbox(name)
			ask(&req)
			_, err := n.Attach(t.Context(), req)
			if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "10-bridge.conflist") || !strings.Contains(err.Error(), name) {
				t.Errorf("error is %v", err)
			}
			n.nothingLeft(req.SandboxID)
		})
	}
}

func TestAttachRefusesWhatIsNotRight(t *testing.T) {
	n := newNode(t)
	n.write("10-bridge.conflist", n.bridge())
	n.start()
	restarted := errors.New("it runs as another process")
	for name, tc := range map[string]struct {
		change func(*pod.AttachRequest)
		want   error
	}{
		"process gone":     {func(req *pod.AttachRequest) { req.PID = 1 << 30 }, errdefs.ErrFailedPrecondition},
		"node's namespace": {func(req *pod.AttachRequest) { req.PID = os.Getpid() }, errdefs.ErrFailedPrecondition},
		"bad name":         {func(req *pod.AttachRequest) { req.Name = "a;K8S_POD_NAMESPACE=b" }, errdefs.ErrInvalidArgument},
		"not confirmed":    {func(req *pod.AttachRequest) { req.Confirm = func(context.Context) error { return restarted } }, restarted},
	} {
		t.Run(name, func(t *testing.T) {
			req := n.sandbox(name)
			tc.change(&req)
			if _, err := n.Attach(t.Context(), req); !errors.Is(err, tc.want) {
				t.Errorf("error is %v, want %v", err, tc.want)
			}
			n.nothingLeft()
		})
	}
}

func TestAttachTwiceIsRefused(t *testing.T) {
	n := newNode(t)
	n.write("10-bridge.conflist", n.bridge())
	n.start()
	req := n.sandbox("a")
	before := n.attach(req)

	if _, err := n.Attach(t.Context(), req); !errdefs.IsAlreadyExists(err) {
		t.Errorf("error is %v", err)
	}
	if after, _ := n.Attachment(req.SandboxID); !cmp.Equal(before, after, compareAddrs()) {
		t.Errorf("attachment became %v", after)
	}
	n.detach(req.SandboxID)
	n.nothingLeft()
}

func TestAttachInParallel(t *testing.T) {
	n := newNode(t)
	n.write("10-bridge.conflist", n.bridge())
	n.start()
	var wg sync.WaitGroup
	for range 3 {
		for i := range 6 {
			req := n.sandbox(string(rune('a' + i)))
			wg.Go(func() {
				if _, err := n.Attach(t.Context(), req); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		seen := map[netip.Addr]bool{}
		for _, a := range n.Attachments() {
			seen[a.IPs[0]] = true
			wg.Go(func() {
				if err := n.Detach(t.Context(), a.SandboxID, nil); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if len(seen) != 6 {
			t.Errorf("6 pods have %d addresses", len(seen))
		}
		n.nothingLeft()
	}
}
