package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine"
	"github.com/mascri/mascri/internal/engine/enginetest"
)

const selinuxRefused = "selinux_options"

// runFields is the table for RunPodSandbox, on a machine without SELinux and AppArmor.
var runFields = merge(map[string]field{
	"runtime_handler": {nil, func(t *testing.T, n *node, s sandbox) {
		if got := n.docker(t, "inspect", "-f", "{{.HostConfig.Runtime}}", s.id); got != "runc" || s.status.GetRuntimeHandler() != "runc" {
			t.Errorf("runtime %q, reported %q", got, s.status.GetRuntimeHandler())
		}
	}, 0, ""},

	"config.metadata.name":      {func(*testing.T, *cri.PodSandboxConfig) {}, wantName("k8s_POD_web_default_uid-web_0"), 0, ""},
	"config.metadata.uid":       {func(_ *testing.T, c *cri.PodSandboxConfig) { c.Metadata.Uid = "u-9" }, wantName("k8s_POD_web_default_u-9_0"), 0, ""},
	"config.metadata.namespace": {func(_ *testing.T, c *cri.PodSandboxConfig) { c.Metadata.Namespace = "shop" }, wantName("k8s_POD_web_shop_uid-web_0"), 0, ""},
	"config.metadata.attempt":   {func(_ *testing.T, c *cri.PodSandboxConfig) { c.Metadata.Attempt = 7 }, wantName("k8s_POD_web_default_uid-web_7"), 0, ""},
	"config.hostname": {func(_ *testing.T, c *cri.PodSandboxConfig) { c.Hostname = "my-host" }, func(t *testing.T, n *node, s sandbox) {
		if got := s.uname(t); got != "my-host" {
			t.Errorf("hostname %q", got)
		}
		wantInFile("/etc/hostname", "my-host\n")(t, n, s)
		wantInFile("/etc/hosts", s.ips[0].String()+"\tmy-host\n")(t, n, s)
	}, 0, ""},
	"config.log_directory": {func(_ *testing.T, c *cri.PodSandboxConfig) { c.LogDirectory = logDirectory }, func(t *testing.T, _ *node, _ sandbox) {
		if stat, err := os.Stat(logDirectory); err != nil || !stat.IsDir() {
			t.Errorf("log directory: %v", err)
		}
	}, 0, ""},
	"config.dns_config.servers": {func(_ *testing.T, c *cri.PodSandboxConfig) {
		c.DnsConfig = &cri.DNSConfig{Servers: []string{"192.0.2.53"}}
	}, wantInFile("/etc/resolv.conf", "nameserver 192.0.2.53\n"), 0, ""},
	"config.dns_config.searches": {func(_ *testing.T, c *cri.PodSandboxConfig) {
		c.DnsConfig = &cri.DNSConfig{Searches: []string{"a.example", "b.example"}}
	}, wantInFile("/etc/resolv.conf", "search a.example b.example\n"), 0, ""},
	"config.dns_config.options": {func(_ *testing.T, c *cri.PodSandboxConfig) {
		c.DnsConfig = &cri.DNSConfig{Options: []string{"ndots:5", "edns0"}}
	}, wantInFile("/etc/resolv.conf", "options ndots:5 edns0\n"), 0, ""},

	"config.port_mappings.protocol":       {mapPort(&cri.PortMapping{Protocol: cri.Protocol_UDP, HostPort: 8053, ContainerPort: 53}), wantUDP("127.0.0.1:8053", 53), 0, ""},
	"config.port_mappings.container_port": {mapPort(&cri.PortMapping{HostPort: 8081, ContainerPort: 81}), wantTCP("127.0.0.1", 8081, 81), 0, ""},
	"config.port_mappings.host_port":      {mapPort(&cri.PortMapping{HostPort: 8082, ContainerPort: 80}), wantTCP("127.0.0.1", 8082, 80), 0, ""},
	"config.port_mappings.host_ip": {mapPort(&cri.PortMapping{HostPort: 8083, ContainerPort: 80, HostIp: "10.88.0.1"}), func(t *testing.T, n *node, s sandbox) {
		wantTCP("10.88.0.1", 8083, 80)(t, n, s)
		if seen, err := dial(t, nodeNetns, netip.MustParseAddr("127.0.0.1"), 8083); err == nil {
			t.Errorf("another address of the node answers, too: %q", seen)
		}
	}, 0, ""},
	"config.labels": {func(_ *testing.T, c *cri.PodSandboxConfig) { c.Labels = map[string]string{"app": "web"} }, func(t *testing.T, _ *node, s sandbox) {
		if s.status.GetLabels()["app"] != "web" {
			t.Errorf("labels %v", s.status.GetLabels())
		}
	}, 0, ""},
	"config.annotations": {func(_ *testing.T, c *cri.PodSandboxConfig) { c.Annotations = map[string]string{"note": "ä\n"} }, func(t *testing.T, _ *node, s sandbox) {
		if s.status.GetAnnotations()["note"] != "ä\n" {
			t.Errorf("annotations %v", s.status.GetAnnotations())
		}
	}, 0, ""},
	"config.windows": {func(_ *testing.T, c *cri.PodSandboxConfig) { c.Windows = &cri.WindowsPodSandboxConfig{} }, nil, codes.InvalidArgument, "windows"},

	"config.linux.cgroup_parent": {func(_ *testing.T, c *cri.PodSandboxConfig) {
		linux(c).CgroupParent = "/" + os.Getenv("MASCRI_TEST_CGROUP") + "/pod1"
	}, func(t *testing.T, _ *node, s sandbox) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", s.pid(t)))
		if err != nil || !strings.Contains(string(text), "/pod1/"+s.id) {
			t.Errorf("cgroups: %v\n%s", err, text)
		}
	}, 0, ""},
	"config.linux.sysctls": {func(_ *testing.T, c *cri.PodSandboxConfig) {
		linux(c).Sysctls = map[string]string{"net.ipv4.ip_unprivileged_port_start": "17", "net/ipv6/conf/all/disable_ipv6": "0"}
	}, func(t *testing.T, _ *node, s sandbox) {
		inNetns(t, s.netns, func() {
			if text, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start"); err != nil || string(text) != "17\n" {
				t.Errorf("sysctl: %q, %v", text, err)
			}
		})
	}, 0, ""},
}, securityFields, resourceFields("overhead", "io.kubernetes.cri-o.PodLinuxOverhead"), resourceFields("resources", "io.kubernetes.cri-o.PodLinuxResources"))

