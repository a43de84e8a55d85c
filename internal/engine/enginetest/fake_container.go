package enginetest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine/translate"
	"github.com/mascri/mascri/internal/pod"
)

// program is what a workload container runs, see testdata/pause.
type program struct {
	command []string
	sandbox string // id of the one that it joins
}

// The exit codes that a shell gives for signals, and runc for what it can't run.
const (
	codeKilled  = 128 + 9
	codeMissing = 127
	codeFailed  = 128
)

// fakeImageConfig is that of an image with testdata/pause.
func fakeImageConfig(user string) ocispec.Image {
	return ocispec.Image{Config: ocispec.ImageConfig{User: user, Entrypoint: []string{programPath}}}
}

// AddImage gives the fake one more image of testdata/pause, with that user.
func (f *Fake) AddImage(id, tag, user string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.addImage(pod.Image{ID: id, Tags: []string{tag}, Config: fakeImageConfig(user)})
}

// CreateContainer implements engine.Engine. Every image has the accounts of Passwd and
// Group.
func (f *Fake) CreateContainer(ctx context.Context, spec pod.ContainerSpec) (id string, err error) {
	err = f.call(ctx, "CreateContainer", spec.Name, func() error {
		accounts := translate.Accounts{Passwd: []byte(Passwd), Group: []byte(Group)}
		spec.User, err = translate.User(spec.Config.GetLinux().GetSecurityContext(), spec.Image.Config.Config.User, accounts)
		if err != nil {
			return err
		}
		config, hostConfig, err := translate.Container(spec, f.host())
		if err != nil {
			return err
		}
		image := f.images[spec.Image.ID]
		switch {
		case image == nil:
			return errdefs.ErrNotFound.WithMessage("image " + spec.Image.ID + " is missing")
		case f.find(spec.Name) != nil:
			return errdefs.ErrAlreadyExists.WithMessage("name " + spec.Name + " is taken")
		}
		c := f.create(spec.Name, image.ID, config.Labels)
		c.program = program{command: slices.Concat(config.Entrypoint, config.Cmd), sandbox: spec.SandboxID}
		if len(config.Entrypoint) == 0 {
			c.program.command = slices.Concat(image.Config.Config.Entrypoint, config.Cmd)
		}
		c.limits = hostConfig.Resources
		c.workload.StopSignal = translate.StopSignalInForce(cmp.Or(config.StopSignal, image.Config.Config.StopSignal))
		c.workload.Resources = &cri.LinuxContainerResources{OomScoreAdj: int64(hostConfig.OomScoreAdj)}
		id = c.ID
		return nil
	})
	return id, err
}

// InspectContainer implements engine.Engine.
func (f *Fake) InspectContainer(ctx context.Context, idOrName string) (pod.Container, error) {
	item, err := f.look(ctx, "InspectContainer", idOrName)
	if err == nil && item.Container == nil {
		err = fmt.Errorf("container %s is no workload's: %w", idOrName, pod.ErrForeign)
	}
	if err != nil {
		return pod.Container{}, err
	}
	return *item.Container, nil
}

// Stop implements engine.Engine.
func (f *Fake) Stop(ctx context.Context, idOrName string, grace time.Duration) error {
	var ended chan struct{} // nil where there is nothing to wait for
	err := f.call(ctx, "Stop", idOrName, func() error {
		c, err := f.own(idOrName)
		if err != nil || !c.Running {
			return nil
		}
		if code, obeys := c.obeys(); obeys || grace == 0 {
			f.end(c, code)
			return nil
		}
		ended = c.ended
		life := c.ended
		time.AfterFunc(grace, func() { // whether or not anyone waits for it
			f.mu.Lock()
			defer f.mu.Unlock()
			if c.ended == life {
				f.end(c, codeKilled)
			}
		})
		return nil
	})
	if err != nil || ended == nil {
		return err
	}
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("Stop %s: %w", idOrName, ctx.Err())
	}
}

// UpdateContainer implements engine.Engine.
func (f *Fake) UpdateContainer(ctx context.Context, id string, resources *cri.LinuxContainerResources) error {
	return f.call(ctx, "UpdateContainer", id, func() error {
		c := f.find(id)
		if c == nil {
			return errdefs.ErrNotFound.WithMessage("container " + id + " is missing")
		}
		limits, err := translate.Update(resources, c.limits, f.host())
		if err != nil {
			return err
		}
		c.limits = container.Resources{
			CPUPeriod: cmp.Or(limits.CPUPeriod, c.limits.CPUPeriod), CPUQuota: cmp.Or(limits.CPUQuota, c.limits.CPUQuota),
			CPUShares: cmp.Or(limits.CPUShares, c.limits.CPUShares), Memory: cmp.Or(limits.Memory, c.limits.Memory),
			MemorySwap: cmp.Or(limits.MemorySwap, c.limits.MemorySwap),
			CpusetCpus: cmp.Or(limits.CpusetCpus, c.limits.CpusetCpus), CpusetMems: cmp.Or(limits.CpusetMems, c.limits.CpusetMems),
		}
		f.tell(c, pod.HintChanged)
		return nil
	})
}

// start is run for a container whose program may not be able to. Callers hold mu.
func (m *machine) start(c *fakeContainer) error {
	if c.workload == nil || c.Running {
		m.run(c)
		return nil
	}
	if sandbox := m.containers[c.program.sandbox]; sandbox == nil || !sandbox.Running {
		text := "cannot join network of a non running container: " + c.program.sandbox
		m.failStart(c, codeFailed, text)
		return errdefs.ErrFailedPrecondition.WithMessage(text)
	}
	if c.program.command[0] != programPath {
		text := fmt.Sprintf("exec: %q: no such file or directory", c.program.command[0])
		m.failStart(c, codeMissing, text)
		return errdefs.ErrInvalidArgument.WithMessage(text)
	}
	c.workload.StartError, c.workload.OOMKilled = "", false
	m.run(c)
	switch word, rest := c.word(); word {
	case "exit":
		code, _ := strconv.Atoi(rest) // 0 is as good as any other for nonsense
		m.end(c, code)
	case "hog":
		c.workload.OOMKilled = true
		m.end(c, codeKilled)
	}
	return nil
}

func (m *machine) failStart(c *fakeContainer, code int, text string) {
	c.workload.StartError, c.ExitCode = text, code
	m.tell(c, pod.HintChanged)
}

// word returns what the program is told to do, and how.
func (c *fakeContainer) word() (word, rest string) {
	words := append(slices.Clone(c.program.command), "", "", "")
	return words[1], words[2]
}

// obeys tells how the program ends by its stop signal, if it does.
func (c *fakeContainer) obeys() (code int, obeys bool) {
	word, _ := c.word()
	switch {
	case c.workload == nil: // nobody stops sandboxes
		return codeTerminated, true
	case c.workload.StopSignal == cri.Signal_SIGNAL_SIGKILL:
		return codeKilled, true
	case word == "ignore":
		return codeKilled, false
	case c.workload.StopSignal == cri.Signal_SIGNAL_SIGTERM:
		return codeTerminated, true
	case c.workload.StopSignal == cri.Signal_SIGNAL_SIGUSR1:
		return codeUser, true
	}
	return codeKilled, false
}
