package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// newMan is for those who make packages: it writes the manual pages of the very commands
// that it is one of.
func newMan() *cobra.Command {
	return &cobra.Command{
		Use:    "man DIRECTORY",
		Short:  "Write the manual pages",
		Hidden: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				return nil
			}
			return usageError{fmt.Errorf("%q takes one DIRECTORY, which is made if it is missing", cmd.CommandPath())}
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			root := cmd.Root()
			root.DisableAutoGenTag = true // a day would make each build another one
			return doc.GenManTree(root, &doc.GenManHeader{Section: "8", Source: "mascri " + version, Manual: "MasCRI"}, args[0])
		},
	}
}
