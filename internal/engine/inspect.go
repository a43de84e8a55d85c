package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/mascri/mascri/internal/engine/translate"
	"github.com/mascri/mascri/internal/pod"
)

// Inspect returns a sandbox by its id or name: ErrNotFound where there is no such
// container, pod.ErrForeign where it is no sandbox of this instance.
func (e *Engine) Inspect(ctx context.Context, idOrName string) (pod.Sandbox, error) {
	item, err := e.Look(ctx, idOrName)
	if err == nil && item.Sandbox == nil {
		err = fmt.Errorf("container %s is no sandbox: %w", idOrName, pod.ErrForeign)
	}
	if err != nil {
		return pod.Sandbox{}, err
	}
	return *item.Sandbox, nil
}

// InspectContainer is Inspect for a workload container.
func (e *Engine) InspectContainer(ctx context.Context, idOrName string) (pod.Container, error) {
	item, err := e.Look(ctx, idOrName)
	if err == nil && item.Container == nil {
		err = fmt.Errorf("container %s is no workload's: %w", idOrName, pod.ErrForeign)
	}
	if err != nil {
		return pod.Container{}, err
	}
	return *item.Container, nil
}

// Look returns a sandbox or a workload container, whichever it is; errors as Inspect's.
func (e *Engine) Look(ctx context.Context, idOrName string) (pod.Item, error) {
	c, err := e.connection(ctx)
	if err != nil {
		return pod.Item{}, err
	}
	item, err := e.inspect(ctx, c, idOrName)
	for err == nil && item.Sandbox != nil && item.Sandbox.Running {
		sandbox := item.Sandbox
		inode, own, unread := netnsInode(sandbox.PID, sandbox.ID)
		if unread != nil { // without it the sandbox would look like one that lost its network
			return pod.Item{}, fmt.Errorf("network namespace of container %s: %w", sandbox.ID, unread)
		}
		if own {
			sandbox.NetnsInode = inode
			break
		}
		// The pid can be another process's by now. It was the sandbox's if it still is.
		item, err = e.inspect(ctx, c, sandbox.ID)
		if now := item.Sandbox; err == nil && now.PID == sandbox.PID && now.StartedAt.Equal(sandbox.StartedAt) {
			now.NetnsInode = inode
			break
		}
	}
	return item, err
}

// IDs returns the ids of all sandboxes and workload containers of this instance,
// running or not. The list is complete, or there is an error.
func (e *Engine) IDs(ctx context.Context) ([]string, error) {
	c, err := e.connection(ctx)
	if err != nil {
		return nil, err
	}
	list, err := c.api.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: client.Filters{}.Add("label", pod.LabelKey)})
	if err != nil {
		return nil, e.failed("list containers", err)
	}
	var ids []string
	for _, summary := range list.Items {
		if _, err := e.decode(summary.ID, summary.Labels); err != nil {
			if _, logged := e.foreign.LoadOrStore(summary.ID, true); !logged {
				e.log.Info("a container is left alone", "container", summary.ID, "error", err)
			}
			continue
		}
		ids = append(ids, summary.ID)
	}
	return ids, nil
}

// inspect is one request; it leaves NetnsInode out.
func (e *Engine) inspect(ctx context.Context, c *connection, idOrName string) (pod.Item, error) {
	if strings.TrimSpace(idOrName) == "" {
		return pod.Item{}, errdefs.ErrNotFound.WithMessage("inspect container: no id or name given")
	}
	what := "inspect container " + idOrName
	result, err := c.api.ContainerInspect(ctx, idOrName, client.ContainerInspectOptions{})
	if err != nil {
		e.ours.Delete(idOrName) // it may be gone, and is told to be ours once more if not
		return pod.Item{}, e.failed(what, err)
	}
	in := result.Container
	if in.Config == nil || in.State == nil {
		return pod.Item{}, fmt.Errorf("%s: %w", what, errdefs.ErrInternal.WithMessage("the engine's answer lacks Config or State"))
	}
	label, err := e.decode(in.ID, in.Config.Labels)
	if err != nil {
		return pod.Item{}, err
	}
	times, err := parseTimes(in.Created, in.State.StartedAt, in.State.FinishedAt)
	if err != nil {
		return pod.Item{}, fmt.Errorf("%s: %w", what, err)
	}
	e.ours.Store(in.ID, true)
	if label.Kind == pod.KindContainer {
		workload := workload(in, label, times, c.facts.RootDir)
		workload.OOMKilled = workload.OOMKilled || e.oomKills.has(in.ID)
		return pod.Item{Container: workload}, nil
	}
	return pod.Item{Sandbox: sandbox(in, label, times)}, nil
}

