package translate

import (
	"encoding/json"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/golden"
	"github.com/mascri/mascri/internal/pod"
)

// node has everything that a node can have; tests take things away.
func node() Host {
	return Host{
		Facts: pod.EngineFacts{
			APIVersion: "1.51", CgroupDriver: "cgroupfs", DefaultRuntime: "runc", Runtimes: []string{"crun", "runc"},
			SELinux: true, AppArmor: true, Seccomp: true,
		},
		OOMFloor: -1000,
		ReadFile: func(name string) ([]byte, error) {
			switch name {
			case "/profiles/audit.json":
				return []byte("{\n  \"defaultAction\": \"SCMP_ACT_LOG\"\n}\n"), nil
			case "/profiles/broken.json":
				return []byte(`{"defaultAction":`), nil
			case "/profiles/list.json":
				return []byte(`["SCMP_ACT_LOG"]`), nil
			}
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		},
	}
}

// spec has no more than metadata.
func spec() pod.SandboxSpec {
	return pod.SandboxSpec{
		Name: "k8s_POD_web_default_42_0", Instance: "one", Image: "sha256:1234",
		Files: pod.Files{ResolvConf: "/state/resolv.conf", Hosts: "/state/hosts", Hostname: "/state/hostname"},
		Config: &cri.PodSandboxConfig{
			Metadata: &cri.PodSandboxMetadata{Name: "web", Namespace: "default", Uid: "42"},
			Linux:    &cri.LinuxPodSandboxConfig{SecurityContext: &cri.LinuxSandboxSecurityContext{}},
		},
	}
}

func TestSandbox(t *testing.T) {
	for name, change := range map[string]func(*pod.SandboxSpec, *cri.LinuxSandboxSecurityContext, *Host){
		"minimal": func(s *pod.SandboxSpec, _ *cri.LinuxSandboxSecurityContext, _ *Host) {
			s.Config.Linux = nil
		},
		"kubelet": func(s *pod.SandboxSpec, sc *cri.LinuxSandboxSecurityContext, _ *Host) {
			s.Config.Hostname = "web"
			s.Config.Labels = map[string]string{"app": "web"}
			s.Config.Linux.CgroupParent = "/kubepods/burstable/pod42"
			s.Config.Linux.Resources = &cri.LinuxContainerResources{CpuPeriod: 100000, CpuQuota: 50000, CpuShares: 512, MemoryLimitInBytes: 1 << 30}
			s.Config.Linux.Overhead = &cri.LinuxContainerResources{CpuShares: 10, MemoryLimitInBytes: 1 << 20}
			sc.NamespaceOptions = &cri.NamespaceOption{Pid: cri.NamespaceMode_CONTAINER, UsernsOptions: &cri.UserNamespace{Mode: cri.NamespaceMode_NODE}}
			sc.Seccomp = &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault}
			sc.Apparmor = &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault}
		},
		"systemd": func(s *pod.SandboxSpec, _ *cri.LinuxSandboxSecurityContext, h *Host) {
			h.Facts.CgroupDriver = "systemd"
			s.Config.Linux.CgroupParent = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod42.slice"
		},
		"host-namespaces": func(s *pod.SandboxSpec, sc *cri.LinuxSandboxSecurityContext, _ *Host) {
			s.Config.Hostname = "not-ours-to-set"
			sc.NamespaceOptions = &cri.NamespaceOption{Network: cri.NamespaceMode_NODE, Pid: cri.NamespaceMode_NODE, Ipc: cri.NamespaceMode_NODE}
		},
		"private-ipc": func(_ *pod.SandboxSpec, sc *cri.LinuxSandboxSecurityContext, _ *Host) {
			sc.NamespaceOptions = &cri.NamespaceOption{Ipc: cri.NamespaceMode_CONTAINER}
		},
		"users": func(_ *pod.SandboxSpec, sc *cri.LinuxSandboxSecurityContext, _ *Host) {
			sc.RunAsUser, sc.RunAsGroup = &cri.Int64Value{Value: 1000}, &cri.Int64Value{Value: 2000}
			sc.SupplementalGroups = []int64{3000, 0}
			sc.ReadonlyRootfs = true
		},
		"user-merge": func(_ *pod.SandboxSpec, sc *cri.LinuxSandboxSecurityContext, _ *Host) {
			sc.RunAsUser = &cri.Int64Value{Value: 1000}
		},
		"user-strict": func(_ *pod.SandboxSpec, sc *cri.LinuxSandboxSecurityContext, _ *Host) {
			sc.RunAsUser = &cri.Int64Value{Value: 1000}
			sc.SupplementalGroupsPolicy = cri.SupplementalGroupsPolicy_Strict
		},
		"sysctls": func(s *pod.SandboxSpec, _ *cri.LinuxSandboxSecurityContext, _ *Host) {
			s.Config.Linux.Sysctls = map[string]string{
				"net.ipv4.ip_unprivileged_port_start": "0", "net/ipv4/conf/eth0.1/forwarding": "1", "kernel/shm_rmid_forced": "1",
				"fs.mqueue.msg_max": "100", "kernel.domainname": "example.org",
			}
		},
		"privileged": func(_ *pod.SandboxSpec, sc *cri.LinuxSandboxSecurityContext, _ *Host) {
			sc.Privileged = true
			sc.Seccomp = &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault}
			sc.Apparmor = &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: "web"}
		},
		"localhost-profiles": func(_ *pod.SandboxSpec, sc *cri.LinuxSandboxSecurityContext, _ *Host) {
			sc.Seccomp = &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: "/profiles/audit.json"}
			sc.Apparmor = &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: "localhost/web"}
			sc.SelinuxOptions = &cri.SELinuxOption{User: "u", Role: "r", Type: "t", Level: "s0:c1,c2"}
		},
		"unconfined": func(_ *pod.SandboxSpec, sc *cri.LinuxSandboxSecurityContext, h *Host) {
			sc.Seccomp = &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Unconfined}
			sc.Apparmor = &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Unconfined}
			sc.SelinuxOptions = &cri.SELinuxOption{}
			h.Facts.SELinux = false
		},
		"runtime-handler": func(s *pod.SandboxSpec, _ *cri.LinuxSandboxSecurityContext, _ *Host) {
			s.RuntimeHandler = "crun"
		},
		"bare-old-node": func(_ *pod.SandboxSpec, _ *cri.LinuxSandboxSecurityContext, h *Host) {
			h.Facts.APIVersion = "1.41"
			h.Facts.SELinux, h.Facts.AppArmor, h.Facts.Seccomp = false, false, false
			h.OOMFloor = 0
		},
	} {
		t.Run(name, func(t *testing.T) {
			spec, host := spec(), node()
			change(&spec, spec.Config.Linux.SecurityContext, &host)
			config, hostConfig, err := Sandbox(spec, host)
			if err != nil {
				t.Fatal(err)
			}
			wantGolden(t, name+".json", config, hostConfig)
		})
	}
}

