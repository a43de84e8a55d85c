package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mascri/mascri/internal/config"
	"github.com/mascri/mascri/internal/engine"
	"github.com/mascri/mascri/internal/network"
	"github.com/mascri/mascri/internal/pod"
)

// lookAgain is the pause between two looks: what a daemon is at work on is seen in one.
const lookAgain = 500 * time.Millisecond

// leakList is what "mascri net leaks" prints as JSON.
type leakList struct {
	Leaks []pod.Leak `json:"leaks"`
}

func newNetLeaks(load func() (config.Config, error)) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "leaks",
		Short: "Find what former pods left on the network, and remove it",
		Long: "Find addresses, pins, interfaces, rules, cache files and records that former pods left\n" +
			"on the node. Only what is known to be of this daemon's pods is looked at.\n\n" +
			"Nothing is changed without --repair. The daemon repairs the same at its start and every\n" +
			"ten minutes; --repair is for when it does not run, and refused while it does. The exit\n" +
			"code is 1 where something is left.",
		Args: noArgs,
	}
	output := addOutput(cmd)
	repair := cmd.Flags().Bool("repair", false, "remove what is found; the daemon must not be running")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := load()
		if err != nil {
			return err
		}
		if os.Geteuid() != 0 {
			return errors.New("needs root: the records and the rules are root's alone; run it with sudo")
		}
		look := findLeaks
		if *repair {
			look = mendLeaks
		}
		found, err := look(cmd.Context(), cfg)
		if err != nil {
			return err
		}
		err = show(cmd, *output, leakList{append([]pod.Leak{}, found...)}, func(w io.Writer, _ bool) error { return writeLeaks(w, found) })
		if err == nil && slices.ContainsFunc(found, func(l pod.Leak) bool { return !l.Mended }) {
			return errReported
		}
		return err
	}
	return cmd
}

// findLeaks returns what two looks agree on.
func findLeaks(ctx context.Context, cfg config.Config) ([]pod.Leak, error) {
	first, err := lookForLeaks(ctx, cfg)
	if err != nil || len(first) == 0 {
		return nil, err
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(lookAgain):
	}
	second, err := lookForLeaks(ctx, cfg)
	return slices.DeleteFunc(second, func(l pod.Leak) bool { return !slices.Contains(first, l) }), err
}

func lookForLeaks(ctx context.Context, cfg config.Config) (found []pod.Leak, err error) {
	if _, err := os.Stat(filepath.Join(cfg.StateDir, "instance")); errors.Is(err, fs.ErrNotExist) {
		return nil, nil // no daemon was ever started here
	}
	eng, log, err := engineOf(cfg)
	if err != nil {
		return nil, err
	}
	err = onACopy(cfg, eng, log, func(n *network.Network) error {
		sandboxes, err := eng.IDs(ctx)
		if err != nil {
			return fmt.Errorf("what is in use is known only with a complete list of the engine's: %w", err)
		}
		found, err = n.FindLeaks(ctx, sandboxes)
		return err
	})
	for i, l := range found { // not the copy's
		switch l.Kind {
		case pod.LeakCache:
			found[i].What = filepath.Join(cfg.StateDir, "cni", "results", filepath.Base(l.What))
		case pod.LeakRecord:
			found[i].What = filepath.Join(cfg.StateDir, "attachments", filepath.Base(l.What))
		}
	}
	return found, err
}

// engineOf returns the engine as this instance sees it.
func engineOf(cfg config.Config) (*engine.Engine, *slog.Logger, error) {
	log := slog.New(slog.DiscardHandler)
	instance, err := instanceID(cfg.StateDir)
	if err != nil {
		return nil, nil, err
	}
	eng, err := engine.New(engine.Options{Host: cfg.Engine.Host, Instance: instance, Logger: log})
	return eng, log, err
}

func mendLeaks(ctx context.Context, cfg config.Config) ([]pod.Leak, error) {
	lock, err := lockState(cfg.StateDir)
	if err != nil {
		return nil, fmt.Errorf("the daemon repairs leaks by itself, at its start and every ten minutes: %w", err)
	}
	defer lock.Close()
	eng, log, err := engineOf(cfg)
	if err != nil {
		return nil, err
	}
	instance, err := instanceID(cfg.StateDir)
	if err != nil {
		return nil, err
	}
	n, err := newNetwork(cfg, instance, eng, nil, nil, log)
	if err != nil {
		return nil, err
	}
	sandboxes, err := eng.IDs(ctx)
	if err != nil {
		return nil, fmt.Errorf("what is in use is known only with a complete list of the engine's: %w", err)
	}
	found, err := n.FindLeaks(ctx, sandboxes)
	if err != nil {
		return nil, err
	}
	found = slices.DeleteFunc(found, func(l pod.Leak) bool { return l.Kind != pod.LeakRecord })
	for i, l := range found {
		if err := n.Detach(ctx, l.SandboxID, nil); err != nil {
			found[i].Error = err.Error()
			continue
		}
		dirty := slices.ContainsFunc(n.Status().Dirty, func(d pod.DirtyAttachment) bool { return d.SandboxID == l.SandboxID })
		if found[i].Mended = !dirty; dirty {
			found[i].Error = "CNI DEL fails; the daemon tries again, see mascri doctor"
		}
	}
	mended, err := n.MendLeaks(ctx, sandboxes)
	return append(found, mended...), err
}

// writeLeaks writes two lines for each.
func writeLeaks(w io.Writer, found []pod.Leak) error {
	var b strings.Builder
	left := 0
	for _, l := range found {
		state := "left"
		if l.Mended {
			state = "removed"
			if l.Kind == pod.LeakUnreserved {
				state = "reserved"
			}
		} else {
			left++
		}
		owner := "nobody's"
		if l.SandboxID != "" {
			owner = fmt.Sprintf("sandbox %.12s", l.SandboxID)
		}
		fmt.Fprintf(&b, "%-8s  %-10s  network %q, %s\n", state, l.Kind, cmp.Or(l.Network, "?"), owner)
		fmt.Fprintf(&b, "%20s  %s\n", "", l.What)
		if l.Error != "" {
			fmt.Fprintf(&b, "%20s  %s\n", "", strings.Join(strings.Fields(l.Error), " "))
		}
	}
	if len(found) == 0 {
		b.WriteString("nothing is left of former pods\n")
	} else {
		fmt.Fprintf(&b, "\n%d found, %d left\n", len(found), left)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
