package enginetest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/mascri/mascri/internal/pod"
	"github.com/mascri/mascri/test/registry"
)

// Registry is registry.Registry's method set, as far as the contract uses it.
type Registry interface {
	Push(t testing.TB, name, tag string, image registry.Image) (digest string)
	Ref(name, tag string) string
	Stall()
	Resume()
	Fail(status int)
}

// ImageContract tests what engine.Engine promises of images. subject is called for each
// of its tests.
func ImageContract(t *testing.T, subject func(t *testing.T) Subject) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, s Subject)
	}{
		{"a pulled image has all its names", pulledHasNames},
		{"an image of two tags is one image", twoTagsOneImage},
		{"a tag that moved leaves an image without a name", tagMoves},
		{"a missing image is NotFound", missingImage},
		{"credentials of each kind are shown", credentialsShown},
		{"a registry that fails says so", registryFails},
		{"a stalled pull ends with its context", stalledPullEnds},
		{"removal takes all tags, however often", removedWholly},
		{"an image in use stays whole", inUseStays},
		{"images take up space", imagesTakeSpace},
		{"an engine that is gone is Unavailable", imagesGone},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, subject(t)) })
	}
}

// imageOf returns an image that no other test has.
func imageOf(t *testing.T, user string) registry.Image {
	t.Helper()
	return registry.Image{User: user, Cmd: []string{"true"}, Env: []string{"A=b"}, Files: map[string]string{"test": t.Name()}}
}

func (s Subject) pull(t *testing.T, ref string) pod.Image {
	t.Helper()
	calls := 0
	if err := s.Engine.PullImage(t.Context(), ref, pod.RegistryAuth{}, func() { calls++ }); err != nil {
		t.Fatalf("pull: %v", err)
	}
	if calls == 0 {
		t.Error("no progress was told")
	}
	return s.image(t, ref)
}

func (s Subject) image(t *testing.T, name string) pod.Image {
	t.Helper()
	image, err := s.Engine.Image(t.Context(), name)
	if err != nil {
		t.Fatalf("image %s: %v", name, err)
	}
	return image
}

// listed returns the image of that id in the list.
func (s Subject) listed(t *testing.T, id string) (pod.Image, bool) {
	t.Helper()
	images, err := s.Engine.Images(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(images, func(image pod.Image) bool { return image.ID == id })
	if i < 0 {
		return pod.Image{}, false
	}
	return images[i], true
}

func (s Subject) wantNoImage(t *testing.T, name string) {
	t.Helper()
	if _, err := s.Engine.Image(t.Context(), name); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("image %s: %v, want NotFound", name, err)
	}
}

