package cri_test

import (
	"os"
	"path"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// badCreate is a CreateContainerRequest that is refused with an error that names the field.
type badCreate struct {
	name  string
	spoil func(r *runtimeapi.CreateContainerRequest)
	code  codes.Code
	says  []string
}

func inConfig(f func(*runtimeapi.ContainerConfig)) func(*runtimeapi.CreateContainerRequest) {
	return func(r *runtimeapi.CreateContainerRequest) { f(r.GetConfig()) }
}

func inSecurity(f func(*runtimeapi.LinuxContainerSecurityContext)) func(*runtimeapi.CreateContainerRequest) {
	return inConfig(func(c *runtimeapi.ContainerConfig) { f(c.GetLinux().GetSecurityContext()) })
}

func inResources(f func(*runtimeapi.LinuxContainerResources)) func(*runtimeapi.CreateContainerRequest) {
	return inConfig(func(c *runtimeapi.ContainerConfig) { f(c.GetLinux().GetResources()) })
}

func logPath(text string) func(*runtimeapi.CreateContainerRequest) {
	return inConfig(func(c *runtimeapi.ContainerConfig) { c.LogPath = text })
}

func badContainers() []badCreate {
	type (
		config    = runtimeapi.ContainerConfig
		security  = runtimeapi.LinuxContainerSecurityContext
		resources = runtimeapi.LinuxContainerResources
	)
	big := map[string]string{"a": strings.Repeat("x", 1<<20)}
	return []badCreate{
		{"no config", func(r *runtimeapi.CreateContainerRequest) { r.Config = nil }, invalid, []string{"config", "missing"}},
		{"no metadata", inConfig(func(c *config) { c.Metadata = nil }), invalid, []string{"config.metadata.name"}},
		{"a name that no object has", inConfig(func(c *config) { c.Metadata.Name = strings.Repeat("n", 300) }), invalid, []string{"config.metadata.name", "300"}},
		{"labels of 1 MB", inConfig(func(c *config) { c.Labels = big }), invalid, []string{"config.labels", "1048577"}},
		{"annotations of 1 MB", inConfig(func(c *config) { c.Annotations = big }), invalid, []string{"config.annotations", "1048577"}},
		{"a label without a key", inConfig(func(c *config) { c.Labels = map[string]string{"": "x"} }), invalid, []string{"config.labels", "empty key"}},
		{"no image", inConfig(func(c *config) { c.Image = nil }), invalid, []string{"config.image.image"}},
		{"an image that is no name", inConfig(func(c *config) { c.Image.Image = "A B" }), invalid, []string{"config.image", "A B"}},
		{"an image that is not there", inConfig(func(c *config) { c.Image.Image = "nobody/has:this" }), codes.NotFound, []string{"nobody/has:this"}},
		{"windows", inConfig(func(c *config) { c.Windows = &runtimeapi.WindowsContainerConfig{} }), invalid, []string{"windows"}},
		{"log path upwards", logPath("../x.log"), invalid, []string{"config.log_path", "../x.log"}},
		{"log path from the root", logPath("/etc/passwd"), invalid, []string{"config.log_path", "/etc/passwd"}},
		{"log path that is the directory", logPath("a/.."), invalid, []string{"config.log_path", "a/.."}},
		{"log path with a NUL", logPath("a\x00"), invalid, []string{"config.log_path", "NUL"}},
		{"relative log directory", func(r *runtimeapi.CreateContainerRequest) { r.SandboxConfig.LogDirectory = "logs" }, invalid, []string{"log_directory", "logs"}},
		{"NUL in an argument", inConfig(func(c *config) { c.Args = []string{"\x00"} }), invalid, []string{"args[0]", "NUL"}},
		{"variable without a name", inConfig(func(c *config) { c.Envs = []*runtimeapi.KeyValue{{}} }), invalid, []string{"envs[0].key"}},
		{"unknown stop signal", inConfig(func(c *config) { c.StopSignal = 999 }), invalid, []string{"stop_signal", "999"}},
		{"relative host path", inConfig(func(c *config) { c.Mounts = []*runtimeapi.Mount{{ContainerPath: "/a", HostPath: "a"}} }), invalid, []string{"config.mounts[0].host_path"}},
		{"relative container path", inConfig(func(c *config) { c.Mounts = []*runtimeapi.Mount{{ContainerPath: "a", HostPath: "/"}} }), invalid, []string{"mounts[0].container_path"}},
		{"host path below a file", inConfig(func(c *config) {
			c.Mounts = []*runtimeapi.Mount{{ContainerPath: "/a", HostPath: "/proc/mascri-can-make-nothing-here"}}
		}), codes.FailedPrecondition, []string{"config.mounts[0].host_path"}},
		{"image mount that is not there", inConfig(func(c *config) {
			c.Mounts = []*runtimeapi.Mount{{ContainerPath: "/a", Image: imageSpec("nobody/has:this")}}
		}), codes.NotFound, []string{"config.mounts[0].image", "nobody/has:this"}},
		{"relative device", inConfig(func(c *config) { c.Devices = []*runtimeapi.Device{{HostPath: "a", ContainerPath: "/dev/a"}} }), invalid, []string{"devices[0].host_path"}},
		{"privileged in a pod that is not", inSecurity(func(s *security) { s.Privileged = true }), invalid, []string{"config.linux.security_context.privileged"}},
		{"user that nobody is", inSecurity(func(s *security) { s.RunAsUsername = "nobody-here" }), invalid, []string{"run_as_username", "nobody-here"}},
		{"group without a user", inSecurity(func(s *security) { s.RunAsGroup = &runtimeapi.Int64Value{} }), invalid, []string{"run_as_group"}},
		{"unknown policy of groups", inSecurity(func(s *security) { s.SupplementalGroupsPolicy = 77 }), invalid, []string{"supplemental_groups_policy", "77"}},
		{"target without its mode", inSecurity(func(s *security) { s.NamespaceOptions = &runtimeapi.NamespaceOption{TargetId: "x"} }), invalid, []string{"target_id"}},
		{"unknown pid mode", inSecurity(func(s *security) { s.NamespaceOptions = &runtimeapi.NamespaceOption{Pid: 77} }), invalid, []string{"namespace_options.pid", "77"}},
		{"unknown network mode", inSecurity(func(s *security) { s.NamespaceOptions = &runtimeapi.NamespaceOption{Network: 77} }), invalid, []string{"namespace_options.network", "77"}},
		{"ambient capabilities", inSecurity(func(s *security) {
			s.Capabilities = &runtimeapi.Capability{AddAmbientCapabilities: []string{"NET_RAW"}}
		}), codes.Unimplemented, []string{"add_ambient_capabilities"}},
		{"negative shares", inResources(func(r *resources) { r.CpuShares = -1 }), invalid, []string{"cpu_shares"}},
		{"unified key that the kernel lacks", inResources(func(r *resources) { r.Unified = map[string]string{"no.such": "1"} }), codes.FailedPrecondition, []string{"config.linux.resources.unified", "no.such"}},
		{"OOM score past the last", inResources(func(r *resources) { r.OomScoreAdj = 1001 }), invalid, []string{"oom_score_adj"}},
		{"no sandbox", func(r *runtimeapi.CreateContainerRequest) { r.PodSandboxId = "" }, invalid, []string{"sandbox id", "missing"}},
		{"a sandbox that is not there", func(r *runtimeapi.CreateContainerRequest) { r.PodSandboxId = "nowhere" }, codes.NotFound, []string{"nowhere"}},
	}
}

func createRequest(sandbox string) *runtimeapi.CreateContainerRequest {
	return &runtimeapi.CreateContainerRequest{
		PodSandboxId: sandbox, Config: containerConfig("app"), SandboxConfig: &runtimeapi.PodSandboxConfig{LogDirectory: logDirectory},
	}
}

// Whatever is wrong with a request, it is refused with a sentence that names the field,
// and nothing is left behind.
func TestBadContainers(t *testing.T) {
	for _, tt := range badContainers() {
		t.Run(tt.name, func(t *testing.T) {
			d := newDaemon(t)
			sandbox := d.run(t, podConfig("web"))
			before := d.engine.String()
			request := createRequest(sandbox)
			good := proto.Clone(request)
			tt.spoil(request)
			if proto.Equal(good, request) {
				t.Fatal("the request is not bad")
			}
			_, err := d.CreateContainer(t.Context(), request)
			wantCode(t, err, tt.code, tt.says...)
			if after := d.engine.String(); after != before {
				t.Errorf("left behind: %s", after)
			}
			d.mustCreate(t, sandbox, containerConfig("app"))
		})
	}
}

func TestOtherBadContainerRequests(t *testing.T) {
	d := newDaemon(t)
	sandbox := d.run(t, podConfig("web"))
	d.mustCreate(t, sandbox, containerConfig("a"))
	d.mustCreate(t, sandbox, containerConfig("b"))
	for id, says := range map[string]string{"": "container id: missing", "00": "fits 2 containers"} {
		wantCode(t, d.start(t, id), invalid, says)
		wantCode(t, d.stopContainer(t, id, 1), invalid, says)
		wantCode(t, d.removeContainer(t, id), invalid, says)
		wantCode(t, d.update(t, id, &runtimeapi.LinuxContainerResources{}), invalid, says)
		_, err := d.ContainerStatus(t.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: id})
		wantCode(t, err, invalid, says)
	}
	for _, seconds := range []int64{-1, 1 << 40} {
		wantCode(t, d.stopContainer(t, "x", seconds), invalid, "timeout")
	}
	_, err := d.ContainerStatus(t.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: sandbox})
	wantCode(t, err, codes.NotFound, sandbox)
	if got := d.containers(t, &runtimeapi.ContainerFilter{State: &runtimeapi.ContainerStateValue{State: 77}}); got != "" {
		t.Errorf("containers in a state that does not exist: %s", got)
	}
}

