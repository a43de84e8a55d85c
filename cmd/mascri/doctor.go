package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/mascri/mascri/internal/config"
	"github.com/mascri/mascri/internal/doctor"
	"github.com/mascri/mascri/internal/engine"
	"github.com/mascri/mascri/internal/network"
	"github.com/mascri/mascri/internal/network/firewall"
	"github.com/mascri/mascri/internal/pod"
	"github.com/mascri/mascri/internal/sandboximage"
)

func newDoctor(load func() (config.Config, error)) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Tell whether pods can run here, and how to mend what is wrong",
		Long: "Examine the host, the engine, the network and the daemon, and tell what is wrong and\n" +
			"how to mend it. Nothing is changed, but with --fix; the daemon may be running or not.\n" +
			"The exit code is 1 where something must be mended.\n\n" +
			"With --fix, what is safe is mended first: forwarding is switched on where a network\n" +
			"needs it, router advertisements are kept, and the socket is closed to others. Each\n" +
			"step is told before it is done.",
		Args: noArgs,
	}
	output := addOutput(cmd)
	fix := cmd.Flags().Bool("fix", false, "mend what can be mended safely, and examine then")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := load()
		if err != nil {
			return err
		}
		sources, err := doctorSources(cfg)
		if err != nil {
			return err
		}
		var mended []doctor.Repair
		if *fix {
			mended = mend(cmd, sources)
		}
		report := doctor.Examine(cmd.Context(), sources)
		report.Mended = mended
		err = show(cmd, *output, report, report.WriteText)
		if err == nil && report.Level == doctor.Fail {
			return errReported
		}
		return err
	}
	return cmd
}

// mend tells on standard error what it does, so that standard output is the report.
func mend(cmd *cobra.Command, sources doctor.Sources) []doctor.Repair {
	w := cmd.ErrOrStderr()
	mended := doctor.Mend(cmd.Context(), sources, func(r doctor.Repair) {
		fmt.Fprintf(w, "mascri: now: %s, as %s\n", r.What, r.Why)
	})
	for _, r := range mended {
		if r.Err != "" {
			fmt.Fprintf(w, "mascri: failed: %s: %s\n", r.What, r.Err)
			continue
		}
		fmt.Fprintf(w, "mascri: done: %s\n", r.What)
	}
	if len(mended) == 0 {
		fmt.Fprintln(w, "mascri: there is nothing that can be mended safely")
	}
	return mended
}

func doctorSources(cfg config.Config) (doctor.Sources, error) {
	// What the parts log is in the report, too.
	log := slog.New(slog.DiscardHandler)
	eng, err := engine.New(engine.Options{Host: cfg.Engine.Host, Logger: log})
	if err != nil {
		return doctor.Sources{}, err
	}
	return doctor.Sources{
		EngineHost:     cfg.Engine.Host,
		Engine:         eng,
		Image:          doctorImage(cfg),
		Socket:         cfg.Socket,
		NetnsDir:       netnsDir,
		DefaultNetwork: cfg.Network.DefaultNetwork,
		Network: func(context.Context) (pod.NetworkStatus, error) {
			return networkOfACopy(cfg, eng, log)
		},
		Firewall: firewall.Describe,
		OOMFloor: engine.OOMFloor,
	}, nil
}

func doctorImage(cfg config.Config) doctor.Image {
	ref, open := sandboxImage(cfg)
	image := doctor.Image{Ref: ref, Embedded: open != nil}
	if image.Embedded {
		archive, err := sandboximage.Archive()
		if err != nil {
			image.Err = err
			return image
		}
		archive.Close()
	}
	return image
}

// networkOfACopy tells what a daemon that started now would attach pods to.
func networkOfACopy(cfg config.Config, eng *engine.Engine, log *slog.Logger) (status pod.NetworkStatus, err error) {
	err = onACopy(cfg, eng, log, func(n *network.Network) error {
		status = n.Status()
		for i, q := range status.Quarantined { // not the copy's
			status.Quarantined[i].File = filepath.Join(cfg.StateDir, "attachments", "quarantine", filepath.Base(q.File))
		}
		return nil
	})
	return status, err
}

// onACopy asks the network of a daemon that started now. As a starting daemon makes
// what is missing in its state directory, it is given a copy of what it decides by,
// which is thrown away.
func onACopy(cfg config.Config, eng *engine.Engine, log *slog.Logger, ask func(*network.Network) error) (err error) {
	dir, err := os.MkdirTemp("", "mascri-doctor-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	// The ledger comes before the records, see internal/network/ledger.go.
	if err := copyState(cfg.StateDir, dir, "ledger"); err != nil {
		return err
	}
	records, err := filepath.Glob(filepath.Join(cfg.StateDir, "attachments", "*.json"))
	if err != nil {
		return err
	}
	const quarantine = "attachments/quarantine"
	aside, err := filepath.Glob(filepath.Join(cfg.StateDir, quarantine, "*"))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, quarantine), 0o700); err != nil {
		return err
	}
	names := []string{"runtime.json", "default-network.json"}
	for _, path := range append(records, aside...) {
		name, err := filepath.Rel(cfg.StateDir, path)
		if err != nil {
			return err
		}
		names = append(names, name)
	}
	if err := copyState(cfg.StateDir, dir, names...); err != nil {
		return err
	}
	// libcni's cache is only read.
	if err := os.Symlink(filepath.Join(cfg.StateDir, "cni"), filepath.Join(dir, "cni")); err != nil {
		return err
	}
	stateDir := cfg.StateDir
	cfg.StateDir = dir
	n, err := newNetwork(cfg, "00000000", eng, nil, nil, log)
	if err != nil {
		return errors.New(strings.ReplaceAll(err.Error(), dir, stateDir))
	}
	return ask(n)
}

// copyState copies files of the state directory; those that are missing need not be there.
func copyState(from, to string, names ...string) error {
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(from, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, name), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// wantsColour tells whether w is a terminal whose user has not said no; see
// https://no-color.org.
func wantsColour(w io.Writer) bool { return os.Getenv("NO_COLOR") == "" && isTerminal(w) }

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	return err == nil
}
