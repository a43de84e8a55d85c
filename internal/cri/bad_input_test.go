package cri_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// badRun is a RunPodSandboxRequest that is refused with an error that names the field.
type badRun struct {
	name  string
	spoil func(r *runtimeapi.RunPodSandboxRequest)
	code  codes.Code
	says  []string
}

// linux makes a case of the sandbox's Linux config.
func linux(f func(*runtimeapi.LinuxPodSandboxConfig)) func(*runtimeapi.RunPodSandboxRequest) {
	return func(r *runtimeapi.RunPodSandboxRequest) { f(r.GetConfig().GetLinux()) }
}

func security(f func(*runtimeapi.LinuxSandboxSecurityContext)) func(*runtimeapi.RunPodSandboxRequest) {
	return linux(func(l *runtimeapi.LinuxPodSandboxConfig) { f(l.GetSecurityContext()) })
}

func namespace(f func(*runtimeapi.NamespaceOption)) func(*runtimeapi.RunPodSandboxRequest) {
	return security(func(s *runtimeapi.LinuxSandboxSecurityContext) { f(s.GetNamespaceOptions()) })
}

func sysctl(name string) func(*runtimeapi.RunPodSandboxRequest) {
	return linux(func(l *runtimeapi.LinuxPodSandboxConfig) { l.Sysctls = map[string]string{name: "1"} })
}

func ports(mappings ...*runtimeapi.PortMapping) func(*runtimeapi.RunPodSandboxRequest) {
	return func(r *runtimeapi.RunPodSandboxRequest) { r.Config.PortMappings = mappings }
}

func dns(config *runtimeapi.DNSConfig) func(*runtimeapi.RunPodSandboxRequest) {
	return func(r *runtimeapi.RunPodSandboxRequest) { r.Config.DnsConfig = config }
}

func userns(options *runtimeapi.UserNamespace) func(*runtimeapi.RunPodSandboxRequest) {
	return namespace(func(o *runtimeapi.NamespaceOption) { o.UsernsOptions = options })
}

func seccomp(kind runtimeapi.SecurityProfile_ProfileType, ref string) func(*runtimeapi.RunPodSandboxRequest) {
	return security(func(s *runtimeapi.LinuxSandboxSecurityContext) {
		s.Seccomp = &runtimeapi.SecurityProfile{ProfileType: kind, LocalhostRef: ref}
	})
}

const invalid = codes.InvalidArgument

// badMetadata and the like are the cases, a group each.
func badMetadata() []badRun {
	return []badRun{
		{"no config", func(r *runtimeapi.RunPodSandboxRequest) { r.Config = nil }, invalid, []string{"config"}},
		{"no metadata", func(r *runtimeapi.RunPodSandboxRequest) { r.Config.Metadata = nil }, invalid, []string{"config.metadata"}},
		{"empty metadata", func(r *runtimeapi.RunPodSandboxRequest) { r.Config.Metadata = &runtimeapi.PodSandboxMetadata{} }, invalid, []string{"config.metadata.name"}},
		{"a name that no object has", func(r *runtimeapi.RunPodSandboxRequest) { r.Config.Metadata.Name = strings.Repeat("n", 300) }, invalid, []string{"config.metadata.name", "300"}},
		{"a namespace that no object has", func(r *runtimeapi.RunPodSandboxRequest) { r.Config.Metadata.Namespace = strings.Repeat("n", 300) }, invalid, []string{"config.metadata.namespace", "300"}},
		{"a uid that no object has", func(r *runtimeapi.RunPodSandboxRequest) { r.Config.Metadata.Uid = strings.Repeat("n", 300) }, invalid, []string{"config.metadata.uid", "300"}},
		{"a name that would be CNI_ARGS", func(r *runtimeapi.RunPodSandboxRequest) { r.Config.Metadata.Name = "a;K8S_POD_UID=b" }, invalid, []string{"config.metadata.name"}},
		{"unknown handler", func(r *runtimeapi.RunPodSandboxRequest) { r.RuntimeHandler = "gvisor" }, invalid, []string{"runtime_handler", `"gvisor"`, "runc"}},
		{"an annotation of 1 MB", func(r *runtimeapi.RunPodSandboxRequest) {
			r.Config.Annotations = map[string]string{"a": strings.Repeat("x", 1<<20)}
		}, invalid, []string{"config.annotations", "1048577"}},
		{"labels of 1 MB", func(r *runtimeapi.RunPodSandboxRequest) {
			r.Config.Labels = map[string]string{"a": strings.Repeat("x", 1<<20)}
		}, invalid, []string{"config.labels", "1048577"}},
		{"a label without a key", func(r *runtimeapi.RunPodSandboxRequest) { r.Config.Labels = map[string]string{"": "x"} }, invalid, []string{"config.labels", "empty key"}},
		{"an annotation without a key", func(r *runtimeapi.RunPodSandboxRequest) { r.Config.Annotations = map[string]string{"": "x"} }, invalid, []string{"config.annotations", "empty key"}},
		{"windows", func(r *runtimeapi.RunPodSandboxRequest) { r.Config.Windows = &runtimeapi.WindowsPodSandboxConfig{} }, invalid, []string{"windows"}},
	}
}

