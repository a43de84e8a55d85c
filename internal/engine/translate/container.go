package translate

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client/pkg/versions"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

const (
	// logDriver is the one whose files internal/logs reads. Unlike json-file, it keeps
	// bytes that are no UTF-8.
	logDriver = "local"
	// logFileSize and logFiles bound what of a container's output waits for a daemon that
	// is down or slow: four full files are kept besides the one that is written.
	logFileSize = "20m"
	logFiles    = "5"
)

// Container returns the container of a pod's workload that joins the namespaces of
// spec.Sandbox.
func Container(spec pod.ContainerSpec, host Host) (*container.Config, *container.HostConfig, error) {
	if spec.Config.GetWindows() != nil {
		return nil, nil, invalid("windows: this is a Linux node")
	}
	labels, err := pod.ContainerLabels(spec)
	if err != nil {
		return nil, nil, err
	}
	config := &container.Config{
		Image:  spec.Image.ID,
		Labels: labels,
		User:   fmt.Sprintf("%d:%d", spec.User.UID, spec.User.GID),
		// An image's health check is Docker's business; the kubelet has probes of its own.
		Healthcheck: &container.HealthConfig{Test: []string{"NONE"}},
	}
	noInit := false // whatever the engine's default: process 1 is the request's
	hostConfig := &container.HostConfig{
		RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyDisabled}, // the kubelet restarts
		LogConfig:     container.LogConfig{Type: logDriver, Config: map[string]string{"max-size": logFileSize, "max-file": logFiles, "compress": "false"}},
		Annotations:   containerAnnotations(spec, host),
		Init:          &noInit,
	}
	for _, translate := range []func(pod.ContainerSpec, Host, *container.Config, *container.HostConfig) error{
		process, joined, mounts,
		limits, devices, // in this order: to Docker devices are resources
		confined,
	} {
		if err := translate(spec, host, config, hostConfig); err != nil {
			return nil, nil, err
		}
	}
	return config, hostConfig, nil
}

// shimGroup is what containerd's shim for runc goes by: containers of one group share it.
// A sandbox, which names none, is in the group of its id.
const shimGroup = "io.containerd.runc.v2.group"

// containerAnnotations are to runtimes that start a virtual machine what annotations are
// for a sandbox. The shim would take the sandbox's id in there for the group as well.
func containerAnnotations(spec pod.ContainerSpec, host Host) map[string]string {
	if versions.LessThan(host.Facts.APIVersion, annotationsAPI) {
		return nil
	}
	group := spec.Sandbox.ID
	if !host.SharedShims {
		group = spec.Name // the engine's own id is not known before
	}
	return map[string]string{
		shimGroup:                             group,
		"io.kubernetes.cri.container-type":    "container",
		"io.kubernetes.cri.container-name":    spec.Config.GetMetadata().GetName(),
		"io.kubernetes.cri.sandbox-id":        spec.Sandbox.ID,
		"io.kubernetes.cri.sandbox-name":      spec.Sandbox.Config.GetMetadata().GetName(),
		"io.kubernetes.cri.sandbox-namespace": spec.Sandbox.Config.GetMetadata().GetNamespace(),
		"io.kubernetes.cri.sandbox-uid":       spec.Sandbox.Config.GetMetadata().GetUid(),
	}
}

// process says what is run. A command replaces the image's entrypoint, and then none of
// the image's arguments is left, as in the CRI.
func process(spec pod.ContainerSpec, host Host, config *container.Config, out *container.HostConfig) (err error) {
	in := spec.Config
	for field, words := range map[string][]string{"command": in.GetCommand(), "args": in.GetArgs()} {
		for i, word := range words {
			if err := sayable(fmt.Sprintf("%s[%d]", field, i), word); err != nil {
				return err
			}
		}
	}
	if err := sayable("working_dir", in.GetWorkingDir()); err != nil {
		return err
	}
	config.Entrypoint, config.Cmd, config.WorkingDir = in.GetCommand(), in.GetArgs(), in.GetWorkingDir()
	if len(config.Entrypoint)+len(config.Cmd)+len(spec.Image.Config.Config.Entrypoint)+len(spec.Image.Config.Config.Cmd) == 0 {
		return invalid("command: missing, and the image has none either")
	}
	for i, env := range in.GetEnvs() {
		field := fmt.Sprintf("envs[%d]", i)
		if env.GetKey() == "" || strings.ContainsAny(env.GetKey(), "=\x00") {
			name, _, _ := strings.Cut(env.GetKey(), "=") // what follows may be a value
			return invalid("%s.key: %q is empty, or holds = or NUL: no name of an environment variable", field, name)
		}
		if err := sayable(field+".value", string(env.GetValue())); err != nil {
			return err
		}
		config.Env = append(config.Env, env.GetKey()+"="+string(env.GetValue()))
	}
	config.Tty, config.OpenStdin, config.StdinOnce = in.GetTty(), in.GetStdin(), in.GetStdinOnce()
	if config.StopSignal, err = stopSignal(in.GetStopSignal()); err != nil {
		return err
	}
	out.Runtime, err = runtime(spec.Sandbox.RuntimeHandler, host)
	return err
}

// sayable refuses what can't be passed on: a NUL ends every string of a process, and
// Docker's API is JSON, which would change other bytes than UTF-8 in silence.
func sayable(field, text string) error {
	switch {
	case strings.ContainsRune(text, 0):
		return invalid("%s: holds a NUL byte", field)
	case !utf8.ValidString(text):
		return invalid("%s: is not UTF-8, which is all that Docker's API can pass on", field)
	}
	return nil
}

