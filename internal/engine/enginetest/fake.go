package enginetest

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/mascri/mascri/internal/engine/translate"
	"github.com/mascri/mascri/internal/pod"
)

// Fake is one instance's view of an engine in memory, with engine.Engine's methods. It
// is safe for concurrent use.
type Fake struct {
	*machine
	instance string
}

// FakeImage is the id of an image that every fake has.
const FakeImage = "sha256:0000000000000000000000000000000000000000000000000000000000000001"

// NewFake returns an engine without containers, of which the view is instance's.
func NewFake(t testing.TB, instance string) *Fake {
	t.Helper()
	return &Fake{instance: instance, machine: &machine{
		facts: pod.EngineFacts{
			Version: "28.5.2", APIVersion: "1.51", CgroupDriver: "cgroupfs", CgroupVersion: "2", RootDir: "/var/lib/docker",
			Kernel: "6.1.0", DefaultRuntime: "runc", Runtimes: []string{"io.containerd.runc.v2", "runc"}, Seccomp: true,
			FirewallDriver: "iptables",
		},
		images:     map[string]*pod.Image{FakeImage: {ID: FakeImage, Size: fakeImageSize, Config: fakeImageConfig("")}},
		registries: map[string]*fakeRegistry{},
		containers: map[string]*fakeContainer{},
		listeners:  map[chan pod.Hint]string{},
		down:       make(chan struct{}),
		held:       map[string]chan struct{}{},
	}}
}

// View returns another instance's view of the same engine.
func (f *Fake) View(instance string) *Fake { return &Fake{machine: f.machine, instance: instance} }

// Ping implements engine.Engine.
func (f *Fake) Ping(ctx context.Context) error {
	return f.call(ctx, "Ping", "", func() error { return nil })
}

// PingContainerd implements engine.Engine.
func (f *Fake) PingContainerd(ctx context.Context) error {
	return f.call(ctx, "PingContainerd", "", func() error { return nil })
}

// Facts implements engine.Engine.
func (f *Fake) Facts(ctx context.Context) (facts pod.EngineFacts, err error) {
	err = f.call(ctx, "Facts", "", func() error { facts = f.facts; return nil })
	return facts, err
}

// Pools implements engine.Engine.
func (f *Fake) Pools(ctx context.Context) (pools []netip.Prefix, err error) {
	err = f.call(ctx, "Pools", "", func() error {
		pools = []netip.Prefix{netip.MustParsePrefix("172.17.0.0/16"), netip.MustParsePrefix("192.168.0.0/16")}
		return nil
	})
	return pools, err
}

// EnsureImage implements engine.Engine. It reads the archive, but takes any.
func (f *Fake) EnsureImage(ctx context.Context, ref string, archive func() (io.ReadCloser, error)) (id string, err error) {
	err = f.call(ctx, "EnsureImage", ref, func() error {
		if image := f.findImage(ref); image != nil {
			id = image.ID
			return nil
		}
		if archive == nil {
			return errdefs.ErrNotFound.WithMessage("image " + ref + " is missing")
		}
		tar, err := archive()
		if err != nil {
			return err
		}
		defer tar.Close()
		text, err := io.ReadAll(tar)
		if err != nil {
			return err
		}
		id = "sha256:" + digest(text)
		f.addImage(pod.Image{ID: id, Tags: []string{ref}})
		return nil
	})
	return id, err
}

// CreateSandbox implements engine.Engine.
func (f *Fake) CreateSandbox(ctx context.Context, spec pod.SandboxSpec) (id string, err error) {
	err = f.call(ctx, "CreateSandbox", spec.Name, func() error {
		config, _, err := translate.Sandbox(spec, f.host())
		if err != nil {
			return err
		}
		if f.find(spec.Name) != nil {
			return errdefs.ErrAlreadyExists.WithMessage("name " + spec.Name + " is taken")
		}
		image := f.findImage(spec.Image)
		if image == nil {
			return errdefs.ErrNotFound.WithMessage("image " + spec.Image + " is missing")
		}
		c := f.create(spec.Name, image.ID, config.Labels)
		c.Files, id = spec.Files, c.ID
		return nil
	})
	return id, err
}