func badNames() []badRun {
	hostname := func(name string) func(*runtimeapi.RunPodSandboxRequest) {
		return func(r *runtimeapi.RunPodSandboxRequest) { r.Config.Hostname = name }
	}
	return []badRun{
		{"hostname with a space", hostname("a b"), invalid, []string{"config.hostname", `"a b"`}},
		{"hostname with a line", hostname("a\nb"), invalid, []string{"config.hostname"}},
		{"hostname of a dash", hostname("-"), invalid, []string{"config.hostname"}},
		{"hostname that the kernel can't take", hostname(strings.Repeat("h", 65)), invalid, []string{"config.hostname", "64"}},
		{"DNS server that is a name", dns(&runtimeapi.DNSConfig{Servers: []string{"10.0.0.1", "dns.local"}}), invalid, []string{"config.dns_config.servers[1]", "dns.local"}},
		{"DNS server that is nothing", dns(&runtimeapi.DNSConfig{Servers: []string{""}}), invalid, []string{"config.dns_config.servers[0]"}},
		{"DNS search that is two lines", dns(&runtimeapi.DNSConfig{Searches: []string{"a\nnameserver 192.0.2.1"}}), invalid, []string{"config.dns_config.searches[0]"}},
		{"DNS search that is nothing", dns(&runtimeapi.DNSConfig{Searches: []string{"a", ""}}), invalid, []string{"config.dns_config.searches[1]"}},
		{"DNS option that is two words", dns(&runtimeapi.DNSConfig{Options: []string{"ndots:5 rotate"}}), invalid, []string{"config.dns_config.options[0]"}},
	}
}

func badPorts() []badRun {
	const p = "config.port_mappings[0]"
	return []badRun{
		{"negative host port", ports(&runtimeapi.PortMapping{HostPort: -1, ContainerPort: 80}), invalid, []string{p + ".host_port", "-1"}},
		{"host port past the last", ports(&runtimeapi.PortMapping{HostPort: 65536, ContainerPort: 80}), invalid, []string{p + ".host_port", "65536"}},
		{"negative container port", ports(&runtimeapi.PortMapping{HostPort: 80, ContainerPort: -1}), invalid, []string{p + ".container_port", "-1"}},
		{"negative container port without a host port", ports(&runtimeapi.PortMapping{ContainerPort: -1}), invalid, []string{p + ".container_port", "-1"}},
		{"container port past the last", ports(&runtimeapi.PortMapping{HostPort: 80, ContainerPort: 1 << 20}), invalid, []string{p + ".container_port"}},
		{"host port to nothing", ports(&runtimeapi.PortMapping{HostPort: 80}), invalid, []string{p + ".container_port", "0"}},
		{"unknown protocol", ports(&runtimeapi.PortMapping{HostPort: 80, ContainerPort: 80, Protocol: 7}), invalid, []string{p + ".protocol", "7"}},
		{"host IP that is a name", ports(&runtimeapi.PortMapping{HostPort: 80, ContainerPort: 80, HostIp: "localhost"}), invalid, []string{p + ".host_ip", "localhost"}},
		{"host IP with a zone", ports(&runtimeapi.PortMapping{HostPort: 80, ContainerPort: 80, HostIp: "fe80::1%eth0"}), invalid, []string{p + ".host_ip", "eth0"}},
		{"host port twice", ports(&runtimeapi.PortMapping{HostPort: 80, ContainerPort: 80}, &runtimeapi.PortMapping{HostPort: 80, ContainerPort: 81}),
			invalid, []string{"config.port_mappings[1].host_port", "TCP port 80", "port_mappings[0]"}},
		{"the second of two", ports(&runtimeapi.PortMapping{HostPort: 80, ContainerPort: 80}, &runtimeapi.PortMapping{HostPort: 99999, ContainerPort: 81}),
			invalid, []string{"config.port_mappings[1].host_port"}},
	}
}

