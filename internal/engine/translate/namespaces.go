package translate

import (
	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

const namespaceOptions = "linux.security_context.namespace_options."

// namespaces sets what the sandbox shares with the node and what its containers
// will share with it.
func namespaces(spec pod.SandboxSpec, _ Host, config *container.Config, out *container.HostConfig) error {
	options := spec.Config.GetLinux().GetSecurityContext().GetNamespaceOptions()
	if options.GetTargetId() != "" {
		return invalid(namespaceOptions + "target_id: a sandbox is made before any container that it could target")
	}
	switch options.GetNetwork() {
	case cri.NamespaceMode_POD:
		// Disabled besides none: the engine then makes no network sandbox of its own, which
		// takes 20.10 a hundred ms, and leaves IPv6 alone. runc makes the namespace.
		out.NetworkMode, config.NetworkDisabled = "none", true
		if err := hostname(spec.Config.GetHostname(), config); err != nil {
			return err
		}
	case cri.NamespaceMode_NODE:
		// With the node's network comes its hostname, as with every runtime.
		out.NetworkMode, out.UTSMode = "host", "host"
	default:
		return refused("network", options.GetNetwork())
	}
	switch options.GetPid() {
	case cri.NamespaceMode_POD, cri.NamespaceMode_CONTAINER: // its own; whether others join is said by them
	case cri.NamespaceMode_NODE:
		out.PidMode = "host"
	default:
		return refused("pid", options.GetPid())
	}
	switch options.GetIpc() {
	case cri.NamespaceMode_POD:
		out.IpcMode = container.IPCModeShareable
	case cri.NamespaceMode_CONTAINER:
		out.IpcMode = container.IPCModePrivate
	case cri.NamespaceMode_NODE:
		out.IpcMode = container.IPCModeHost
	default:
		return refused("ipc", options.GetIpc())
	}
	return userNamespace(options.GetUsernsOptions())
}

func hostname(name string, config *container.Config) error {
	if len(name) > maxHostname {
		return invalid("hostname: %d bytes are more than the kernel's %d", len(name), maxHostname)
	}
	config.Hostname = name
	return nil
}

// userNamespace refuses a pod's own user namespace. An absent message means the
// node's one; an empty one has mode POD.
func userNamespace(userns *cri.UserNamespace) error {
	const field = "userns_options"
	switch {
	case userns == nil:
		return nil
	case userns.GetMode() == cri.NamespaceMode_POD:
		return errdefs.ErrNotImplemented.WithMessage(namespaceOptions + field + ": Docker's API can't give a pod its own user namespace")
	case userns.GetMode() != cri.NamespaceMode_NODE:
		return refused(field+".mode", userns.GetMode())
	case len(userns.GetUids()) > 0 || len(userns.GetGids()) > 0:
		return invalid(namespaceOptions + field + ": mode NODE takes no mappings")
	}
	return nil
}

func refused(field string, mode cri.NamespaceMode) error {
	return invalid(namespaceOptions+"%s: mode %s has no meaning for a sandbox", field, mode)
}
