package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/mascri/mascri/internal/config"
)

func newConfig(flags *config.Flags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Print or check the settings",
	}
	cmd.AddCommand(
		&cobra.Command{
			Use:   "default",
			Short: "Print all settings with their defaults, as a commented file",
			Args:  noArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return config.WriteDefault(cmd.OutOrStdout())
			},
		},
		&cobra.Command{
			Use:   "show",
			Short: "Print the settings in force, and where each comes from",
			Args:  noArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				l, err := flags.Load()
				if err != nil {
					return err
				}
				return l.WriteTOML(cmd.OutOrStdout())
			},
		},
		&cobra.Command{
			Use:   "check",
			Short: "Tell whether the settings are valid",
			Args:  noArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				if _, err := flags.Load(); err != nil {
					return err
				}
				_, err := fmt.Fprintln(cmd.OutOrStdout(), "ok")
				return err
			},
		},
	)
	return group(cmd)
}
