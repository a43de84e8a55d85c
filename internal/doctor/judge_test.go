package doctor

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/golden"
	"github.com/mascri/mascri/internal/network/firewall"
	"github.com/mascri/mascri/internal/pod"
)

// healthy is a node where all is well and the daemon runs.
func healthy() seen {
	network := pod.NetworkStatus{
		Ready:      true,
		Network:    "pods",
		ConfigFile: "/etc/cni/net.d/10-bridge.conf",
		Plugins: []pod.Plugin{
			{Type: "bridge", Path: "/opt/cni/bin/bridge"},
			{Type: "host-local", IPAM: true, Path: "/opt/cni/bin/host-local"},
		},
		Subnets:    []string{"10.88.0.0/16"},
		Links:      []pod.Link{{Name: "cni0", Plugin: "bridge"}},
		CNIVersion: "1.0.0",
		ConfigDir:  "/etc/cni/net.d",
		BinDirs:    []string{"/opt/cni/bin", "/usr/lib/cni"},
		Forwarding: pod.Forwarding{OK: true, Message: "DOCKER-USER (iptables-nft)"},
	}
	return seen{
		engineHost: "unix:///var/run/docker.sock",
		engine: pod.EngineFacts{
			Version: "28.5.2", APIVersion: "1.51", CgroupDriver: "systemd", CgroupVersion: "2",
		},
		systemd:        true,
		image:          Image{Ref: "localhost/mascri/sandbox:0123456789ab", Embedded: true},
		netnsDir:       "/run/netns",
		network:        network,
		defaultNetwork: true,
		firewall: firewall.Report{
			Chains: []firewall.ForwardChain{
				{Flavour: "iptables-nft", Drops: true, DockerUser: true, By: []string{"Docker"}},
				{Flavour: "ip6tables-nft", DockerUser: true},
			},
			IPv4: true,
		},
		ipv6: true,
		addresses: []address{
			{"lo", netip.MustParsePrefix("127.0.0.1/8")},
			{"cni0", netip.MustParsePrefix("10.88.0.1/16")},
			{"cni0", netip.MustParsePrefix("10.88.255.1/16")},
			{"veth1", netip.MustParsePrefix("10.88.0.1/32")}, // plugin ptp does so
		},
		kernel: kernel{
			links:   []link{{"eth0", "device", 1500, 0}, {"cni0", "bridge", 1500, 12}, {"wg0", "wireguard", 1420, 0}},
			uplinks: []uplink{{link: "eth0", mtu: 1500}},
			routes:  []route{{"wg0", netip.MustParsePrefix("10.200.0.0/16")}, {"wg0", netip.MustParsePrefix("0.0.0.0/1")}, {"cni0", netip.MustParsePrefix("10.88.4.0/24")}, {"veth1", netip.MustParsePrefix("10.88.0.9/32")}},
			sysctls: map[string]string{bridgeNF: "1", bridgeNF6: "1", rpFilter: "0", linkRPFilter("eth0"): "1", disableIPv6: "0"},
		},
		pools:       []occupied{{pool: pod.Pool{Subnet: netip.MustParsePrefix("10.88.0.0/16")}, used: 12, free: 65521}},
		enginePools: []netip.Prefix{netip.MustParsePrefix("172.17.0.0/16")},
		versions: []pluginVersion{
			{plugin: "bridge", release: "CNI bridge plugin v1.9.1", supported: []string{"0.4.0", "1.0.0", "1.1.0"}},
			{plugin: "host-local", supported: []string{"1.0.0"}},
		},
		commands: commands{iptables: "iptables v1.8.9 (nf_tables)"},
		daemon: daemon{
			socket: "/run/mascri/mascri.sock", mode: fs.ModeSocket | 0o660, name: "mascri", version: "1.2.3",
			conditions: []*cri.RuntimeCondition{{Type: "RuntimeReady", Status: true}, {Type: "NetworkReady", Status: true}},
			network:    &network,
			metrics:    served{Address: "127.0.0.1:10247"},
		},
	}
}

// withoutDaemon is the same node before the daemon's first start.
func withoutDaemon(s *seen) {
	s.daemon = daemon{socket: s.daemon.socket, statErr: fs.ErrNotExist}
	s.network.Forwarding = pod.Forwarding{}
}