// Whatever a client sends, the answer is a container or an error that is the client's to
// mend, nothing of a refused request is left, and what was made can be removed.
func FuzzCreateContainer(f *testing.F) {
	dir := f.TempDir()
	whole := createRequest("")
	whole.Config.Mounts = []*runtimeapi.Mount{{HostPath: "/a", ContainerPath: "/b", Readonly: true}}
	whole.Config.Envs = []*runtimeapi.KeyValue{{Key: "A", Value: []byte("b")}}
	whole.Config.Devices = []*runtimeapi.Device{{HostPath: "/dev/null", ContainerPath: "/dev/x", Permissions: "r"}}
	whole.Config.Linux.Resources = wide()
	whole.Config.Linux.SecurityContext = &runtimeapi.LinuxContainerSecurityContext{
		RunAsUsername: "app", SupplementalGroups: []int64{5}, NamespaceOptions: &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER},
		Capabilities: &runtimeapi.Capability{AddCapabilities: []string{"ALL"}, DropCapabilities: []string{"KILL"}}, MaskedPaths: []string{"/proc/kcore"},
	}
	for _, tt := range append(badContainers(), badCreate{spoil: func(*runtimeapi.CreateContainerRequest) {}}) {
		request := proto.CloneOf(whole)
		tt.spoil(request)
		if proto.Size(request) > 1<<10 {
			continue // slow, and the same as a small one to the fuzzer
		}
		seed, err := proto.Marshal(request)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		request := &runtimeapi.CreateContainerRequest{}
		if proto.Unmarshal(data, request) != nil {
			t.Skip("gRPC refuses it")
		}
		for _, m := range request.GetConfig().GetMounts() { // they would be made wherever they are asked for
			if path.IsAbs(m.GetHostPath()) {
				m.HostPath = path.Join(dir, path.Join("/", m.GetHostPath()))
			}
		}
		d := newDaemon(t)
		request.PodSandboxId = d.run(t, podConfig("web"))
		before := d.engine.String()
		resp, err := d.CreateContainer(t.Context(), request)
		switch status.Code(err) {
		case codes.OK:
			for _, err := range []error{d.start(t, resp.GetContainerId()), d.stopContainer(t, resp.GetContainerId(), 0)} {
				if status.Code(err) == codes.Internal {
					t.Errorf("start or stop: %v", err)
				}
			}
		case codes.InvalidArgument, codes.FailedPrecondition, codes.Unimplemented, codes.NotFound:
			if after := d.engine.String(); after != before {
				t.Errorf("refused by %v, but left behind: %s", err, after)
			}
		default:
			t.Errorf("not an error that a request can have: %v", err)
		}
		if err := d.remove(t, request.GetPodSandboxId()); err != nil {
			t.Errorf("remove: %v", err)
		}
		d.wantClean(t)
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	})
}
