package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// What is told of a container is exact: the image, however it was asked for, what was run
// as whom, and how and when it ended.
func (b *bench) statuses(t *testing.T) {
	b.build(t)
	for name, test := range map[string]func(*testing.T, *bench){
		"image by any name":          imageByAnyName,
		"image that was made here":   imageMadeHere,
		"life of a container":        lifeOfAContainer,
		"one that can't start":       startFails,
		"one that runs out of it":    outOfMemory,
		"one that ends at once":      endsAtOnce,
		"attempts have names":        attemptsHaveNames,
		"what the pod's end ends":    podEnds,
		"in a pod on the node's own": inPodOfTheNode,
	} {
		t.Run(name, func(t *testing.T) { test(t, b) })
	}
}

func imageByAnyName(t *testing.T, b *bench) {
	id := b.docker(t, "image", "inspect", "-f", "{{.Id}}", b.image)
	for asked, shown := range map[string]string{b.image: b.image, b.digest: b.digest, id: b.image, id[7:]: b.image, id[7:20]: b.image} {
		req := b.request("image", "true")
		req.Config.Image.Image = asked
		c := b.runContainer(t, req).ended(t)
		if s := c.status; s.GetImage().GetImage() != shown || s.GetImageId() != id || s.GetImageRef() != b.digest || s.GetExitCode() != 0 {
			t.Errorf("%s: %v, want image %s, id %s, ref %s", asked, s, shown, id, b.digest)
		}
		b.removeContainer(t, c.id)
	}
}

// An image built or imported a moment ago has no digest, and declares things of its own.
func imageMadeHere(t *testing.T, b *bench) {
	id := b.docker(t, "image", "inspect", "-f", "{{.Id}}", b.built)
	attempt := 0
	run := func(change func(*cri.ContainerConfig)) container {
		t.Helper()
		attempt++
		req := b.request(fmt.Sprint("built-", attempt), "")
		req.Config.Image.Image = b.built
		change(req.Config)
		return b.runContainer(t, req).ended(t)
	}
	for want, change := range map[string]func(*cri.ContainerConfig){
		"entry\n":      func(*cri.ContainerConfig) {},
		"entry args\n": func(c *cri.ContainerConfig) { c.Args = []string{"args"} },
		"instead\n":    func(c *cri.ContainerConfig) { c.Command = []string{"echo", "instead"} },
	} {
		c := run(change)
		if got := c.output(t); got != want {
			t.Errorf("it wrote %q, want %q", got, want)
		}
		user := &cri.LinuxContainerUser{Uid: 1000, Gid: 100, SupplementalGroups: []int64{10, 50, 100}}
		if s := c.status; s.GetImageRef() != id || s.GetImageId() != id || s.GetStopSignal() != cri.Signal_SIGNAL_SIGUSR1 || !proto.Equal(s.GetUser().GetLinux(), user) {
			t.Errorf("%v, want image %s, SIGUSR1, %v", s, id, user)
		}
		b.removeContainer(t, c.id)
	}
	b.docker(t, "commit", b.pod.id, "committed:1")
	req := b.request("committed", "")
	req.Config.Image.Image = "committed:1"
	b.removeContainer(t, b.runContainer(t, req).id) // pause is its entrypoint
}

func lifeOfAContainer(t *testing.T, b *bench) {
	before := time.Now()
	id := b.createContainer(t, b.request("life", "busybox usleep 200000; exit 3"))
	created := b.look(t, id).status
	if created.GetState() != cri.ContainerState_CONTAINER_CREATED || created.GetStartedAt() != 0 || created.GetFinishedAt() != 0 || created.GetReason() != "" {
		t.Errorf("created: %v", created)
	}
	running := b.startContainer(t, id).status
	if running.GetState() != cri.ContainerState_CONTAINER_RUNNING || running.GetFinishedAt() != 0 || running.GetReason() != "" || running.GetStartedAt() == 0 {
		t.Errorf("running: %v", running)
	}
	_, err := b.cri.StartContainer(t.Context(), &cri.StartContainerRequest{ContainerId: id})
	wantRefused(t, err, codes.FailedPrecondition, "CONTAINER_RUNNING")
	ended := b.look(t, id).ended(t).status
	if ended.GetExitCode() != 3 || ended.GetReason() != "Error" || ended.GetStartedAt() != running.GetStartedAt() || ended.GetCreatedAt() != created.GetCreatedAt() {
		t.Errorf("ended: %v", ended)
	}
	times := []int64{before.UnixNano(), ended.GetCreatedAt(), ended.GetStartedAt(), ended.GetFinishedAt(), time.Now().UnixNano()}
	for i := range times[1:] {
		if times[i] > times[i+1] {
			t.Errorf("times %v are not in order", times)
		}
	}
	if took := time.Duration(ended.GetFinishedAt() - ended.GetStartedAt()); took < 150*time.Millisecond {
		t.Errorf("it ran for %v", took)
	}
	_, err = b.cri.StartContainer(t.Context(), &cri.StartContainerRequest{ContainerId: id})
	wantRefused(t, err, codes.FailedPrecondition, "CONTAINER_EXITED")
	b.removeContainer(t, id)
	c := b.runContainer(t, b.request("life", "true")).ended(t)
	if s := c.status; s.GetExitCode() != 0 || s.GetReason() != "Completed" || s.GetMessage() != "" {
		t.Errorf("a success: %v", s)
	}
	b.removeContainer(t, c.id)
}