func badPaths(dir string) []badRun {
	logs := func(path string) func(*runtimeapi.RunPodSandboxRequest) {
		return func(r *runtimeapi.RunPodSandboxRequest) { r.Config.LogDirectory = path }
	}
	parent := func(path string) func(*runtimeapi.RunPodSandboxRequest) {
		return linux(func(l *runtimeapi.LinuxPodSandboxConfig) { l.CgroupParent = path })
	}
	return []badRun{
		{"relative log directory", logs("var/log/pods/x"), invalid, []string{"config.log_directory", "absolute"}},
		{"log directory that leads upwards", logs(dir + "/../x"), invalid, []string{"config.log_directory", "upwards"}},
		{"log directory with a NUL", logs(dir + "/a\x00b"), invalid, []string{"config.log_directory", "NUL"}},
		{"log directory below a file", logs(dir + "/file/logs"), codes.FailedPrecondition, []string{"config.log_directory", "not a directory"}},
		{"log directory with a name that is too long", logs(dir + "/" + strings.Repeat("l", 300)), codes.FailedPrecondition, []string{"config.log_directory", "too long"}},
		{"cgroup parent that leads upwards", parent("/kubepods/../x"), invalid, []string{"config.linux.cgroup_parent", "upwards"}},
		{"cgroup parent with a NUL", parent("/kubepods\x00"), invalid, []string{"config.linux.cgroup_parent", "NUL"}},
	}
}

func badNamespaces() []badRun {
	return []badRun{
		{"unknown network mode", namespace(func(o *runtimeapi.NamespaceOption) { o.Network = 77 }), invalid, []string{"namespace_options.network", "77"}},
		{"network of another container", namespace(func(o *runtimeapi.NamespaceOption) { o.Network = runtimeapi.NamespaceMode_TARGET }), invalid, []string{"namespace_options.network", "TARGET"}},
		{"network of a container", namespace(func(o *runtimeapi.NamespaceOption) { o.Network = runtimeapi.NamespaceMode_CONTAINER }), invalid, []string{"namespace_options.network", "CONTAINER"}},
		{"unknown pid mode", namespace(func(o *runtimeapi.NamespaceOption) { o.Pid = 77 }), invalid, []string{"namespace_options.pid", "77"}},
		{"pids of another container", namespace(func(o *runtimeapi.NamespaceOption) { o.Pid = runtimeapi.NamespaceMode_TARGET }), invalid, []string{"namespace_options.pid", "TARGET"}},
		{"unknown ipc mode", namespace(func(o *runtimeapi.NamespaceOption) { o.Ipc = -1 }), invalid, []string{"namespace_options.ipc", "-1"}},
		{"ipc of another container", namespace(func(o *runtimeapi.NamespaceOption) { o.Ipc = runtimeapi.NamespaceMode_TARGET }), invalid, []string{"namespace_options.ipc", "TARGET"}},
		{"target", namespace(func(o *runtimeapi.NamespaceOption) { o.TargetId = "abc" }), invalid, []string{"namespace_options.target_id"}},
		{"user namespace of the pod's own", userns(&runtimeapi.UserNamespace{Mode: runtimeapi.NamespaceMode_POD}), codes.Unimplemented, []string{"userns_options", "user namespace"}},
		{"unknown user namespace", userns(&runtimeapi.UserNamespace{Mode: 77}), invalid, []string{"userns_options.mode", "77"}},
		{"mappings of the node's user namespace", userns(&runtimeapi.UserNamespace{Mode: runtimeapi.NamespaceMode_NODE, Uids: []*runtimeapi.IDMapping{{Length: 1}}}),
			invalid, []string{"userns_options", "mappings"}},
		{"sysctl of the node", sysctl("vm.swappiness"), invalid, []string{"linux.sysctls", "vm.swappiness"}},
		{"sysctl that is the hostname", sysctl("kernel.hostname"), invalid, []string{"linux.sysctls", "hostname"}},
		{"sysctl that leads upwards", sysctl("net/../../etc/passwd"), invalid, []string{"linux.sysctls"}},
		{"sysctl without a name", sysctl(""), invalid, []string{"linux.sysctls"}},
		{"sysctl given twice", linux(func(l *runtimeapi.LinuxPodSandboxConfig) {
			l.Sysctls = map[string]string{"net.core.somaxconn": "1", "net/core/somaxconn": "2"}
		}), invalid, []string{"linux.sysctls", "twice"}},
		{"network sysctl on the node's network", func(r *runtimeapi.RunPodSandboxRequest) {
			r.Config.Linux.SecurityContext.NamespaceOptions.Network = runtimeapi.NamespaceMode_NODE
			sysctl("net.core.somaxconn")(r)
		}, invalid, []string{"linux.sysctls", "node"}},
	}
}

