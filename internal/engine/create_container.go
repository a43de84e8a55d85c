package engine

import (
	"archive/tar"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/mascri/mascri/internal/engine/translate"
	"github.com/mascri/mascri/internal/pod"
)

const (
	// maxAccounts bounds what is read of an image's /etc/passwd and /etc/group, in bytes.
	maxAccounts = 10 << 20
	// maxLinks is how many symbolic links are followed there.
	maxLinks = 8
	// probeLimit bounds the removal of a container that only showed what is in an image.
	probeLimit = time.Minute
)

// CreateContainer makes the container of a workload and returns its id; it does not run
// yet. spec.User is settled here. Errors, and what may be left, as with CreateSandbox.
func (e *Engine) CreateContainer(ctx context.Context, spec pod.ContainerSpec) (string, error) {
	c, err := e.connection(ctx)
	if err != nil {
		return "", err
	}
	accounts, err := e.accounts(ctx, c, spec.Image.ID)
	if err != nil {
		return "", err
	}
	spec.User, err = translate.User(spec.Config.GetLinux().GetSecurityContext(), spec.Image.Config.Config.User, accounts)
	if err != nil {
		return "", err
	}
	config, hostConfig, err := translate.Container(spec, e.node(c))
	if err != nil {
		return "", err
	}
	return e.create(ctx, c, spec.Name, config, hostConfig)
}

// accounts reads the users and groups of an image, once for each image: what is in one
// never changes.
func (e *Engine) accounts(ctx context.Context, c *connection, image string) (translate.Accounts, error) {
	known := func() (translate.Accounts, bool) {
		value, _ := e.users.Load(image)
		accounts, ok := value.(translate.Accounts)
		return accounts, ok
	}
	if accounts, ok := known(); ok {
		return accounts, nil
	}
	unlock, err := e.once.Lock(ctx, "users of "+image)
	if err != nil {
		return translate.Accounts{}, err
	}
	defer unlock()
	if accounts, ok := known(); ok {
		return accounts, nil
	}
	accounts, err := e.readAccounts(ctx, c, image)
	if err != nil {
		return translate.Accounts{}, fmt.Errorf("read the users of image %q: %w", image, err)
	}
	e.users.Store(image, accounts)
	return accounts, nil
}

// readAccounts makes a container that never runs, as the engine shows the files of
// containers only.
func (e *Engine) readAccounts(ctx context.Context, c *connection, image string) (accounts translate.Accounts, err error) {
	labels, err := pod.ProbeLabels(e.instance)
	if err != nil {
		return accounts, err
	}
	name := "mascri_probe_" + rand.Text()
	e.probes.Store(name, true)
	defer e.probes.Delete(name)
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeLimit)
		defer cancel()
		// By the name, as the engine's answer may get lost after the engine did the work.
		_, removeErr := c.api.ContainerRemove(ctx, name, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
		if removeErr != nil && !errdefs.IsNotFound(removeErr) { // RemoveProbes comes to it
			e.log.Warn("a container that never ran could not be removed", "container", name, "error", removeErr)
		}
	}()
	id, err := e.create(ctx, c, name, &container.Config{Image: image, Cmd: []string{"none"}, Labels: labels, NetworkDisabled: true}, &container.HostConfig{NetworkMode: "none"})
	if err != nil {
		return accounts, err
	}
	if accounts.Passwd, err = e.readFile(ctx, c, id, "/etc/passwd"); err != nil {
		return accounts, err
	}
	accounts.Group, err = e.readFile(ctx, c, id, "/etc/group")
	return accounts, err
}

// readFile returns a file of a container, nothing for one that is missing.
func (e *Engine) readFile(ctx context.Context, c *connection, id, name string) ([]byte, error) {
	for range maxLinks {
		copied, err := c.api.CopyFromContainer(ctx, id, client.CopyFromContainerOptions{SourcePath: name})
		if err != nil {
			if err = e.failed("read "+name, err); errors.Is(err, errdefs.ErrNotFound) {
				return nil, nil
			}
			return nil, err
		}
		header, text, err := firstFile(copied.Content)
		if err != nil {
			return nil, e.failed("read "+name, err)
		}
		if header.Typeflag != tar.TypeSymlink {
			return text, nil
		}
		if name = path.Join(path.Dir(name), header.Linkname); path.IsAbs(header.Linkname) {
			name = header.Linkname
		}
	}
	return nil, errdefs.ErrInvalidArgument.WithMessage("read " + name + ": too many symbolic links")
}

func firstFile(archive io.ReadCloser) (*tar.Header, []byte, error) {
	defer archive.Close()
	files := tar.NewReader(archive)
	header, err := files.Next()
	if err != nil {
		return nil, nil, err
	}
	text, err := io.ReadAll(io.LimitReader(files, maxAccounts))
	return header, text, err
}

// RemoveProbes removes the containers of looks into images that nobody has under way: a
// crash left them, or an engine that was gone when they were to be removed.
func (e *Engine) RemoveProbes(ctx context.Context) error {
	c, err := e.connection(ctx)
	if err != nil {
		return err
	}
	list, err := c.api.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: client.Filters{}.Add("label", pod.LabelKey).Add("status", "created")})
	if err != nil {
		return e.failed("list containers", err)
	}
	var errs []error
	for _, summary := range list.Items {
		label, err := pod.DecodeLabels(summary.Labels)
		if err != nil || label.Kind != pod.KindProbe || label.Instance != e.instance || e.isProbing(summary.Names) {
			continue
		}
		if _, err := c.api.ContainerRemove(ctx, summary.ID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true}); err != nil {
			errs = append(errs, e.failed("remove container "+summary.ID, err))
		}
	}
	return errors.Join(errs...)
}

func (e *Engine) isProbing(names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		_, probing := e.probes.Load(strings.TrimPrefix(name, "/"))
		return probing
	})
}
