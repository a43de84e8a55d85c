package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/mascri/mascri/internal/config"
	"github.com/mascri/mascri/internal/doctor"
	"github.com/mascri/mascri/internal/engine"
	"github.com/mascri/mascri/internal/netview"
	"github.com/mascri/mascri/internal/pod"
)

func newNet(load func() (config.Config, error)) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "net",
		Short: "Show the pods' network, and explain it",
		Long: "Show the pods' network, and explain it: from the daemon's attachment records and the\n" +
			"kernel, with the daemon running or not. Only \"leaks --repair\" changes anything. Needs root.\n\n" +
			"POD is a sandbox's id, the beginning of one, or namespace/name.",
	}
	cmd.AddCommand(
		newNetStatus(load),
		newNetList(load),
		newNetInspect(load),
		newNetPlan(load),
		newNetProbe(load),
		newNetCapture(load),
		newNetGraph(load),
		newNetLeaks(load),
	)
	return group(cmd)
}

func newNetStatus(load func() (config.Config, error)) *cobra.Command {
	return netLook(load, &cobra.Command{
		Use:   "status",
		Short: "Show networks, their addresses in use and free, and pods",
	}, netview.Node.WriteText)
}

func newNetList(load func() (config.Config, error)) *cobra.Command {
	return netLook(load, &cobra.Command{
		Use:   "ls",
		Short: "List pods with their addresses and interfaces",
	}, netview.Node.WritePods)
}

func newNetInspect(load func() (config.Config, error)) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "inspect POD",
		Short: "Show all of a pod's place on the network",
		Args:  onePod,
	}
	output := addOutput(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		sources, err := netSources(load)
		if err != nil {
			return err
		}
		detail, err := netview.Inspect(sources.StateDir, args[0])
		if err != nil {
			return err
		}
		return show(cmd, *output, detail, detail.WriteText)
	}
	return cmd
}

func newNetProbe(load func() (config.Config, error)) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "probe POD",
		Short: "Find out what a pod reaches, and where it fails",
		Long: "Find out whether a pod reaches its gateway, another pod, its name servers, and all of\n" +
			"them with packets as large as its eth0 sends; and where on the way it fails. Packets\n" +
			"are sent from the pod's network namespace, with nothing from its image. The exit code\n" +
			"is 1 where something fails.",
		Args: onePod,
	}
	output := addOutput(cmd)
	var aim netview.Aim
	cmd.Flags().StringVar(&aim.To, "to", "", "pod or IP address to reach (default: another pod of this node)")
	cmd.Flags().StringVar(&aim.Name, "name", "", "name to resolve (default: the root's)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		sources, err := netSources(load)
		if err != nil {
			return err
		}
		probing, err := netview.Probe(cmd.Context(), sources.StateDir, args[0], aim)
		if err != nil {
			return err
		}
		if err := show(cmd, *output, probing, probing.WriteText); err != nil || probing.OK {
			return err
		}
		return errReported
	}
	return cmd
}

// onePod demands one argument.
func onePod(cmd *cobra.Command, args []string) error {
	if len(args) == 1 {
		return nil
	}
	return usageError{fmt.Errorf("%q takes one POD: an id, the beginning of one, or namespace/name", cmd.CommandPath())}
}

// netLook makes cmd write what a look at the node shows.
func netLook(load func() (config.Config, error), cmd *cobra.Command, write func(netview.Node, io.Writer, bool) error) *cobra.Command {
	cmd.Args = noArgs
	output := addOutput(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		sources, err := netSources(load)
		if err != nil {
			return err
		}
		node, err := netview.Look(cmd.Context(), sources)
		if err != nil {
			return err
		}
		return show(cmd, *output, node, func(w io.Writer, colour bool) error { return write(node, w, colour) })
	}
	return cmd
}

func netSources(load func() (config.Config, error)) (netview.Sources, error) {
	cfg, err := load()
	if err != nil {
		return netview.Sources{}, err
	}
	if os.Geteuid() != 0 {
		return netview.Sources{}, errors.New("needs root: the records and the pods' network namespaces are root's alone; run it with sudo")
	}
	return netview.Sources{
		StateDir: cfg.StateDir,
		Network:  func(ctx context.Context) (pod.NetworkStatus, error) { return currentNetwork(ctx, cfg) },
	}, nil
}

// currentNetwork asks the daemon what the next pod would be attached to. Where none
// answers, it is found out as a daemon that starts would.
func currentNetwork(ctx context.Context, cfg config.Config) (pod.NetworkStatus, error) {
	if status, ok := doctor.AskNetwork(ctx, cfg.Socket); ok {
		return status, nil
	}
	log := slog.New(slog.DiscardHandler)
	eng, err := engine.New(engine.Options{Host: cfg.Engine.Host, Logger: log})
	if err != nil {
		return pod.NetworkStatus{}, err
	}
	return networkOfACopy(cfg, eng, log)
}
