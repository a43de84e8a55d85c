package metrics

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"sync/atomic"
	"time"

	"golang.org/x/net/netutil"
)

const (
	// retryEvery is how often an address that is taken is tried again.
	retryEvery = 30 * time.Second
	// writeLimit is how long an answer may take to be taken.
	writeLimit = 2 * time.Minute
	// maxConnections is how many may be open at once; more wait.
	maxConnections = 50
)

// Server serves the metrics by HTTP. It is safe for concurrent use.
type Server struct {
	address string
	handler http.Handler
	log     *slog.Logger
	state   atomic.Pointer[Serving]
	retry   time.Duration // as retryEvery: tests have less time
}

// Serving tells where metrics are served.
type Serving struct {
	Address string `json:"address"`         // host:port; "": they are switched off
	Error   string `json:"error,omitempty"` // why they are not served there
}

// NewServer serves m on address, a host:port; "": nowhere. With profiles it serves pprof as
// well, which is for loopback addresses only.
func NewServer(m *Metrics, address string, profiles bool, log *slog.Logger) *Server {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", m.handler())
	if profiles {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	s := &Server{address: address, handler: mux, log: log, retry: retryEvery}
	s.state.Store(&Serving{Address: address})
	return s
}

// Serving tells where metrics are served now.
func (s *Server) Serving() Serving { return *s.state.Load() }

// Run serves until ctx ends. An address that can't be had is no reason to run no pods: it
// is told, and tried again.
func (s *Server) Run(ctx context.Context) error {
	for s.address != "" {
		err := s.serve(ctx)
		if ctx.Err() != nil {
			break
		}
		if s.Serving().Error != err.Error() {
			s.log.Warn("metrics are not served; it is tried again", "address", s.address, "error", err)
		}
		s.state.Store(&Serving{Address: s.address, Error: err.Error()})
		select {
		case <-ctx.Done():
		case <-time.After(s.retry):
		}
	}
	<-ctx.Done()
	return ctx.Err()
}

// serve never returns nil.
func (s *Server) serve(ctx context.Context) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.address)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler: s.handler, ReadTimeout: 5 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
		// Of the few who may read at once, one that does not take what it asked for keeps the
		// others waiting. It bounds the time of a profile, too.
		WriteTimeout: writeLimit,
		BaseContext:  func(net.Listener) context.Context { return ctx },
		ErrorLog:     slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	s.state.Store(&Serving{Address: listener.Addr().String()})
	s.log.Info("serving metrics", "address", listener.Addr().String())
	return errors.Join(server.Serve(netutil.LimitListener(listener, maxConnections)), server.Close())
}
