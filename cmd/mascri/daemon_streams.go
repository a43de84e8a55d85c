package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"

	"k8s.io/klog/v2"

	"github.com/mascri/mascri/internal/config"
	"github.com/mascri/mascri/internal/engine"
	"github.com/mascri/mascri/internal/metrics"
	"github.com/mascri/mascri/internal/stream"
)

// newStreams takes the address for streams: one that can't be had is an error at the start.
func newStreams(cfg config.Streaming, eng *engine.Engine, netns func(string) (string, error), counted *metrics.Metrics, log *slog.Logger) (*stream.Server, error) {
	klog.SetSlogLogger(slog.New(quiet{log.Handler()}))
	options := stream.Options{Address: cfg.Address, Logger: log, Connections: connections(), Exec: eng.Exec, Attach: eng.Attach, Netns: netns, Began: counted.Stream}
	if cfg.TLSCertFile != "" {
		certificate, err := tls.LoadX509KeyPair(cfg.TLSCertFile, cfg.TLSKeyFile)
		if err != nil {
			return nil, fmt.Errorf("streaming.tls_cert_file, streaming.tls_key_file: %w", err)
		}
		options.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
	}
	streams, err := stream.Listen(options)
	if err != nil {
		return nil, fmt.Errorf("streaming.address: %w", err)
	}
	return streams, nil
}

// quiet logs everything at debug level: what goes wrong in a stream its client is told, and
// to the library the end of a client is an error, too.
type quiet struct{ slog.Handler }

func (q quiet) Enabled(ctx context.Context, _ slog.Level) bool {
	return q.Handler.Enabled(ctx, slog.LevelDebug)
}

func (q quiet) Handle(ctx context.Context, record slog.Record) error {
	record.Level = slog.LevelDebug
	return q.Handler.Handle(ctx, record)
}

func (q quiet) WithAttrs(attrs []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(attrs)} }

func (q quiet) WithGroup(name string) slog.Handler { return quiet{q.Handler.WithGroup(name)} }
