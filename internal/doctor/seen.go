package doctor

import (
	"context"
	"io"
	"net/netip"
	"time"

	"github.com/mascri/mascri/internal/network"
	"github.com/mascri/mascri/internal/network/firewall"
	"github.com/mascri/mascri/internal/pod"
)

// Sources are what an examination looks at. None of them changes anything.
type Sources struct {
	EngineHost string
	Engine     Engine
	Image      Image
	Socket     string // of the daemon
	NetnsDir   string // where network namespaces are pinned
	// DefaultNetwork tells whether the embedded default network is allowed.
	DefaultNetwork bool
	// Network tells what a daemon that started now would attach pods to, and what it
	// would have to undo. It is only asked where no daemon runs, which knows better.
	Network  func(context.Context) (pod.NetworkStatus, error)
	Firewall func(context.Context) (firewall.Report, error)
	// OOMFloor returns the lowest oom_score_adj that a process may get here, and
	// whether that is more than the kernel's least.
	OOMFloor func() (floor int, restricted bool)
}

// Engine is what is asked of the engine.
type Engine interface {
	Facts(ctx context.Context) (pod.EngineFacts, error)
	// EnsureImage with a nil archive returns the id of an image, errdefs.ErrNotFound
	// where there is none.
	EnsureImage(ctx context.Context, ref string, archive func() (io.ReadCloser, error)) (string, error)
	// Pools returns what the engine has or gives to networks of its own.
	Pools(ctx context.Context) ([]netip.Prefix, error)
}

// Image is the image of the sandboxes.
type Image struct {
	Ref      string
	Embedded bool  // in the binary; else named by the settings
	Err      error // why there is no embedded one
}

// seen is what was found, to be judged.
type seen struct {
	euid int

	engineHost string
	engine     pod.EngineFacts
	engineErr  error
	systemd    bool // systemd is the init of this machine
	unit       bool // and has a unit of the daemon

	oomFloor      int
	oomRestricted bool

	image    Image
	imageErr error // errdefs.ErrNotFound: the engine does not have it

	netnsDir string
	netnsErr error

	network        pod.NetworkStatus
	networkErr     error
	defaultNetwork bool
	addresses      []address
	kernel         kernel
	pools          []occupied
	enginePools    []netip.Prefix
	versions       []pluginVersion

	firewall    firewall.Report
	firewallErr error
	ipv6        bool // the kernel has IPv6
	commands    commands

	daemon daemon
}

// occupied is a pool of addresses, and how full it is.
type occupied struct {
	pool       pod.Pool
	used, free uint64
	err        error
}

// engineLimit is how long the engine may take for each of two questions.
const engineLimit = 5 * time.Second

func look(ctx context.Context, sources Sources) seen {
	s := seen{
		engineHost:     sources.EngineHost,
		image:          sources.Image,
		netnsDir:       sources.NetnsDir,
		defaultNetwork: sources.DefaultNetwork,
	}
	s.lookAtHost()
	s.netnsErr = tryPin(sources.NetnsDir)
	s.oomFloor, s.oomRestricted = sources.OOMFloor()
	s.lookAtEngine(ctx, sources.Engine)
	s.daemon = askDaemon(ctx, sources.Socket)
	if s.daemon.network != nil {
		s.network = *s.daemon.network
	} else {
		s.network, s.networkErr = sources.Network(ctx)
	}
	for _, pool := range s.network.Pools {
		used, free, err := network.Occupancy(pool)
		s.pools = append(s.pools, occupied{pool, used, free, err})
	}
	s.versions = askVersions(ctx, s.network.Plugins)
	s.firewall, s.firewallErr = sources.Firewall(ctx)
	s.commands = findCommands(ctx)
	return s
}

func (s *seen) lookAtEngine(ctx context.Context, engine Engine) {
	factsCtx, cancel := context.WithTimeout(ctx, engineLimit)
	defer cancel()
	s.engine, s.engineErr = engine.Facts(factsCtx)
	if s.engineErr != nil {
		return
	}
	// Where it does not tell, there is no overlap to be seen.
	s.enginePools, _ = engine.Pools(factsCtx)
	if s.image.Err != nil {
		return
	}
	imageCtx, cancel := context.WithTimeout(ctx, engineLimit)
	defer cancel()
	_, s.imageErr = engine.EnsureImage(imageCtx, s.image.Ref, nil)
}
