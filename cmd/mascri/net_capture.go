package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/mascri/mascri/internal/capture"
	"github.com/mascri/mascri/internal/config"
	"github.com/mascri/mascri/internal/netview"
)

// captured is what is told of a capture.
type captured struct {
	Pod  string `json:"pod"`
	File string `json:"file"`
	capture.Summary
}

func newNetCapture(load func() (config.Config, error)) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "capture POD",
		Short: "Capture a pod's packets as pcapng",
		Long: "Capture what passes an interface of a pod, as pcapng, until it is interrupted or a\n" +
			"limit is reached. The packets are taken in the pod's network namespace, with nothing\n" +
			"from its image.\n\n" +
			"A filter is of arp, ip, ip6, icmp, icmp6, tcp, udp, sctp, [src|dst] host ADDRESS,\n" +
			"[src|dst] net PREFIX, [src|dst] port NUMBER, and, or, not and parentheses.\n\n" +
			"  mascri net capture default/web --filter 'tcp port 80' | tshark -r -\n" +
			"  mascri net capture default/web --write web.pcapng --duration 1m",
		Args: onePod,
	}
	output := addOutput(cmd)
	var options capture.Options
	var file string
	flags := cmd.Flags()
	flags.StringVarP(&options.Filter, "filter", "f", "", "packets to capture (default: all)")
	flags.Uint64VarP(&options.Count, "count", "c", 0, "number of packets to end after (default: no limit)")
	flags.DurationVarP(&options.Duration, "duration", "d", 0, "time to end after, such as 30s (default: no limit)")
	flags.StringVarP(&options.Interface, "interface", "i", "eth0", "interface of the pod")
	flags.StringVarP(&file, "write", "w", "", "file to write; it is replaced (default: standard output)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		sources, err := netSources(load)
		if err != nil {
			return err
		}
		if options.Duration < 0 {
			return usageError{fmt.Errorf("--duration %v: it must be positive", options.Duration)}
		}
		detail, err := netview.Inspect(sources.StateDir, args[0])
		if err != nil {
			return err
		}
		if detail.Problem != "" {
			return fmt.Errorf("pod %s: %s", detail.Pod, detail.Problem)
		}
		options.NetnsPath = detail.NetnsPath
		options.Program, options.Comment = "mascri "+version, "pod "+detail.Pod+", sandbox "+detail.ID
		return capturePod(cmd, options, captured{Pod: detail.Pod, File: file}, *output)
	}
	return cmd
}

// capturePod writes the capture, and tells of it on standard output if that is free, else
// on standard error.
func capturePod(cmd *cobra.Command, options capture.Options, told captured, output outputFormat) (err error) {
	w, tell := cmd.OutOrStdout(), cmd.ErrOrStderr()
	switch {
	case told.File != "":
		f := &lateFile{path: told.File}
		defer func() { err = errors.Join(err, f.Close()) }()
		w, tell = f, cmd.OutOrStdout()
	case isTerminal(w):
		return errors.New("pcapng is not for a terminal: give a file by --write, or pipe it into tshark -r -")
	}
	told.Summary, err = capture.Run(cmd.Context(), w, options)
	if err != nil {
		return err
	}
	if output == outputJSON {
		return writeJSON(tell, told)
	}
	return told.writeText(tell)
}

func (c captured) writeText(w io.Writer) error {
	_, err := fmt.Fprintf(w, "%s: %d packets, %d bytes to %s; %d dropped for lack of room\n", c.Pod, c.Packets, c.Bytes, cmp.Or(c.File, "standard output"), c.Dropped)
	return err
}

// lateFile is a file that is replaced once there is something to write.
type lateFile struct {
	path string
	file *os.File
}

func (f *lateFile) Write(data []byte) (int, error) {
	if f.file == nil {
		var err error
		if f.file, err = os.OpenFile(f.path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600); err != nil {
			return 0, err
		}
	}
	return f.file.Write(data)
}

func (f *lateFile) Close() error {
	if f.file == nil {
		return nil
	}
	return f.file.Close()
}