func pulledHasNames(t *testing.T, s Subject) {
	r := s.Registry(t, registry.Login{})
	digest := r.Push(t, "team/app", "1", imageOf(t, "1000:1000"))
	ref := r.Ref("team/app", "1")
	repository := strings.TrimSuffix(ref, ":1")
	s.wantNoImage(t, ref)
	image := s.pull(t, ref)
	if !strings.HasPrefix(image.ID, "sha256:") || len(image.ID) != len("sha256:")+64 || image.Size == 0 {
		t.Errorf("id %q, size %d", image.ID, image.Size)
	}
	if config := image.Config.Config; config.User != "1000:1000" || !slices.Equal(config.Cmd, []string{"true"}) || !slices.Contains(config.Env, "A=b") {
		t.Errorf("config: %+v", config)
	}
	if diff := cmp.Diff([]string{ref}, image.Tags); diff != "" {
		t.Errorf("tags (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{repository + "@" + digest}, image.Digests); diff != "" {
		t.Errorf("digests (-want +got):\n%s", diff)
	}
	for _, name := range []string{ref, repository + "@" + digest, image.ID, strings.TrimPrefix(image.ID, "sha256:"), image.ID[7:19], image.ID[:19]} {
		if got := s.image(t, name); got.ID != image.ID {
			t.Errorf("%s is %s, want %s", name, got.ID, image.ID)
		}
	}
	for range 2 { // asked and remembered
		listed, ok := s.listed(t, image.ID)
		if listed.Size < image.Size {
			t.Errorf("listed with size %d, inspected with %d", listed.Size, image.Size)
		}
		listed.Size = image.Size // see pod.Image
		if diff := cmp.Diff(image, listed); !ok || diff != "" {
			t.Errorf("listed %t (-inspected +listed):\n%s", ok, diff)
		}
	}
	if again := s.pull(t, ref); again.ID != image.ID {
		t.Errorf("pulled again it is %s, want %s", again.ID, image.ID)
	}
}

func twoTagsOneImage(t *testing.T, s Subject) {
	r := s.Registry(t, registry.Login{})
	r.Push(t, "app", "1", imageOf(t, ""))
	image := s.pull(t, r.Ref("app", "1"))
	tag := "localhost/tagged:" + image.ID[7:19]
	s.User.Tag(t, image.ID, tag)
	listed, _ := s.listed(t, image.ID)
	for _, want := range []string{tag, r.Ref("app", "1")} {
		if !slices.Contains(listed.Tags, want) {
			t.Errorf("tags %q lack %q", listed.Tags, want)
		}
	}
	if got := s.image(t, tag); got.ID != image.ID {
		t.Errorf("%s is %s, want %s", tag, got.ID, image.ID)
	}
}

func tagMoves(t *testing.T, s Subject) {
	r := s.Registry(t, registry.Login{})
	ref := r.Ref("app", "1")
	r.Push(t, "app", "1", imageOf(t, ""))
	old := s.pull(t, ref)
	r.Push(t, "app", "1", imageOf(t, "root"))
	if now := s.pull(t, ref); now.ID == old.ID {
		t.Fatalf("%s is still %s", ref, now.ID)
	}
	listed, ok := s.listed(t, old.ID)
	if !ok || len(listed.Tags) != 0 {
		t.Errorf("listed %t with tags %q, want none", ok, listed.Tags)
	}
}

func missingImage(t *testing.T, s Subject) {
	r := s.Registry(t, registry.Login{})
	r.Push(t, "app", "1", imageOf(t, ""))
	for _, ref := range []string{r.Ref("app", "2"), r.Ref("missing", "1"), strings.TrimSuffix(r.Ref("app", "1"), ":1") + "@sha256:" + strings.Repeat("0", 64)} {
		if err := s.Engine.PullImage(t.Context(), ref, pod.RegistryAuth{}, func() {}); !errors.Is(err, errdefs.ErrNotFound) {
			t.Errorf("pull of %s: %v, want NotFound", ref, err)
		}
		s.wantNoImage(t, ref)
	}
	s.wantNoImage(t, "sha256:"+strings.Repeat("0", 64))
	if err := s.Engine.RemoveImage(t.Context(), "sha256:"+strings.Repeat("0", 64)); err != nil {
		t.Errorf("remove: %v", err)
	}
}

func credentialsShown(t *testing.T, s Subject) {
	basic := registry.Login{Username: "somebody", Password: "s3cret-password"}
	token := basic
	token.Token, token.IdentityToken = "t0ken-of-the-registry", "t0ken-of-the-identity"
	for _, test := range []struct {
		name  string
		login registry.Login
		auth  pod.RegistryAuth
		fails bool
	}{
		{"password", basic, pod.RegistryAuth{Username: "somebody", Password: "s3cret-password"}, false},
		{"password for a token", token, pod.RegistryAuth{Username: "somebody", Password: "s3cret-password"}, false},
		{"identity token", token, pod.RegistryAuth{IdentityToken: "t0ken-of-the-identity"}, false},
		{"registry token", token, pod.RegistryAuth{RegistryToken: "t0ken-of-the-registry"}, false},
		{"none", basic, pod.RegistryAuth{}, true},
		{"wrong password", basic, pod.RegistryAuth{Username: "somebody", Password: "wr0ng-secret"}, true},
		{"wrong password for a token", token, pod.RegistryAuth{Username: "somebody", Password: "wr0ng-secret"}, true},
		{"wrong identity token", token, pod.RegistryAuth{IdentityToken: "wr0ng-secret"}, true},
		{"wrong registry token", token, pod.RegistryAuth{RegistryToken: "wr0ng-secret"}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			if s.SystemCAOnly && test.login.Token != "" {
				t.Skip("this engine asks a token service by the system's authorities alone")
			}
			r := s.Registry(t, test.login)
			r.Push(t, "app", "1", imageOf(t, ""))
			err := s.Engine.PullImage(t.Context(), r.Ref("app", "1"), test.auth, func() {})
			if (err != nil) != test.fails {
				t.Errorf("pull: %v, want an error: %t", err, test.fails)
			}
			if test.fails {
				s.wantNoImage(t, r.Ref("app", "1"))
				if errors.Is(err, errdefs.ErrNotFound) || errors.Is(err, errdefs.ErrUnavailable) || strings.Contains(err.Error(), "wr0ng-secret") {
					t.Errorf("pull: %v", err)
				}
			}
		})
	}
}

func registryFails(t *testing.T, s Subject) {
	r := s.Registry(t, registry.Login{})
	r.Push(t, "app", "1", imageOf(t, ""))
	r.Fail(500)
	for _, ref := range []string{r.Ref("app", "1"), "192.0.2.81:1/app:1"} {
		err := s.Engine.PullImage(t.Context(), ref, pod.RegistryAuth{}, func() {})
		if err == nil || errors.Is(err, errdefs.ErrNotFound) || errors.Is(err, errdefs.ErrUnavailable) {
			t.Errorf("pull of %s: %v", ref, err)
		}
	}
	r.Fail(0)
	s.pull(t, r.Ref("app", "1"))
}

