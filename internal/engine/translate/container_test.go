package translate

import (
	"errors"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

// workload has no more than metadata, in a sandbox that has no more either.
func workload() pod.ContainerSpec {
	sandbox := spec()
	return pod.ContainerSpec{
		Name: "k8s_app_web_default_42_0", Instance: "one",
		Sandbox: pod.Sandbox{ID: "5a5a", Config: sandbox.Config},
		Image:   pod.Image{ID: "sha256:abcd", Config: ocispec.Image{Config: ocispec.ImageConfig{Entrypoint: []string{"/app"}}}},
		Fixed: pod.Fixed{
			SandboxID: "5a5a", User: pod.User{Groups: []int64{0}},
			Config: &cri.ContainerConfig{
				Metadata: &cri.ContainerMetadata{Name: "app"},
				Linux:    &cri.LinuxContainerConfig{Resources: &cri.LinuxContainerResources{}, SecurityContext: &cri.LinuxContainerSecurityContext{NamespaceOptions: &cri.NamespaceOption{}}},
			},
		},
	}
}

// fullNode is node with what containers can need besides.
func fullNode() Host {
	host := node()
	host.Facts.Version, host.Facts.SwapLimit, host.Facts.CDI = "28.5.2", true, true
	return host
}

func TestContainer(t *testing.T) {
	type sc = cri.LinuxContainerSecurityContext
	for name, change := range map[string]func(*pod.ContainerSpec, *sc, *Host){
		"minimal": func(s *pod.ContainerSpec, _ *sc, _ *Host) { s.Config.Linux = nil },
		"kubelet": func(s *pod.ContainerSpec, sc *sc, _ *Host) {
			s.Sandbox.Config.Linux.CgroupParent = "/kubepods/burstable/pod42"
			s.Config.Command, s.Config.Args, s.Config.WorkingDir = []string{"/bin/app", "--x"}, []string{"y"}, "/srv"
			s.Config.Envs = []*cri.KeyValue{{Key: "A", Value: []byte("b=c\n")}, {Key: "EMPTY"}}
			s.Config.Mounts = []*cri.Mount{
				{HostPath: "/var/lib/kubelet/pods/42/etc-hosts", ContainerPath: "/etc/hosts"},
				{HostPath: "/var/lib/kubelet/pods/42/token", ContainerPath: "/var/run/secrets", Readonly: true},
				{HostPath: "/data", ContainerPath: "/data", Propagation: cri.MountPropagation_PROPAGATION_HOST_TO_CONTAINER},
				{HostPath: "/csi", ContainerPath: "/csi", Propagation: cri.MountPropagation_PROPAGATION_BIDIRECTIONAL},
				{HostPath: "/ro", ContainerPath: "/ro", Readonly: true, RecursiveReadOnly: true},
			}
			s.Config.Linux.Resources = &cri.LinuxContainerResources{
				CpuPeriod: 100000, CpuQuota: 50000, CpuShares: 512, MemoryLimitInBytes: 1 << 30, OomScoreAdj: 900, CpusetCpus: "0-1", CpusetMems: "0",
				HugepageLimits: []*cri.HugepageLimit{{PageSize: "2MB"}}, Unified: map[string]string{"memory.oom.group": "1"},
			}
			sc.Seccomp = &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault}
			sc.NoNewPrivs = true
			sc.MaskedPaths, sc.ReadonlyPaths = []string{"/proc/kcore"}, []string{"/proc/sys"}
			s.User = pod.User{UID: 1000, GID: 2000, Groups: []int64{2000, 3000}}
		},
		"old-engine": func(s *pod.ContainerSpec, _ *sc, h *Host) {
			h.Facts = pod.EngineFacts{Version: "20.10.24", APIVersion: "1.41", CgroupDriver: "cgroupfs", Runtimes: []string{"runc"}}
			h.OOMFloor = 500
			s.Config.Mounts = []*cri.Mount{{HostPath: "/a", ContainerPath: "/a", Readonly: true}}
			s.Config.Linux.Resources = &cri.LinuxContainerResources{MemoryLimitInBytes: 1 << 30, OomScoreAdj: -997}
		},
		"systemd": func(s *pod.ContainerSpec, _ *sc, h *Host) {
			h.Facts.CgroupDriver = "systemd"
			s.Sandbox.Config.Linux.CgroupParent = "/kubepods.slice/kubepods-pod42.slice"
		},
		"host-namespaces": func(s *pod.ContainerSpec, sc *sc, _ *Host) {
			sc.NamespaceOptions = &cri.NamespaceOption{Network: cri.NamespaceMode_NODE, Pid: cri.NamespaceMode_NODE, Ipc: cri.NamespaceMode_NODE}
			s.Sandbox.Config.Linux.SecurityContext.NamespaceOptions = sc.NamespaceOptions
		},
		"own-pid": func(_ *pod.ContainerSpec, sc *sc, _ *Host) { sc.NamespaceOptions.Pid = cri.NamespaceMode_CONTAINER },
		"target-pid": func(_ *pod.ContainerSpec, sc *sc, _ *Host) {
			sc.NamespaceOptions = &cri.NamespaceOption{Pid: cri.NamespaceMode_TARGET, TargetId: "1234"}
		},
		"private-ipc": func(s *pod.ContainerSpec, _ *sc, _ *Host) {
			s.Sandbox.Config.Linux.SecurityContext.NamespaceOptions = &cri.NamespaceOption{Ipc: cri.NamespaceMode_CONTAINER}
		},
		"privileged": func(_ *pod.ContainerSpec, sc *sc, _ *Host) {
			sc.Privileged = true
			sc.MaskedPaths, sc.ReadonlyPaths = []string{"/proc/kcore"}, []string{"/proc/sys"} // as the kubelet sends them
		},
		"capabilities": func(_ *pod.ContainerSpec, sc *sc, _ *Host) {
			sc.Capabilities = &cri.Capability{AddCapabilities: []string{"NET_ADMIN", "ALL"}, DropCapabilities: []string{"all"}}
			sc.ReadonlyRootfs = true
		},
		"profiles": func(_ *pod.ContainerSpec, sc *sc, _ *Host) {
			sc.Seccomp = &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: "/profiles/audit.json"}
			sc.ApparmorProfile = "localhost/web" //nolint:staticcheck // deprecated, but clients still send it
			sc.SelinuxOptions = &cri.SELinuxOption{Level: "s0:c1,c2"}
		},
		"selinux-relabel": func(s *pod.ContainerSpec, _ *sc, _ *Host) {
			s.Config.Mounts = []*cri.Mount{{HostPath: "/a", ContainerPath: "/b", SelinuxRelabel: true, Readonly: true}}
		},
		"devices": func(s *pod.ContainerSpec, _ *sc, _ *Host) {
			s.Config.Devices = []*cri.Device{{HostPath: "/dev/a", ContainerPath: "/dev/b", Permissions: "r"}, {HostPath: "/dev/c", ContainerPath: "/dev/c"}}
			s.Config.CDIDevices = []*cri.CDIDevice{{Name: "vendor.com/gpu=0"}}
		},
		"image-mount": func(s *pod.ContainerSpec, _ *sc, _ *Host) {
			s.Config.Mounts = []*cri.Mount{{Image: &cri.ImageSpec{Image: "sha256:ef"}, ContainerPath: "/model", ImageSubPath: "a/b", Readonly: true}}
		},
		"terminal": func(s *pod.ContainerSpec, _ *sc, _ *Host) {
			s.Config.Tty, s.Config.Stdin, s.Config.StdinOnce, s.Config.StopSignal = true, true, true, cri.Signal_SIGNAL_SIGRTMINPLUS3
			s.Sandbox.RuntimeHandler = "crun"
		},
		"no-swap": func(s *pod.ContainerSpec, _ *sc, _ *Host) {
			s.Config.Linux.Resources = &cri.LinuxContainerResources{MemoryLimitInBytes: 1 << 20, MemorySwapLimitInBytes: 1 << 20, CpuShares: 1 << 40}
		},
	} {
		t.Run(name, func(t *testing.T) {
			spec, host := workload(), fullNode()
			change(&spec, spec.Config.Linux.SecurityContext, &host)
			config, hostConfig, err := Container(spec, host)
			if err != nil {
				t.Fatal(err)
			}
			if hostConfig.MaskedPaths == nil || hostConfig.ReadonlyPaths == nil {
				t.Error("no masked or read-only paths are given, which stands for the engine's own")
			}
			wantGolden(t, "container-"+name+".json", config, hostConfig)
		})
	}
}

