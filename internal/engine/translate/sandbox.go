// Package translate says a CRI request in Docker's words. It is pure: what it must
// know of the node comes in with Host, and the same input gives the same output.
//
// A field that Docker can't honour is refused with an error that names the field;
// nothing is dropped in silence. The error kinds are those of the CRI: ErrInvalidArgument
// for what no node can do, ErrFailedPrecondition for what this node can't, and
// ErrNotImplemented for what Docker's API has no words for.
package translate

import (
	"path"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"

	"github.com/mascri/mascri/internal/pod"
)

// Host is what translation must know of the node.
type Host struct {
	Facts pod.EngineFacts
	// OOMFloor is the lowest oom_score_adj that may be set, -1000 to 1000.
	OOMFloor int
	// SharedShims lets a pod's containers share the sandbox's containerd shim.
	SharedShims bool
	// ReadFile reads a seccomp profile by its path on the node.
	ReadFile func(name string) ([]byte, error)
}

const (
	// pauseOOMScore is what the kubelet's other runtimes give the process that holds a
	// pod's namespaces: the last to be killed, before the kubelet (-999) itself.
	pauseOOMScore = -998
	// pauseCPUShares is the least the kernel knows: the process only sleeps.
	pauseCPUShares = 2
	// maxHostname is the kernel's limit in bytes (__NEW_UTS_LEN).
	maxHostname = 64
)

// Where a sandbox's files are bound in it.
const (
	ResolvConf = "/etc/resolv.conf"
	Hosts      = "/etc/hosts"
	Hostname   = "/etc/hostname"
)

// Sandbox returns the container that holds the namespaces of spec's pod.
func Sandbox(spec pod.SandboxSpec, host Host) (*container.Config, *container.HostConfig, error) {
	if spec.Config.GetWindows() != nil {
		return nil, nil, invalid("windows: this is a Linux node")
	}
	labels, err := pod.Labels(spec)
	if err != nil {
		return nil, nil, err
	}
	notes, err := annotations(spec.Config, host.Facts)
	if err != nil {
		return nil, nil, err
	}
	config := &container.Config{Image: spec.Image, Labels: labels}
	hostConfig := &container.HostConfig{
		// A restarted sandbox would have a new network namespace, of which CNI knows
		// nothing: restarting it is the kubelet's decision.
		RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyDisabled},
		// Set because the engine's default may be one that docker logs can't read; none
		// starts measurably faster.
		LogConfig:   container.LogConfig{Type: "json-file", Config: map[string]string{"max-size": "1m"}},
		CapDrop:     []string{"ALL"}, // it holds namespaces and reaps its children: neither needs any
		OomScoreAdj: max(pauseOOMScore, host.OOMFloor),
		Resources:   container.Resources{CPUShares: pauseCPUShares},
		Annotations: notes,
	}
	for _, translate := range []func(pod.SandboxSpec, Host, *container.Config, *container.HostConfig) error{
		runtimeHandler, namespaces, files, cgroupParent, sysctls, users, security,
	} {
		if err := translate(spec, host, config, hostConfig); err != nil {
			return nil, nil, err
		}
	}
	return config, hostConfig, nil
}

// runtimeHandler chooses the OCI runtime by the engine's own name for it.
func runtimeHandler(spec pod.SandboxSpec, host Host, _ *container.Config, out *container.HostConfig) (err error) {
	out.Runtime, err = runtime(spec.RuntimeHandler, host)
	return err
}

func runtime(handler string, host Host) (string, error) {
	if handler != "" && !slices.Contains(host.Facts.Runtimes, handler) {
		return "", invalid("runtime_handler: the engine has no runtime %q; it has: %s", handler, strings.Join(host.Facts.Runtimes, ", "))
	}
	return handler, nil
}

// files binds the sandbox's own. The engine knows their places, and binds them into
// the containers that join the sandbox's network as well.
func files(spec pod.SandboxSpec, _ Host, _ *container.Config, out *container.HostConfig) error {
	readonly := spec.Config.GetLinux().GetSecurityContext().GetReadonlyRootfs()
	for _, bind := range [][2]string{
		{spec.Files.Hostname, Hostname}, {spec.Files.Hosts, Hosts}, {spec.Files.ResolvConf, ResolvConf},
	} {
		out.Mounts = append(out.Mounts, mount.Mount{Type: mount.TypeBind, Source: bind[0], Target: bind[1], ReadOnly: readonly})
	}
	return nil
}

func cgroupParent(spec pod.SandboxSpec, host Host, _ *container.Config, out *container.HostConfig) (err error) {
	out.CgroupParent, err = podCgroup(spec.Config.GetLinux().GetCgroupParent(), host)
	return err
}

// podCgroup gives a pod's cgroup parent in the form that the engine's cgroup driver
// takes. The CRI always sends a path (cgroupfs style); for systemd its last element names
// the slice, as systemd.slice(5) derives the path from the name.
func podCgroup(parent string, host Host) (string, error) {
	if parent == "" || host.Facts.CgroupDriver != "systemd" {
		return parent, nil
	}
	slice := path.Base(parent)
	if !strings.HasSuffix(slice, ".slice") {
		return "", invalid("linux.cgroup_parent: %q is no systemd slice, and the engine's cgroup driver is systemd: set the kubelet's cgroupDriver to systemd", parent)
	}
	return slice, nil
}
