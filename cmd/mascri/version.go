package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

// Set by the linker (-X main.version=...).
var (
	version = "0.0.0-dev" // the release
	commit  = ""          // that it was built from; empty: what Go has stamped, if anything
)

// criVersion is the version of the CRI that is served.
const criVersion = "v1"

// build is what "mascri version" prints.
type build struct {
	Version    string `json:"version"`
	Commit     string `json:"commit"`
	Go         string `json:"go"`
	CRIVersion string `json:"criVersion"`
	Platform   string `json:"platform"`
}

func thisBuild() build {
	b := build{
		Version:    version,
		Commit:     commit,
		Go:         runtime.Version(),
		CRIVersion: criVersion,
		Platform:   runtime.GOOS + "/" + runtime.GOARCH,
	}
	if b.Commit == "" {
		b.Commit = stampedCommit()
	}
	return b
}

// stampedCommit is what "go build" notes by itself in a clone, unless told not to.
func stampedCommit() string {
	stamp, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	revision, modified := "unknown", ""
	for _, s := range stamp.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			modified = ", modified"
		}
	}
	return revision + modified
}

func newVersion() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArgs,
	}
	output := addOutput(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		b := thisBuild()
		return show(cmd, *output, b, func(w io.Writer, _ bool) error { return writeVersion(w, b) })
	}
	return cmd
}

func writeVersion(w io.Writer, b build) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(tw, "mascri\t%s\n", b.Version)
	fmt.Fprintf(tw, "commit\t%s\n", b.Commit)
	fmt.Fprintf(tw, "go\t%s\n", b.Go)
	fmt.Fprintf(tw, "cri\t%s\n", b.CRIVersion)
	fmt.Fprintf(tw, "platform\t%s\n", b.Platform)
	return tw.Flush()
}