func TestContainerRefuses(t *testing.T) {
	type sc = cri.LinuxContainerSecurityContext
	config := func(change func(*cri.ContainerConfig)) func(*pod.ContainerSpec, *Host) {
		return func(s *pod.ContainerSpec, _ *Host) { change(s.Config) }
	}
	security := func(change func(*sc)) func(*pod.ContainerSpec, *Host) {
		return config(func(c *cri.ContainerConfig) { change(c.Linux.SecurityContext) })
	}
	options := func(o *cri.NamespaceOption) func(*pod.ContainerSpec, *Host) {
		return security(func(s *sc) { s.NamespaceOptions = o })
	}
	mount := func(m *cri.Mount) func(*pod.ContainerSpec, *Host) {
		return config(func(c *cri.ContainerConfig) { c.Mounts = []*cri.Mount{{HostPath: "/a", ContainerPath: "/a"}, m} })
	}
	resources := func(r *cri.LinuxContainerResources) func(*pod.ContainerSpec, *Host) {
		return config(func(c *cri.ContainerConfig) { c.Linux.Resources = r })
	}
	old := func(change func(*pod.ContainerSpec, *Host)) func(*pod.ContainerSpec, *Host) {
		return func(s *pod.ContainerSpec, h *Host) {
			h.Facts.Version, h.Facts.APIVersion, h.Facts.CDI, h.Facts.SwapLimit = "20.10.24", "1.41", false, false
			change(s, h)
		}
	}
	invalid, unmet, unsayable := errdefs.ErrInvalidArgument, errdefs.ErrFailedPrecondition, errdefs.ErrNotImplemented
	for name, test := range map[string]struct {
		change func(*pod.ContainerSpec, *Host)
		kind   error
		says   string
	}{
		"windows":                 {config(func(c *cri.ContainerConfig) { c.Windows = &cri.WindowsContainerConfig{} }), invalid, "windows"},
		"no command":              {func(s *pod.ContainerSpec, _ *Host) { s.Image.Config.Config.Entrypoint = nil }, invalid, "command: missing"},
		"NUL in the command":      {config(func(c *cri.ContainerConfig) { c.Command = []string{"a", "b\x00"} }), invalid, "command[1]: holds a NUL"},
		"NUL in the directory":    {config(func(c *cri.ContainerConfig) { c.WorkingDir = "\x00" }), invalid, "working_dir: holds a NUL"},
		"variable without a name": {config(func(c *cri.ContainerConfig) { c.Envs = []*cri.KeyValue{{Key: "A"}, {}} }), invalid, "envs[1].key"},
		"variable with an equals": {config(func(c *cri.ContainerConfig) { c.Envs = []*cri.KeyValue{{Key: "A=B"}} }), invalid, "envs[0].key"},
		"bytes in a variable":     {config(func(c *cri.ContainerConfig) { c.Envs = []*cri.KeyValue{{Key: "A", Value: []byte{0xff}}} }), invalid, "envs[0].value"},
		"unknown signal":          {config(func(c *cri.ContainerConfig) { c.StopSignal = 999 }), invalid, "stop_signal: unknown value 999"},
		"unknown runtime":         {func(s *pod.ContainerSpec, _ *Host) { s.Sandbox.RuntimeHandler = "kata" }, invalid, `"kata"`},
		"no slice": {func(s *pod.ContainerSpec, h *Host) {
			h.Facts.CgroupDriver, s.Sandbox.Config.Linux.CgroupParent = "systemd", "/kubepods/pod42"
		}, invalid, "cgroup_parent"},

		"node's network":     {options(&cri.NamespaceOption{Network: cri.NamespaceMode_NODE}), invalid, "namespace_options.network: NODE"},
		"unknown network":    {options(&cri.NamespaceOption{Network: 77}), invalid, "namespace_options.network: 77"},
		"target's network":   {options(&cri.NamespaceOption{Network: cri.NamespaceMode_TARGET}), invalid, "namespace_options.network: TARGET"},
		"node's ipc":         {options(&cri.NamespaceOption{Ipc: cri.NamespaceMode_NODE}), invalid, "namespace_options.ipc: NODE"},
		"unknown ipc":        {options(&cri.NamespaceOption{Ipc: 77}), invalid, "namespace_options.ipc: 77"},
		"unknown pid":        {options(&cri.NamespaceOption{Pid: 77}), invalid, "namespace_options.pid: unknown value 77"},
		"own user namespace": {options(&cri.NamespaceOption{UsernsOptions: &cri.UserNamespace{}}), unsayable, "userns_options"},

		"relative container path":   {mount(&cri.Mount{HostPath: "/b", ContainerPath: "b"}), invalid, "mounts[1].container_path"},
		"relative host path":        {mount(&cri.Mount{HostPath: "b", ContainerPath: "/b"}), invalid, "mounts[1].host_path"},
		"unknown propagation":       {mount(&cri.Mount{HostPath: "/b", ContainerPath: "/b", Propagation: 9}), invalid, "mounts[1].propagation: unknown value 9"},
		"idmapped mount":            {mount(&cri.Mount{HostPath: "/b", ContainerPath: "/b", UidMappings: []*cri.IDMapping{{}}}), unsayable, "mounts[1].uidMappings"},
		"mount options":             {mount(&cri.Mount{HostPath: "/b", ContainerPath: "/b", MountOptions: []string{"noexec"}}), unsayable, "mounts[1].mount_options: noexec"},
		"recursive but writable":    {mount(&cri.Mount{HostPath: "/b", ContainerPath: "/b", RecursiveReadOnly: true}), invalid, "recursive_read_only: needs readonly"},
		"recursive and propagating": {mount(&cri.Mount{HostPath: "/b", ContainerPath: "/b", RecursiveReadOnly: true, Readonly: true, Propagation: cri.MountPropagation_PROPAGATION_HOST_TO_CONTAINER}), invalid, "recursive_read_only: needs propagation PRIVATE"},
		"recursive on 20.10":        {old(mount(&cri.Mount{HostPath: "/b", ContainerPath: "/b", RecursiveReadOnly: true, Readonly: true})), unmet, "needs Docker Engine 25; this is 20.10.24"},
		"recursive and relabelled":  {mount(&cri.Mount{HostPath: "/b", ContainerPath: "/b", RecursiveReadOnly: true, Readonly: true, SelinuxRelabel: true}), unsayable, "recursive_read_only"},
		"relabelled with a colon":   {mount(&cri.Mount{HostPath: "/b:c", ContainerPath: "/b", SelinuxRelabel: true}), unsayable, "host_path"},
		"image and host path":       {mount(&cri.Mount{HostPath: "/b", ContainerPath: "/b", Image: &cri.ImageSpec{Image: "x"}}), invalid, "mounts[1].host_path"},
		"image on 20.10":            {old(mount(&cri.Mount{ContainerPath: "/b", Image: &cri.ImageSpec{Image: "x"}})), unmet, "needs Docker Engine 28; this is 20.10.24"},
		"image path upwards":        {mount(&cri.Mount{ContainerPath: "/b", Image: &cri.ImageSpec{Image: "x"}, ImageSubPath: "a/../../b"}), invalid, "image_sub_path"},
		"image path of nothing":     {mount(&cri.Mount{HostPath: "/b", ContainerPath: "/b", ImageSubPath: "a"}), invalid, "image_sub_path"},
		"relative device":           {config(func(c *cri.ContainerConfig) { c.Devices = []*cri.Device{{HostPath: "/dev/a", ContainerPath: "a"}} }), invalid, "devices[0].container_path"},
		"device's permissions": {config(func(c *cri.ContainerConfig) {
			c.Devices = []*cri.Device{{HostPath: "/dev/a", ContainerPath: "/dev/a", Permissions: "rx"}}
		}), invalid, "devices[0].permissions"},
		"CDI name": {config(func(c *cri.ContainerConfig) { c.CDIDevices = []*cri.CDIDevice{{Name: "gpu"}} }), invalid, "CDI_devices[0].name"},
		"CDI off":  {old(config(func(c *cri.ContainerConfig) { c.CDIDevices = []*cri.CDIDevice{{Name: "v/c=n"}} })), unmet, "CDI_devices: v/c=n"},

		"negative period":     {resources(&cri.LinuxContainerResources{CpuPeriod: -1}), invalid, "cpu_period: -1"},
		"negative memory":     {resources(&cri.LinuxContainerResources{MemoryLimitInBytes: -1}), invalid, "memory_limit_in_bytes: -1"},
		"quota below none":    {resources(&cri.LinuxContainerResources{CpuQuota: -2}), invalid, "cpu_quota: -2"},
		"swap without memory": {resources(&cri.LinuxContainerResources{MemorySwapLimitInBytes: 1}), invalid, "memory_swap_limit_in_bytes: 1 needs"},
		"swap below memory":   {resources(&cri.LinuxContainerResources{MemoryLimitInBytes: 9, MemorySwapLimitInBytes: 1}), invalid, "memory_swap_limit_in_bytes: 1 is of memory and swap"},
		"swap on a node without": {old(resources(&cri.LinuxContainerResources{MemoryLimitInBytes: 1, MemorySwapLimitInBytes: 9})),
			unmet, "memory_swap_limit_in_bytes: the node can't limit swap"},
		"OOM score": {resources(&cri.LinuxContainerResources{OomScoreAdj: 1001}), invalid, "oom_score_adj: 1001"},

		"ambient capabilities": {security(func(s *sc) { s.Capabilities = &cri.Capability{AddAmbientCapabilities: []string{"NET_RAW"}} }), unsayable, "add_ambient_capabilities: NET_RAW"},
		"deprecated AppArmor": {security(func(s *sc) {
			s.ApparmorProfile = "web" //nolint:staticcheck // deprecated, but clients still send it
		}), invalid, `apparmor_profile: "web"`},
		"missing seccomp profile": {security(func(s *sc) {
			s.Seccomp = &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: "/profiles/none.json"}
		}), invalid, "open /profiles/none.json"},
		"SELinux where there is none": {func(s *pod.ContainerSpec, h *Host) {
			h.Facts.SELinux = false
			s.Config.Linux.SecurityContext.SelinuxOptions = &cri.SELinuxOption{Type: "t"}
		}, unmet, "selinux_options"},
	} {
		t.Run(name, func(t *testing.T) {
			spec, host := workload(), fullNode()
			test.change(&spec, &host)
			_, _, err := Container(spec, host)
			if !errors.Is(err, test.kind) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v; want a %v that says %q", err, test.kind, test.says)
			}
		})
	}
}