func sandbox(in container.InspectResponse, label pod.Decoded, times [3]time.Time) *pod.Sandbox {
	s := &pod.Sandbox{
		ID:             in.ID,
		Name:           strings.TrimPrefix(in.Name, "/"),
		Instance:       label.Instance,
		Config:         label.Config,
		RuntimeHandler: label.RuntimeHandler,
		Image:          in.Image,
		CreatedAt:      times[0],
		StartedAt:      times[1],
		FinishedAt:     times[2],
		Running:        in.State.Running,
		ExitCode:       in.State.ExitCode,
		Files:          files(in.HostConfig),
	}
	if s.Running {
		s.PID = in.State.Pid
	}
	return s
}

func workload(in container.InspectResponse, label pod.Decoded, times [3]time.Time, root string) *pod.Container {
	c := &pod.Container{
		Fixed:      label.Container,
		ID:         in.ID,
		Name:       strings.TrimPrefix(in.Name, "/"),
		Instance:   label.Instance,
		Image:      in.Image,
		CreatedAt:  times[0],
		StartedAt:  times[1],
		FinishedAt: times[2],
		Running:    in.State.Running,
		ExitCode:   in.State.ExitCode,
		OOMKilled:  in.State.OOMKilled,
		StopSignal: translate.StopSignalInForce(in.Config.StopSignal),
		LogSource:  filepath.Join(root, "containers", in.ID),
		Resources:  translate.ResourcesInForce(in.HostConfig),
	}
	if c.Running {
		c.PID = in.State.Pid
	} else {
		c.StartError = in.State.Error
	}
	return c
}

// files are those that translation bound into the sandbox. The engine's own fields for
// them are empty until the first start.
func files(hostConfig *container.HostConfig) (files pod.Files) {
	if hostConfig == nil {
		return pod.Files{}
	}
	for _, m := range hostConfig.Mounts {
		switch m.Target {
		case translate.ResolvConf:
			files.ResolvConf = m.Source
		case translate.Hosts:
			files.Hosts = m.Source
		case translate.Hostname:
			files.Hostname = m.Source
		}
	}
	return files
}

// decode returns the label of one of this instance's sandboxes or workload containers,
// else pod.ErrForeign.
func (e *Engine) decode(id string, labels map[string]string) (pod.Decoded, error) {
	label, err := pod.DecodeLabels(labels)
	switch {
	case err != nil:
	case label.Instance != e.instance:
		err = fmt.Errorf("made by instance %q: %w", label.Instance, pod.ErrForeign)
	case label.Kind == pod.KindProbe:
		err = fmt.Errorf("made to look into an image: %w", pod.ErrForeign)
	}
	if err != nil {
		return pod.Decoded{}, fmt.Errorf("container %s: %w", id, err)
	}
	return label, nil
}

// parseTimes reads the engine's times; what has not happened is year 1, which is zero.
func parseTimes(texts ...string) (times [3]time.Time, err error) {
	for i, text := range texts {
		if text == "" {
			continue
		}
		at, parseErr := time.Parse(time.RFC3339Nano, text)
		err = errors.Join(err, parseErr)
		times[i] = at
	}
	return times, err
}

// netnsInode returns the inode of a process's network namespace, 0 for a process that is
// gone. own tells that it is one of the container's processes, by its cgroup, as engines
// name that after the container unless an OCI runtime has its own mind.
func netnsInode(pid int, container string) (inode uint64, own bool, err error) {
	proc, err := os.OpenRoot("/proc/" + strconv.Itoa(pid)) // stays that process, whose pid may be reused
	if err != nil {
		return 0, false, unlessEnded(err)
	}
	defer proc.Close()
	link, err := proc.Readlink("ns/net")
	if err != nil {
		return 0, false, unlessEnded(err)
	}
	if _, err := fmt.Sscanf(link, "net:[%d]", &inode); err != nil {
		return 0, false, fmt.Errorf("%s/ns/net is %q: %w", proc.Name(), link, err)
	}
	cgroups, err := proc.ReadFile("cgroup")
	if err != nil {
		return inode, false, unlessEnded(err)
	}
	return inode, bytes.Contains(cgroups, []byte(container)), nil
}

// unlessEnded is nil for what /proc says of a process that is gone.
func unlessEnded(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}
