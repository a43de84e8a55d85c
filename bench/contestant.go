package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/sandboximage"
)

// contestant is what makes, stops and removes one thing after another.
type contestant struct {
	about
	lane
}

// about is how a contestant appears in the results.
type about struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	// Pods: it runs whole pods. Else it is a part of that, for scale.
	Pods bool `json:"pods"`
}

// lane is the work that is timed.
type lane interface {
	run(ctx context.Context, name string) (id string, err error)
	stop(ctx context.Context, id string) error
	remove(ctx context.Context, id string) error
}

// reference is the contestant that the others are compared with.
const reference = "containerd-2"

// Where dockerd, containerd and ctr are: in bin and sbin below. runc is the machine's.
const (
	debian   = "/usr"
	engine28 = "bin/engine28/usr" // in the repository
)

// enginePath is the PATH of an engine.
func enginePath(engine string) string {
	return "PATH=" + filepath.Join(engine, "sbin") + ":" + filepath.Join(engine, "bin") + ":/usr/sbin:/usr/bin:/sbin:/bin"
}

// contestants starts all of them and shows that each can run a pod.
func (p *place) contestants(ctx context.Context) ([]contestant, error) {
	userConf, err := os.ReadFile("examples/10-bridge.conf")
	if err != nil {
		return nil, err
	}
	all := []struct {
		name  string
		start func(context.Context, *node) ([]contestant, error)
	}{
		{reference, func(ctx context.Context, n *node) ([]contestant, error) {
			return p.containerd(ctx, n, filepath.Join(p.repo, engine28), containerd2, userConf)
		}},
		{"mascri-28", func(ctx context.Context, n *node) ([]contestant, error) {
			return p.mascri(ctx, n, filepath.Join(p.repo, engine28), userConf)
		}},
		{"mascri-20", func(ctx context.Context, n *node) ([]contestant, error) {
			return p.mascri(ctx, n, debian, userConf)
		}},
		{"mascri-28-default", func(ctx context.Context, n *node) ([]contestant, error) {
			return p.mascri(ctx, n, filepath.Join(p.repo, engine28), nil)
		}},
		{"containerd-1", func(ctx context.Context, n *node) ([]contestant, error) {
			return p.containerd(ctx, n, debian, containerd1, userConf)
		}},
		{"plugins", p.plugins},
	}
	var contestants []contestant
	for _, c := range all {
		fmt.Fprintf(os.Stderr, "starting %s\n", c.name)
		n, err := p.node(c.name)
		if err != nil {
			return nil, err
		}
		started, err := c.start(ctx, n)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
		contestants = append(contestants, started...)
	}
	return contestants, nil
}

// confDir makes the node's directory of CNI configs; conf may be nil.
func (n *node) confDir(conf []byte) (string, error) {
	dir, err := n.mkdir("net.d")
	if err != nil || conf == nil {
		return dir, err
	}
	return dir, os.WriteFile(filepath.Join(dir, "10-bridge.conf"), conf, 0o644)
}

// mascri starts a MasCRI on an engine; the engine alone is a second contestant where
// conf is not nil.
func (p *place) mascri(ctx context.Context, n *node, engine string, conf []byte) ([]contestant, error) {
	confDir, err := n.confDir(conf)
	if err != nil {
		return nil, err
	}
	docker, socket := n.file("docker.sock"), n.file("mascri.sock")
	if err := os.WriteFile(n.file("daemon.json"), []byte("{}\n"), 0o600); err != nil {
		return nil, err
	}
	if err := n.daemon(ctx, docker, []string{enginePath(engine)}, filepath.Join(engine, "sbin/dockerd"),
		"--host", "unix://"+docker, "--data-root", n.file("docker"), "--config-file", n.file("daemon.json"),
		"--storage-driver", "overlay2", "--exec-opt", "native.cgroupdriver=cgroupfs"); err != nil {
		return nil, err
	}
	if err := n.daemon(ctx, socket, nil, filepath.Join(p.repo, "bin/mascri"), "serve",
		"--socket", socket, "--state-dir", n.file("mascri"), "--engine-host", "unix://"+docker,
		"--cni-conf-dir", confDir, "--cni-bin-dir", filepath.Join(p.repo, "bin/cni")); err != nil {
		return nil, err
	}
	name := filepath.Base(n.dir)
	runtime, err := p.pods(ctx, socket)
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, tail(n.file("mascri.log")))
	}
	bare := newDocker(docker, p.cgroup)
	version, err := bare.version(ctx)
	if err != nil {
		return nil, err
	}
	if conf == nil {
		return []contestant{{about{name, "MasCRI, engine " + version + ", its default network", true}, runtime}}, nil
	}
	return []contestant{
		{about{name, "MasCRI, engine " + version, true}, runtime},
		{about{"docker-" + version, "docker create + start (--net=none), engine " + version, false}, bare},
	}, nil
}