func badSecurity(dir string) []badRun {
	id := func(v int64) *runtimeapi.Int64Value { return &runtimeapi.Int64Value{Value: v} }
	return []badRun{
		{"seccomp file that is missing", seccomp(runtimeapi.SecurityProfile_Localhost, dir+"/missing"), invalid, []string{"security_context.seccomp", dir + "/missing"}},
		{"seccomp file by a relative path", seccomp(runtimeapi.SecurityProfile_Localhost, "profiles/x.json"), invalid, []string{"security_context.seccomp", "absolute"}},
		{"seccomp file that is a directory", seccomp(runtimeapi.SecurityProfile_Localhost, dir), invalid, []string{"security_context.seccomp", dir}},
		{"seccomp file that is not JSON", seccomp(runtimeapi.SecurityProfile_Localhost, dir+"/file"), invalid, []string{"security_context.seccomp", dir + "/file"}},
		{"seccomp file that is a list", seccomp(runtimeapi.SecurityProfile_Localhost, dir+"/list.json"), invalid, []string{"security_context.seccomp", "object"}},
		{"seccomp file without an end", seccomp(runtimeapi.SecurityProfile_Localhost, "/dev/zero"), invalid, []string{"security_context.seccomp", "/dev/zero", "regular file"}},
		{"seccomp file without a name", seccomp(runtimeapi.SecurityProfile_Localhost, ""), invalid, []string{"seccomp.localhost_ref"}},
		{"seccomp file of no use", seccomp(runtimeapi.SecurityProfile_Unconfined, "/x"), invalid, []string{"seccomp.localhost_ref"}},
		{"unknown seccomp type", seccomp(77, ""), invalid, []string{"seccomp.profile_type", "77"}},
		{"bad deprecated seccomp path", security(func(s *runtimeapi.LinuxSandboxSecurityContext) {
			s.SeccompProfilePath = "nonsense" //nolint:staticcheck // deprecated, but clients still send it
		}), invalid, []string{"seccomp_profile_path", "nonsense"}},
		{"unknown AppArmor type", security(func(s *runtimeapi.LinuxSandboxSecurityContext) {
			s.Apparmor = &runtimeapi.SecurityProfile{ProfileType: 77}
		}), invalid, []string{"apparmor.profile_type", "77"}},
		{"AppArmor where there is none", security(func(s *runtimeapi.LinuxSandboxSecurityContext) {
			s.Apparmor = &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Localhost, LocalhostRef: "mine"}
		}), codes.FailedPrecondition, []string{"security_context.apparmor", "mine"}},
		{"SELinux where there is none", security(func(s *runtimeapi.LinuxSandboxSecurityContext) {
			s.SelinuxOptions = &runtimeapi.SELinuxOption{Type: "mine_t"}
		}), codes.FailedPrecondition, []string{"selinux_options"}},
		{"negative user", security(func(s *runtimeapi.LinuxSandboxSecurityContext) { s.RunAsUser = id(-1) }), invalid, []string{"run_as_user", "-1"}},
		{"user past the last", security(func(s *runtimeapi.LinuxSandboxSecurityContext) { s.RunAsUser = id(1 << 40) }), invalid, []string{"run_as_user"}},
		{"group without a user", security(func(s *runtimeapi.LinuxSandboxSecurityContext) { s.RunAsGroup = id(1) }), invalid, []string{"run_as_group", "run_as_user"}},
		{"negative group", security(func(s *runtimeapi.LinuxSandboxSecurityContext) { s.SupplementalGroups = []int64{1, -5} }), invalid, []string{"supplemental_groups", "-5"}},
		{"unknown policy of groups", security(func(s *runtimeapi.LinuxSandboxSecurityContext) { s.SupplementalGroupsPolicy = 77 }), invalid, []string{"supplemental_groups_policy", "77"}},
	}
}