var securityFields = prefixed("config.linux.security_context.", map[string]field{
	"namespace_options.network":   {func(_ *testing.T, c *cri.PodSandboxConfig) { namespaces(c).Network = cri.NamespaceMode_NODE }, wantHostNetwork, 0, ""},
	"namespace_options.pid":       {func(_ *testing.T, c *cri.PodSandboxConfig) { namespaces(c).Pid = cri.NamespaceMode_NODE }, wantShared("pid", true), 0, ""},
	"namespace_options.ipc":       {func(_ *testing.T, c *cri.PodSandboxConfig) { namespaces(c).Ipc = cri.NamespaceMode_NODE }, wantShared("ipc", true), 0, ""},
	"namespace_options.target_id": {func(_ *testing.T, c *cri.PodSandboxConfig) { namespaces(c).TargetId = "x" }, nil, codes.InvalidArgument, "target_id"},
	"namespace_options.userns_options.mode": {func(_ *testing.T, c *cri.PodSandboxConfig) {
		namespaces(c).UsernsOptions = &cri.UserNamespace{Mode: cri.NamespaceMode_NODE}
	}, wantShared("user", true), 0, ""},
	"namespace_options.userns_options.uids.host_id":      mapping(&cri.UserNamespace{Uids: []*cri.IDMapping{{HostId: 1, Length: 1}}}),
	"namespace_options.userns_options.uids.container_id": mapping(&cri.UserNamespace{Uids: []*cri.IDMapping{{ContainerId: 1, Length: 1}}}),
	"namespace_options.userns_options.uids.length":       mapping(&cri.UserNamespace{Uids: []*cri.IDMapping{{Length: 1}}}),
	"namespace_options.userns_options.gids.host_id":      mapping(&cri.UserNamespace{Gids: []*cri.IDMapping{{HostId: 1, Length: 1}}}),
	"namespace_options.userns_options.gids.container_id": mapping(&cri.UserNamespace{Gids: []*cri.IDMapping{{ContainerId: 1, Length: 1}}}),
	"namespace_options.userns_options.gids.length":       mapping(&cri.UserNamespace{Gids: []*cri.IDMapping{{Length: 1}}}),

	"selinux_options.user":  {selinux(&cri.SELinuxOption{User: "u"}), nil, codes.FailedPrecondition, selinuxRefused},
	"selinux_options.role":  {selinux(&cri.SELinuxOption{Role: "r"}), nil, codes.FailedPrecondition, selinuxRefused},
	"selinux_options.type":  {selinux(&cri.SELinuxOption{Type: "t"}), nil, codes.FailedPrecondition, selinuxRefused},
	"selinux_options.level": {selinux(&cri.SELinuxOption{Level: "s0"}), nil, codes.FailedPrecondition, selinuxRefused},

	"run_as_user.value": {func(_ *testing.T, c *cri.PodSandboxConfig) { security(c).RunAsUser = &cri.Int64Value{Value: 1234} }, wantStatus("Uid", "1234 1234 1234 1234"), 0, ""},
	"run_as_group.value": {func(_ *testing.T, c *cri.PodSandboxConfig) {
		security(c).RunAsUser, security(c).RunAsGroup = &cri.Int64Value{Value: 1234}, &cri.Int64Value{Value: 2345}
	}, wantStatus("Gid", "2345 2345 2345 2345"), 0, ""},
	"supplemental_groups": {func(_ *testing.T, c *cri.PodSandboxConfig) { security(c).SupplementalGroups = []int64{5000, 6000} }, wantGroups, 0, ""},
	"supplemental_groups_policy": {func(_ *testing.T, c *cri.PodSandboxConfig) {
		security(c).SupplementalGroups, security(c).SupplementalGroupsPolicy = []int64{5000, 6000}, cri.SupplementalGroupsPolicy_Strict
	}, wantGroups, 0, ""},
	"readonly_rootfs": {func(_ *testing.T, c *cri.PodSandboxConfig) { security(c).ReadonlyRootfs = true }, func(t *testing.T, _ *node, s sandbox) {
		mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mounts", s.pid(t)))
		root, _, _ := strings.Cut(string(mounts), "\n")
		if fields := strings.Fields(root); err != nil || len(fields) < 4 || fields[1] != "/" || !strings.HasPrefix(fields[3], "ro,") {
			t.Errorf("root file system: %q, %v", root, err)
		}
	}, 0, ""},
	"privileged": {func(_ *testing.T, c *cri.PodSandboxConfig) {
		security(c).Privileged, security(c).Seccomp = true, &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault}
	}, wantStatus("Seccomp", "0"), 0, ""},
	"seccomp.profile_type": {func(_ *testing.T, c *cri.PodSandboxConfig) {
		security(c).Seccomp = &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault}
	}, wantStatus("Seccomp", "2"), 0, ""},
	"seccomp.localhost_ref": {func(t *testing.T, c *cri.PodSandboxConfig) {
		security(c).Seccomp = &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: writeProfile(t)}
	}, wantNoSockets, 0, ""},
	"seccomp_profile_path": {func(t *testing.T, c *cri.PodSandboxConfig) {
		security(c).SeccompProfilePath = "localhost/" + writeProfile(t) //nolint:staticcheck // deprecated, but clients still send it
	}, wantNoSockets, 0, ""},
	"apparmor.profile_type": {func(_ *testing.T, c *cri.PodSandboxConfig) {
		security(c).Apparmor = &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Unconfined}
	}, func(t *testing.T, n *node, s sandbox) {
		if got := n.docker(t, "inspect", "-f", "{{.HostConfig.SecurityOpt}}", s.id); !strings.Contains(got, "apparmor=unconfined") {
			t.Errorf("security options %s", got)
		}
	}, 0, ""},
	"apparmor.localhost_ref": {func(_ *testing.T, c *cri.PodSandboxConfig) {
		security(c).Apparmor = &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: "mine"}
	}, nil, codes.FailedPrecondition, "apparmor"},
})

