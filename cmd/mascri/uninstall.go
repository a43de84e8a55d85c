package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/errdefs"
	"github.com/spf13/cobra"

	"github.com/mascri/mascri/internal/config"
	"github.com/mascri/mascri/internal/engine"
	"github.com/mascri/mascri/internal/install"
	"github.com/mascri/mascri/internal/sandboximage"
)

func newUninstall() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Take back what \"mascri install\" did",
		Long: "Stop the daemon and take back what \"mascri install\" did, each file for itself: what it\n" +
			"made is removed, and what was there before is put back, the very same file. One that was\n" +
			"changed since is kept under another name. Each change is told before anything is done.\n" +
			"It is refused while pods are there. Needs root.\n\n" +
			"With --purge, what the daemon itself made goes, too: its state, the rules and the bridge\n" +
			"of its default network, and the image of the sandboxes.",
		Args: noArgs,
	}
	dryRun := addDryRun(cmd)
	root := addRoot(cmd)
	purge := cmd.Flags().Bool("purge", false, "remove what the daemon made, too")
	leave := cmd.Flags().Bool("leave-pods", false, "leave the pods that are there, without anything that looks after them")
	cmd.MarkFlagsMutuallyExclusive("purge", "leave-pods")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		options, cfg, err := installOptions(cmd, *root)
		if err != nil {
			return err
		}
		if options.Root == "/" && !*leave {
			if err := wantNoPods(cmd.Context(), cfg); err != nil {
				return err
			}
		}
		if err := revert(cmd, options, *dryRun); err != nil {
			return err
		}
		if !*purge {
			return nil
		}
		return purgeState(cmd, options, cfg, *dryRun)
	}
	return cmd
}

func revert(cmd *cobra.Command, options install.Options, dryRun bool) error {
	if !dryRun {
		lock, err := install.Lock(options)
		if err != nil {
			return err
		}
		defer lock.Close()
	}
	plan, err := install.Undo(options)
	if err != nil {
		return err
	}
	if err := plan.WriteText(cmd.OutOrStdout()); err != nil || dryRun {
		return err
	}
	if err := install.Revert(cmd.Context(), options, plan, runCommand, nil); err != nil {
		return fmt.Errorf("%w\nrun mascri uninstall again to go on", err)
	}
	return nil
}

// wantNoPods refuses while the engine has any of ours, or, where it can't be asked, while
// there are records of some.
func wantNoPods(ctx context.Context, cfg config.Config) error {
	if !exists(filepath.Join(cfg.StateDir, "instance")) {
		return nil // no daemon ever ran here
	}
	instance, eng, err := thisInstance(cfg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	ids, err := eng.IDs(ctx)
	if err != nil {
		ids, err = filepath.Glob(filepath.Join(cfg.StateDir, "attachments", "*.json"))
	}
	if err != nil || len(ids) == 0 {
		return err
	}
	return fmt.Errorf("%d containers of pods are there (docker ps --all --filter label=io.mascri.v1; instance %s): remove the pods first by \"crictl rmp --all --force\", or leave them by --leave-pods", len(ids), instance)
}

// thisInstance is the id of the daemon whose state is here, and an engine that knows its
// containers by that.
func thisInstance(cfg config.Config) (string, *engine.Engine, error) {
	instance, err := instanceID(cfg.StateDir)
	if err != nil {
		return "", nil, err
	}
	eng, err := engine.New(engine.Options{Host: cfg.Engine.Host, Instance: instance, Logger: slog.New(slog.DiscardHandler)})
	return instance, eng, err
}

// purgeState removes what the daemon made. It is idempotent.
func purgeState(cmd *cobra.Command, options install.Options, cfg config.Config, dryRun bool) error {
	state := filepath.Join(options.Root, cfg.StateDir)
	fmt.Fprintf(cmd.OutOrStdout(), "purge  %s, firewall rules, the bridge mascri0, the image of the sandboxes\n", cfg.StateDir)
	if dryRun {
		return nil
	}
	if options.Root == "/" && exists(filepath.Join(state, "instance")) {
		if err := purgeHost(cmd.Context(), cfg); err != nil {
			return err
		}
	}
	return os.RemoveAll(state)
}

func purgeHost(ctx context.Context, cfg config.Config) error {
	lock, err := lockState(cfg.StateDir) // no daemon that was started by hand uses it
	if err != nil {
		return err
	}
	defer lock.Close()
	instance, eng, err := thisInstance(cfg)
	if err != nil {
		return err
	}
	if forwarding := newForward(instance).Verify(ctx, nil); !forwarding.OK {
		return fmt.Errorf("firewall rules: %s", forwarding.Message)
	}
	err = newDefaultNetwork(cfg, instance, eng, slog.New(slog.DiscardHandler)).Remove(ctx)
	if err != nil || cfg.SandboxImage != "" {
		return err
	}
	id, err := eng.EnsureImage(ctx, sandboximage.Ref(), nil)
	if err == nil {
		err = eng.RemoveImage(ctx, id)
	}
	if errdefs.IsNotFound(err) || errdefs.IsFailedPrecondition(err) { // others use it
		return nil
	}
	return err
}