// golden compares with a file that has what is sent to the engine, without what is zero.
// The label's text is left to its own tests.
func wantGolden(t *testing.T, name string, config *container.Config, hostConfig *container.HostConfig) {
	t.Helper()
	if config.Labels[pod.LabelKey] == "" {
		t.Errorf("label %s is missing", pod.LabelKey)
	}
	config.Labels[pod.LabelKey] = "..."
	got, err := json.MarshalIndent(map[string]any{"Config": nonZero(t, config), "HostConfig": nonZero(t, hostConfig)}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden.Compare(t, name, append(got, '\n'))
}

func nonZero(t *testing.T, v any) map[string]any {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]any
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	prune(all)
	return all
}

// prune removes zero values, and objects and lists that hold nothing else.
func prune(m map[string]any) {
	for key, value := range m {
		zero := false
		switch value := value.(type) {
		case nil:
			zero = true
		case bool:
			zero = !value
		case float64:
			zero = value == 0
		case string:
			zero = value == ""
		case []any:
			zero = len(value) == 0 || cmp.Equal(value, []any{0.0, 0.0}) // ConsoleSize
		case map[string]any:
			prune(value)
			zero = len(value) == 0
		}
		if zero {
			delete(m, key)
		}
	}
}

func TestSandboxRefuses(t *testing.T) {
	options := func(o *cri.NamespaceOption) func(*pod.SandboxSpec, *Host) {
		return func(s *pod.SandboxSpec, _ *Host) { s.Config.Linux.SecurityContext.NamespaceOptions = o }
	}
	security := func(change func(*cri.LinuxSandboxSecurityContext)) func(*pod.SandboxSpec, *Host) {
		return func(s *pod.SandboxSpec, _ *Host) { change(s.Config.Linux.SecurityContext) }
	}
	sysctl := func(name string) func(*pod.SandboxSpec, *Host) {
		return func(s *pod.SandboxSpec, _ *Host) { s.Config.Linux.Sysctls = map[string]string{name: "1"} }
	}
	hostSysctl := func(name string) func(*pod.SandboxSpec, *Host) {
		return func(s *pod.SandboxSpec, h *Host) {
			options(&cri.NamespaceOption{Network: cri.NamespaceMode_NODE, Ipc: cri.NamespaceMode_NODE})(s, h)
			sysctl(name)(s, h)
		}
	}
	seccomp := func(p *cri.SecurityProfile) func(*pod.SandboxSpec, *Host) {
		return security(func(sc *cri.LinuxSandboxSecurityContext) { sc.Seccomp = p })
	}
	apparmor := func(p *cri.SecurityProfile) func(*pod.SandboxSpec, *Host) {
		return security(func(sc *cri.LinuxSandboxSecurityContext) { sc.Apparmor = p })
	}
	local := func(file string) *cri.SecurityProfile {
		return &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: file}
	}
	bare := func(change func(*pod.SandboxSpec, *Host)) func(*pod.SandboxSpec, *Host) {
		return func(s *pod.SandboxSpec, h *Host) {
			h.Facts.Seccomp, h.Facts.AppArmor, h.Facts.SELinux = false, false, false
			change(s, h)
		}
	}
	const target = cri.NamespaceMode_TARGET
	invalid, unmet, unimplemented := errdefs.ErrInvalidArgument, errdefs.ErrFailedPrecondition, errdefs.ErrNotImplemented
	for name, test := range map[string]struct {
		change func(*pod.SandboxSpec, *Host)
		kind   error
		says   string
	}{
		"windows":         {func(s *pod.SandboxSpec, _ *Host) { s.Config.Windows = &cri.WindowsPodSandboxConfig{} }, invalid, "windows"},
		"unknown runtime": {func(s *pod.SandboxSpec, _ *Host) { s.RuntimeHandler = "kata" }, invalid, `"kata"; it has: crun, runc`},
		"long hostname":   {func(s *pod.SandboxSpec, _ *Host) { s.Config.Hostname = strings.Repeat("h", 65) }, invalid, "hostname"},
		"no slice": {func(s *pod.SandboxSpec, h *Host) {
			h.Facts.CgroupDriver, s.Config.Linux.CgroupParent = "systemd", "/kubepods/pod42"
		}, invalid, "linux.cgroup_parent"},
		"target id":                {options(&cri.NamespaceOption{TargetId: "x"}), invalid, "namespace_options.target_id"},
		"container network":        {options(&cri.NamespaceOption{Network: cri.NamespaceMode_CONTAINER}), invalid, "namespace_options.network"},
		"target network":           {options(&cri.NamespaceOption{Network: target}), invalid, "namespace_options.network"},
		"target pid":               {options(&cri.NamespaceOption{Pid: target}), invalid, "namespace_options.pid"},
		"target ipc":               {options(&cri.NamespaceOption{Ipc: target}), invalid, "namespace_options.ipc"},
		"unknown ipc":              {options(&cri.NamespaceOption{Ipc: 9}), invalid, "namespace_options.ipc"},
		"own user namespace":       {options(&cri.NamespaceOption{UsernsOptions: &cri.UserNamespace{Uids: []*cri.IDMapping{{Length: 1}}}}), unimplemented, "linux.security_context.namespace_options.userns_options"},
		"empty user namespace":     {options(&cri.NamespaceOption{UsernsOptions: &cri.UserNamespace{}}), unimplemented, "userns_options"},
		"container user namespace": {options(&cri.NamespaceOption{UsernsOptions: &cri.UserNamespace{Mode: cri.NamespaceMode_CONTAINER}}), invalid, "userns_options.mode"},
		"mapped node user namespace": {options(&cri.NamespaceOption{UsernsOptions: &cri.UserNamespace{
			Mode: cri.NamespaceMode_NODE, Gids: []*cri.IDMapping{{Length: 1}}}}), invalid, "userns_options"},
		"group without user":    {security(func(sc *cri.LinuxSandboxSecurityContext) { sc.RunAsGroup = &cri.Int64Value{} }), invalid, "run_as_group"},
		"negative user":         {security(func(sc *cri.LinuxSandboxSecurityContext) { sc.RunAsUser = &cri.Int64Value{Value: -1} }), invalid, "run_as_user"},
		"large group":           {security(func(sc *cri.LinuxSandboxSecurityContext) { sc.SupplementalGroups = []int64{1 << 31} }), invalid, "supplemental_groups"},
		"unknown groups policy": {security(func(sc *cri.LinuxSandboxSecurityContext) { sc.SupplementalGroupsPolicy = 7 }), invalid, "supplemental_groups_policy"},
		"node sysctl":           {sysctl("vm.swappiness"), invalid, `"vm.swappiness" is not namespaced`},
		"empty sysctl":          {sysctl(""), invalid, "linux.sysctls"},
		"climbing sysctl":       {sysctl("net/../../etc/passwd"), invalid, "is no sysctl name"},
		"hostname sysctl":       {sysctl("kernel.hostname"), invalid, "hostname"},
		"double sysctl": {func(s *pod.SandboxSpec, _ *Host) {
			s.Config.Linux.Sysctls = map[string]string{"net.core.somaxconn": "1", "net/core/somaxconn": "2"}
		}, invalid, "twice"},
		"node network sysctl":  {hostSysctl("net.core.somaxconn"), invalid, "network"},
		"node ipc sysctl":      {hostSysctl("kernel.sem"), invalid, "IPC"},
		"node domain sysctl":   {hostSysctl("kernel.domainname"), invalid, "hostname"},
		"missing profile":      {seccomp(local("/profiles/none.json")), invalid, "open /profiles/none.json"},
		"broken profile":       {seccomp(local("/profiles/broken.json")), invalid, "/profiles/broken.json"},
		"profile no object":    {seccomp(local("/profiles/list.json")), invalid, "/profiles/list.json"},
		"relative profile":     {seccomp(local("audit.json")), invalid, "not absolute"},
		"profile without name": {seccomp(local("")), invalid, "seccomp.localhost_ref"},
		"name without type":    {seccomp(&cri.SecurityProfile{LocalhostRef: "/x"}), invalid, "seccomp.localhost_ref"},
		"unknown profile type": {apparmor(&cri.SecurityProfile{ProfileType: 5}), invalid, "apparmor.profile_type"},
		"no seccomp":           {bare(seccomp(&cri.SecurityProfile{})), unmet, "linux.security_context.seccomp"},
		"no apparmor":          {bare(apparmor(local("web"))), unmet, "linux.security_context.apparmor"},
		"no selinux":           {bare(security(func(sc *cri.LinuxSandboxSecurityContext) { sc.SelinuxOptions = &cri.SELinuxOption{Type: "t"} })), unmet, "selinux_options"},
		"deprecated profile": {security(func(sc *cri.LinuxSandboxSecurityContext) {
			sc.SeccompProfilePath = "strict" //nolint:staticcheck // deprecated, but clients still send it
		}), invalid, "seccomp_profile_path"},
	} {
		t.Run(name, func(t *testing.T) {
			spec, host := spec(), node()
			test.change(&spec, &host)
			_, _, err := Sandbox(spec, host)
			if !errors.Is(err, test.kind) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v; want a %v that says %q", err, test.kind, test.says)
			}
		})
	}
}

func TestDeprecatedSeccompPath(t *testing.T) {
	for path, want := range map[string]string{
		"":                               "seccomp=unconfined",
		"unconfined":                     "seccomp=unconfined",
		"runtime/default":                "",
		"docker/default":                 "",
		"localhost//profiles/audit.json": `seccomp={"defaultAction":"SCMP_ACT_LOG"}`,
	} {
		security := &cri.LinuxSandboxSecurityContext{SeccompProfilePath: path} //nolint:staticcheck // deprecated, but clients still send it
		if got, err := seccompOption(security, node()); err != nil || got != want {
			t.Errorf("seccomp_profile_path %q: %q, %v; want %q", path, got, err, want)
		}
	}
}

func TestOOMScoreIsClamped(t *testing.T) {
	for floor, want := range map[int]int{-1000: -998, -998: -998, -5: -5, 0: 0, 300: 300} {
		host := node()
		host.OOMFloor = floor
		_, hostConfig, err := Sandbox(spec(), host)
		if err != nil || hostConfig.OomScoreAdj != want {
			t.Errorf("floor %d: %d, %v; want %d", floor, hostConfig.OomScoreAdj, err, want)
		}
	}
}
