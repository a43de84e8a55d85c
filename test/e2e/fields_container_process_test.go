package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// processFields are those that say what is run and what it is called.
var processFields = merge(map[string]containerField{
	"pod_sandbox_id": {see: func(t *testing.T, b *bench, c container) {
		for _, kind := range []string{"net", "ipc"} {
			wantSameNamespace(t, kind, c.pid(t), b.pod.pid(t), true)
		}
		// Docker gives each container a UTS namespace of its own, with the pod's hostname.
		if got := c.uname(t); got != b.pod.uname(t) {
			t.Errorf("hostname %q, the pod's is %q", got, b.pod.uname(t))
		}
		if options := c.mounted(t, "/dev/shm"); options == "" {
			t.Error("nothing is mounted at /dev/shm")
		}
		wantSharedFile(t, b.pod, c.sandbox, "/dev/shm/"+c.id)
		for _, path := range []string{"/etc/resolv.conf", "/etc/hosts", "/etc/hostname"} {
			if got := c.file(t, path); got != b.pod.file(t, path) || got == "" {
				t.Errorf("%s is not the pod's: %q", path, got)
			}
		}
	}},
	"pod_sandbox_id of none":   {set: func(_ *testing.T, req *cri.CreateContainerRequest) { req.PodSandboxId = "nonesuch" }, code: codes.NotFound, text: "nonesuch"},
	"pod_sandbox_id not given": {set: func(_ *testing.T, req *cri.CreateContainerRequest) { req.PodSandboxId = "" }, code: codes.InvalidArgument, text: "sandbox"},
	"sandbox_config":           {script: "busybox usleep 200000; echo hi", see: wantOutput("hi\n")}, // it names the directory of the log
	"sandbox_config elsewhere": {script: "busybox usleep 200000; echo hi", set: func(t *testing.T, req *cri.CreateContainerRequest) {
		req.SandboxConfig = proto.CloneOf(req.SandboxConfig)
		req.SandboxConfig.LogDirectory = t.TempDir()
	}, see: wantOutput("hi\n")},

	"config.metadata.name": {set: configured(func(c *cri.ContainerConfig) { c.Metadata.Name = "a.name" }), see: wantDockerName("k8s_a.name_web_default_uid-web_0")},
	"config.metadata.attempt": {
		set: configured(func(c *cri.ContainerConfig) { c.Metadata.Name, c.Metadata.Attempt = "attempt", 7 }), see: wantDockerName("k8s_attempt_web_default_uid-web_7"),
	},
	"config.image.image":         {see: func(t *testing.T, b *bench, c container) { wantImage(t, c, b.image) }},
	"config.image.image of none": {set: configured(func(c *cri.ContainerConfig) { c.Image.Image = "none:1" }), code: codes.NotFound, text: "config.image.image"},
	"config.image.image that is no name": {
		set: configured(func(c *cri.ContainerConfig) { c.Image.Image = "NO" }), code: codes.InvalidArgument, text: "config.image.image",
	},
	"config.image.annotations": {set: configured(func(c *cri.ContainerConfig) { c.Image.Annotations = map[string]string{"a": "b"} }), see: wantImageSpec},
	"config.image.user_specified_image": {
		set: configured(func(c *cri.ContainerConfig) { c.Image.UserSpecifiedImage = "app" }), see: wantImageSpec,
	},
	"config.image.runtime_handler": {set: configured(func(c *cri.ContainerConfig) { c.Image.RuntimeHandler = "runc" }), see: wantImageSpec},
	"config.image.runtime_handler of none": {
		set: configured(func(c *cri.ContainerConfig) { c.Image.RuntimeHandler = "kata" }), code: codes.InvalidArgument, text: "config.image.runtime_handler",
	},
	"config.image.image_ref": {set: configured(func(c *cri.ContainerConfig) { c.Image.ImageRef = "ref" }), see: wantImageSpec},

	"config.command": {set: configured(func(c *cri.ContainerConfig) { c.Command = []string{"echo", "a  b", "$HOME"} }), see: wantOutput("a  b $HOME\n")},
	"config.args":    {set: configured(func(c *cri.ContainerConfig) { c.Command, c.Args = []string{"echo"}, []string{"", "x"} }), see: wantOutput(" x\n")},
	"config.args without command": {
		set: configured(func(c *cri.ContainerConfig) { c.Args = []string{"echo", "instead"} }), see: wantOutput("instead\n"),
	},
	"config.command that holds NUL":   {set: configured(func(c *cri.ContainerConfig) { c.Command = []string{"a\x00"} }), code: codes.InvalidArgument, text: "command[0]"},
	"config.working_dir":              {script: "busybox pwd", set: configured(func(c *cri.ContainerConfig) { c.WorkingDir = "/sub" }), see: wantOutput("/sub\n")},
	"config.working_dir that is made": {script: "busybox pwd", set: configured(func(c *cri.ContainerConfig) { c.WorkingDir = "/new/dir" }), see: wantOutput("/new/dir\n")},
	"config.envs.key":                 {script: `echo "$A|$PATH"`, set: configured(func(c *cri.ContainerConfig) { c.Envs = []*cri.KeyValue{{Key: "A"}} }), see: wantOutput("|/bin\n")},
	"config.envs.value": {script: `echo "$A"`, set: configured(func(c *cri.ContainerConfig) {
		c.Envs = []*cri.KeyValue{{Key: "A", Value: []byte("s3cret=ä\n2")}}
	}), see: func(t *testing.T, b *bench, c container) {
		wantOutput("s3cret=ä\n2\n")(t, b, c)
		if label := b.docker(t, "inspect", "-f", `{{index .Config.Labels "io.mascri.v1"}}`, c.id); strings.Contains(label, "s3cret") || !strings.Contains(label, c.status.GetMetadata().GetName()) {
			t.Errorf("label %s", label)
		}
	}},
	"config.envs.key without a name":    {set: configured(func(c *cri.ContainerConfig) { c.Envs = []*cri.KeyValue{{Value: []byte("x")}} }), code: codes.InvalidArgument, text: "envs[0].key"},
	"config.envs.value that is no text": {set: configured(func(c *cri.ContainerConfig) { c.Envs = []*cri.KeyValue{{Key: "A", Value: []byte("\xff")}} }), code: codes.InvalidArgument, text: "envs[0].value"},
	"config.labels": {set: configured(func(c *cri.ContainerConfig) { c.Labels = map[string]string{"app": "ä"} }), see: func(t *testing.T, _ *bench, c container) {
		if got := c.status.GetLabels(); len(got) != 1 || got["app"] != "ä" {
			t.Errorf("labels %v", got)
		}
	}},
	"config.annotations": {set: configured(func(c *cri.ContainerConfig) { c.Annotations = map[string]string{"note": "ä\n"} }), see: func(t *testing.T, _ *bench, c container) {
		if got := c.status.GetAnnotations(); len(got) != 1 || got["note"] != "ä\n" {
			t.Errorf("annotations %v", got)
		}
	}},
	"config.windows": {set: configured(func(c *cri.ContainerConfig) { c.Windows = &cri.WindowsContainerConfig{} }), code: codes.InvalidArgument, text: "windows"},
}, ioFields)

