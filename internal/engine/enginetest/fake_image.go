package enginetest

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mascri/mascri/internal/pod"
	"github.com/mascri/mascri/test/registry"
)

// fakeImageSize is that of every image of a fake.
const fakeImageSize = 1 << 20

// Images implements engine.Engine.
func (f *Fake) Images(ctx context.Context) (images []pod.Image, err error) {
	err = f.call(ctx, "Images", "", func() error {
		for _, id := range slices.Sorted(maps.Keys(f.images)) {
			images = append(images, clone(f.images[id]))
		}
		return nil
	})
	return images, err
}

// Image implements engine.Engine.
func (f *Fake) Image(ctx context.Context, name string) (image pod.Image, err error) {
	err = f.call(ctx, "Image", name, func() error {
		found := f.findImage(name)
		if found == nil {
			return errdefs.ErrNotFound.WithMessage("image " + name + " is missing")
		}
		image = clone(found)
		return nil
	})
	return image, err
}

// PullImage implements engine.Engine. It knows the registries of Registry alone.
func (f *Fake) PullImage(ctx context.Context, ref string, auth pod.RegistryAuth, progress func()) error {
	host, _, _ := strings.Cut(ref, "/")
	f.mu.Lock()
	r := f.registries[host]
	f.mu.Unlock()
	if r != nil {
		if err := r.passGate(ctx); err != nil {
			return fmt.Errorf("pull image %s: %w", ref, err)
		}
	}
	return f.call(ctx, "PullImage", ref, func() error {
		if r == nil {
			return errdefs.ErrInternal.WithMessage("registry " + host + " can't be reached")
		}
		image, err := r.get(ref, auth)
		if err != nil {
			return err
		}
		progress()
		f.addImage(image)
		return nil
	})
}

// RemoveImage implements engine.Engine.
func (f *Fake) RemoveImage(ctx context.Context, id string) error {
	return f.call(ctx, "RemoveImage", id, func() error {
		for _, c := range f.containers {
			if c.Image == id {
				return errdefs.ErrFailedPrecondition.WithMessage("container " + c.ID + " (" + c.Name + ") was made from image " + id)
			}
		}
		delete(f.images, id)
		return nil
	})
}

// ImageFilesystem implements engine.Engine.
func (f *Fake) ImageFilesystem(ctx context.Context) (filesystem pod.Filesystem, err error) {
	err = f.call(ctx, "ImageFilesystem", "", func() error {
		n := uint64(len(f.images))
		filesystem = pod.Filesystem{MountPoint: "/", UsedBytes: n * fakeImageSize, UsedInodes: n}
		return nil
	})
	return filesystem, err
}

// Tag gives an image of the fake one more name.
func (u fakeUser) Tag(t testing.TB, name, tag string) {
	t.Helper()
	u.m.mu.Lock()
	defer u.m.mu.Unlock()
	image := u.m.findImage(name)
	if image == nil {
		t.Fatalf("tag %s: it does not exist", name)
	}
	u.m.addImage(pod.Image{ID: image.ID, Tags: []string{tag}})
}

// addImage adds an image, or names to one that is there. A tag is one image's alone.
// Callers hold mu.
func (m *machine) addImage(image pod.Image) {
	for _, other := range m.images {
		other.Tags = slices.DeleteFunc(other.Tags, func(tag string) bool { return slices.Contains(image.Tags, tag) })
	}
	known := m.images[image.ID]
	if known == nil {
		known = &pod.Image{ID: image.ID, Size: fakeImageSize, Config: image.Config}
		m.images[image.ID] = known
	}
	known.Tags = append(known.Tags, image.Tags...)
	for _, digest := range image.Digests {
		if !slices.Contains(known.Digests, digest) {
			known.Digests = append(known.Digests, digest)
		}
	}
}

// findImage returns nil for what does not exist. Callers hold mu.
func (m *machine) findImage(name string) *pod.Image {
	full := name
	if named, err := reference.ParseNormalizedNamed(name); err == nil {
		full = reference.TagNameOnly(named).String()
	}
	for _, image := range m.images {
		if image.Matches(full) || strings.HasPrefix(strings.TrimPrefix(image.ID, "sha256:"), strings.TrimPrefix(name, "sha256:")) {
			return image
		}
	}
	return nil
}

func clone(image *pod.Image) pod.Image {
	copied := *image
	copied.Tags, copied.Digests = slices.Clone(image.Tags), slices.Clone(image.Digests)
	return copied
}

// Registry returns a registry that the fake alone can reach.
func (m *machine) Registry(login registry.Login) Registry {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := &fakeRegistry{host: fmt.Sprintf("registry%d.test:5000", len(m.registries)), login: login, images: map[string]pod.Image{}}
	m.registries[r.host] = r
	return r
}

// fakeRegistry is safe for concurrent use.
type fakeRegistry struct {
	host  string
	login registry.Login

	mu     sync.Mutex           // guards all following fields
	images map[string]pod.Image // by reference
	gate   chan struct{}        // nil unless the registry stalls
	status int
}

func (r *fakeRegistry) Push(t testing.TB, name, tag string, image registry.Image) string {
	t.Helper()
	text := fmt.Sprintf("%v", image)
	manifest := "sha256:" + digest([]byte("manifest of "+text))
	stored := pod.Image{ID: "sha256:" + digest([]byte(text)), Digests: []string{r.host + "/" + name + "@" + manifest}}
	stored.Config = ocispec.Image{Config: ocispec.ImageConfig{User: image.User, Env: image.Env, Entrypoint: image.Entrypoint, Cmd: image.Cmd}}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.images[stored.Digests[0]] = stored
	stored.Tags = []string{r.Ref(name, tag)}
	r.images[r.Ref(name, tag)] = stored
	return manifest
}

func (r *fakeRegistry) Ref(name, tag string) string { return r.host + "/" + name + ":" + tag }

func (r *fakeRegistry) Stall() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gate = make(chan struct{})
}

func (r *fakeRegistry) Resume() {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.gate)
	r.gate = nil
}

func (r *fakeRegistry) Fail(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status = status
}

func (r *fakeRegistry) passGate(ctx context.Context) error {
	r.mu.Lock()
	gate := r.gate
	r.mu.Unlock()
	if gate == nil {
		return nil
	}
	select {
	case <-gate:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *fakeRegistry) get(ref string, auth pod.RegistryAuth) (pod.Image, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	basic := auth.Username == r.login.Username && auth.Password == r.login.Password
	token := r.login.Token != "" && auth.RegistryToken == r.login.Token || r.login.IdentityToken != "" && auth.IdentityToken == r.login.IdentityToken
	if r.status != 0 {
		return pod.Image{}, errdefs.ErrInternal.WithMessage(cmp.Or(http.StatusText(r.status), "the registry fails"))
	}
	if r.login != (registry.Login{}) && !basic && !token {
		return pod.Image{}, errdefs.ErrUnauthenticated.WithMessage("registry " + r.host + " asks for other credentials")
	}
	image, ok := r.images[ref]
	if !ok {
		return pod.Image{}, errdefs.ErrNotFound.WithMessage("the registry has no image " + ref)
	}
	return image, nil
}