const logDirectory = "/run/pod-logs/web"

// resourceFields are the pod's sums. Its cgroup, which the kubelet makes, holds the
// limits; they are passed to runtimes that size a machine by them, and reported.
func resourceFields(name, annotation string) map[string]field {
	row := func(r *cri.LinuxContainerResources, reported, passed string) field {
		return field{func(_ *testing.T, c *cri.PodSandboxConfig) {
			if name == "overhead" {
				linux(c).Overhead = r
			} else {
				linux(c).Resources = r
			}
		}, wantAnnotation(reported, annotation, passed), 0, ""}
	}
	return prefixed("config.linux."+name+".", map[string]field{
		"cpu_period":                 row(&cri.LinuxContainerResources{CpuPeriod: 101}, `"cpuPeriod":"101"`, `"cpu_period":101`),
		"cpu_quota":                  row(&cri.LinuxContainerResources{CpuQuota: 102}, `"cpuQuota":"102"`, `"cpu_quota":102`),
		"cpu_shares":                 row(&cri.LinuxContainerResources{CpuShares: 103}, `"cpuShares":"103"`, `"cpu_shares":103`),
		"memory_limit_in_bytes":      row(&cri.LinuxContainerResources{MemoryLimitInBytes: 104}, `"memoryLimitInBytes":"104"`, `"memory_limit_in_bytes":104`),
		"oom_score_adj":              row(&cri.LinuxContainerResources{OomScoreAdj: 105}, `"oomScoreAdj":"105"`, `"oom_score_adj":105`),
		"cpuset_cpus":                row(&cri.LinuxContainerResources{CpusetCpus: "0-1"}, `"cpusetCpus":"0-1"`, `"cpuset_cpus":"0-1"`),
		"cpuset_mems":                row(&cri.LinuxContainerResources{CpusetMems: "0"}, `"cpusetMems":"0"`, `"cpuset_mems":"0"`),
		"hugepage_limits.page_size":  row(&cri.LinuxContainerResources{HugepageLimits: []*cri.HugepageLimit{{PageSize: "2MB"}}}, `"pageSize":"2MB"`, `"page_size":"2MB"`),
		"hugepage_limits.limit":      row(&cri.LinuxContainerResources{HugepageLimits: []*cri.HugepageLimit{{Limit: 106}}}, `"limit":"106"`, `"limit":106`),
		"unified":                    row(&cri.LinuxContainerResources{Unified: map[string]string{"memory.high": "107"}}, `"memory.high":"107"`, `"memory.high":"107"`),
		"memory_swap_limit_in_bytes": row(&cri.LinuxContainerResources{MemorySwapLimitInBytes: 108}, `"memorySwapLimitInBytes":"108"`, `"memory_swap_limit_in_bytes":108`),
	})
}

