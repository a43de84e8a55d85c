package main

import (
	"encoding/json"
	"fmt"
	"io"

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

// addOutput adds --output to cmd, and --json, which is short for it.
func addOutput(cmd *cobra.Command) *outputFormat {
	f := outputText
	cmd.Flags().VarP(&f, "output", "o", "output format: text or json")
	cmd.Flags().BoolFunc("json", "short for --output json", func(string) error { return f.Set(string(outputJSON)) })
	completeValues(cmd, "output", string(outputText), string(outputJSON))
	return &f
}

// completeValues makes shells offer the values of a flag of cmd.
func completeValues(cmd *cobra.Command, flag string, values ...string) {
	// The error is that of a flag that is not there, or is completed already.
	if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err)
	}
}

// show writes value in the form that was asked for.
func show(cmd *cobra.Command, output outputFormat, value any, text func(io.Writer, bool) error) error {
	w := cmd.OutOrStdout()
	if output == outputJSON {
		return writeJSON(w, value)
	}
	return text(w, wantsColour(w))
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
