package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/mascri/mascri/internal/config"
)

func newServe(load func() (config.Config, error)) *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Run the daemon",
		Long: "Run the daemon: serve the CRI on the unix socket until SIGTERM or SIGINT, which let\n" +
			"RPCs under way finish. Pods keep running while the daemon is down.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := load()
			if err != nil {
				return err
			}
			if os.Geteuid() != 0 {
				return errors.New("serve needs root: it enters network namespaces and mounts them; run it with sudo")
			}
			return serve(cmd.Context(), cfg, logger(cfg, cmd.ErrOrStderr()))
		},
	}
}

// logger writes to w; config has checked the level.
func logger(cfg config.Config, w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(cfg.LogLevel))
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}

// gcPercent is how much garbage may come upon what is in use before it is collected, in
// percent of that. The daemon's heap is a few megabytes on any node, and mostly idle: half of
// Go's default costs no CPU to speak of.
const gcPercent = 50

// serve runs the daemon until ctx ends and its RPCs are through.
func serve(ctx context.Context, cfg config.Config, log *slog.Logger) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	lock, err := lockState(cfg.StateDir)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := refuseNewer(cfg.StateDir); err != nil {
		return err
	}
	d, err := newDaemon(cfg, log)
	if err != nil {
		return err
	}
	listener, socket, err := listen(cfg.Socket)
	if err != nil {
		return err
	}
	defer listener.Close()
	log.Info("serving CRI v1", "socket", socket, "version", version, "instance", d.instance)
	return d.run(ctx, listener, socket)
}
