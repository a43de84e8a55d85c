package stream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming"

	"github.com/mascri/mascri/internal/pod"
)

// Options are what a Server is made of.
type Options struct {
	Address string      // to listen on, host:port; port 0 is any that is free
	TLS     *tls.Config // nil: none
	Logger  *slog.Logger
	// Connections is how many may be open at once; more are closed as they come.
	Connections int

	// Exec runs a command until it ends, ctx ends or nobody takes its output any more.
	Exec func(ctx context.Context, container string, command []string, streams pod.Streams) (exitCode int, err error)
	// Attach joins streams to a container's first process.
	Attach func(ctx context.Context, container string, streams pod.Streams) error
	// Netns returns the path of a sandbox's network namespace, "" for the node's own.
	Netns func(sandbox string) (string, error)

	// Began is told of each stream that begins, exec, attach or portforward, and returns
	// what is called at its end; nil: nobody is told.
	Began func(kind string) (ended func())
}

// Server is safe for concurrent use.
type Server struct {
	opts      Options
	listener  net.Listener
	streaming streaming.Server
	forwards  sync.Map       // context of the connection, by token of port-forwards under way
	serving   sync.WaitGroup // one for each stream; added to while the server is open

	mu     sync.Mutex // guards closed
	closed bool
}

const (
	// lingerLimit is how long a connection may stay open after its stream was served.
	lingerLimit = 10 * time.Second
	// idleLimit is how long one may stay open that no stream took over.
	idleLimit = 10 * time.Second
	// maxHeader bounds what comes before a stream, in bytes.
	maxHeader = 64 << 10
)

// Listen takes the address; connections are served by Run.
func Listen(opts Options) (*Server, error) {
	if opts.Began == nil {
		opts.Began = func(string) func() { return func() {} }
	}
	listener, err := net.Listen("tcp", opts.Address)
	if err != nil {
		return nil, fmt.Errorf("listen for streams: %w", err)
	}
	s := &Server{opts: opts, listener: watchedListener{listener, make(chan struct{}, opts.Connections)}}
	config := streaming.DefaultConfig
	config.BaseURL = &url.URL{Scheme: "http", Host: reachable(listener.Addr())}
	if opts.TLS != nil {
		config.BaseURL.Scheme = "https"
		s.listener = tls.NewListener(s.listener, opts.TLS)
	}
	if s.streaming, err = streaming.NewServer(config, runtime{s}); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return s, nil
}

// reachable is an address that the kubelet on this node can connect to. A wildcard takes
// both families, but a node may have no IPv6.
func reachable(listening net.Addr) string {
	address, ok := listening.(*net.TCPAddr)
	if !ok || !address.IP.IsUnspecified() {
		return listening.String()
	}
	return (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: address.Port}).String()
}

// Run serves until ctx ends. That cuts all streams, and it returns when what was run for
// them has ended.
func (s *Server) Run(ctx context.Context) error {
	server := &http.Server{
		Handler:     http.HandlerFunc(s.serve),
		BaseContext: func(net.Listener) context.Context { return ctx },
		ConnContext: connContext,
		ConnState:   connState,
		ErrorLog:    slog.NewLogLogger(s.opts.Logger.Handler(), slog.LevelDebug),
		// A client that connects and says nothing is no stream, nor is one that says something
		// else. All this ends where a stream takes the connection over.
		ReadTimeout: streaming.DefaultConfig.StreamCreationTimeout, IdleTimeout: idleLimit, MaxHeaderBytes: maxHeader,
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() }) // all but what streams took over
	defer stop()
	defer s.drain()
	if err := server.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve streams: %w", err)
	}
	return ctx.Err()
}

// Close gives the address up where Run was never called.
func (s *Server) Close() error { return s.listener.Close() }

func (s *Server) drain() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.serving.Wait()
}

func (s *Server) enter() (open bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.serving.Add(1)
	}
	return !s.closed
}

// serve runs one stream. Its context ends with the connection.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if !s.enter() {
		http.Error(w, "MasCRI ends", http.StatusServiceUnavailable)
		return
	}
	defer s.serving.Done()
	token := path.Base(r.URL.Path)
	// The first to come has the token, and keeps it whoever tries the same.
	if _, taken := s.forwards.LoadOrStore(token, r.Context()); !taken {
		defer s.forwards.Delete(token)
	}
	s.streaming.ServeHTTP(w, r)
	// The library leaves a client connected that did not open its streams in time.
	if conn, ok := r.Context().Value(connKey{}).(*watchedConn); ok && conn.taken.Load() {
		time.AfterFunc(lingerLimit, func() { _ = conn.Close() })
	}
}

// Exec returns the address for an exec, ErrInvalidArgument for a request that makes no
// sense, and ErrResourceExhausted where too many addresses are not used yet.
func (s *Server) Exec(req *cri.ExecRequest) (*cri.ExecResponse, error) {
	kept := proto.CloneOf(req)
	kept.ContainerId = mark(req.GetContainerId(), req.GetStdin())
	resp, err := s.streaming.GetExec(kept)
	return resp, kind(err)
}

// Attach is Exec for an attach.
func (s *Server) Attach(req *cri.AttachRequest) (*cri.AttachResponse, error) {
	kept := proto.CloneOf(req)
	kept.ContainerId = mark(req.GetContainerId(), req.GetStdin())
	resp, err := s.streaming.GetAttach(kept)
	return resp, kind(err)
}

// PortForward is Exec for port-forwards.
func (s *Server) PortForward(req *cri.PortForwardRequest) (*cri.PortForwardResponse, error) {
	// The library keeps the request and later passes its sandbox on, but not the context of
	// the connection: the token, which is in both, leads to it. Nobody knows it before this
	// returns.
	kept := &cri.PortForwardRequest{PodSandboxId: req.GetPodSandboxId(), Port: req.GetPort()}
	resp, err := s.streaming.GetPortForward(kept)
	if err != nil {
		return nil, kind(err)
	}
	kept.PodSandboxId += "/" + path.Base(resp.GetUrl())
	return resp, nil
}

// kind gives the library's errors, which are gRPC's, the project's kinds.
func kind(err error) error {
	text := status.Convert(err).Message()
	switch status.Code(err) {
	case codes.InvalidArgument:
		return errdefs.ErrInvalidArgument.WithMessage(text)
	case codes.ResourceExhausted:
		return errdefs.ErrResourceExhausted.WithMessage(text)
	}
	return err
}