var ioFields = map[string]containerField{
	"config.log_path": {
		script: "echo out; echo err >&2; busybox printf tail",
		set:    configured(func(c *cri.ContainerConfig) { c.LogPath = "dir/file.log" }),
		see: func(t *testing.T, b *bench, c container) {
			c = c.ended(t)
			if want := filepath.Join(b.config.LogDirectory, "dir/file.log"); c.status.GetLogPath() != want {
				t.Errorf("log path %q, want %q", c.status.GetLogPath(), want)
			}
			text, err := os.ReadFile(c.status.GetLogPath())
			for _, want := range []string{" stdout F out\n", " stderr F err\n", " stdout P tail\n"} {
				if err != nil || !strings.Contains(string(text), want) {
					t.Errorf("the log lacks %q: %v\n%s", want, err, text)
				}
			}
		},
	},
	"config.log_path that leads out": {set: configured(func(c *cri.ContainerConfig) { c.LogPath = "../x" }), code: codes.InvalidArgument, text: "config.log_path"},
	"config.stdin": {script: "cat", set: configured(func(c *cri.ContainerConfig) { c.Stdin = true }), see: func(t *testing.T, _ *bench, c container) {
		if got := c.descriptor(t, 0); !strings.HasPrefix(got, "pipe:") {
			t.Errorf("standard input is %s", got)
		}
	}},
	"config.stdin not given": {script: "cat; echo end", see: wantOutput("end\n")},
	"config.stdin_once": {script: "cat; echo end", set: configured(func(c *cri.ContainerConfig) { c.Stdin, c.StdinOnce = true, true }), see: func(t *testing.T, b *bench, c container) {
		run(t, "sh", "-c", "echo typed | docker -H "+b.host+" attach "+c.id)
		wantOutput("typed\nend\n")(t, b, c) // the client that left took the input with it
	}},
	"config.tty": {script: "test -t 1 && echo tty; echo err >&2", set: configured(func(c *cri.ContainerConfig) { c.Tty = true }), see: wantOutput("tty\r\nerr\r\n")},
	"config.stop_signal": {
		script: "trap 'echo caught; exit 7' USR2; echo ready; while :; do busybox usleep 20000; done",
		set:    configured(func(c *cri.ContainerConfig) { c.StopSignal = cri.Signal_SIGNAL_SIGUSR2 }),
		see: func(t *testing.T, b *bench, c container) {
			if c.status.GetStopSignal() != cri.Signal_SIGNAL_SIGUSR2 {
				t.Errorf("stop signal %s", c.status.GetStopSignal())
			}
			c.waitLogged(t, "ready\n")
			c = b.stopContainer(t, c.id, 20)
			if c.status.GetExitCode() != 7 || c.status.GetReason() != "Error" {
				t.Errorf("ended with %d, %s", c.status.GetExitCode(), c.status.GetReason())
			}
			wantOutput("ready\ncaught\n")(t, b, c)
		},
	},
	"config.stop_signal of none": {set: configured(func(c *cri.ContainerConfig) { c.StopSignal = 99 }), code: codes.InvalidArgument, text: "stop_signal"},
}

