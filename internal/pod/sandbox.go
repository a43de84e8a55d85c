package pod

import (
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Sandbox is one namespace-holding container as the engine last told of it.
type Sandbox struct {
	ID   string // the engine's container id, 64 hex digits
	Name string // the engine's container name, see SandboxName

	// Fixed at creation, decoded from LabelKey.
	Instance       string // id of the daemon that made it
	Config         *cri.PodSandboxConfig
	RuntimeHandler string // as requested; "" is the default handler

	// Told by the engine.
	Image      string // id of the sandbox image
	CreatedAt  time.Time
	StartedAt  time.Time // zero: never started
	FinishedAt time.Time // zero: never ended
	Running    bool
	PID        int // in the host's pid namespace; 0 when not running
	ExitCode   int

	// NetnsInode is the inode of PID's network namespace at the last refresh, 0
	// when not running. An attachment whose pin has another inode belongs to an
	// earlier life of this container.
	NetnsInode uint64

	Files Files
}

// Files are the node's paths of files below /etc of a sandbox: the engine binds them
// into it and into every container that joins its network.
type Files struct {
	ResolvConf string `json:"resolvConf"`
	Hosts      string `json:"hosts"`
	Hostname   string `json:"hostname"`
}

// HostNetwork tells whether the sandbox shares the node's network namespace:
// it then has no attachment.
func (s Sandbox) HostNetwork() bool { return HostNetwork(s.Config) }

// HostNetwork tells whether config asks for the node's network namespace.
func HostNetwork(config *cri.PodSandboxConfig) bool {
	return config.GetLinux().GetSecurityContext().GetNamespaceOptions().GetNetwork() == cri.NamespaceMode_NODE
}

// Ready tells whether containers may run in the sandbox: its process runs and,
// off the host network, its attachment is complete and belongs to the network
// namespace that the process is in now. a is nil where there is none.
func (s Sandbox) Ready(a *Attachment) bool {
	if !s.Running {
		return false
	}
	if s.HostNetwork() {
		return true
	}
	return a != nil && a.Phase == Attached && a.NetnsInode == s.NetnsInode
}
