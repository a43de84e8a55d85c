package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/config"
	"github.com/mascri/mascri/internal/engine"
	"github.com/mascri/mascri/internal/netview"
	"github.com/mascri/mascri/internal/network"
	"github.com/mascri/mascri/internal/pod"
)

// plannedID stands for the id that the engine will give.
var plannedID = strings.Repeat("0", 64)

func newNetPlan(load func() (config.Config, error)) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "plan SANDBOX.json",
		Short: "Show what CNI plugins would get for a pod, and run none",
		Long: "Show the environment and the standard input that each CNI plugin would get for a pod\n" +
			"whose sandbox config is in SANDBOX.json, as crictl runp reads it; - is standard input.\n" +
			"Nothing is run or made. Zeros stand for the sandbox's id, which the engine will give.",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				return nil
			}
			return usageError{fmt.Errorf("%q takes one SANDBOX.json, such as examples/sandbox.json", cmd.CommandPath())}
		},
	}
	output := addOutput(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		cfg, err := load()
		if err != nil {
			return err
		}
		sandbox, err := readSandbox(args[0], cmd.InOrStdin())
		if err != nil {
			return err
		}
		log := slog.New(slog.DiscardHandler)
		eng, err := engine.New(engine.Options{Host: cfg.Engine.Host, Logger: log})
		if err != nil {
			return err
		}
		var plan network.Plan
		err = onACopy(cfg, eng, log, func(n *network.Network) (err error) {
			plan, err = n.Explain(cmd.Context(), pod.RequestOf(plannedID, sandbox))
			return err
		})
		if err != nil {
			return err
		}
		return show(cmd, *output, plan, func(w io.Writer, colour bool) error { return netview.WritePlan(w, plan, colour) })
	}
	return cmd
}

// readSandbox reads a pod's config as crictl has it.
func readSandbox(file string, stdin io.Reader) (*cri.PodSandboxConfig, error) {
	text, err := readFile(file, stdin)
	if err != nil {
		return nil, err
	}
	sandbox := &cri.PodSandboxConfig{}
	if err := protojson.Unmarshal(text, sandbox); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	switch {
	case sandbox.GetMetadata().GetName() == "":
		return nil, fmt.Errorf("%s: metadata.name is missing: is it a sandbox config?", file)
	case pod.HostNetwork(sandbox):
		return nil, errors.New("the pod is on the host network: no CNI plugin is run for it")
	}
	return sandbox, nil
}

func readFile(file string, stdin io.Reader) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(stdin)
	}
	return os.ReadFile(file)
}
