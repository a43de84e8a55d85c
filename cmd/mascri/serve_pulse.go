package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// statusEvery is how often systemd is told the daemon's state where it has no watchdog.
const statusEvery = 10 * time.Second

// A pulse tells systemd that the daemon is ready, what it does, and, for the watchdog of
// sd_watchdog_enabled(3), that it is alive. The last is only told while a self-check
// passes: one that fails, or never ends as a lock is held for ever, leaves the daemon to
// systemd, which kills and restarts it.
type pulse struct {
	// check returns a line for "systemctl status". It has until ctx ends, a third of the
	// watchdog's time.
	check func(ctx context.Context) (string, error)
	every time.Duration
	tell  func(state string) error
	log   *slog.Logger
}

// run tells until ctx ends.
func (p pulse) run(ctx context.Context) error {
	tick := time.NewTicker(p.every)
	defer tick.Stop()
	ready, told := "READY=1\n", ""
	for {
		line, err := p.checkOnce(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			p.log.Error("the self-check failed; systemd will restart the daemon unless it passes again", "error", err)
		default:
			message := ready + sd.SdNotifyWatchdog
			if line != told {
				message += "\nSTATUS=" + line
			}
			if err := p.tell(message); err != nil {
				p.log.Warn("systemd could not be told the daemon's state", "error", err)
				break
			}
			ready, told = "", line
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

func (p pulse) checkOnce(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, p.every)
	defer cancel()
	return p.check(ctx)
}

// tellSystemd is the daemon's pulse, at its own socket. It does nothing where systemd did
// not start the daemon.
func (d *daemon) tellSystemd(ctx context.Context, socket string) error {
	every := statusEvery
	interval, err := sd.SdWatchdogEnabled(false)
	if err != nil {
		return fmt.Errorf("systemd's watchdog: %w", err)
	}
	if interval > 0 {
		every = interval / 3
	}
	if supervised, err := sd.SdNotify(false, "STATUS=starting"); err != nil || !supervised {
		return err
	}
	conn, err := grpc.NewClient("passthrough:///unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	runtime := cri.NewRuntimeServiceClient(conn)
	return pulse{
		check: func(ctx context.Context) (string, error) { return d.checkItself(ctx, runtime) },
		every: every,
		tell: func(state string) error {
			_, err := sd.SdNotify(false, state)
			return err
		},
		log: d.log,
	}.run(ctx)
}

// checkItself tells whether RPCs are answered and no lock is held for ever: it takes those
// of the index, of the network's records and of the logs. Nothing of it waits for the
// engine, as a restart would not mend that.
func (d *daemon) checkItself(ctx context.Context, runtime cri.RuntimeServiceClient) (string, error) {
	_, err := runtime.Status(ctx, &cri.StatusRequest{Verbose: true})
	switch status.Code(err) {
	case codes.DeadlineExceeded, codes.Unavailable, codes.Canceled:
		return "", fmt.Errorf("the Status RPC has no answer: %w", err)
	}
	d.network.Attachments()
	state := d.state()
	line := fmt.Sprintf("%d pods, %d containers", state.Sandboxes, state.Containers)
	if !state.EngineUp {
		line += "; the engine does not answer"
	}
	if !state.NetworkReady {
		line += "; the network is not ready"
	}
	return line, nil
}
