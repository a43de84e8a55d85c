package e2e

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine/enginetest"
)

// field is what becomes of one field of a request: it is honoured, and see shows that
// on the running sandbox, or refused, and the error has the code and says the text.
type field struct {
	set func(*testing.T, *cri.PodSandboxConfig)
	// see observes the field's effect; it fails the test.
	see  func(t *testing.T, n *node, s sandbox)
	code codes.Code
	text string
}

// requests are those of the RPCs that are served, and the table of their fields, by
// path. A field that is in no table fails the test, as does a row for no field.
var requests = map[proto.Message]map[string]field{
	&cri.RunPodSandboxRequest{}:             runFields,
	&cri.StopPodSandboxRequest{}:            {"pod_sandbox_id": seenBy("TestUserRunsAPod")},
	&cri.RemovePodSandboxRequest{}:          {"pod_sandbox_id": seenBy("TestUserRunsAPod")},
	&cri.PodSandboxStatusRequest{}:          {"pod_sandbox_id": seenBy("TestUserRunsAPod"), "verbose": seenBy("TestUserRunsAPod")},
	&cri.ListPodSandboxRequest{}:            filterFields,
	&cri.StreamPodSandboxesRequest{}:        filterFields,
	&cri.VersionRequest{}:                   {"version": seenBy("TestOtherFields")},
	&cri.StatusRequest{}:                    {"verbose": seenBy("TestOtherFields")},
	&cri.RuntimeConfigRequest{}:             {},
	&cri.UpdateRuntimeConfigRequest{}:       {"runtime_config.network_config.pod_cidr": seenBy("TestOtherFields")},
	&cri.CreateContainerRequest{}:           inTable(containerFields),
	&cri.StartContainerRequest{}:            {"container_id": seenBy("TestContainers")},
	&cri.StopContainerRequest{}:             {"container_id": seenBy("TestContainers"), "timeout": seenBy("TestContainers")},
	&cri.RemoveContainerRequest{}:           {"container_id": seenBy("TestContainers")},
	&cri.ListContainersRequest{}:            containerFilterFields,
	&cri.StreamContainersRequest{}:          containerFilterFields,
	&cri.ContainerStatusRequest{}:           {"container_id": seenBy("TestContainers"), "verbose": seenBy("TestContainers")},
	&cri.ReopenContainerLogRequest{}:        {"container_id": seenBy("TestContainers")},
	&cri.UpdateContainerResourcesRequest{}:  updateFields("linux."),
	&cri.UpdatePodSandboxResourcesRequest{}: updateFields("resources.", "overhead."),
	&cri.ListImagesRequest{}:                imageFields("filter.image."),
	&cri.StreamImagesRequest{}:              imageFields("filter.image."),
	&cri.ImageStatusRequest{}:               imageFields("image.", "verbose"),
	&cri.RemoveImageRequest{}:               imageFields("image."),
	&cri.ImageFsInfoRequest{}:               {},
	&cri.PullImageRequest{}: imageFields("image.", "sandbox_config",
		"auth.username", "auth.password", "auth.auth", "auth.server_address", "auth.identity_token", "auth.registry_token"),
	&cri.ExecSyncRequest{}:                seenIn("TestExecSync", "container_id", "cmd", "timeout"),
	&cri.ExecRequest{}:                    seenIn("TestUserRunsCommands", "container_id", "cmd", "tty", "stdin", "stdout", "stderr"),
	&cri.AttachRequest{}:                  seenIn("TestUserAttaches", "container_id", "tty", "stdin", "stdout", "stderr"), // tty must be the container's
	&cri.PortForwardRequest{}:             seenIn("TestUserForwardsPorts", "pod_sandbox_id", "port"),
	&cri.ContainerStatsRequest{}:          seenIn("TestStatsEqualTheKernels", "container_id"),
	&cri.ListContainerStatsRequest{}:      containerStatsFields,
	&cri.StreamContainerStatsRequest{}:    containerStatsFields,
	&cri.PodSandboxStatsRequest{}:         seenIn("TestStatsEqualTheKernels", "pod_sandbox_id"),
	&cri.ListPodSandboxStatsRequest{}:     podStatsFields,
	&cri.StreamPodSandboxStatsRequest{}:   podStatsFields,
	&cri.GetEventsRequest{}:               {},
	&cri.ListMetricDescriptorsRequest{}:   {},
	&cri.ListPodSandboxMetricsRequest{}:   {},
	&cri.StreamPodSandboxMetricsRequest{}: {},
}