// The engine takes the time of a start later than that of an end that comes at once.
func endsAtOnce(t *testing.T, b *bench) {
	for i := range 8 {
		c := b.runContainer(t, b.request(fmt.Sprint("short-", i), "exit 0")).ended(t)
		if s := c.status; s.GetFinishedAt() < s.GetStartedAt() || s.GetStartedAt() < s.GetCreatedAt() {
			t.Errorf("it ended %v after its start: %v", time.Duration(s.GetFinishedAt()-s.GetStartedAt()), s)
		}
		b.removeContainer(t, c.id)
	}
}

func startFails(t *testing.T, b *bench) {
	for command, code := range map[string]int32{"/none/such": 127, "/etc/passwd": 126} {
		req := b.request("fails", "")
		req.Config.Command = []string{command}
		id := b.createContainer(t, req)
		_, err := b.cri.StartContainer(t.Context(), &cri.StartContainerRequest{ContainerId: id})
		wantRefused(t, err, codes.InvalidArgument, command)
		s := b.look(t, id).status
		if s.GetState() != cri.ContainerState_CONTAINER_EXITED || s.GetReason() != "StartError" || !strings.Contains(s.GetMessage(), command) ||
			s.GetExitCode() != code || s.GetFinishedAt() < s.GetCreatedAt() {
			t.Errorf("%s: %v, want code %d", command, s, code)
		}
		_, err = b.cri.StartContainer(t.Context(), &cri.StartContainerRequest{ContainerId: id})
		wantRefused(t, err, codes.FailedPrecondition, "CONTAINER_EXITED")
		b.removeContainer(t, id)
	}
}

// The kernel's killing is told, of the first process and of any other. Docker misses one in
// some forty, as it begins to listen only after the start and not in order with the end:
// so one of a few has to be told, and none of what did not happen.
func outOfMemory(t *testing.T, b *bench) {
	const hog, tries = "busybox usleep 300000; busybox dd if=/dev/zero of=/dev/null bs=100M count=1", 4
	for script, code := range map[string]int32{strings.Replace(hog, "; ", "; exec ", 1): 137, hog + "; exit 4": 4} {
		told := 0
		for try := 0; try < tries && told == 0; try++ {
			req := b.request("hog", script)
			req.Config.Linux.Resources = &cri.LinuxContainerResources{MemoryLimitInBytes: 16 * mib, MemorySwapLimitInBytes: 16 * mib}
			c := b.runContainer(t, req).ended(t)
			switch s := c.status; {
			case s.GetExitCode() != code:
				t.Errorf("%s: code %d, want %d", script, s.GetExitCode(), code)
			case s.GetReason() == "OOMKilled":
				told++
			case b.docker(t, "inspect", "-f", "{{.State.OOMKilled}}", c.id) == "true":
				t.Errorf("%s: reason %s, though Docker knows better", script, s.GetReason())
			}
			b.removeContainer(t, c.id)
		}
		if told == 0 {
			t.Errorf("%s: OOMKilled is told of none of %d", script, tries)
		}
	}
	c := b.runContainer(t, b.request("other", "exit 137")).ended(t)
	if c.status.GetReason() != "Error" {
		t.Errorf("exit code 137 alone is told as %s", c.status.GetReason())
	}
	b.removeContainer(t, c.id)
}

