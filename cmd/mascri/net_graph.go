package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mascri/mascri/internal/config"
	"github.com/mascri/mascri/internal/netgraph"
	"github.com/mascri/mascri/internal/netview"
)

// graphFormat is the value of --output of "net graph".
type graphFormat string

const (
	graphSVG     graphFormat = "svg"
	graphMermaid graphFormat = "mermaid"
	graphJSON    graphFormat = "json"
)

func graphFormats() []string {
	return []string{string(graphSVG), string(graphMermaid), string(graphJSON)}
}

func (f *graphFormat) String() string { return string(*f) }

func (f *graphFormat) Type() string { return "format" }

func (f *graphFormat) Set(s string) error {
	if !slices.Contains(graphFormats(), s) {
		return fmt.Errorf("must be one of %s", strings.Join(graphFormats(), ", "))
	}
	*f = graphFormat(s)
	return nil
}

func newNetGraph(load func() (config.Config, error)) *cobra.Command {
	format := graphSVG
	cmd := &cobra.Command{
		Use:   "graph",
		Short: "Draw the pods' network",
		Long: "Draw the pods' network as SVG: uplinks, bridges, host interfaces, and pods with their\n" +
			"addresses, host ports and traffic; the more of it, the thicker the line. As Mermaid, it\n" +
			"is shown by GitHub and many editors; as JSON, it is that of net status.",
		Args: noArgs,
	}
	cmd.Flags().VarP(&format, "output", "o", "output format: svg, mermaid or json")
	completeValues(cmd, "output", graphFormats()...)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		sources, err := netSources(load)
		if err != nil {
			return err
		}
		node, err := netview.Look(cmd.Context(), sources)
		if err != nil {
			return err
		}
		switch format {
		case graphMermaid:
			return netgraph.WriteMermaid(cmd.OutOrStdout(), node)
		case graphJSON:
			return writeJSON(cmd.OutOrStdout(), node)
		}
		return netgraph.WriteSVG(cmd.OutOrStdout(), node)
	}
	return cmd
}