// Start implements engine.Engine.
func (f *Fake) Start(ctx context.Context, id string) error {
	return f.call(ctx, "Start", id, func() error {
		c := f.find(id)
		if c == nil {
			return errdefs.ErrNotFound.WithMessage("container " + id + " is missing")
		}
		return f.start(c)
	})
}

// Kill implements engine.Engine.
func (f *Fake) Kill(ctx context.Context, idOrName string) error {
	return f.call(ctx, "Kill", idOrName, func() error {
		if c, err := f.own(idOrName); err == nil {
			f.end(c, 137)
		}
		return nil
	})
}

// Remove implements engine.Engine.
func (f *Fake) Remove(ctx context.Context, idOrName string) error {
	return f.call(ctx, "Remove", idOrName, func() error {
		if c, err := f.own(idOrName); err == nil {
			f.remove(c)
		}
		return nil
	})
}

// Inspect implements engine.Engine.
func (f *Fake) Inspect(ctx context.Context, idOrName string) (pod.Sandbox, error) {
	item, err := f.look(ctx, "Inspect", idOrName)
	if err == nil && item.Sandbox == nil {
		err = fmt.Errorf("container %s is no sandbox: %w", idOrName, pod.ErrForeign)
	}
	if err != nil {
		return pod.Sandbox{}, err
	}
	return *item.Sandbox, nil
}

// Look implements engine.Engine. It is an Inspect to faults and holds, as it is one
// request to an engine.
func (f *Fake) Look(ctx context.Context, idOrName string) (pod.Item, error) {
	return f.look(ctx, "Inspect", idOrName)
}

func (f *Fake) look(ctx context.Context, method, idOrName string) (item pod.Item, err error) {
	err = f.call(ctx, method, idOrName, func() error {
		c, err := f.own(idOrName)
		if err == nil {
			item = c.item()
		}
		return err
	})
	return item, err
}

// IDs implements engine.Engine.
func (f *Fake) IDs(ctx context.Context) (ids []string, err error) {
	err = f.call(ctx, "IDs", "", func() error {
		for _, id := range slices.Sorted(maps.Keys(f.containers)) {
			if _, err := f.own(id); err == nil {
				ids = append(ids, id)
			}
		}
		return nil
	})
	return ids, err
}

// Hints implements engine.Engine.
func (f *Fake) Hints(ctx context.Context, emit func(pod.Hint)) error {
	hints := make(chan pod.Hint, 4096) // more than any test makes
	err := f.call(ctx, "Hints", "", func() error { f.listeners[hints] = f.instance; return nil })
	if err != nil {
		return err
	}
	f.mu.Lock()
	down := f.down
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.listeners, hints)
	}()
	emit(pod.Hint{Kind: pod.HintConnected})
	for {
		select {
		case hint := <-hints:
			emit(hint)
		case <-ctx.Done():
			return fmt.Errorf("watch events: %w", ctx.Err())
		case <-down:
			return fmt.Errorf("watch events: %w", unavailable())
		}
	}
}

// String prints the containers, see the package's documentation.
func (f *Fake) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var lines []string
	for _, c := range f.containers {
		whose := "instance=" + c.Instance
		if c.Instance == "" {
			whose = "foreign"
		}
		lines = append(lines, fmt.Sprintf("%s %s exit=%d %s\n", c.Name, state(c), c.ExitCode, whose))
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// host is what requests are translated for. Callers hold mu.
func (m *machine) host() translate.Host {
	return translate.Host{Facts: m.facts, OOMFloor: -1000, ReadFile: translate.ReadProfile}
}

// own is find for what is of f's instance alone. Callers hold mu.
func (f *Fake) own(idOrName string) (*fakeContainer, error) {
	c := f.find(idOrName)
	switch {
	case c == nil:
		return nil, errdefs.ErrNotFound.WithMessage("container " + idOrName + " is missing")
	case c.Instance != f.instance:
		return nil, fmt.Errorf("container %s: %w", idOrName, pod.ErrForeign)
	}
	return c, nil
}