func wantDockerName(want string) func(*testing.T, *bench, container) {
	return func(t *testing.T, b *bench, c container) {
		t.Helper()
		if got := b.docker(t, "inspect", "-f", "{{.Name}}", c.id); got != "/"+want {
			t.Errorf("Docker's name is %q, want %q", got, want)
		}
	}
}

// wantImage checks what the status says of the image, by the name that people use.
func wantImage(t *testing.T, c container, name string) {
	t.Helper()
	id := c.node.docker(t, "image", "inspect", "-f", "{{.Id}}", name)
	if s := c.status; s.GetImage().GetImage() != name || s.GetImageId() != id {
		t.Errorf("image %q, id %q, want %q, %q", s.GetImage().GetImage(), s.GetImageId(), name, id)
	}
}

// wantImageSpec checks that all of the request's image spec is in the status and in the
// list. None of it but the image and the handler says which image is meant.
func wantImageSpec(t *testing.T, b *bench, c container) {
	t.Helper()
	wantImage(t, c, b.image)
	list, err := b.cri.ListContainers(t.Context(), &cri.ListContainersRequest{Filter: &cri.ContainerFilter{Id: c.id}})
	if err != nil || len(list.GetContainers()) != 1 || !proto.Equal(list.GetContainers()[0].GetImage(), c.status.GetImage()) {
		t.Errorf("listed %v, %v; the status says %v", list, err, c.status.GetImage())
	}
	if s := c.status.GetImage(); len(s.GetAnnotations())+len(s.GetUserSpecifiedImage())+len(s.GetRuntimeHandler())+len(s.GetImageRef()) == 0 {
		t.Errorf("nothing of the request is in %v", s)
	}
}

// descriptor tells what a file descriptor of the process is.
func (c container) descriptor(t *testing.T, fd int) string {
	t.Helper()
	link, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", c.pid(t), fd))
	if err != nil {
		t.Fatal(err)
	}
	return link
}

// wantSharedFile writes a file in one and reads it in the other.
func wantSharedFile(t *testing.T, from, to sandbox, path string) {
	t.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/root%s", from.pid(t), path), []byte("shared"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := to.file(t, path); got != "shared" {
		t.Errorf("%s is %q in the other", path, got)
	}
}

func wantSameNamespace(t *testing.T, kind string, a, b int, same bool) {
	t.Helper()
	var links [2]string
	for i, pid := range []int{a, b} {
		var err error
		if links[i], err = os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, kind)); err != nil {
			t.Fatal(err)
		}
	}
	if (links[0] == links[1]) != same {
		t.Errorf("%s namespaces %v, the same: want %v", kind, links, same)
	}
}
