package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/mascri/mascri/internal/config"
)

func newServe(load func() (config.Config, error)) *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Run the daemon",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			if _, err := load(); err != nil {
				return err
			}
			return errors.New("serve: not built in yet")
		},
	}
}