// containerd starts a containerd whose pods are made by its own CRI plugin.
func (p *place) containerd(ctx context.Context, n *node, engine string, config func(containerdPaths) string, conf []byte) ([]contestant, error) {
	confDir, err := n.confDir(conf)
	if err != nil {
		return nil, err
	}
	socket := n.file("cri.sock")
	text := config(containerdPaths{socket: socket, dir: n.dir, confDir: confDir, binDir: filepath.Join(p.repo, "bin/cni"), image: sandboximage.Ref()})
	if err := os.WriteFile(n.file("config.toml"), []byte(text), 0o600); err != nil {
		return nil, err
	}
	bin := filepath.Join(engine, "bin")
	if err := n.daemon(ctx, socket, []string{enginePath(engine)}, filepath.Join(bin, "containerd"), "--config", n.file("config.toml")); err != nil {
		return nil, err
	}
	if err := writeImage(n.file("image.tar")); err != nil {
		return nil, err
	}
	if err := n.run(filepath.Join(bin, "ctr"), "-a", socket, "-n", "k8s.io", "images", "import", n.file("image.tar")); err != nil {
		return nil, err
	}
	runtime, err := p.pods(ctx, socket)
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, tail(n.file("containerd.log")))
	}
	version, err := runtime.client.Version(ctx, &cri.VersionRequest{})
	if err != nil {
		return nil, err
	}
	return []contestant{{about{filepath.Base(n.dir), "containerd " + plain(version.GetRuntimeVersion()), true}, runtime}}, nil
}

// plain is a version without what a distribution adds to it.
func plain(version string) string {
	if i := strings.IndexAny(version, "+~"); i >= 0 {
		return version[:i]
	}
	return version
}

// writeImage writes the sandbox image: all contestants use MasCRI's.
func writeImage(path string) error {
	archive, err := sandboximage.Archive()
	if err != nil {
		return err
	}
	defer archive.Close()
	data, err := io.ReadAll(archive)
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}

// pods is a lane over the CRI.
type pods struct {
	client cri.RuntimeServiceClient
	cgroup string
}

// pods returns once the endpoint ran a pod.
func (p *place) pods(ctx context.Context, socket string) (*pods, error) {
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	r := &pods{client: cri.NewRuntimeServiceClient(conn), cgroup: p.cgroup}
	for try := 0; ; try++ {
		if err = cycle(ctx, r, "first-"+strconv.Itoa(try)); err == nil {
			return r, nil
		}
		// The runtime may not have seen its CNI config or the image yet.
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(200 * time.Millisecond):
		}
		if try == 20 {
			return nil, err
		}
	}
}

// cycle makes one thing and takes it away again.
func cycle(ctx context.Context, l lane, name string) error {
	id, err := l.run(ctx, name)
	if err != nil {
		return err
	}
	if err := l.stop(ctx, id); err != nil {
		return err
	}
	return l.remove(ctx, id)
}

// run asks for what the kubelet asks of any pod.
func (r *pods) run(ctx context.Context, name string) (string, error) {
	resp, err := r.client.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: &cri.PodSandboxConfig{
		Metadata:  &cri.PodSandboxMetadata{Name: name, Namespace: "bench", Uid: name},
		Hostname:  name,
		DnsConfig: &cri.DNSConfig{Servers: []string{"192.0.2.53"}, Searches: []string{"bench.svc.cluster.local"}, Options: []string{"ndots:5"}},
		Labels:    map[string]string{"app": "bench"},
		Linux: &cri.LinuxPodSandboxConfig{
			CgroupParent: r.cgroup,
			SecurityContext: &cri.LinuxSandboxSecurityContext{
				NamespaceOptions: &cri.NamespaceOption{Pid: cri.NamespaceMode_CONTAINER},
				Seccomp:          &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault},
			},
		},
	}})
	return resp.GetPodSandboxId(), err
}

func (r *pods) stop(ctx context.Context, id string) error {
	_, err := r.client.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: id})
	return err
}

func (r *pods) remove(ctx context.Context, id string) error {
	_, err := r.client.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: id})
	return err
}
