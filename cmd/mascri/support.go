package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/config"
	"github.com/mascri/mascri/internal/doctor"
	"github.com/mascri/mascri/internal/netview"
	"github.com/mascri/mascri/internal/podview"
	"github.com/mascri/mascri/internal/support"
)

// journalLines is how much of the journal is taken, from its end.
const journalLines = "20000"

func newSupportBundle(flags *config.Flags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "support-bundle",
		Short: "Write an archive for those who are to help, without secrets",
		Long: "Write what those who are to help need to know into one archive: version, settings, what\n" +
			"\"mascri doctor\" says, the daemon's status, state and log, pods and their network, and the\n" +
			"CNI configs. It works with the daemon running or not. Nothing is sent anywhere. Needs root.\n\n" +
			"Passwords, tokens, keys and all values of annotations are removed, as far as they can be\n" +
			"known as such. Names, addresses and labels are left: look through it before you send it.",
		Args: noArgs,
	}
	file := cmd.Flags().StringP("file", "f", "", "file to write, which must not exist; - is standard output (default: mascri-support-TIME.tar.gz here)")
	unit := cmd.Flags().String("unit", "mascri", "systemd's name of the daemon, whose log is in the journal")
	logFile := cmd.Flags().String("log-file", "", "file with the daemon's log, where that is not in the journal")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		loaded, err := flags.Load()
		if err != nil {
			return err
		}
		if os.Geteuid() != 0 {
			return errors.New("needs root: the records and the log are root's alone; run it with sudo")
		}
		parts, err := supportParts(loaded, func() (config.Config, error) {
			again, err := flags.Load()
			return again.Config, err
		})
		if err != nil {
			return err
		}
		log := support.Part{Name: "daemon.log", Write: journal(*unit)}
		if *logFile != "" {
			log = support.File("daemon.log", *logFile)
		}
		return writeBundle(cmd, *file, append(parts, log))
	}
	return cmd
}

func writeBundle(cmd *cobra.Command, file string, parts []support.Part) (err error) {
	now := time.Now().UTC()
	dir := "mascri-support-" + now.Format("20060102T150405Z")
	if file == "-" {
		return support.Bundle(cmd.Context(), cmd.OutOrStdout(), dir, now, parts)
	}
	if file == "" {
		file = dir + ".tar.gz"
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(support.Bundle(cmd.Context(), f, dir, now, parts), f.Close()); err != nil {
		return errors.Join(err, os.Remove(file))
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is written; look through it before you send it\n", file)
	return err
}

// supportParts are all but the log.
func supportParts(loaded config.Loaded, load func() (config.Config, error)) ([]support.Part, error) {
	cfg := loaded.Config
	parts := []support.Part{
		{Name: "version.json", Write: func(_ context.Context, w io.Writer) error { return writeJSON(w, thisBuild()) }},
		{Name: "config.toml", Write: func(_ context.Context, w io.Writer) error { return loaded.WriteTOML(w) }},
		{Name: "doctor.json", Write: func(ctx context.Context, w io.Writer) error {
			sources, err := doctorSources(cfg)
			if err != nil {
				return err
			}
			return writeJSON(w, doctor.Examine(ctx, sources))
		}},
		{Name: "net.json", Write: func(ctx context.Context, w io.Writer) error {
			sources, err := netSources(load)
			if err != nil {
				return err
			}
			node, err := netview.Look(ctx, sources)
			if err != nil {
				return err
			}
			return writeJSON(w, node)
		}},
		ofRuntime("status.json", load, runtimeStatus),
		ofRuntime("pods.json", load, func(ctx context.Context, runtime cri.RuntimeServiceClient, w io.Writer) error {
			pods, err := podview.ListPods(ctx, runtime, podview.Wanted{All: true})
			if err != nil {
				return err
			}
			return writeJSON(w, pods)
		}),
		ofRuntime("containers.json", load, func(ctx context.Context, runtime cri.RuntimeServiceClient, w io.Writer) error {
			containers, err := podview.ListContainers(ctx, runtime, podview.Wanted{All: true})
			if err != nil {
				return err
			}
			return writeJSON(w, containers)
		}),
		support.File("host/os-release", "/etc/os-release"),
		support.File("host/kernel", "/proc/version"),
	}
	files, err := support.Files("state", cfg.StateDir, "*")
	if err != nil {
		return nil, err
	}
	parts = append(parts, files...)
	// Beside the configs are files of other kinds, such as the credentials of plugins.
	for _, pattern := range []string{"*.conf", "*.conflist", "*.json"} {
		found, err := filepath.Glob(filepath.Join(cfg.Network.ConfigDir, pattern))
		if err != nil {
			return nil, err
		}
		for _, file := range found {
			parts = append(parts, support.File(path.Join("cni", filepath.Base(file)), file))
		}
	}
	return parts, nil
}

// ofRuntime is a part that the daemon tells.
func ofRuntime(name string, load func() (config.Config, error), tell func(context.Context, cri.RuntimeServiceClient, io.Writer) error) support.Part {
	return support.Part{Name: name, Write: func(ctx context.Context, w io.Writer) error {
		return withRuntime(ctx, load, func(ctx context.Context, runtime cri.RuntimeServiceClient) error {
			ctx, cancel := context.WithTimeout(ctx, runtimeLimit)
			defer cancel()
			return tell(ctx, runtime, w)
		})
	}}
}

func runtimeStatus(ctx context.Context, runtime cri.RuntimeServiceClient, w io.Writer) error {
	status, err := runtime.Status(ctx, &cri.StatusRequest{Verbose: true})
	if err != nil {
		return err
	}
	text, err := protojson.Marshal(status)
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	return err
}

// journal is the end of a unit's log, where there is systemd.
func journal(unit string) func(context.Context, io.Writer) error {
	return func(ctx context.Context, w io.Writer) error {
		cmd := exec.CommandContext(ctx, "journalctl", "--unit", unit, "--lines", journalLines, "--no-pager", "--output", "short-iso-precise")
		cmd.Stdout = w
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("read the journal of %s (see --unit and --log-file): %w", unit, err)
		}
		return nil
	}
}
