package engine_test

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine"
	"github.com/mascri/mascri/internal/engine/enginetest"
	"github.com/mascri/mascri/internal/pod"
)

// What a request asks for is looked up in the process that came of it.
func TestSandboxIsAsAsked(t *testing.T) {
	profile := filepath.Join(t.TempDir(), "profile.json")
	if err := os.WriteFile(profile, []byte(`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["swapon"],"action":"SCMP_ACT_ERRNO"}]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	floor, _ := engine.OOMFloor()
	score := fmt.Sprint(max(-998, floor))
	parent := "/" + os.Getenv("MASCRI_TEST_CGROUP") + "/kubepods/pod42"
	type sc = cri.LinuxSandboxSecurityContext
	tests := []struct {
		name   string
		change func(*cri.PodSandboxConfig)
		want   map[string]string
	}{
		{"minimal", func(*cri.PodSandboxConfig) {}, map[string]string{
			"Seccomp": "0", "CapEff": "0000000000000000", "CapBnd": "0000000000000000", "NoNewPrivs": "0", "Uid": "0", "Gid": "0",
			"oom_score_adj": score, "links": "lo", "cpu shares": "2", "root": "rw",
			"net": "own", "pid": "own", "ipc": "own", "uts": "own", "user": "node's",
		}},
		{"hostname", func(c *cri.PodSandboxConfig) { c.Hostname = "web.example" }, map[string]string{"hostname": "web.example"}},
		{"node's network", func(c *cri.PodSandboxConfig) {
			c.Hostname = "ignored"
			c.Linux.SecurityContext.NamespaceOptions = &cri.NamespaceOption{Network: cri.NamespaceMode_NODE}
		}, map[string]string{"net": "node's", "uts": "node's", "pid": "own", "ipc": "own"}},
		{"node's pid and ipc", func(c *cri.PodSandboxConfig) {
			c.Linux.SecurityContext.NamespaceOptions = &cri.NamespaceOption{Pid: cri.NamespaceMode_NODE, Ipc: cri.NamespaceMode_NODE}
		}, map[string]string{"net": "own", "uts": "own", "pid": "node's", "ipc": "node's"}},
		{"user and groups", func(c *cri.PodSandboxConfig) {
			*c.Linux.SecurityContext = sc{RunAsUser: &cri.Int64Value{Value: 1000}, RunAsGroup: &cri.Int64Value{Value: 2000}, SupplementalGroups: []int64{3000, 4000}}
		}, map[string]string{"Uid": "1000", "Gid": "2000", "Groups": "2000 3000 4000"}},
		{"strict groups", func(c *cri.PodSandboxConfig) {
			*c.Linux.SecurityContext = sc{RunAsUser: &cri.Int64Value{Value: 1000}, SupplementalGroupsPolicy: cri.SupplementalGroupsPolicy_Strict}
		}, map[string]string{"Uid": "1000", "Gid": "0", "Groups": "0"}},
		{"default seccomp, read-only root", func(c *cri.PodSandboxConfig) {
			*c.Linux.SecurityContext = sc{Seccomp: &cri.SecurityProfile{}, ReadonlyRootfs: true}
		}, map[string]string{"Seccomp": "2", "root": "ro"}},
		{"seccomp profile of the node", func(c *cri.PodSandboxConfig) {
			*c.Linux.SecurityContext = sc{Seccomp: &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: profile}}
		}, map[string]string{"Seccomp": "2"}},
		{"privileged", func(c *cri.PodSandboxConfig) {
			*c.Linux.SecurityContext = sc{Privileged: true, Seccomp: &cri.SecurityProfile{}}
		}, map[string]string{"Seccomp": "0", "CapEff": "0000000000000000"}},
		{"sysctls", func(c *cri.PodSandboxConfig) {
			c.Linux.Sysctls = map[string]string{
				"net.ipv4.ip_unprivileged_port_start": "80", "net/ipv4/conf/lo/arp_ignore": "1", "kernel.shm_rmid_forced": "1",
				"fs.mqueue.msg_max": "20", "kernel.domainname": "example.org",
			}
		}, map[string]string{
			"net/ipv4/ip_unprivileged_port_start": "80", "net/ipv4/conf/lo/arp_ignore": "1", "kernel/shm_rmid_forced": "1",
			"fs/mqueue/msg_max": "20", "kernel/domainname": "example.org",
		}},
		{"cgroup parent and resources", func(c *cri.PodSandboxConfig) {
			c.Linux.CgroupParent = parent
			c.Linux.Resources = &cri.LinuxContainerResources{CpuShares: 512, MemoryLimitInBytes: 1 << 30}
			c.Linux.Overhead = &cri.LinuxContainerResources{MemoryLimitInBytes: 1 << 20}
		}, map[string]string{"cgroup parent": parent, "cpu shares": "2"}},
		{"runtime handler", func(*cri.PodSandboxConfig) {}, map[string]string{"net": "own"}},
	}
	for _, version := range versions {
		t.Run(string(version), func(t *testing.T) {
			s := enginetest.Real(t, enginetest.Start(t, version, "--bridge=none", "--iptables=false"))
			for i, test := range tests {
				t.Run(test.name, func(t *testing.T) {
					config := &cri.PodSandboxConfig{
						Metadata: &cri.PodSandboxMetadata{Name: "web", Namespace: "default", Uid: "42"},
						Linux:    &cri.LinuxPodSandboxConfig{SecurityContext: &cri.LinuxSandboxSecurityContext{}},
					}
					test.change(config)
					spec := pod.SandboxSpec{Name: "s" + strconv.Itoa(i), Instance: s.Instance, Config: config, Image: s.Image, Files: s.Files}
					if test.name == "runtime handler" {
						spec.RuntimeHandler = "io.containerd.runc.v2"
					}
					sandbox := run(t, s.Engine, spec)
					for what, want := range test.want {
						if got := look(t, sandbox, what); got != want {
							t.Errorf("%s: %q, want %q", what, got, want)
						}
					}
				})
			}
		})
	}
}

func run(t *testing.T, e enginetest.Engine, spec pod.SandboxSpec) pod.Sandbox {
	t.Helper()
	id, err := e.CreateSandbox(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	sandbox, err := e.Inspect(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return sandbox
}

// look finds out something of a sandbox's process, by its name in
// /proc/PID/status, by the name of a namespace, or by a sysctl's path.
func look(t *testing.T, s pod.Sandbox, what string) string {
	t.Helper()
	proc := func(name string) string { return read(t, fmt.Sprintf("/proc/%d/%s", s.PID, name)) }
	switch what {
	case "net", "pid", "ipc", "uts", "user":
		if link(t, strconv.Itoa(s.PID), what) == link(t, "self", what) {
			return "node's"
		}
		return "own"
	case "hostname":
		return enter(t, s, "hostname")
	case "links":
		lines := strings.Split(enter(t, s, "ip", "-o", "link"), "\n")
		for i, line := range lines {
			lines[i] = strings.TrimSuffix(strings.Fields(line)[1], ":")
		}
		// Kernels with tunnel modules put their fallback devices in each namespace.
		return strings.Join(slices.DeleteFunc(lines, func(l string) bool { return strings.Contains(l, "@NONE") }), " ")
	case "root":
		for line := range strings.Lines(proc("mountinfo")) {
			if fields := strings.Fields(line); fields[4] == "/" {
				return strings.Split(fields[5], ",")[0]
			}
		}
	case "oom_score_adj":
		return proc(what)
	case "cgroup parent":
		_, path, _ := strings.Cut(cgroup(t, proc("cgroup"), "memory"), ":")
		return filepath.Dir(path)
	case "cpu shares":
		controllers, path, _ := strings.Cut(cgroup(t, proc("cgroup"), "cpu"), ":")
		if controllers == "" { // cgroup v2 knows weights
			return map[string]string{"1": "2"}[read(t, "/sys/fs/cgroup"+path+"/cpu.weight")]
		}
		return read(t, "/sys/fs/cgroup/cpu"+path+"/cpu.shares")
	default:
		if strings.Contains(what, "/") {
			return enter(t, s, "cat", "/proc/sys/"+what)
		}
		for line := range strings.Lines(proc("status")) {
			if name, value, _ := strings.Cut(line, ":"); name == what {
				value = strings.TrimSpace(value)
				if what == "Uid" || what == "Gid" {
					return strings.Fields(value)[1] // the effective one
				}
				return value
			}
		}
	}
	t.Fatalf("%s: not found", what)
	return ""
}

// cgroup returns "controllers:path" of the hierarchy that has controller.
func cgroup(t *testing.T, file, controller string) string {
	t.Helper()
	for line := range strings.Lines(file) {
		_, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		controllers, _, _ := strings.Cut(rest, ":")
		if controllers == "" && !strings.Contains(file, ":memory:") || slices.Contains(strings.Split(controllers, ","), controller) {
			return rest
		}
	}
	t.Fatalf("no cgroup with %s in\n%s", controller, file)
	return ""
}

func enter(t *testing.T, s pod.Sandbox, command ...string) string {
	t.Helper()
	out, err := exec.Command("nsenter", append([]string{"--target", strconv.Itoa(s.PID), "--net", "--ipc", "--uts", "--"}, command...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", command, err, out)
	}
	return strings.TrimSpace(string(out))
}

func link(t *testing.T, process, namespace string) string {
	t.Helper()
	name, err := os.Readlink("/proc/" + process + "/ns/" + namespace)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// What the kernel refuses comes out at the start, with the engine's words.
func TestStartFailureIsTold(t *testing.T) {
	for _, version := range versions {
		t.Run(string(version), func(t *testing.T) {
			s := enginetest.Real(t, enginetest.Start(t, version, "--bridge=none", "--iptables=false"))
			for _, name := range []string{"unheard_of", "somaxconn"} {
				id, err := s.Engine.CreateSandbox(t.Context(), pod.SandboxSpec{Name: name, Instance: s.Instance, Image: s.Image, Files: s.Files, Config: &cri.PodSandboxConfig{
					Metadata: &cri.PodSandboxMetadata{Name: name}, Linux: &cri.LinuxPodSandboxConfig{Sysctls: map[string]string{"net.core." + name: "many"}},
				}})
				if err != nil {
					t.Fatal(err)
				}
				err = s.Engine.Start(t.Context(), id)
				if !errdefs.IsInternal(err) && !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "/proc/sys/net/core/"+name) {
					t.Errorf("start with a bad net.core.%s: %v", name, err)
				}
				if sandbox, err := s.Engine.Inspect(t.Context(), id); err != nil || sandbox.Running || !sandbox.StartedAt.IsZero() {
					t.Errorf("after it: running %t, started %v, %v", sandbox.Running, sandbox.StartedAt, err)
				}
			}
		})
	}
}

// Settings of an engine are read from the real thing.
func TestEngineSettings(t *testing.T) {
	for _, version := range versions {
		t.Run(string(version), func(t *testing.T) {
			host := enginetest.Start(t, version, "--iptables=false", "--ip6tables=false", "--default-address-pool=base=10.200.0.0/16,size=24", "--no-new-privileges")
			e, err := engine.New(engine.Options{Host: host, Instance: "one", Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			pools, err := e.Pools(t.Context())
			want := []netip.Prefix{netip.MustParsePrefix("10.200.0.0/16"), netip.MustParsePrefix("10.200.0.0/24")}
			if err != nil || !slices.Equal(pools, want) {
				t.Errorf("pools: %v, %v; want %v", pools, err, want)
			}
			facts, err := e.Facts(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			told := slices.ContainsFunc(facts.Problems, func(p pod.Problem) bool { return p.Reason == "EngineNoNewPrivileges" })
			if want := version != enginetest.Engine20; told != want { // engines before 23.0 don't tell
				t.Errorf("no-new-privileges told: %t, want %t; problems: %v", told, want, facts.Problems)
			}
		})
	}
}
