package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/config"
	"github.com/mascri/mascri/internal/podview"
	"github.com/mascri/mascri/internal/top"
)

// sortOrder is the value of --sort.
type sortOrder podview.Order

func (o *sortOrder) String() string { return string(*o) }

func (o *sortOrder) Type() string { return "order" }

func (o *sortOrder) Set(s string) error {
	if !slices.Contains(podview.Orders(), podview.Order(s)) {
		return fmt.Errorf("must be one of %s", strings.Join(sortOrders(), ", "))
	}
	*o = sortOrder(s)
	return nil
}

func sortOrders() []string {
	var names []string
	for _, order := range podview.Orders() {
		names = append(names, string(order))
	}
	return names
}

func newTop(load func() (config.Config, error)) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Show what pods use, live",
		Long: "Show the CPU, memory, network and processes of pods and their containers, as the runtime\n" +
			"at --socket tells; that may be any CRI runtime. 100 % of CPU is a whole one; memory is the\n" +
			"working set, and MEM % that of the limit; RX/S and TX/S are bytes in a second.\n\n" +
			"On a terminal, the view is live, and keys change it:\n" +
			"  c m n a       sort by CPU, memory, network or name\n" +
			"  up down, k j  select a pod\n" +
			"  enter, space  show its containers, or hide them\n" +
			"  f             show those of all pods, or hide them\n" +
			"  q, ctrl-C     quit\n\n" +
			"Elsewhere, with --once and with --output json, it is one table, of two samples.",
		Args: noArgs,
	}
	output := addOutput(cmd)
	order := sortOrder(podview.ByCPU)
	cmd.Flags().VarP(&order, "sort", "s", "what to sort by: "+strings.Join(sortOrders(), ", "))
	completeValues(cmd, "sort", sortOrders()...)
	interval := cmd.Flags().Duration("interval", time.Second, "time between two samples")
	once := cmd.Flags().Bool("once", false, "print one table")
	containers := cmd.Flags().BoolP("containers", "c", false, "show containers, too")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *interval < 100*time.Millisecond {
			return usageError{fmt.Errorf("--interval %s: at least 100ms, as counters must have something to count", *interval)}
		}
		return withRuntime(cmd.Context(), load, func(ctx context.Context, runtime cri.RuntimeServiceClient) error {
			ask := func(ctx context.Context) ([]*cri.PodSandboxStats, error) { return podStats(ctx, runtime) }
			if in, out, ok := terminals(cmd); ok && !*once && *output == outputText {
				return top.Run(ctx, top.Options{
					In: in, Out: out, Colour: wantsColour(out), Interval: *interval,
					Order: podview.Order(order), Containers: *containers, Sample: ask,
				})
			}
			usage, err := twoSamples(ctx, *interval, ask)
			if err != nil {
				return err
			}
			usage.Sort(podview.Order(order))
			return show(cmd, *output, usage, func(w io.Writer, colour bool) error {
				return usage.WriteText(w, *containers, columns(w), colour)
			})
		})
	}
	return cmd
}

// terminals are the command's input and output, if both are that.
func terminals(cmd *cobra.Command) (in, out *os.File, ok bool) {
	in, isFile := cmd.InOrStdin().(*os.File)
	out, alsoFile := cmd.OutOrStdout().(*os.File)
	return in, out, isFile && alsoFile && isTerminal(in) && isTerminal(out)
}

func podStats(ctx context.Context, runtime cri.RuntimeServiceClient) ([]*cri.PodSandboxStats, error) {
	ctx, cancel := context.WithTimeout(ctx, runtimeLimit)
	defer cancel()
	resp, err := runtime.ListPodSandboxStats(ctx, &cri.ListPodSandboxStatsRequest{})
	if status.Code(err) == codes.Unimplemented {
		return nil, fmt.Errorf("this runtime does not tell what pods use (ListPodSandboxStats): %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("ask what pods use: %w", err)
	}
	return resp.GetStats(), nil
}

// twoSamples are needed for what is told in a second.
func twoSamples(ctx context.Context, interval time.Duration, ask func(context.Context) ([]*cri.PodSandboxStats, error)) (podview.Usage, error) {
	var meter podview.Meter
	first, err := ask(ctx)
	if err != nil {
		return podview.Usage{}, err
	}
	meter.Read(first)
	select {
	case <-time.After(interval):
	case <-ctx.Done():
		return podview.Usage{}, ctx.Err()
	}
	second, err := ask(ctx)
	return meter.Read(second), err
}
