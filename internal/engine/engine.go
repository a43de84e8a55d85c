package engine

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/client"

	"github.com/mascri/mascri/internal/keylock"
	"github.com/mascri/mascri/internal/pod"
)

// Options are an Engine's surroundings.
type Options struct {
	Host     string // of the engine, such as unix:///var/run/docker.sock
	Instance string // id of this daemon, recorded with every sandbox
	// SharedShims lets the containers of a pod share the sandbox's containerd shim, where
	// the engine can.
	SharedShims bool
	ExecsDir    string // where execs under way are noted; "": nowhere
	Logger      *slog.Logger
	Observe     Observe // nil: nobody is told
}

// Engine is a Docker Engine. It is safe for concurrent use.
type Engine struct {
	host        string
	instance    string
	sharedShims bool
	execsDir    string
	log         *slog.Logger
	observe     Observe

	// current is the connection in use, nil before the first one. Each negotiated its API
	// version once; as an engine can be replaced by another version, Hints and Facts make
	// a new one.
	current  atomic.Pointer[connection]
	oomFloor func() int
	oomKills *oomKills
	foreign  sync.Map      // ids of foreign containers that were logged
	ours     sync.Map      // ids of containers seen to be this instance's, which their labels tell for good
	configs  sync.Map      // ocispec.Image of images, by id
	users    sync.Map      // translate.Accounts of images, by id
	execs    sync.Map      // ids of execs of this life
	probes   sync.Map      // names of the containers of looks into images under way
	layers   sync.Map      // usage of layers, by directory
	alive    atomic.Int64  // when containerd was last seen to do something, in ns since 1970
	once     keylock.Locks // what many requests may be the first to need is done by one
}

// connection is a client whose API version is settled, and what its engine told then.
type connection struct {
	api   *client.Client
	info  system.Info
	facts pod.EngineFacts
}

// New returns an Engine. It does no I/O; ErrInvalidArgument tells of a host that
// can't be parsed.
func New(options Options) (*Engine, error) {
	e := &Engine{host: options.Host, instance: options.Instance, sharedShims: options.SharedShims, execsDir: options.ExecsDir, log: options.Logger, observe: options.Observe, oomKills: newOOMKills()}
	e.oomFloor = sync.OnceValue(e.readOOMFloor)
	api, err := e.newClient()
	if err != nil {
		return nil, invalidHost(options.Host, err)
	}
	return e, api.Close()
}

// connection returns the connection in use, or makes the first one.
func (e *Engine) connection(ctx context.Context) (*connection, error) {
	if c := e.current.Load(); c != nil {
		return c, nil
	}
	return e.dial(ctx)
}

// dial makes a connection and puts it in use. Requests under way keep the one that
// they began with.
func (e *Engine) dial(ctx context.Context, options ...client.Opt) (*connection, error) {
	api, err := e.newClient(options...)
	if err != nil {
		return nil, invalidHost(e.host, err)
	}
	// Without this, the client would answer a failed negotiation by speaking its newest
	// version to an engine that may not know it.
	if _, err := api.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true}); err != nil {
		return nil, e.failed("negotiate the API version", err)
	}
	result, err := api.Info(ctx, client.InfoOptions{}) // which asks containerd, too
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, e.silentContainerd("read the engine's settings")
	}
	if err != nil {
		return nil, e.failed("read the engine's settings", err)
	}
	c := &connection{api: api, info: result.Info, facts: facts(result.Info, api.ClientVersion())}
	c.facts.Problems = problems(c.info, c.facts, e.host)
	if old := e.current.Swap(c); old != nil {
		if err := old.api.Close(); err != nil {
			e.log.Debug("closing an old connection to the engine failed", "error", err)
		}
	}
	return c, nil
}

func (e *Engine) newClient(options ...client.Opt) (*client.Client, error) {
	return client.New(append([]client.Opt{client.WithHost(e.host), client.WithUserAgent("mascri"), e.observed()}, options...)...)
}