// joined puts the container into the sandbox's namespaces. The network, and with it the
// hostname and the files of the sandbox, and IPC are those of the sandbox in any case;
// about process ids each container decides for itself.
func joined(spec pod.ContainerSpec, _ Host, _ *container.Config, out *container.HostConfig) error {
	options := spec.Config.GetLinux().GetSecurityContext().GetNamespaceOptions()
	sandbox := spec.Sandbox.Config.GetLinux().GetSecurityContext().GetNamespaceOptions()
	join := "container:" + spec.Sandbox.ID
	for field, mode := range map[string]cri.NamespaceMode{"network": options.GetNetwork(), "ipc": options.GetIpc()} {
		if _, known := cri.NamespaceMode_name[int32(mode)]; !known || mode == cri.NamespaceMode_TARGET {
			return invalid(namespaceOptions+"%s: %s can't be given to a container", field, mode)
		}
	}
	if options.GetNetwork() == cri.NamespaceMode_NODE && !spec.Sandbox.HostNetwork() {
		return invalid(namespaceOptions + "network: NODE, but the sandbox has a network of its own, which its containers share")
	}
	out.NetworkMode = container.NetworkMode(join)
	if spec.Sandbox.HostNetwork() {
		out.UTSMode = "host"
	}
	switch {
	case sandbox.GetIpc() == cri.NamespaceMode_NODE:
		out.IpcMode = container.IPCModeHost
	case options.GetIpc() == cri.NamespaceMode_NODE:
		return invalid(namespaceOptions + "ipc: NODE, but the sandbox has IPC of its own, which its containers share")
	case sandbox.GetIpc() == cri.NamespaceMode_CONTAINER:
		out.IpcMode = container.IPCModePrivate
	default:
		out.IpcMode = container.IpcMode(join)
	}
	switch options.GetPid() {
	case cri.NamespaceMode_POD:
		out.PidMode = container.PidMode(join)
	case cri.NamespaceMode_CONTAINER: // its own, Docker's default
	case cri.NamespaceMode_NODE:
		out.PidMode = "host"
	case cri.NamespaceMode_TARGET:
		out.PidMode = container.PidMode("container:" + options.GetTargetId())
	default:
		return invalid(namespaceOptions+"pid: unknown value %d", options.GetPid())
	}
	return userNamespace(options.GetUsernsOptions())
}

// confined sets what the process may do.
func confined(spec pod.ContainerSpec, host Host, _ *container.Config, out *container.HostConfig) (err error) {
	security := spec.Config.GetLinux().GetSecurityContext()
	for _, group := range spec.User.Groups {
		out.GroupAdd = append(out.GroupAdd, fmt.Sprint(group))
	}
	out.ReadonlyRootfs, out.Privileged = security.GetReadonlyRootfs(), security.GetPrivileged()
	if out.Privileged {
		out.CgroupnsMode = container.CgroupnsModeHost // as with containerd
	}
	// Never nil, which would stand for the engine's own lists. None is none, as the
	// kubelet sends what it wants masked. It does so for privileged containers, too, whose
	// paths the CRI wants neither masked nor read-only (LinuxContainerSecurityContext).
	out.MaskedPaths, out.ReadonlyPaths = []string{}, []string{}
	if !out.Privileged {
		out.MaskedPaths = append(out.MaskedPaths, security.GetMaskedPaths()...)
		out.ReadonlyPaths = append(out.ReadonlyPaths, security.GetReadonlyPaths()...)
	}
	if out.CapAdd, out.CapDrop, err = capabilities(security.GetCapabilities()); err != nil {
		return err
	}
	apparmor, err := appArmorProfile(security)
	if err != nil {
		return err
	}
	if out.SecurityOpt, err = securityOptions(security, apparmor, host); err != nil {
		return err
	}
	if security.GetNoNewPrivs() {
		out.SecurityOpt = append(out.SecurityOpt, "no-new-privileges")
	}
	return nil
}

// capabilities are Docker's lists. Where ALL is both added and dropped the CRI means
// none but those added by name; Docker would take ALL for a capability's name.
func capabilities(in *cri.Capability) (add, drop []string, err error) {
	if names := in.GetAddAmbientCapabilities(); len(names) > 0 {
		return nil, nil, unsayable(securityContext+"capabilities.add_ambient_capabilities: %s: Docker's API knows no ambient capabilities", strings.Join(names, ", "))
	}
	dropsAll := false
	for _, name := range in.GetDropCapabilities() {
		drop = append(drop, name)
		dropsAll = dropsAll || strings.EqualFold(name, "ALL")
	}
	for _, name := range in.GetAddCapabilities() {
		if !dropsAll || !strings.EqualFold(name, "ALL") {
			add = append(add, name)
		}
	}
	return add, drop, nil
}

// appArmorProfile reads the field in use: apparmor, or else the deprecated
// apparmor_profile.
func appArmorProfile(security *cri.LinuxContainerSecurityContext) (*cri.SecurityProfile, error) {
	name := security.GetApparmorProfile() //nolint:staticcheck // deprecated, but clients still send it
	switch {
	case security.GetApparmor() != nil:
		return security.GetApparmor(), nil
	case name == "" || name == "runtime/default":
		return &cri.SecurityProfile{}, nil
	case name == unconfined:
		return &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Unconfined}, nil
	case strings.HasPrefix(name, "localhost/"):
		return &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: name}, nil
	}
	return nil, invalid(securityContext+"apparmor_profile: %q is none of runtime/default, unconfined, localhost/<name>", name)
}