func stalledPullEnds(t *testing.T, s Subject) {
	r := s.Registry(t, registry.Login{})
	r.Push(t, "app", "1", imageOf(t, ""))
	r.Stall()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(300*time.Millisecond, cancel)
	ended := make(chan error, 1)
	go func() { ended <- s.Engine.PullImage(ctx, r.Ref("app", "1"), pod.RegistryAuth{}, func() {}) }()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("pull: %v, want Canceled", err)
		}
	case <-time.After(patience):
		t.Fatal("the pull goes on")
	}
	s.wantNoImage(t, r.Ref("app", "1"))
	r.Resume()
	s.pull(t, r.Ref("app", "1"))
}

func removedWholly(t *testing.T, s Subject) {
	r := s.Registry(t, registry.Login{})
	r.Push(t, "app", "1", imageOf(t, ""))
	image := s.pull(t, r.Ref("app", "1"))
	s.User.Tag(t, image.ID, "localhost/one:1")
	s.User.Tag(t, image.ID, "localhost/two:2")
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if err := s.Engine.RemoveImage(t.Context(), image.ID); err != nil {
				t.Errorf("remove: %v", err)
			}
		})
	}
	all.Wait()
	for _, name := range []string{image.ID, r.Ref("app", "1"), "localhost/one:1", "localhost/two:2"} {
		s.wantNoImage(t, name)
	}
	if _, ok := s.listed(t, image.ID); ok {
		t.Error("it is still listed")
	}
}

func inUseStays(t *testing.T, s Subject) {
	r := s.Registry(t, registry.Login{})
	r.Push(t, "app", "1", imageOf(t, ""))
	image := s.pull(t, r.Ref("app", "1"))
	s.User.Tag(t, image.ID, "localhost/used:1")
	before := s.image(t, image.ID)
	spec := s.spec("a", s.Instance)
	spec.Image = image.ID
	id, err := s.Engine.CreateSandbox(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	err = s.Engine.RemoveImage(t.Context(), image.ID)
	if !errors.Is(err, errdefs.ErrFailedPrecondition) || !strings.Contains(err.Error(), id) || !strings.Contains(err.Error(), image.ID) {
		t.Errorf("remove: %v, want FailedPrecondition that names the image and container %s", err, id)
	}
	if diff := cmp.Diff(before, s.image(t, image.ID)); diff != "" {
		t.Errorf("the image changed (-before +after):\n%s", diff)
	}
	if err := errors.Join(s.Engine.Remove(t.Context(), id), s.Engine.RemoveImage(t.Context(), image.ID)); err != nil {
		t.Errorf("without its container: %v", err)
	}
	s.wantNoImage(t, image.ID)
}

func imagesTakeSpace(t *testing.T, s Subject) {
	measure := func() pod.Filesystem {
		t.Helper()
		filesystem, err := s.Engine.ImageFilesystem(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return filesystem
	}
	r := s.Registry(t, registry.Login{})
	r.Push(t, "app", "1", imageOf(t, ""))
	before := measure()
	image := s.pull(t, r.Ref("app", "1"))
	after := measure()
	if grown := int64(after.UsedBytes - before.UsedBytes); grown < 1<<20 {
		t.Errorf("an image of %d bytes took up %d", image.Size, grown)
	}
	if after.UsedInodes <= before.UsedInodes {
		t.Errorf("inodes: %d, then %d", before.UsedInodes, after.UsedInodes)
	}
	if here, err := os.Stat(after.MountPoint); err != nil || !here.IsDir() || !filepath.IsAbs(after.MountPoint) {
		t.Errorf("mount point %q: %v", after.MountPoint, err)
	}
	if err := s.Engine.RemoveImage(t.Context(), image.ID); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(patience) // containerd cleans up later
	for measure() != before {
		if time.Now().After(deadline) {
			t.Fatalf("without the image: %+v, want %+v", measure(), before)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func imagesGone(t *testing.T, s Subject) {
	calls := map[string]func(context.Context) error{
		"Images":          func(ctx context.Context) error { _, err := s.Engine.Images(ctx); return err },
		"Image":           func(ctx context.Context) error { _, err := s.Engine.Image(ctx, s.Image); return err },
		"RemoveImage":     func(ctx context.Context) error { return s.Engine.RemoveImage(ctx, "sha256:"+strings.Repeat("0", 64)) },
		"ImageFilesystem": func(ctx context.Context) error { _, err := s.Engine.ImageFilesystem(ctx); return err },
		"PullImage": func(ctx context.Context) error {
			return s.Engine.PullImage(ctx, "192.0.2.81:1/app:1", pod.RegistryAuth{}, func() {})
		},
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, call := range calls {
		if err := call(ended); !errors.Is(err, context.Canceled) {
			t.Errorf("%s with an ended context: %v, want Canceled", name, err)
		}
	}
	s.Line.Down()
	defer s.Line.Up()
	delete(calls, "ImageFilesystem") // it need not ask the engine
	for name, call := range calls {
		if err := call(t.Context()); !errors.Is(err, errdefs.ErrUnavailable) {
			t.Errorf("%s: %v, want Unavailable", name, err)
		}
	}
}
