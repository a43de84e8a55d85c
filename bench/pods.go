package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// pods is a lane over the CRI: pods of one container.
type pods struct {
	client cri.RuntimeServiceClient
	conn   *grpc.ClientConn
	daemon *daemon // that serves the CRI; nil: this program did not start it
	cgroup string  // "": the runtime's own
	dir    string  // for files of the pods
	logs   string  // directory of the containers' logs
	things []*thing
}

// podLabels are those of all pods here.
var podLabels = map[string]string{"app": "mascri-bench"}

// waits is the workload: it does nothing until its image's stop signal ends it.
const waits = "exec sleep 100000"

func dial(socket string) (*grpc.ClientConn, error) {
	return grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16<<20)))
}

// pods returns once the endpoint ran a pod.
func (p *place) pods(ctx context.Context, d *daemon) (*pods, error) {
	r, err := newPods(d.socket, d.node.dir)
	if err != nil {
		return nil, err
	}
	r.daemon, r.cgroup = d, p.cgroup+"/pods"
	if err := r.first(ctx); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, tail(d.log()))
	}
	return r, nil
}

func newPods(socket, dir string) (*pods, error) {
	conn, err := dial(socket)
	if err != nil {
		return nil, err
	}
	r := &pods{client: cri.NewRuntimeServiceClient(conn), conn: conn, dir: dir, logs: filepath.Join(dir, "pod-logs")}
	return r, os.MkdirAll(r.logs, 0o755)
}

// first returns once the endpoint ran a pod.
func (r *pods) first(ctx context.Context) (err error) {
	for try := 0; ; try++ {
		if err = cycle(ctx, r, "first-"+strconv.Itoa(try)); err == nil {
			return nil
		}
		// The runtime may not have seen its CNI config or the image yet.
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
		if ctx.Err() != nil || try == 20 {
			return err
		}
	}
}

func (r *pods) stages() []stage {
	return []stage{
		{podReady, []step{{podStart, r.run}, {createStart, r.createStart}}},
		{execSync, []step{{"", r.exec}}},
		{stopPod, []step{{"stop_container", r.stopContainer}, {"stop_sandbox", r.stopSandbox}}},
		{removePod, []step{{"remove_container", r.removeContainer}, {"remove_sandbox", r.removeSandbox}}},
	}
}

// config asks for what the kubelet asks of any pod.
func (r *pods) config(name string) *cri.PodSandboxConfig {
	return &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: name, Namespace: "bench", Uid: name},
		Hostname:     name,
		LogDirectory: r.logs,
		DnsConfig:    &cri.DNSConfig{Servers: []string{"192.0.2.53"}, Searches: []string{"bench.svc.cluster.local"}, Options: []string{"ndots:5"}},
		Labels:       podLabels,
		Linux: &cri.LinuxPodSandboxConfig{
			CgroupParent: r.cgroup,
			SecurityContext: &cri.LinuxSandboxSecurityContext{
				NamespaceOptions: &cri.NamespaceOption{Pid: cri.NamespaceMode_CONTAINER},
				Seccomp:          &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault},
			},
		},
	}
}

func (r *pods) run(ctx context.Context, t *thing) error {
	resp, err := r.client.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: r.config(t.name)})
	t.id = resp.GetPodSandboxId()
	return err
}

func (r *pods) createStart(ctx context.Context, t *thing) error {
	script, mounts := waits, []*cri.Mount(nil)
	if t.gate != "" {
		script, mounts = writes, []*cri.Mount{{HostPath: t.gate, ContainerPath: "/gate"}}
	}
	resp, err := r.client.CreateContainer(ctx, &cri.CreateContainerRequest{
		PodSandboxId: t.id, SandboxConfig: r.config(t.name),
		Config: &cri.ContainerConfig{
			Metadata: &cri.ContainerMetadata{Name: "main"}, Image: &cri.ImageSpec{Image: shellImage},
			Command: []string{"/bin/sh", "-c", script}, Mounts: mounts, LogPath: t.log(),
			Labels: podLabels,
			Linux: &cri.LinuxContainerConfig{
				Resources: &cri.LinuxContainerResources{CpuShares: 1024, OomScoreAdj: 1000},
				SecurityContext: &cri.LinuxContainerSecurityContext{
					NamespaceOptions: &cri.NamespaceOption{Pid: cri.NamespaceMode_CONTAINER},
					Seccomp:          &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault},
				},
			},
		},
	})
	if err != nil {
		return err
	}
	t.container = resp.GetContainerId()
	_, err = r.client.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: t.container})
	return err
}

func (r *pods) exec(ctx context.Context, t *thing) error {
	resp, err := r.client.ExecSync(ctx, &cri.ExecSyncRequest{ContainerId: t.container, Cmd: []string{"/bin/true"}, Timeout: 30})
	if err == nil && resp.GetExitCode() != 0 {
		return fmt.Errorf("exit code %d: %s", resp.GetExitCode(), resp.GetStderr())
	}
	return err
}

func (r *pods) stopContainer(ctx context.Context, t *thing) error {
	_, err := r.client.StopContainer(ctx, &cri.StopContainerRequest{ContainerId: t.container, Timeout: 30})
	return err
}

func (r *pods) stopSandbox(ctx context.Context, t *thing) error {
	_, err := r.client.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: t.id})
	return err
}

func (r *pods) removeContainer(ctx context.Context, t *thing) error {
	_, err := r.client.RemoveContainer(ctx, &cri.RemoveContainerRequest{ContainerId: t.container})
	return err
}

func (r *pods) removeSandbox(ctx context.Context, t *thing) error {
	_, err := r.client.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: t.id})
	return err
}
