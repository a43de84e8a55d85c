package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/config"
	"github.com/mascri/mascri/internal/podview"
	"github.com/mascri/mascri/internal/table"
)

const (
	// runtimeLimit is how long a runtime may take to answer a command.
	runtimeLimit = 10 * time.Second
	// largestAnswer is what the kubelet takes, too.
	largestAnswer = 16 << 20
)

func newPods(load func() (config.Config, error)) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "pods",
		Short: "List pods",
		Long: "List pods that are ready, as the runtime at --socket tells; that may be any CRI runtime.\n" +
			"RUNNING is how many of a pod's containers run, of how many; RESTARTS how often they were\n" +
			"started anew.",
		Args: noArgs,
	}
	return listing(load, cmd, "pods that are not ready", podview.ListPods)
}

func newPs(load func() (config.Config, error)) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ps",
		Short: "List containers",
		Long: "List containers that run, as the runtime at --socket tells; that may be any CRI runtime.\n" +
			"One that exited is shown with its exit code, and ATTEMPT is how often it was started anew.",
		Args: noArgs,
	}
	return listing(load, cmd, "containers that do not run", podview.ListContainers)
}

// A list is what a listing command shows.
type list interface {
	WriteText(w io.Writer, now time.Time, width int, colour bool) error
	WriteIDs(w io.Writer) error
}

// listing makes cmd show a list; more is what --all adds to it.
func listing[L list](load func() (config.Config, error), cmd *cobra.Command, more string,
	ask func(context.Context, cri.RuntimeServiceClient, podview.Wanted) (L, error),
) *cobra.Command {
	output := addOutput(cmd)
	var wanted podview.Wanted
	cmd.Flags().BoolVarP(&wanted.All, "all", "a", false, "list "+more+", too")
	cmd.Flags().StringVarP(&wanted.Namespace, "namespace", "n", "", "list those in this namespace of Kubernetes only")
	labels := cmd.Flags().StringArrayP("label", "l", nil, "list those with this label only, KEY=VALUE; may be given more than once")
	quiet := cmd.Flags().BoolP("quiet", "q", false, "print ids only")
	cmd.MarkFlagsMutuallyExclusive("quiet", "output", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if wanted.Labels, err = parseLabels(*labels); err != nil {
			return err
		}
		var found L
		err = withRuntime(cmd.Context(), load, func(ctx context.Context, runtime cri.RuntimeServiceClient) (err error) {
			ctx, cancel := context.WithTimeout(ctx, runtimeLimit)
			defer cancel()
			found, err = ask(ctx, runtime, wanted)
			return err
		})
		if err != nil {
			return err
		}
		if *quiet {
			return found.WriteIDs(cmd.OutOrStdout())
		}
		return show(cmd, *output, found, func(w io.Writer, colour bool) error {
			return found.WriteText(w, time.Now(), columns(w), colour)
		})
	}
	return cmd
}

func parseLabels(texts []string) (map[string]string, error) {
	labels := map[string]string{}
	for _, text := range texts {
		key, value, ok := strings.Cut(text, "=")
		if !ok || key == "" {
			return nil, usageError{fmt.Errorf("--label %q: write KEY=VALUE, such as app=web", text)}
		}
		labels[key] = value
	}
	return labels, nil
}

// withRuntime calls use with the runtime at the socket of the settings.
func withRuntime(ctx context.Context, load func() (config.Config, error), use func(context.Context, cri.RuntimeServiceClient) error) error {
	cfg, err := load()
	if err != nil {
		return err
	}
	conn, err := dialRuntime(cfg.Socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	return explainRuntime(cfg.Socket, use(ctx, cri.NewRuntimeServiceClient(conn)))
}

func dialRuntime(socket string) (*grpc.ClientConn, error) {
	switch stat, err := os.Stat(socket); {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("there is no socket %s: start \"mascri serve\", or name another runtime's with --socket", socket)
	case errors.Is(err, fs.ErrPermission):
		return nil, needsRoot(socket)
	case err != nil:
		return nil, err
	case stat.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("%s is no socket: name a runtime's with --socket", socket)
	}
	if errors.Is(unix.Access(socket, unix.W_OK), unix.EACCES) {
		return nil, needsRoot(socket)
	}
	return grpc.NewClient("passthrough:///unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(largestAnswer)))
}

func needsRoot(socket string) error {
	return fmt.Errorf("needs root: %s is root's alone, as who may use it owns the machine; run it with sudo", socket)
}

// explainRuntime says what to do about a runtime that does not answer.
func explainRuntime(socket string, err error) error {
	if status.Code(err) == codes.Unavailable {
		return fmt.Errorf("the runtime at %s can't tell: see \"mascri doctor\": %w", socket, err)
	}
	return err
}

// columns is how wide a table may be.
func columns(w io.Writer) int {
	file, ok := w.(*os.File)
	if !ok {
		return table.Width
	}
	size, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Col == 0 {
		return table.Width
	}
	return int(size.Col)
}