// Every signal of the CRI's comes back as what it was given as.
func TestStopSignals(t *testing.T) {
	for number, name := range cri.Signal_name {
		signal := cri.Signal(number)
		text, err := stopSignal(signal)
		want := signal
		if signal == cri.Signal_SIGNAL_RUNTIME_DEFAULT {
			want = cri.Signal_SIGNAL_SIGTERM // of an image that names none
		}
		if got := StopSignalInForce(text); err != nil || got != want {
			t.Errorf("%s: %q, %v, in force %s", name, text, err, got)
		}
	}
	for text, want := range map[string]cri.Signal{
		"": cri.Signal_SIGNAL_SIGTERM, "15": cri.Signal_SIGNAL_SIGTERM, "term": cri.Signal_SIGNAL_SIGTERM, "SIGQUIT": cri.Signal_SIGNAL_SIGQUIT,
		"37": cri.Signal_SIGNAL_SIGRTMINPLUS3, "RTMAX-1": cri.Signal_SIGNAL_SIGRTMAXMINUS1, "64": cri.Signal_SIGNAL_SIGRTMAX, "nonsense": cri.Signal_SIGNAL_RUNTIME_DEFAULT, "99": cri.Signal_SIGNAL_RUNTIME_DEFAULT,
	} {
		if got := StopSignalInForce(text); got != want {
			t.Errorf("image's %q: %s, want %s", text, got, want)
		}
	}
}
