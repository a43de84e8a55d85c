package cri

import (
	"context"
	"io"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/keylock"
	"github.com/mascri/mascri/internal/pod"
)

// Engine runs containers.
type Engine interface {
	// EnsureImage returns the id of the image named ref, which it loads from archive
	// when it is missing; archive may be nil.
	EnsureImage(ctx context.Context, ref string, archive func() (io.ReadCloser, error)) (string, error)
	// CreateSandbox returns errdefs.ErrAlreadyExists where the name is taken.
	CreateSandbox(ctx context.Context, spec pod.SandboxSpec) (string, error)
	Start(ctx context.Context, id string) error
	// Kill ends the container's process and waits for that; nil when it does not run.
	Kill(ctx context.Context, id string) error
	// Remove kills and removes; nil when there is none.
	Remove(ctx context.Context, id string) error
	// Inspect takes an id or a name; errdefs.ErrNotFound, pod.ErrForeign.
	Inspect(ctx context.Context, idOrName string) (pod.Sandbox, error)
}

// Containers are the engine's workload containers. Engine's Start, Kill and Remove are
// for them as well.
type Containers interface {
	// CreateContainer resolves the user, sets spec.User by that, and returns the id;
	// errdefs.ErrAlreadyExists where the name is taken.
	CreateContainer(ctx context.Context, spec pod.ContainerSpec) (string, error)
	// InspectContainer takes an id or a name; errdefs.ErrNotFound, pod.ErrForeign.
	InspectContainer(ctx context.Context, idOrName string) (pod.Container, error)
	// Stop sends the container's stop signal, SIGKILL after grace, and returns once the
	// process ended; nil when it does not run. Where ctx ends first, it still runs.
	Stop(ctx context.Context, id string, grace time.Duration) error
	// UpdateContainer sets the limits that Docker's API knows; a field of zero value
	// stays as it is.
	UpdateContainer(ctx context.Context, id string, resources *cri.LinuxContainerResources) error
}

// Execs runs commands in running containers.
type Execs interface {
	// Exec returns when the command ended. Where ctx ends first, or nobody takes the output
	// any more, it kills the command and its descendants.
	Exec(ctx context.Context, container string, command []string, streams pod.Streams) (exitCode int, err error)
}

// Streams gives out addresses for streams that begin later; ids are whole and checked.
type Streams interface {
	Exec(req *cri.ExecRequest) (*cri.ExecResponse, error)
	Attach(req *cri.AttachRequest) (*cri.AttachResponse, error)
	PortForward(req *cri.PortForwardRequest) (*cri.PortForwardResponse, error)
}

// Limits are the kernel's, for what Docker's API has no words for. A process is named with
// the container that it must be of: errdefs.ErrNotFound where it is no more.
type Limits interface {
	// Check refuses by its field what can't be limited in a cgroup like that of pid.
	Check(pid int, container string, resources *cri.LinuxContainerResources) error
	// Set limits hugepages and sets the unified keys.
	Set(pid int, container string, resources *cri.LinuxContainerResources) error
	// SetOOMScore sets oom_score_adj of all of the container's processes.
	SetOOMScore(pid int, container string, score int) error
}

// Births finds the process of a sandbox that the engine is about to start.
type Births interface {
	// Born waits, until ctx ends, for a first process in pid and network namespaces of its
	// own. alive is an fs.ErrNotExist once it has ended.
	Born(ctx context.Context, sandbox, cgroupParent string) (pid int, alive func() error, err error)
}

// Logs writes CRI log files. What is unknown to it is no error, but for Reopen.
type Logs interface {
	// Follow begins or goes on to copy what a container writes, also where ctx ends first.
	Follow(ctx context.Context, source pod.LogSource) error
	// Reopen makes what comes from now on go to a new file.
	Reopen(ctx context.Context, container string) error
	// Drain returns once all that an ended container wrote is in its file.
	Drain(ctx context.Context, container string) error
	// Forget ends it for a container that was removed.
	Forget(ctx context.Context, container string) error
	// Sweep forgets those that known does not know.
	Sweep(ctx context.Context, known func(container string) bool) error
}

// Images is the engine's store of images. The names it takes are of the forms that
// pod.ImageName and pod.PullName return.
type Images interface {
	Images(ctx context.Context) ([]pod.Image, error)
	// Image returns errdefs.ErrNotFound where there is none of that name.
	Image(ctx context.Context, name string) (pod.Image, error)
	// PullImage calls progress whenever something happened. No error holds a secret.
	PullImage(ctx context.Context, ref string, auth pod.RegistryAuth, progress func()) error
	// RemoveImage removes all of the image's tags; nil when there is none. The error is
	// errdefs.ErrFailedPrecondition where it is in use, and it is whole then.
	RemoveImage(ctx context.Context, id string) error
	ImageFilesystem(ctx context.Context) (pod.Filesystem, error)
}

// Network gives sandboxes their place on CNI networks.
type Network interface {
	// Attach cleans up after itself when it fails. Where even that fails, Attachment
	// shows what is left, to be detached later.
	Attach(ctx context.Context, req pod.AttachRequest) (pod.Attachment, error)
	// Detach is idempotent. It begins at once and waits for ended before it forgets
	// anything, whose error is Detach's; nil: the sandbox's process does not run.
	Detach(ctx context.Context, sandboxID string, ended func() error) error
	Attachment(sandboxID string) (pod.Attachment, bool) // from memory
	Attachments() []pod.Attachment                      // from memory
	Status() pod.NetworkStatus                          // from memory
	// MendLeaks finds and mends what is left on the node of attachments that are over.
	// sandboxes are the ids of all that the engine has: what belongs to one is no leak.
	MendLeaks(ctx context.Context, sandboxes []string) ([]pod.Leak, error)
	// SetPodCIDRs takes the node's share of the cluster's addresses, durably.
	SetPodCIDRs(cidrs []netip.Prefix) error
}

