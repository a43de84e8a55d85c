package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mascri/mascri/contrib/systemd"
	"github.com/mascri/mascri/internal/config"
	"github.com/mascri/mascri/internal/doctor"
	"github.com/mascri/mascri/internal/engine"
	"github.com/mascri/mascri/internal/install"
)

func newInstall() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Install the daemon on this machine, and start it",
		Long: "Install this program as a daemon that systemd starts, and make the machine ready for\n" +
			"it: CNI plugins, crictl's settings, and Docker Engine's \"live-restore\", by which pods\n" +
			"outlive a restart of the engine. Each change is told, with the reason, before anything\n" +
			"is done. A file that is there already is kept beside the new one, and \"mascri uninstall\"\n" +
			"puts it back. What is there as it should be is left alone: run it again after an upgrade,\n" +
			"or if it was interrupted. Needs root.",
		Args: noArgs,
	}
	dryRun := addDryRun(cmd)
	root := addRoot(cmd)
	kubernetes := cmd.Flags().Bool("kubernetes", false, "make the machine ready for a kubelet, too")
	plugins := cmd.Flags().String("cni-plugins", "", "directory of the CNI plugins that /opt/cni/bin lacks (default: cni beside this program)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		options, cfg, err := installOptions(cmd, *root)
		if err != nil {
			return err
		}
		options.Kubernetes = *kubernetes
		if options.Program, err = os.Executable(); err != nil {
			return err
		}
		if options.Plugins, err = pluginSource(options, cfg, *plugins); err != nil {
			return err
		}
		if *dryRun {
			plan, err := install.New(options)
			if err != nil {
				return err
			}
			return plan.WriteText(cmd.OutOrStdout())
		}
		if err := doInstall(cmd, options); err != nil {
			return err
		}
		return verdict(cmd, options, cfg)
	}
	return cmd
}

func addDryRun(cmd *cobra.Command) *bool {
	return cmd.Flags().Bool("dry-run", false, "tell what would be done, and do nothing")
}

func addRoot(cmd *cobra.Command) *string {
	return cmd.Flags().String("root", "/", "directory of an image that is being built, where nothing is run")
}

func doInstall(cmd *cobra.Command, options install.Options) error {
	lock, err := install.Lock(options)
	if err != nil {
		return err
	}
	defer lock.Close()
	plan, err := install.New(options)
	if err != nil {
		return err
	}
	if err := plan.WriteText(cmd.OutOrStdout()); err != nil {
		return err
	}
	if err := install.Apply(cmd.Context(), options, plan, runCommand, nil); err != nil {
		return fmt.Errorf("%w\nwhat was done so far is noted: run mascri install again to go on, or mascri uninstall to take it back", err)
	}
	return nil
}

// verdict ends an installation with what doctor says, and how to go on.
func verdict(cmd *cobra.Command, options install.Options, cfg config.Config) error {
	w := cmd.OutOrStdout()
	if options.Root != "/" {
		fmt.Fprintln(w, "\nall is in place; the daemon starts when this image boots")
		return nil
	}
	sources, err := doctorSources(cfg)
	if err != nil {
		return err
	}
	report := doctor.Examine(cmd.Context(), sources)
	fmt.Fprintln(w, "\nmascri doctor says:")
	if err := report.WriteText(w, wantsColour(w)); err != nil {
		return err
	}
	fmt.Fprintln(w, "\ntry it:   echo '{\"metadata\": {\"name\": \"web\", \"namespace\": \"default\", \"uid\": \"1\"}}' >pod.json; crictl runp pod.json; mascri pods"+
		"\nundo it:  mascri uninstall")
	if report.Level == doctor.Fail {
		return errReported
	}
	return nil
}

// installOptions are what install and uninstall have in common.
func installOptions(cmd *cobra.Command, root string) (install.Options, config.Config, error) {
	if os.Geteuid() != 0 {
		return install.Options{}, config.Config{}, errors.New("needs root: it changes files of the system; run it with sudo")
	}
	if err := noSettings(cmd); err != nil {
		return install.Options{}, config.Config{}, err
	}
	root, err := filepath.Abs(root)
	if err != nil {
		return install.Options{}, config.Config{}, err
	}
	// What the daemon will read.
	path := filepath.Join(root, config.DefaultPath)
	if _, err := os.Stat(path); os.IsNotExist(err) && root == "/" {
		path = ""
	}
	cfg := config.Default()
	if _, err := os.Stat(path); path == "" || err == nil {
		if cfg, err = config.Load(path); err != nil {
			return install.Options{}, config.Config{}, err
		}
	}
	options := install.Options{
		Root: root, StateDir: cfg.StateDir, Swap: swaps(),
		Units: install.Units{
			Wanted:  root != "/" || exists("/run/systemd/system"), // as sd_booted(3) tells
			Service: systemd.ServiceUnit, Socket: bytes.ReplaceAll(systemd.SocketUnit, []byte(systemd.Socket), []byte(cfg.Socket)),
			Endpoint: cfg.Socket,
		},
		Engine: install.Engine{ConfigFile: install.DockerConfig},
	}
	if root == "/" {
		options.Engine = engineState(cmd.Context(), cfg)
	}
	return options, cfg, nil
}

// noSettings refuses flags that are the daemon's: the daemon that is installed has none.
func noSettings(cmd *cobra.Command) error {
	var given []string
	cmd.InheritedFlags().Visit(func(f *pflag.Flag) { given = append(given, "--"+f.Name) })
	if len(given) == 0 {
		return nil
	}
	return usageError{fmt.Errorf("%s: the daemon that systemd starts is given no flags; write the setting into %s", strings.Join(given, ", "), config.DefaultPath)}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// swaps tells whether the machine has swap in use.
func swaps() bool {
	text, err := os.ReadFile("/proc/swaps")
	return err == nil && bytes.Count(text, []byte("\n")) > 1
}

// pluginSource is where CNI plugins are taken from: "" where the machine has them elsewhere.
func pluginSource(options install.Options, cfg config.Config, named string) (string, error) {
	if named != "" {
		return named, nil
	}
	beside := filepath.Join(filepath.Dir(options.Program), "cni")
	if exists(beside) {
		return beside, nil
	}
	for _, dir := range cfg.Network.BinDirs {
		if exists(filepath.Join(options.Root, dir, "bridge")) {
			return "", nil
		}
	}
	return "", fmt.Errorf("there are no CNI plugins, neither in %s nor in %s: give their directory by --cni-plugins (\"make build\" makes bin/cni, release archives have cni beside mascri), or install the package containernetworking-plugins",
		strings.Join(cfg.Network.BinDirs, ", "), beside)
}

// engineState asks the engine, and looks at its process for what it does not tell.
func engineState(ctx context.Context, cfg config.Config) install.Engine {
	state := install.Engine{ConfigFile: install.DockerConfig}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if eng, err := engine.New(engine.Options{Host: cfg.Engine.Host, Logger: slog.New(slog.DiscardHandler)}); err == nil {
		facts, err := eng.Facts(ctx)
		state.Running, state.LiveRestore, state.Swarm = err == nil, facts.LiveRestore, facts.Swarm
	}
	state.Systemd = exec.CommandContext(ctx, "systemctl", "--quiet", "is-active", "docker.service").Run() == nil
	install.LookAtProcess("/proc", &state)
	return state
}

// runCommand runs a command, whose output is part of its error.
func runCommand(ctx context.Context, args []string) error {
	out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
	if text := strings.TrimSpace(string(out)); err != nil && text != "" {
		return fmt.Errorf("%w: %s", err, text)
	}
	return err
}