func mapping(userns *cri.UserNamespace) field {
	return field{func(_ *testing.T, c *cri.PodSandboxConfig) { namespaces(c).UsernsOptions = userns }, nil, codes.Unimplemented, "userns_options"}
}

func selinux(o *cri.SELinuxOption) func(*testing.T, *cri.PodSandboxConfig) {
	return func(_ *testing.T, c *cri.PodSandboxConfig) { security(c).SelinuxOptions = o }
}

func mapPort(m *cri.PortMapping) func(*testing.T, *cri.PodSandboxConfig) {
	return func(_ *testing.T, c *cri.PodSandboxConfig) { c.PortMappings = []*cri.PortMapping{m} }
}

func wantName(want string) func(*testing.T, *node, sandbox) {
	return func(t *testing.T, n *node, s sandbox) {
		t.Helper()
		m := s.status.GetMetadata()
		reported := fmt.Sprintf("k8s_POD_%s_%s_%s_%d", m.GetName(), m.GetNamespace(), m.GetUid(), m.GetAttempt())
		if got := n.docker(t, "inspect", "-f", "{{.Name}}", s.id); got != "/"+want || reported != want {
			t.Errorf("container %s, metadata %v", got, m)
		}
	}
}

func wantGroups(t *testing.T, n *node, s sandbox) {
	t.Helper()
	groups := " " + s.procStatus(t, "Groups") + " "
	if !strings.Contains(groups, " 5000 ") || !strings.Contains(groups, " 6000 ") {
		t.Errorf("groups%s", groups)
	}
}

