package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

// outputFormat is the value of --output.
type outputFormat string

const (
	outputText outputFormat = "text"
	outputJSON outputFormat = "json"
)

func (f *outputFormat) String() string { return string(*f) }

func (f *outputFormat) Type() string { return "format" }

func (f *outputFormat) Set(s string) error {
	switch outputFormat(s) {
	case outputText, outputJSON:
		*f = outputFormat(s)
		return nil
	}
	return fmt.Errorf("must be %s or %s", outputText, outputJSON)
}

// addOutput adds --output to cmd.
func addOutput(cmd *cobra.Command) *outputFormat {
	f := outputText
	cmd.Flags().VarP(&f, "output", "o", "output format: text or json")
	return &f
}