func TestHealthyNode(t *testing.T) {
	report := judge(healthy())
	if report.Level != OK {
		t.Errorf("level %s", report.Level)
	}
	var b bytes.Buffer
	if err := report.WriteText(&b, false); err != nil {
		t.Fatal(err)
	}
	golden.Compare(t, "healthy.txt", b.Bytes())
}

func TestSickNode(t *testing.T) {
	s := healthy()
	withoutDaemon(&s)
	s.engine.Problems = []pod.Problem{{Reason: "EngineUsernsRemap", Message: "Docker Engine runs with userns-remap: its containers can't own the network namespaces that CNI sets up", Fix: `remove "userns-remap" from /etc/docker/daemon.json`}}
	s.network.Ready = false
	s.network.Plugins[0] = pod.Plugin{Type: "bridge", Err: `plugin "bridge" not found in /opt/cni/bin, /usr/lib/cni`}
	report := judge(s)
	if report.Level != Fail {
		t.Errorf("level %s", report.Level)
	}
	var plain, coloured bytes.Buffer
	if err := report.WriteText(&plain, false); err != nil {
		t.Fatal(err)
	}
	golden.Compare(t, "sick.txt", plain.Bytes())
	for line := range strings.Lines(plain.String()) {
		if len(line) > 81 && strings.Contains(strings.TrimSpace(line[indent:]), " ") {
			t.Errorf("a line of %d columns that could be broken: %s", len(line)-1, line)
		}
	}
	if err := report.WriteText(&coloured, true); err != nil {
		t.Fatal(err)
	}
	uncoloured := strings.NewReplacer("\x1b[32m", "", "\x1b[33m", "", "\x1b[31;1m", "", "\x1b[0m", "").Replace(coloured.String())
	if uncoloured != plain.String() || !strings.Contains(coloured.String(), "\x1b[31;1mfail\x1b[0m  engine ") {
		t.Errorf("coloured text:\n%q", coloured.String())
	}
}