func wantHostNetwork(t *testing.T, n *node, s sandbox) {
	t.Helper()
	wantShared("net", true)(t, n, s)
	wantShared("uts", true)(t, n, s)
	if s.netns != "" || len(s.ips) > 0 || len(reservations(t)) > 0 {
		t.Errorf("a pod on the node's network has netns %q, IPs %v, reservations %v", s.netns, s.ips, reservations(t))
	}
}

// wantTCP checks that a port of the node leads to a port of the pod.
func wantTCP(nodeIP string, hostPort, podPort int) func(*testing.T, *node, sandbox) {
	return func(t *testing.T, _ *node, s sandbox) {
		t.Helper()
		server(t, s.netns, podPort)
		if _, err := dial(t, nodeNetns, netip.MustParseAddr(nodeIP), hostPort); err != nil {
			t.Errorf("port %d of the node: %v", hostPort, err)
		}
	}
}

// wantUDP checks that a datagram to the node's port arrives at the pod's.
func wantUDP(to string, podPort int) func(*testing.T, *node, sandbox) {
	return func(t *testing.T, _ *node, s sandbox) {
		t.Helper()
		var inPod net.PacketConn
		var err error
		inNetns(t, s.netns, func() { inPod, err = net.ListenPacket("udp", fmt.Sprintf(":%d", podPort)) })
		if err != nil {
			t.Fatal(err)
		}
		defer inPod.Close()
		conn, err := net.Dial("udp", to)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		buffer := make([]byte, 16)
		if err := inPod.SetReadDeadline(time.Now().Add(3 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if n, _, err := inPod.ReadFrom(buffer); err != nil || string(buffer[:n]) != "hello" {
			t.Errorf("the pod got %q, %v", buffer[:n], err)
		}
	}
}

func prefixed[Row any](prefix string, rows map[string]Row) map[string]Row {
	out := map[string]Row{}
	for path, row := range rows {
		out[prefix+path] = row
	}
	return out
}

func merge[Row any](tables ...map[string]Row) map[string]Row {
	out := map[string]Row{}
	for _, table := range tables {
		for path, row := range table {
			out[path] = row
		}
	}
	return out
}

// What no field asks for is the sandbox's own, or what the CRI says.
func TestDefaults(t *testing.T) {
	bothEngines(t, func(t *testing.T, version enginetest.Version) {
		n := newNode(t, version, userConf())
		s := n.runPod(t, config("web"))
		for _, kind := range []string{"net", "pid", "ipc", "uts", "mnt"} {
			wantShared(kind, false)(t, n, s)
		}
		wantStatus("Seccomp", "0")(t, n, s) // unset is unconfined
		wantStatus("CapEff", "0000000000000000")(t, n, s)
		wantStatus("Uid", "0 0 0 0")(t, n, s)
		if got := s.uname(t); got != s.id[:12] {
			t.Errorf("hostname %q, want the id's first digits", got)
		}
		if text, err := os.ReadFile("/etc/resolv.conf"); err != nil || s.file(t, "/etc/resolv.conf") != string(text) {
			t.Errorf("resolv.conf is not the node's: %v\n%s", err, s.file(t, "/etc/resolv.conf"))
		}
		score, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", s.pid(t)))
		if floor, restricted := engine.OOMFloor(); err != nil || restricted && string(score) != fmt.Sprintln(max(-998, floor)) || !restricted && string(score) != "-998\n" {
			t.Errorf("oom_score_adj %q, %v", score, err)
		}
		n.removePod(t, s.id)
		n.wantWhole(t, 0)
	})
}

// The fields of the other requests that no other test of this package observes.
func TestOtherFields(t *testing.T) {
	n := newNode(t, enginetest.Engine20, nil)
	labelled := config("labelled")
	labelled.Labels = map[string]string{"app": "web"}
	a, b := n.runPod(t, labelled), n.runPod(t, config("other"))
	if _, err := n.cri.StopPodSandbox(t.Context(), &cri.StopPodSandboxRequest{PodSandboxId: b.id}); err != nil {
		t.Fatal(err)
	}
	for name, filter := range map[string]*cri.PodSandboxFilter{
		"id":             {Id: a.id},
		"state":          {State: &cri.PodSandboxStateValue{State: cri.PodSandboxState_SANDBOX_READY}},
		"label_selector": {LabelSelector: map[string]string{"app": "web"}},
	} {
		list, err := n.cri.ListPodSandbox(t.Context(), &cri.ListPodSandboxRequest{Filter: filter})
		if err != nil || len(list.GetItems()) != 1 || list.GetItems()[0].GetId() != a.id {
			t.Errorf("list by %s: %v, %v", name, list, err)
		}
		stream, err := n.cri.StreamPodSandboxes(t.Context(), &cri.StreamPodSandboxesRequest{Filter: filter})
		if err != nil {
			t.Fatal(err)
		}
		if batch, err := stream.Recv(); err != nil || len(batch.GetPodSandboxes()) != 1 || batch.GetPodSandboxes()[0].GetId() != a.id {
			t.Errorf("stream by %s: %v, %v", name, batch, err)
		}
	}
	n.removePod(t, a.id)
	n.removePod(t, b.id)

	if _, err := n.cri.Version(t.Context(), &cri.VersionRequest{Version: "v1alpha2"}); err == nil || !strings.Contains(err.Error(), "v1alpha2") {
		t.Errorf("a version that is not spoken: %v", err)
	}
	for _, verbose := range []bool{false, true} {
		status, err := n.cri.Status(t.Context(), &cri.StatusRequest{Verbose: verbose})
		if err != nil || (len(status.GetInfo()) > 0) != verbose {
			t.Errorf("status, verbose %v: info %v, %v", verbose, status.GetInfo(), err)
		}
	}

	// With a pod CIDR the default network is off, and a config that takes ranges gets it.
	n.writeConf(t, "10-ranges.conflist", `{"cniVersion": "1.0.0", "name": "ranges", "plugins": [{"type": "bridge", "bridge": "cni0", "isGateway": true,
	  "capabilities": {"ipRanges": true}, "ipam": {"type": "host-local"}}]}`)
	update := &cri.UpdateRuntimeConfigRequest{RuntimeConfig: &cri.RuntimeConfig{NetworkConfig: &cri.NetworkConfig{PodCidr: "10.99.7.0/24"}}}
	if _, err := n.cri.UpdateRuntimeConfig(t.Context(), update); err != nil {
		t.Fatal(err)
	}
	ranged := n.runPod(t, config("ranged"))
	if !netip.MustParsePrefix("10.99.7.0/24").Contains(ranged.ips[0]) {
		t.Errorf("the pod got %v", ranged.ips)
	}
	n.removePod(t, ranged.id)
	if err := os.Remove(filepath.Join(n.conf, "10-ranges.conflist")); err != nil {
		t.Fatal(err)
	}
	n.wantWhole(t, 0)
}