// Index is the view of all sandboxes and containers that lists and status answer from.
type Index interface {
	Synced() <-chan struct{}
	Refresh(ctx context.Context, id string) error
	// Inspect is a Refresh that returns the sandbox, hidden or not.
	Inspect(ctx context.Context, id string) (pod.Sandbox, error)
	// Removed tells of a container that the engine has just removed.
	Removed(id string)
	Hide(name string) (reveal func())
	Sandbox(idOrPrefix string) (pod.Sandbox, error)
	// Sandboxes returns the same slice until something changes; it must not be changed.
	Sandboxes() []pod.Sandbox
	Container(idOrPrefix string) (pod.Container, error)
	Containers() []pod.Container // likewise
	// Watch tells all changes from now on, in their order. The channel is closed when the
	// watcher is too slow.
	Watch() (changes <-chan pod.Change, stop func())
	Complete() bool // whether no sandbox or container is missing
	Drift() uint64
}

// Health tells, from memory, whether the engine can be used and what it is.
type Health interface {
	Facts() (pod.EngineFacts, error)
}

// Usage tells what containers and sandboxes use. It asks the kernel, not the engine, and
// leaves out what it can't find.
type Usage interface {
	Container(c pod.Container) pod.ContainerUsage
	// Pod is told the sandbox's attachment, nil for none, and all of its containers.
	Pod(sandbox pod.Sandbox, a *pod.Attachment, containers []pod.Container) pod.SandboxUsage
	// Network is nil for no attachment.
	Network(a *pod.Attachment) *pod.NetworkUsage
	// Details looks at each process of the container, too.
	Details(c pod.Container) pod.ContainerDetails
}

// Options are what a Server is made of.
type Options struct {
	Engine     Engine
	Containers Containers
	Execs      Execs
	Streams    Streams
	Images     Images
	Limits     Limits
	Births     Births
	Logs       Logs
	Network    Network
	Index      Index
	Health     Health
	Usage      Usage
	Logger     *slog.Logger

	Version    string // of MasCRI, semantic
	FilesDir   string // where each sandbox's resolv.conf, hosts and hostname are kept
	UpdatesDir string // where changes of sandboxes and containers are noted
	Instance   string // id of this daemon, written into all that it makes
	// SandboxImage names the image of the sandbox container, ImageArchive opens the
	// docker-archive that it is loaded from where the engine lacks it; nil for an
	// image of the user's own.
	SandboxImage string
	ImageArchive func() (io.ReadCloser, error)
	// Config is the effective configuration, shown by Status.
	Config any
	// Step is called with the name of each step of RunPodSandbox and StopPodSandbox
	// right before it; nil but in crash tests.
	Step func(name string)
	// Ended is told of each RPC that ended: its name, gRPC status code and duration, and
	// whether it is one that lasts until its client leaves; nil: nobody is told.
	Ended func(rpc, code string, took time.Duration, lasting bool)
	// Served tells where metrics are served, for Status; nil: it does not tell.
	Served func() any
}

// Server implements the CRI services. It is safe for concurrent use.
type Server struct {
	cri.UnsafeRuntimeServiceServer
	cri.UnsafeImageServiceServer

	opts      Options
	log       *slog.Logger
	recovered chan struct{} // closed when the state of an earlier life is known
	ending    chan struct{} // closed when streams without an end are to end
	end       sync.Once
	flights   *flights
	pulls     *flights
	locks     keylock.Locks // by id, of sandboxes, containers and images; held across I/O by design
	repairs   *repairs
	files     *files
	updates   *updates
	// What lists tell of each item, but for its usage.
	keptSandboxes  kept[pod.Sandbox, *cri.PodSandbox]
	keptContainers kept[pod.Container, *cri.Container]
	keptAttributes kept[pod.Container, *cri.ContainerAttributes]
	underWay       atomic.Int64           // RPCs that were admitted
	pauseID        atomic.Pointer[string] // id of MasCRI's own sandbox image, once the engine told it
}

// New returns a server that answers all but Version and Status only after Run has
// recovered the state of an earlier life.
func New(opts Options) *Server {
	if opts.Step == nil {
		opts.Step = func(string) {}
	}
	if opts.Ended == nil {
		opts.Ended = func(string, string, time.Duration, bool) {}
	}
	return &Server{
		opts:      opts,
		log:       opts.Logger,
		recovered: make(chan struct{}),
		ending:    make(chan struct{}),
		flights:   newFlights(opts.Logger),
		pulls:     newFlights(opts.Logger),
		repairs:   newRepairs(),
		files:     newFiles(opts.FilesDir),
		updates:   newUpdates(opts.UpdatesDir),
	}
}

// EndStreams ends the RPCs that last until their client leaves, so that the others can be
// drained.
func (s *Server) EndStreams() { s.end.Do(func() { close(s.ending) }) }

// Register adds the CRI services to a gRPC server.
func (s *Server) Register(registrar grpc.ServiceRegistrar) {
	cri.RegisterRuntimeServiceServer(registrar, s)
	cri.RegisterImageServiceServer(registrar, s)
}
