package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mascri/mascri/internal/config"
)

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "mascri",
		Short: "Kubernetes pods on Docker Engine, with their network from CNI",
		Long: "MasCRI lets the kubelet (or crictl) run pods on Docker Engine. Each pod gets its own\n" +
			"eth0 and IP from CNI plugins.",
		SilenceErrors: true, // run prints them
		SilenceUsage:  true,
	}
	flags := config.NewFlags(root.PersistentFlags())
	load := func() (config.Config, error) {
		l, err := flags.Load()
		return l.Config, err
	}
	root.AddCommand(
		newServe(load),
		newInstall(),
		newUninstall(),
		newConfig(flags),
		newDoctor(load),
		newSupportBundle(flags),
		newNet(load),
		newPods(load),
		newPs(load),
		newTop(load),
		newVersion(),
		newMan(),
	)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w\nsee %q", err, cmd.CommandPath()+" --help")}
	})
	return group(root)
}

// group makes cmd, which only holds other commands, print its help when called
// alone, and suggest a command when called with an unknown one.
func group(cmd *cobra.Command) *cobra.Command {
	// Cobra looks for suggestions by itself only where the parent has no Args.
	cmd.SuggestionsMinimumDistance = 2
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		hint := fmt.Sprintf("see %q", cmd.CommandPath()+" --help")
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			hint = "did you mean " + strings.Join(near, " or ") + "?"
		}
		return usageError{fmt.Errorf("unknown command %q for %q: %s", args[0], cmd.CommandPath(), hint)}
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	return cmd
}

// noArgs refuses arguments.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return usageError{fmt.Errorf("%q takes no argument, got %q", cmd.CommandPath(), args[0])}
}