// The filters of stats are seen by the tests of internal/cri.
var (
	containerStatsFields = seenIn("TestListContainerStats", "filter.id", "filter.pod_sandbox_id", "filter.label_selector")
	podStatsFields       = seenIn("TestPodSandboxStats", "filter.id", "filter.label_selector")
)

// seenIn is a table of fields that are all seen by one test.
func seenIn(test string, names ...string) map[string]field {
	table := map[string]field{}
	for _, name := range names {
		table[name] = seenBy(test)
	}
	return table
}

// imageFields are those of an image spec, all seen by TestFieldsOfImages, and more.
func imageFields(prefix string, more ...string) map[string]field {
	table := map[string]field{}
	for _, name := range []string{"image", "annotations", "user_specified_image", "runtime_handler", "image_ref"} {
		table[prefix+name] = seenBy("TestFieldsOfImages")
	}
	for _, path := range more {
		table[path] = seenBy("TestFieldsOfImages")
	}
	return table
}

// seenBy marks a field whose effect another test observes, of this package if nothing else is said.
func seenBy(string) field { return field{} }

var filterFields = map[string]field{
	"filter.id": seenBy("TestOtherFields"), "filter.state.state": seenBy("TestOtherFields"), "filter.label_selector": seenBy("TestOtherFields"),
}

func TestEveryFieldIsInTheTable(t *testing.T) {
	for request, table := range requests {
		message := request.ProtoReflect().Descriptor()
		fields := paths(message, "")
		for _, path := range fields {
			if _, ok := table[path]; !ok {
				t.Errorf("%s: field %s is neither honoured nor refused in the table", message.Name(), path)
			}
		}
		for path := range table {
			if !slices.Contains(fields, path) {
				t.Errorf("%s: the table has %s, which is no field", message.Name(), path)
			}
		}
	}
}

// paths returns the fields of a message that hold values, with those inside of other
// messages. What is refused, or makes no difference, as a whole is one field.
func paths(message protoreflect.MessageDescriptor, prefix string) (all []string) {
	fields := message.Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		path := prefix + string(f.Name())
		if f.Kind() == protoreflect.MessageKind && !f.IsMap() && !slices.Contains([]string{"config.windows", "windows", "sandbox_config"}, path) {
			all = append(all, paths(f.Message(), path+".")...)
			continue
		}
		all = append(all, path)
	}
	return all
}

// Each field of RunPodSandbox has its effect inside the sandbox, or its error.
func TestFieldsOfRunPodSandbox(t *testing.T) {
	bothEngines(t, func(t *testing.T, version enginetest.Version) {
		n := newNode(t, version, map[string]string{"10-dual.conflist": dualStackConf})
		for _, path := range slices.Sorted(maps.Keys(runFields)) {
			row := runFields[path]
			t.Run(path, func(t *testing.T) {
				req := &cri.RunPodSandboxRequest{Config: config("web")}
				if path == "runtime_handler" {
					req.RuntimeHandler = "runc"
				} else {
					row.set(t, req.Config)
				}
				resp, err := n.cri.RunPodSandbox(t.Context(), req)
				if row.see == nil {
					if status.Code(err) != row.code || !strings.Contains(fmt.Sprint(err), row.text) {
						t.Errorf("error %v, want %s that says %q", err, row.code, row.text)
					}
					n.wantWhole(t, 0)
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				defer n.removePod(t, resp.GetPodSandboxId())
				row.see(t, n, n.inspect(t, resp.GetPodSandboxId()))
			})
		}
		n.wantWhole(t, 0)
	})
}

func linux(c *cri.PodSandboxConfig) *cri.LinuxPodSandboxConfig {
	if c.Linux == nil {
		c.Linux = &cri.LinuxPodSandboxConfig{}
	}
	return c.Linux
}

func security(c *cri.PodSandboxConfig) *cri.LinuxSandboxSecurityContext {
	l := linux(c)
	if l.SecurityContext == nil {
		l.SecurityContext = &cri.LinuxSandboxSecurityContext{}
	}
	return l.SecurityContext
}

func namespaces(c *cri.PodSandboxConfig) *cri.NamespaceOption {
	s := security(c)
	if s.NamespaceOptions == nil {
		s.NamespaceOptions = &cri.NamespaceOption{}
	}
	return s.NamespaceOptions
}

// procStatus returns a field of the sandbox process's /proc/PID/status.
func (s sandbox) procStatus(t *testing.T, key string) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.pid(t)))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(text), "\n") {
		if value, ok := strings.CutPrefix(line, key+":"); ok {
			return strings.Join(strings.Fields(value), " ")
		}
	}
	t.Fatalf("/proc/PID/status has no %s", key)
	return ""
}

