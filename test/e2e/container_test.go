package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/test/registry"
)

// accounts are files of the image that the tests' containers are made from: alice is
// known to staff and wheel besides her own group.
var accounts = map[string]string{
	"etc/passwd": "root:x:0:0::/root:/bin/sh\nalice:x:1000:100::/:/bin/sh\n",
	"etc/group":  "root:x:0:\nusers:x:100:\nstaff:x:50:alice\nwheel:x:10:alice,root\n",
	"sub/file":   "in the image\n",
}

// bench is a node with images and a pod to run containers in.
type bench struct {
	*node
	pod    sandbox
	config *cri.PodSandboxConfig
	image  string // the tag of an image with busybox and accounts
	digest string // its name by its digest
	// crashLater arms a crash, in tests of those.
	crashLater func()
	built      string // an image made here from it: of user alice, stop signal SIGUSR1
}

// newBench pulls the images and runs the pod.
func newBench(t *testing.T, n *node) *bench {
	t.Helper()
	r := registry.Start(t, registry.Login{})
	digest := r.Push(t, "app", "1", registry.Image{Cmd: []string{"sleep", "1000"}, Files: accounts, Env: []string{"PATH=/bin"}})
	b := &bench{node: n, image: r.Ref("app", "1"), digest: r.Host + "/app@" + digest, built: "built:1", config: config("web")}
	if _, err := n.image.PullImage(t.Context(), &cri.PullImageRequest{Image: &cri.ImageSpec{Image: b.image}}); err != nil {
		t.Fatal(err)
	}
	b.config.LogDirectory = filepath.Join(shortDir(t), "logs")
	b.config.Linux = &cri.LinuxPodSandboxConfig{CgroupParent: "/" + os.Getenv("MASCRI_TEST_CGROUP") + "/web"}
	b.pod = n.runPod(t, b.config)
	return b
}

// build makes the second image, as a user would do without a registry.
func (b *bench) build(t *testing.T) {
	t.Helper()
	dir := shortDir(t)
	text := "FROM " + b.image + "\nUSER alice\nSTOPSIGNAL SIGUSR1\nENTRYPOINT [\"echo\", \"entry\"]\n"
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "sh", "-c", "DOCKER_BUILDKIT=0 docker -H "+b.host+" build -t "+b.built+" "+dir)
}

// request asks for a container of the bench's image that runs a shell script, or else
// sleeps.
func (b *bench) request(name, script string) *cri.CreateContainerRequest {
	c := &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: name}, Image: &cri.ImageSpec{Image: b.image}, LogPath: name + ".log",
		Linux: &cri.LinuxContainerConfig{SecurityContext: &cri.LinuxContainerSecurityContext{
			NamespaceOptions: &cri.NamespaceOption{Pid: cri.NamespaceMode_CONTAINER}, Capabilities: &cri.Capability{},
		}, Resources: &cri.LinuxContainerResources{}},
	}
	if script != "" {
		c.Command = []string{"sh", "-c", script}
	}
	return &cri.CreateContainerRequest{PodSandboxId: b.pod.id, Config: c, SandboxConfig: b.config}
}

// container is what a test knows of a workload's container, whose process is looked at as
// a sandbox's.
type container struct {
	sandbox
	node   *node
	status *cri.ContainerStatus
}

func (n *node) createContainer(t *testing.T, req *cri.CreateContainerRequest) string {
	t.Helper()
	resp, err := n.cri.CreateContainer(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetContainerId()
}

func (n *node) startContainer(t *testing.T, id string) container {
	t.Helper()
	if _, err := n.cri.StartContainer(t.Context(), &cri.StartContainerRequest{ContainerId: id}); err != nil {
		t.Fatal(err)
	}
	return n.look(t, id)
}

func (n *node) runContainer(t *testing.T, req *cri.CreateContainerRequest) container {
	t.Helper()
	return n.startContainer(t, n.createContainer(t, req))
}

func (n *node) removeContainer(t *testing.T, id string) {
	t.Helper()
	if _, err := n.cri.RemoveContainer(t.Context(), &cri.RemoveContainerRequest{ContainerId: id}); err != nil {
		t.Fatal(err)
	}
}

func (n *node) stopContainer(t *testing.T, id string, seconds int64) container {
	t.Helper()
	if _, err := n.cri.StopContainer(t.Context(), &cri.StopContainerRequest{ContainerId: id, Timeout: seconds}); err != nil {
		t.Fatal(err)
	}
	return n.look(t, id)
}

// look asks for a container's status.
func (n *node) look(t *testing.T, id string) container {
	t.Helper()
	resp, err := n.cri.ContainerStatus(t.Context(), &cri.ContainerStatusRequest{ContainerId: id, Verbose: true})
	if err != nil {
		t.Fatal(err)
	}
	c := container{sandbox: sandbox{id: resp.GetStatus().GetId()}, node: n, status: resp.GetStatus()}
	if err := json.Unmarshal([]byte(resp.GetInfo()["info"]), &c.info); err != nil {
		t.Fatal(err)
	}
	return c
}

// ended waits until the container's process has ended.
func (c container) ended(t *testing.T) container {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if now := c.node.look(t, c.id); now.status.GetState() == cri.ContainerState_CONTAINER_EXITED {
			return now
		}
	}
	t.Fatalf("container %s goes on", c.id)
	return c
}

// output returns what an ended container wrote, from its CRI log file.
func (c container) output(t *testing.T) string {
	t.Helper()
	return c.ended(t).logged(t)
}

// waitLogged waits until the running container has written text.
func (c container) waitLogged(t *testing.T, text string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if log, err := os.ReadFile(c.status.GetLogPath()); err == nil && strings.Contains(string(log), text) {
			return
		}
	}
	t.Fatalf("container %s does not write %q", c.id, text)
}

// logged returns the text of the container's CRI log file.
func (c container) logged(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(c.status.GetLogPath())
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for line := range strings.Lines(string(text)) {
		parts := strings.SplitN(line, " ", 4) // time, stream, tag, text
		if len(parts) != 4 {
			t.Fatalf("log line %q", line)
		}
		out.WriteString(parts[3])
	}
	return out.String()
}

// proc returns a file of the container's process in /proc.
func (c container) proc(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", c.pid(t), name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// cgroup returns a file of the container's cgroup (v1), trimmed.
func (c container) cgroup(t *testing.T, controller, file string) string {
	t.Helper()
	for line := range strings.Lines(c.proc(t, "cgroup")) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		for _, name := range strings.Split(parts[1], ",") {
			if name != controller {
				continue
			}
			text, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", controller, parts[2], file))
			if err != nil {
				t.Fatal(err)
			}
			return strings.TrimSpace(string(text))
		}
	}
	t.Fatalf("the kernel has no cgroup controller %s", controller)
	return ""
}

// mounted returns the options of what is mounted at a path in the container, "" where
// nothing is.
func (c container) mounted(t *testing.T, path string) (options string) {
	t.Helper()
	for line := range strings.Lines(c.proc(t, "mountinfo")) {
		if fields := strings.Fields(line); fields[4] == path {
			options = fields[5]
		}
	}
	return options
}