// One attempt is made once; others beside it.
func attemptsHaveNames(t *testing.T, b *bench) {
	req := b.request("again", "")
	first := b.createContainer(t, req)
	_, err := b.cri.CreateContainer(t.Context(), req)
	wantRefused(t, err, codes.AlreadyExists, first)
	req.Config.Metadata.Attempt = 1
	second := b.createContainer(t, req)
	b.removeContainer(t, first)
	b.removeContainer(t, second)
}

// StopPodSandbox stops the pod's containers; nothing is made or started in it any more.
func podEnds(t *testing.T, b *bench) {
	pod := b.runPod(t, config("ends"))
	in := func(name, script string) *cri.CreateContainerRequest {
		req := b.request(name, script)
		req.PodSandboxId, req.SandboxConfig = pod.id, nil
		return req
	}
	running, created := b.runContainer(t, in("running", "")), b.createContainer(t, in("created", ""))
	if _, err := b.cri.StopPodSandbox(t.Context(), &cri.StopPodSandboxRequest{PodSandboxId: pod.id}); err != nil {
		t.Fatal(err)
	}
	if s := b.look(t, running.id).status; s.GetState() != cri.ContainerState_CONTAINER_EXITED || s.GetExitCode() != 137 || s.GetReason() != "Error" {
		t.Errorf("the pod's container: %v", s)
	}
	_, err := b.cri.StartContainer(t.Context(), &cri.StartContainerRequest{ContainerId: created})
	wantRefused(t, err, codes.FailedPrecondition, pod.id, "not ready")
	_, err = b.cri.CreateContainer(t.Context(), in("late", ""))
	wantRefused(t, err, codes.FailedPrecondition, pod.id, "not ready")
	if _, err := b.cri.RemovePodSandbox(t.Context(), &cri.RemovePodSandboxRequest{PodSandboxId: pod.id}); err != nil {
		t.Fatal(err)
	}
	_, err = b.cri.ContainerStatus(t.Context(), &cri.ContainerStatusRequest{ContainerId: running.id})
	wantRefused(t, err, codes.NotFound, running.id)
}

// A pod that shares the node's namespaces has its containers in them, and a privileged one
// may have privileged containers.
func inPodOfTheNode(t *testing.T, b *bench) {
	host := config("host")
	host.Linux = &cri.LinuxPodSandboxConfig{SecurityContext: &cri.LinuxSandboxSecurityContext{Privileged: true, NamespaceOptions: &cri.NamespaceOption{
		Network: cri.NamespaceMode_NODE, Ipc: cri.NamespaceMode_NODE, Pid: cri.NamespaceMode_NODE,
	}}}
	pod := b.runPod(t, host)
	defer b.removePod(t, pod.id)
	req := b.request("host", "")
	req.PodSandboxId, req.SandboxConfig = pod.id, nil
	security := req.Config.Linux.SecurityContext
	security.NamespaceOptions = proto.CloneOf(host.Linux.SecurityContext.NamespaceOptions)
	c := b.runContainer(t, req)
	for _, kind := range []string{"net", "ipc", "pid", "uts"} {
		wantShared(kind, true)(t, b.node, c.sandbox)
	}
	if strings.HasPrefix(b.docker(t, "version", "-f", "{{.Server.Version}}"), "20.10") {
		t.Log("engine 20.10 can't start a privileged container without CAP_SYS_RESOURCE; only that is left out")
		return
	}
	req.Config.Metadata.Name, security.Privileged = "privileged", true
	security.Seccomp = &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault}
	security.MaskedPaths, security.ReadonlyPaths = []string{"/proc/kcore"}, []string{"/proc/sys"} // the kubelet does so for all
	privileged := b.runContainer(t, req)
	node := sandbox{info: map[string]json.RawMessage{"pid": json.RawMessage(fmt.Sprint(os.Getpid()))}}
	for _, key := range []string{"CapEff", "CapBnd", "Seccomp"} {
		if got, want := privileged.procStatus(t, key), node.procStatus(t, key); got != want {
			t.Errorf("%s of the privileged container is %s, the node's %s", key, got, want)
		}
	}
	if list := privileged.cgroup(t, "devices", "devices.list"); list != "a *:* rwm" {
		t.Errorf("allowed devices: %s", list)
	}
	wantNotMounted("/proc/sys", "/proc/kcore")(t, b, privileged)
	if options := privileged.mounted(t, "/sys"); !strings.HasPrefix(options, "rw") {
		t.Errorf("/sys is mounted %s", options)
	}
}