func wantStatus(key, want string) func(*testing.T, *node, sandbox) {
	return func(t *testing.T, _ *node, s sandbox) {
		t.Helper()
		if got := s.procStatus(t, key); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
}

// wantShared checks whether the sandbox shares a namespace with the node.
func wantShared(kind string, shared bool) func(*testing.T, *node, sandbox) {
	return func(t *testing.T, n *node, s sandbox) {
		t.Helper()
		own, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", s.pid(t), kind))
		if err != nil {
			t.Fatal(err)
		}
		nodes, err := os.Readlink("/proc/1/ns/" + kind) // the tests' init
		if err != nil {
			t.Fatal(err)
		}
		if (own == nodes) != shared {
			t.Errorf("%s namespace is the node's: %v, want %v", kind, own == nodes, shared)
		}
	}
}

func wantInFile(path, text string) func(*testing.T, *node, sandbox) {
	return func(t *testing.T, _ *node, s sandbox) {
		t.Helper()
		if got := s.file(t, path); !strings.Contains(got, text) {
			t.Errorf("%s lacks %q:\n%s", path, text, got)
		}
	}
}

// uname returns the host name in the sandbox's UTS namespace.
func (s sandbox) uname(t *testing.T) string {
	t.Helper()
	return run(t, "nsenter", fmt.Sprintf("--uts=/proc/%d/ns/uts", s.pid(t)), "uname", "-n")
}

// wantAnnotation checks what the OCI runtime was told, which engines before 24 can't
// pass on; the verbose status reports it with every engine.
func wantAnnotation(reported, key, want string) func(*testing.T, *node, sandbox) {
	return func(t *testing.T, n *node, s sandbox) {
		t.Helper()
		if got := string(s.info["config"]); !strings.Contains(strings.ReplaceAll(got, " ", ""), reported) {
			t.Errorf("the verbose status lacks %s: %s", reported, got)
		}
		if n.docker(t, "version", "-f", "{{.Server.APIVersion}}") < "1.43" {
			return
		}
		if got := n.docker(t, "inspect", "-f", fmt.Sprintf("{{index .HostConfig.Annotations %q}}", key), s.id); !strings.Contains(got, want) {
			t.Errorf("annotation %s is %q, want %s", key, got, want)
		}
	}
}

// writeProfile makes a seccomp profile under which no socket can be made.
func writeProfile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "no-sockets.json")
	if err := os.WriteFile(path, []byte(`{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["socket"], "action": "SCMP_ACT_ERRNO"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// wantNoSockets checks that the profile of writeProfile is in force: ip needs a socket.
func wantNoSockets(t *testing.T, n *node, s sandbox) {
	t.Helper()
	wantStatus("Seccomp", "2")(t, n, s)
	if out, err := try("docker", "-H", n.host, "exec", s.id, "ip", "addr"); err == nil {
		t.Errorf("a socket could be made:\n%s", out)
	}
}