func TestVerdicts(t *testing.T) {
	tests := []struct {
		name   string
		change func(*seen)
		check  string
		want   []string // level: message | fix, of the check
	}{
		{"not root", func(s *seen) { s.euid = 1000 }, "user", []string{
			"fail: runs as user 1000, which sees too little of what is examined below | run it as root, such as by sudo"}},

		{"no engine", func(s *seen) { s.engineErr = errors.New("ping: connection refused") }, "engine", []string{
			"fail: ping: connection refused | start Docker Engine (systemctl start docker), or set engine.host if it is not at unix:///var/run/docker.sock"}},
		{"no engine, so no cgroups", func(s *seen) { s.engineErr = errors.New("x") }, "cgroups", nil},
		{"no engine, so no image", func(s *seen) { s.engineErr = errors.New("x") }, "sandbox image", nil},
		{"engine whose settings break pods", func(s *seen) {
			s.engine.Problems = []pod.Problem{{Reason: "A", Message: "a is wrong", Fix: "do a"}, {Reason: "B", Message: "b is wrong", Fix: "do b"}}
		}, "engine", []string{
			"ok: Docker Engine 28.5.2, API 1.51, at unix:///var/run/docker.sock",
			"fail: a is wrong | do a",
			"fail: b is wrong | do b"}},

		{"metrics are switched off", func(s *seen) { s.daemon.metrics = served{} }, "metrics", nil},
		{"the address of metrics is taken", func(s *seen) { s.daemon.metrics.Error = "address already in use" }, "metrics", []string{
			"warn: not served at 127.0.0.1:10247: address already in use | end what has the address, or set metrics.address to another; the daemon tries again by itself, every 30 seconds"}},

		{"no cgroup driver", func(s *seen) { s.engine.CgroupDriver = "none" }, "cgroups", []string{
			`fail: the engine's cgroup driver is "none": pods would have no limits | let dockerd write the cgroups of this machine, with "exec-opts": ["native.cgroupdriver=systemd"] (or cgroupfs) in /etc/docker/daemon.json`}},
		{"cgroup v1", func(s *seen) { s.engine.CgroupDriver, s.engine.CgroupVersion = "cgroupfs", "1" }, "cgroups", []string{
			"ok: version 1, driver cgroupfs, as the kubelet is told",
			"warn: cgroups are version 1: the kubelet refuses to start there from Kubernetes 1.35 on | boot with cgroup v2 (systemd.unified_cgroup_hierarchy=1), or set failCgroupV1: false for the kubelet"}},
		{"two writers of cgroups", func(s *seen) { s.engine.CgroupDriver = "cgroupfs" }, "cgroups", []string{
			"ok: version 2, driver cgroupfs, as the kubelet is told",
			`warn: systemd manages the cgroups of this machine, and the engine writes them behind its back | set "exec-opts": ["native.cgroupdriver=systemd"] in /etc/docker/daemon.json and restart dockerd`}},
		{"cgroupfs without systemd", func(s *seen) { s.engine.CgroupDriver, s.systemd = "cgroupfs", false }, "cgroups", []string{
			"ok: version 2, driver cgroupfs, as the kubelet is told"}},

		{"oom_score_adj is clamped", func(s *seen) { s.oomFloor, s.oomRestricted = -17, true }, "oom_score_adj", []string{
			"warn: values below -17 are raised to it, as CAP_SYS_RESOURCE is missing: the kernel may kill pods of higher priority first | start the daemon with CAP_SYS_RESOURCE, which root has outside of containers"}},

		{"own image not loaded yet", func(s *seen) { s.imageErr = errdefs.ErrNotFound }, "sandbox image", []string{
			"ok: localhost/mascri/sandbox:0123456789ab is loaded into the engine when it is needed"}},
		{"named image missing", func(s *seen) {
			s.image, s.imageErr = Image{Ref: "pause:3.10"}, fmt.Errorf("image: %w", errdefs.ErrNotFound)
		}, "sandbox image", []string{
			"fail: the engine does not have pause:3.10, which sandbox_image names | docker pull pause:3.10, or remove sandbox_image to use the image that mascri brings"}},
		{"image can't be inspected", func(s *seen) { s.imageErr = errors.New("layer store is broken") }, "sandbox image", []string{
			"fail: layer store is broken | mend what the engine complains of"}},
		{"built without the image", func(s *seen) { s.image = Image{Embedded: true, Err: errors.New("built without it")} }, "sandbox image", []string{
			"fail: built without it | build mascri with make, or set sandbox_image"}},

		{"mounting is refused", func(s *seen) { s.netnsErr = errors.Join(errors.New("EPERM"), errors.New("ENOENT")) }, "netns", []string{
			"fail: network namespaces can't be pinned in /run/netns: EPERM; ENOENT | run the daemon as root with CAP_SYS_ADMIN; in a container, with --privileged and --pid=host"}},

		{"network can't be examined", func(s *seen) { s.networkErr = errors.New("runtime.json is damaged") }, "CNI config", []string{
			"fail: runtime.json is damaged | mend what the error names"}},
		{"no config", func(s *seen) {
			s.network = pod.NetworkStatus{Reason: "NoNetworkConfig", Message: "no network configuration in /etc/cni/net.d", ConfigDir: "/etc/cni/net.d"}
		}, "CNI config", []string{
			"fail: NoNetworkConfig: no network configuration in /etc/cni/net.d | put a valid CNI config into /etc/cni/net.d; pods on the host network run all the same"}},
		{"plugin says it is not ready", func(s *seen) {
			s.network.Ready, s.network.Reason, s.network.Message = false, "PluginNotReady", "bridge: code 50"
		}, "CNI config", []string{
			`ok: network "pods" from /etc/cni/net.d/10-bridge.conf, subnet 10.88.0.0/16`,
			"fail: PluginNotReady: bridge: code 50 | mend what the message names"}},
		{"other configs", func(s *seen) {
			s.network.Passed = []pod.PassedConfig{
				{File: "/etc/cni/net.d/00-bad.conf", Reason: "/etc/cni/net.d/00-bad.conf:3:1: no type", Invalid: true},
				{File: "/etc/cni/net.d/20-other.conf", Reason: "10-bridge.conf comes first in lexical order"},
			}
		}, "CNI config", []string{
			`ok: network "pods" from /etc/cni/net.d/10-bridge.conf, subnet 10.88.0.0/16`,
			"warn: passed over: /etc/cni/net.d/00-bad.conf:3:1: no type | mend or remove /etc/cni/net.d/00-bad.conf",
			"ok: passed over: /etc/cni/net.d/20-other.conf: 10-bridge.conf comes first in lexical order"}},

		{"plugins missing", func(s *seen) {
			s.network.Ready, s.network.Reason = false, "PluginMissing"
			s.network.Plugins = []pod.Plugin{
				{Type: "bridge", Path: "/opt/cni/bin/bridge"},
				{Type: "host-local", IPAM: true, Err: "/opt/cni/bin/host-local is not executable"},
				{Type: "portmap", Err: `plugin "portmap" not found`},
			}
		}, "CNI plugins", []string{
			"ok: /opt/cni/bin/bridge",
			`fail: /opt/cni/bin/host-local is not executable | install the CNI plugins (Debian: containernetworking-plugins, in /usr/lib/cni) or put host-local into /opt/cni/bin or /usr/lib/cni`,
			`fail: plugin "portmap" not found | install the CNI plugins (Debian: containernetworking-plugins, in /usr/lib/cni) or put portmap into /opt/cni/bin or /usr/lib/cni`}},
		{"plugins missing are not said twice", func(s *seen) {
			s.network.Ready, s.network.Plugins[0] = false, pod.Plugin{Type: "bridge", Err: "not found"}
		}, "CNI config", []string{
			`ok: network "pods" from /etc/cni/net.d/10-bridge.conf, subnet 10.88.0.0/16`}},

		{"default network in use", func(s *seen) {
			s.network.ConfigFile, s.network.DefaultNetwork, s.network.Subnets = "", true, []string{"10.88.0.0/16", "fd00::/64"}
		}, "default network", []string{"ok: in use, subnet 10.88.0.0/16 and fd00::/64"}},
		{"default network to be used", func(s *seen) {
			withoutDaemon(s)
			s.network.ConfigFile, s.network.DefaultNetwork = "", true
		}, "default network", []string{"ok: used once the daemon runs, with subnets such as 10.88.0.0/16"}},
		{"default network forbidden", func(s *seen) { s.defaultNetwork = false }, "default network", []string{"ok: off by default_network = false"}},
		{"default network off in a cluster", func(s *seen) {
			s.network = pod.NetworkStatus{PodCIDRs: []string{"10.244.1.0/24"}}
		}, "default network", []string{"ok: off, as the cluster gave the pod CIDR 10.244.1.0/24"}},

		{"two bridges with the pods' addresses", func(s *seen) {
			s.addresses = append(s.addresses, address{"podman0", netip.MustParsePrefix("10.88.0.1/16")})
		}, "subnet", []string{
			"fail: cni0 and podman0 are both in 10.88.0.0/16: what is meant for a pod may be sent to the wrong one | give one of them another subnet, or remove the one that no pod uses any more with ip link delete"}},
		{"two bridges of other networks", func(s *seen) {
			s.network.Subnets = []string{"10.99.0.0/16", "not a subnet"}
			s.addresses = append(s.addresses, address{"podman0", netip.MustParsePrefix("10.88.0.1/16")})
		}, "subnet", nil},

		{"a leftover that can't be removed", func(s *seen) {
			s.network.Leaks = []pod.Leak{{Kind: pod.LeakRules, Network: "pods", What: "chain CNI-1", Error: "no\niptables"}, {Kind: pod.LeakUnreserved, Network: "pods", What: "/x/10.88.0.2"}}
		}, "leaks", []string{
			`warn: rules of network "pods" is left of a former pod: chain CNI-1: no iptables | mend what the error names: the daemon tries again every ten minutes; see mascri net leaks`,
			`warn: an address in use on network "pods" is not reserved: /x/10.88.0.2 | mend what the error names: the daemon tries again every ten minutes; see mascri net leaks`}},
		{"an attachment that can't be undone", func(s *seen) {
			s.network.Dirty = []pod.DirtyAttachment{{
				SandboxID: "0123456789abcdef", Pod: "default/web", Network: "pods", IPs: []netip.Addr{netip.MustParseAddr("10.88.0.2")},
				Since: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Tries: 4, Error: "plugin \"x\" DEL:\nexit status 1",
			}}
		}, "dirty queue", []string{
			`warn: pod default/web (sandbox 0123456789ab) is off network "pods" only in part since 2026-01-02T03:04:05Z, after 4 tries, and holds 10.88.0.2: plugin "x" DEL: exit status 1 | mend what the error names: the daemon tries again by itself, at least every five minutes and at each start`}},

		{"a record in quarantine", func(s *seen) {
			s.network.Quarantined = []pod.QuarantinedRecord{{File: "/x/a.json", Reason: "damaged: no JSON"}}
		}, "quarantine", []string{
			"warn: the record /x/a.json can't be used: damaged: no JSON | nothing needs it any more: delete it once you know how it came about, such as a state directory restored from a backup"}},

		{"forwarding is off", func(s *seen) { s.firewall.IPv4 = false }, "ip_forward", []string{
			"warn: net.ipv4.ip_forward is 0: pods reach nothing beyond their own bridge unless a CNI plugin sets it | sysctl -w net.ipv4.ip_forward=1, and the same in /etc/sysctl.d"}},
		{"forwarding is off before the first pod of the default network", func(s *seen) {
			s.network.DefaultNetwork, s.firewall.IPv4 = true, false
		}, "ip_forward", []string{"ok: net.ipv4.ip_forward is 0, and is set with the first pod of the default network"}},
		{"IPv6 forwarding is off and pods use IPv6", func(s *seen) { s.network.Subnets = []string{"10.88.0.0/16", "fd00::/64"} }, "ip_forward", []string{
			"ok: IPv4 packets are forwarded",
			"warn: net.ipv6.conf.all.forwarding is 0: pods reach nothing beyond their own bridge unless a CNI plugin sets it | sysctl -w net.ipv6.conf.all.forwarding=1, and the same in /etc/sysctl.d"}},
		{"pods would use IPv6, the kernel has none", func(s *seen) { s.network.Subnets, s.ipv6 = []string{"fd00::/64"}, false }, "ip_forward", []string{
			"ok: IPv4 packets are forwarded"}},

		{"firewall can't be read", func(s *seen) { s.firewallErr = errors.New("EPERM") }, "FORWARD", []string{"fail: EPERM | mend what the error names"}},
		{"daemon could not open the way", func(s *seen) {
			s.network.Forwarding = pod.Forwarding{Message: "accept pod subnets: iptables failed"}
		}, "FORWARD", []string{
			"fail: accept pod subnets: iptables failed | see what the message names; pods reach nobody beyond their own bridge until then"}},
		{"Docker drops, and the daemon is to come", withoutDaemon, "FORWARD", []string{
			"ok: iptables-nft drops, as Docker sets it; MasCRI lets pod subnets pass by way of DOCKER-USER",
			"ok: ip6tables-nft lets packets pass"}},
		{"somebody else drops", func(s *seen) {
			withoutDaemon(s)
			s.firewall.Chains[0].DockerUser, s.firewall.Chains[0].By = false, nil
		}, "FORWARD", []string{
			"fail: iptables-nft drops by policy, set by a program unknown here, and Docker has no chain DOCKER-USER there for MasCRI's rules | restart Docker if its chains were flushed; else accept the pod subnets in the firewall that sets the policy",
			"ok: ip6tables-nft lets packets pass"}},
		{"Docker's nftables backend drops", func(s *seen) {
			withoutDaemon(s)
			s.firewall.Chains = nil
			s.firewall.Drops = []string{"table ip docker-bridges chain filter-FORWARD", "table ip6 docker-bridges chain filter-FORWARD", "table inet firewalld chain filter_FORWARD"}
		}, "FORWARD", []string{
			`fail: table ip docker-bridges chain filter-FORWARD drops what it does not know, and an accept elsewhere can't undo that | set net.ipv4.ip_forward=1 in /etc/sysctl.d, or "ip-forward-no-drop": true in /etc/docker/daemon.json, and restart Docker`,
			`fail: table ip6 docker-bridges chain filter-FORWARD drops what it does not know, and an accept elsewhere can't undo that | set net.ipv6.conf.all.forwarding=1 in /etc/sysctl.d, or "ip-forward-no-drop": true in /etc/docker/daemon.json, and restart Docker`,
			"warn: table inet firewalld chain filter_FORWARD drops what it does not know, and an accept elsewhere can't undo that | accept the pod subnets there"}},
		{"ufw drops beside Docker", func(s *seen) { s.firewall.Chains[0].By = []string{"Docker", "ufw"} }, "FORWARD", []string{
			"ok: the daemon accepts pod subnets: DOCKER-USER (iptables-nft)",
			"ok: iptables-nft drops, as Docker or ufw sets it; MasCRI lets pod subnets pass by way of DOCKER-USER",
			"ok: ip6tables-nft lets packets pass"}},

		{"no bridge, so no bridge-nf", func(s *seen) { s.network.Links = nil }, "bridge-nf", nil},
		{"br_netfilter is missing", func(s *seen) { delete(s.kernel.sysctls, bridgeNF) }, "bridge-nf", []string{
			"warn: the kernel module br_netfilter is not loaded: packets between pods of one bridge pass no iptables rule, so Services and network policies miss them | modprobe br_netfilter, and its name into a file in /etc/modules-load.d"}},
		{"bridge-nf is off", func(s *seen) { s.kernel.sysctls[bridgeNF] = "0" }, "bridge-nf", []string{
			"warn: net.bridge.bridge-nf-call-iptables is 0: packets between pods of one bridge pass no iptables rule, so Services and network policies miss them | sysctl -w net.bridge.bridge-nf-call-iptables=1, and the same in /etc/sysctl.d"}},
		{"bridge-nf is off for IPv6 only, which pods have", func(s *seen) {
			s.kernel.sysctls[bridgeNF6] = "0"
			s.network.Subnets = append(s.network.Subnets, "fd00::/64")
		}, "bridge-nf", []string{
			"warn: net.bridge.bridge-nf-call-ip6tables is 0: the same holds for IPv6 alone | sysctl -w net.bridge.bridge-nf-call-ip6tables=1, and the same in /etc/sysctl.d"}},

		{"strict filter on a node with one way", func(s *seen) { s.kernel.sysctls[rpFilter] = "1" }, "rp_filter", []string{
			"ok: nothing is dropped by its way back that should not be"}},
		{"strict filter on a node with two ways", func(s *seen) { s.kernel.uplinks = append(s.kernel.uplinks, uplink{link: "eth1", mtu: 1500}) }, "rp_filter", []string{
			"warn: eth0 filters strictly by the way back, and ways differ on this node: what comes in where answers would not go out is dropped | sysctl -w net.ipv4.conf.all.rp_filter=2 (loose), and the same in /etc/sysctl.d"}},
		{"loose filter on a node with two ways", func(s *seen) {
			s.kernel.uplinks = append(s.kernel.uplinks, uplink{link: "eth1", mtu: 1500})
			s.kernel.sysctls[rpFilter] = "2"
		}, "rp_filter", []string{"ok: nothing is dropped by its way back that should not be"}},

		{"no IPv6 asked for", func(s *seen) { s.kernel.sysctls[disableIPv6] = "1" }, "IPv6", nil},
		{"IPv6 asked for and off", func(s *seen) {
			s.network.Subnets = append(s.network.Subnets, "fd00::/64")
			s.kernel.sysctls[disableIPv6] = "1"
		}, "IPv6", []string{
			"fail: net.ipv6.conf.all.disable_ipv6 is 1, and the network has an IPv6 subnet: pods have no way out of the node by IPv6 | sysctl -w net.ipv6.conf.all.disable_ipv6=0, and the same in /etc/sysctl.d; or take the subnet out of the CNI config"}},
		{"IPv6 in no kernel", func(s *seen) {
			s.network.Subnets = append(s.network.Subnets, "fd00::/64")
			s.ipv6 = false
		}, "IPv6", []string{
			"fail: the network has an IPv6 subnet, and the kernel has no IPv6 | boot without ipv6.disable=1, or take the subnet out of the CNI config"}},
		{"a default route from a router, by way of a daemon of the node's", func(s *seen) {
			s.network.Subnets = append(s.network.Subnets, "fd00::/64")
			s.kernel.uplinks = append(s.kernel.uplinks, uplink{link: "eth0.7", ipv6: true, byRouter: true})
			s.kernel.sysctls[acceptRA("eth0.7")] = "0"
		}, "IPv6", []string{"ok: pods and node have IPv6"}},
		{"a default route from a router", func(s *seen) {
			s.network.Subnets = append(s.network.Subnets, "fd00::/64")
			s.kernel.uplinks = append(s.kernel.uplinks, uplink{link: "eth0.7", ipv6: true, byRouter: true})
			s.kernel.sysctls[acceptRA("eth0.7")] = "1"
		}, "IPv6", []string{
			"warn: eth0.7 has its default route from a router, and net.ipv6.conf.eth0/7.accept_ra is 1: once the node forwards IPv6, it takes no more of them and the route expires | sysctl -w net.ipv6.conf.eth0/7.accept_ra=2, and the same in /etc/sysctl.d"}},

		{"a narrow uplink", func(s *seen) { s.kernel.uplinks[0].mtu = 1400 }, "MTU", []string{
			"warn: pods on cni0 send packets of up to 1500 bytes, and eth0 takes 1400: transfers to the outside hang where routers don't tell | \"mtu\": 1400 for the plugin bridge in the CNI config; pods get it when they are made anew"}},
		{"a config that knows of the narrow uplink", func(s *seen) {
			s.kernel.uplinks[0].mtu = 1400
			s.network.Links[0].MTU = 1400
		}, "MTU", []string{"ok: 1400 on cni0, 1400 on eth0"}},
		{"no way out", func(s *seen) { s.kernel.uplinks = nil }, "MTU", nil},

		{"full subnet and bridge", func(s *seen) {
			s.pools[0].used, s.pools[0].free = 65533, 0
			s.kernel.links[1].ports = 1023
		}, "room", []string{
			"fail: 10.88.0.0/16: 65533 addresses in use, 0 free: no pod can be attached | remove pods; or see mascri net leaks for addresses that no pod has; or give the network a larger subnet",
			"fail: bridge cni0: 1023 of 1023 ports in use: no pod can be attached | remove pods; a bridge takes no more"}},
		{"subnet and bridge nearly full", func(s *seen) {
			s.pools[0].used, s.pools[0].free = 65000, 533
			s.kernel.links[1].ports = 930
		}, "room", []string{
			"warn: 10.88.0.0/16: 65000 addresses in use, 533 free | see mascri net leaks for addresses that no pod has, or give the network a larger subnet",
			"warn: bridge cni0: 930 of 1023 ports in use | the kubelet's maxPods should be less than a bridge takes"}},
		{"addresses that can't be counted", func(s *seen) { s.pools[0].err = fs.ErrPermission }, "room", []string{
			"warn: 10.88.0.0/16: the addresses in use can't be counted: permission denied | mend what the error names",
			"ok: bridge cni0: 12 of 1023 ports in use"}},

		{"routes and Docker's pools with the pods' addresses", func(s *seen) {
			s.kernel.routes = append(s.kernel.routes, route{"wg0", netip.MustParsePrefix("10.88.128.0/17")})
			s.enginePools = append(s.enginePools, netip.MustParsePrefix("10.88.0.0/24"))
		}, "subnet", []string{
			"warn: a route leads to 10.88.128.0/17 by wg0, and pods have 10.88.0.0/16: one of them can't be reached | give the pods another subnet, or remove the route",
			"warn: Docker has or gives 10.88.0.0/24 to networks of its own, and pods have 10.88.0.0/16 | give the pods another subnet, or Docker others by \"default-address-pools\" in /etc/docker/daemon.json"}},

		{"plugins too old for the config", func(s *seen) { s.network.CNIVersion = "1.1.0" }, "CNI versions", []string{
			"ok: bridge v1.9.1, host-local of an unknown release",
			"fail: plugin \"host-local\" does not know version 1.1.0 of the CNI spec, which the config has | \"cniVersion\": \"1.0.0\" in the config, or newer plugins"}},
		{"a plugin that hangs", func(s *seen) { s.versions = []pluginVersion{{err: errors.New("plugin hangs")}} }, "CNI versions", []string{
			"warn: plugin hangs | reinstall the plugin"}},

		{"no packet filter", func(s *seen) {
			withoutDaemon(s)
			s.firewall.Chains = nil
		}, "FORWARD", []string{"ok: nothing filters forwarded packets"}},

		{"nft only", func(s *seen) { s.commands = commands{nft: true} }, "iptables", []string{
			"warn: there is nft but no iptables, which Docker and plugins with ipMasq or host ports run unless told otherwise | install iptables"}},
		{"neither iptables nor nft", func(s *seen) { s.commands = commands{} }, "iptables", []string{
			"warn: there is neither iptables nor nft, of which Docker and plugins with ipMasq or host ports need one | install iptables"}},
		{"both flavours in use", func(s *seen) {
			s.commands.nft = true
			s.firewall.Chains = append(s.firewall.Chains, firewall.ForwardChain{Flavour: "iptables-legacy"})
		}, "iptables", []string{
			"ok: iptables v1.8.9 (nf_tables); nft is there too",
			"warn: rules are in both iptables-nft and iptables-legacy, and a packet must pass both | let all programs use one (update-alternatives --config iptables) and reboot, or flush the other"}},

		{"daemon not started", withoutDaemon, "daemon", []string{
			"warn: does not run: there is no socket /run/mascri/mascri.sock | start it: mascri serve"}},
		{"socket can't be reached", func(s *seen) { s.daemon.statErr = fs.ErrPermission }, "daemon", []string{
			"fail: permission denied | set socket to a path that can be used"}},
		{"file in the socket's place", func(s *seen) { s.daemon.mode = 0o644 }, "daemon", []string{
			"fail: /run/mascri/mascri.sock is no socket | remove it, or set socket to another path"}},
		{"daemon hangs", func(s *seen) { s.daemon.err = errors.New("deadline exceeded") }, "daemon", []string{
			"fail: no answer at /run/mascri/mascri.sock within 2s: deadline exceeded | end it and start it anew: mascri serve"}},
		{"daemon of systemd's hangs", func(s *seen) { s.daemon.err, s.unit = errors.New("deadline exceeded"), true }, "daemon", []string{
			"fail: no answer at /run/mascri/mascri.sock within 2s: deadline exceeded | systemctl restart mascri.service; why it ended: journalctl --unit mascri.service"}},
		{"another runtime's socket", func(s *seen) { s.daemon.name, s.daemon.version = "containerd", "2.1.9" }, "daemon", []string{
			"fail: /run/mascri/mascri.sock is the socket of another runtime, containerd 2.1.9 | set socket to another path"}},
		{"socket open to all, network not ready", func(s *seen) {
			s.daemon.mode |= 0o006
			s.daemon.conditions = []*cri.RuntimeCondition{{Type: "RuntimeReady", Status: true}, {Type: "NetworkReady", Reason: "NoNetworkConfig", Message: "none"}}
		}, "daemon", []string{
			"ok: version 1.2.3 answers at /run/mascri/mascri.sock",
			"fail: /run/mascri/mascri.sock has mode 0666: whoever can write to it owns this machine | chmod 0660 /run/mascri/mascri.sock",
			"ok: RuntimeReady",
			"fail: not NetworkReady: NoNetworkConfig | see CNI above"}},
		{"daemon has no engine", func(s *seen) {
			s.daemon.conditions = []*cri.RuntimeCondition{{Type: "RuntimeReady", Reason: "EngineUnavailable", Message: "refused"}}
		}, "daemon", []string{
			"ok: version 1.2.3 answers at /run/mascri/mascri.sock",
			"fail: not RuntimeReady: EngineUnavailable: refused | see the message, and engine above"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := healthy()
			tt.change(&s)
			report := judge(s)
			var got []string
			worst := OK
			for _, r := range report.Results {
				if r.Level == Fail && r.Fix == "" {
					t.Errorf("no fix: %+v", r)
				}
				if r.Level == Fail || worst == OK {
					worst = r.Level
				}
				if r.Check != tt.check {
					continue
				}
				line := fmt.Sprintf("%s: %s", r.Level, r.Message)
				if r.Fix != "" {
					line += " | " + r.Fix
				}
				got = append(got, line)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("results of %q (-want +got):\n%s", tt.check, diff)
			}
			if report.Level != worst {
				t.Errorf("level %s, want %s", report.Level, worst)
			}
		})
	}
}
