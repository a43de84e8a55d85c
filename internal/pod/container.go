package pod

import (
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Fixed is all of a workload container that its creation fixes.
type Fixed struct {
	SandboxID string
	// Config is as requested, but for the images of mounts, which are named by their ids,
	// and for the environment: no secret is kept in a label.
	Config *cri.ContainerConfig
	// ImageName is what people call the image: a tag of it, or else what was asked for.
	ImageName string
	// ImageRef names what the container runs as the kubelet compares it: one of the
	// image's digests, or its id where it has none.
	ImageRef string
	LogPath  string // of the CRI log file on the node; "" for none
	User     User
}

// User is whom a container's first process runs as.
type User struct {
	UID    int64
	GID    int64
	Groups []int64 // all that the process is in, GID too; ascending, each once
}

// ContainerSpec is what a workload container is made from.
type ContainerSpec struct {
	Fixed
	Name     string // engine container name, from ContainerName
	Instance string
	Sandbox  Sandbox // that it joins
	Image    Image
}

// Container is one workload container as the engine last told of it.
type Container struct {
	Fixed
	ID       string // the engine's container id, 64 hex digits
	Name     string // the engine's container name, see ContainerName
	Instance string // id of the daemon that made it

	// Told by the engine.
	Image      string // id of the image
	CreatedAt  time.Time
	StartedAt  time.Time // zero: never started
	FinishedAt time.Time // zero: never ended
	Running    bool      // paused as well
	PID        int       // in the host's pid namespace; 0 when not running
	ExitCode   int
	OOMKilled  bool // any process of it, by the kernel, in this life
	// StartError is the engine's sentence on why the last start failed.
	StartError string
	StopSignal cri.Signal // the request's or else the image's; SIGTERM where neither says
	// LogSource is the directory where the engine keeps what the container writes.
	LogSource string
	// Resources are the limits in force, as far as Docker's API knows them.
	Resources *cri.LinuxContainerResources
}

// State is the CRI state. A start that failed is an end: the kubelet never starts one
// container twice.
func (c Container) State() cri.ContainerState {
	switch {
	case c.Running:
		return cri.ContainerState_CONTAINER_RUNNING
	case c.StartedAt.IsZero() && c.StartError == "":
		return cri.ContainerState_CONTAINER_CREATED
	}
	return cri.ContainerState_CONTAINER_EXITED
}

// Item is one container of ours: exactly one field is set.
type Item struct {
	Sandbox   *Sandbox
	Container *Container
}

// ID is the engine's container id.
func (i Item) ID() string {
	if i.Sandbox != nil {
		return i.Sandbox.ID
	}
	return i.Container.ID
}

// Name is the engine's container name.
func (i Item) Name() string {
	if i.Sandbox != nil {
		return i.Sandbox.Name
	}
	return i.Container.Name
}