// Whatever is wrong with a request, it is refused with a sentence that names the field,
// nothing is left behind, and the daemon goes on.
func TestBadSandboxes(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"file": "no JSON", "list.json": "[]"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, group := range [][]badRun{badMetadata(), badNames(), badPorts(), badPaths(dir), badNamespaces(), badSecurity(dir)} {
		for _, tt := range group {
			t.Run(tt.name, func(t *testing.T) {
				config := podConfig("web")
				config.Linux = &runtimeapi.LinuxPodSandboxConfig{SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{
					NamespaceOptions: &runtimeapi.NamespaceOption{},
				}}
				request := &runtimeapi.RunPodSandboxRequest{Config: config}
				good := proto.Clone(request)
				tt.spoil(request)
				if proto.Equal(good, request) {
					t.Fatal("the request is not bad")
				}
				d := newDaemon(t)
				_, err := d.RunPodSandbox(t.Context(), request)
				wantCode(t, err, tt.code, tt.says...)
				d.wantClean(t)
				d.run(t, podConfig("web"))
			})
		}
	}
}

func TestOtherBadRequests(t *testing.T) {
	d := newDaemon(t)
	cidr := func(text string) error {
		_, err := d.UpdateRuntimeConfig(t.Context(), &runtimeapi.UpdateRuntimeConfigRequest{
			RuntimeConfig: &runtimeapi.RuntimeConfig{NetworkConfig: &runtimeapi.NetworkConfig{PodCidr: text}},
		})
		return err
	}
	for _, text := range []string{"10.0.0.0", "10.0.0.0/33", "10.0.0.0/24,", "cluster"} {
		wantCode(t, cidr(text), invalid, "runtime_config.network_config.pod_cidr")
	}
	if d.network.cidrs != nil {
		t.Errorf("a bad pod CIDR was taken: %v", d.network.cidrs)
	}
	_, err := d.Version(t.Context(), &runtimeapi.VersionRequest{Version: "v2"})
	wantCode(t, err, invalid, "version", `"v2"`)
	wantCode(t, d.stop(t, ""), invalid, "pod_sandbox_id")
	wantCode(t, d.remove(t, ""), invalid, "pod_sandbox_id")
	_, err = d.PodSandboxStatus(t.Context(), &runtimeapi.PodSandboxStatusRequest{})
	wantCode(t, err, invalid, "sandbox id", "missing")
	if _, err := d.UpdateRuntimeConfig(t.Context(), &runtimeapi.UpdateRuntimeConfigRequest{}); err != nil {
		t.Errorf("an empty runtime config: %v", err)
	}
	d.run(t, podConfig("a"))
	d.run(t, podConfig("b"))
	wantCode(t, d.stop(t, "000"), invalid, "fits 2 sandboxes")
	if got := d.listed(t, &runtimeapi.PodSandboxFilter{State: &runtimeapi.PodSandboxStateValue{State: 77}}); got != "" {
		t.Errorf("sandboxes in a state that does not exist: %s", got)
	}
}
