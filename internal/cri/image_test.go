package cri_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/testing/protocmp"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine/enginetest"
	"github.com/mascri/mascri/test/registry"
)

func imageSpec(name string) *runtimeapi.ImageSpec { return &runtimeapi.ImageSpec{Image: name} }

func (d *daemon) pull(t *testing.T, ref string, auth *runtimeapi.AuthConfig) (string, error) {
	t.Helper()
	resp, err := d.image.PullImage(t.Context(), &runtimeapi.PullImageRequest{Image: imageSpec(ref), Auth: auth})
	return resp.GetImageRef(), err
}

func (d *daemon) mustPull(t *testing.T, ref string) string {
	t.Helper()
	id, err := d.pull(t, ref, nil)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func (d *daemon) imageStatus(t *testing.T, name string) *runtimeapi.Image {
	t.Helper()
	resp, err := d.image.ImageStatus(t.Context(), &runtimeapi.ImageStatusRequest{Image: imageSpec(name)})
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetImage()
}

// images returns the ids that pass the filter, by list and by stream alike.
func (d *daemon) images(t *testing.T, filter string) (ids []string) {
	t.Helper()
	var f *runtimeapi.ImageFilter
	if filter != "" {
		f = &runtimeapi.ImageFilter{Image: imageSpec(filter)}
	}
	list, err := d.image.ListImages(t.Context(), &runtimeapi.ListImagesRequest{Filter: f})
	if err != nil {
		t.Fatal(err)
	}
	stream, err := d.image.StreamImages(t.Context(), &runtimeapi.StreamImagesRequest{Filter: f})
	if err != nil {
		t.Fatal(err)
	}
	var streamed []*runtimeapi.Image
	for {
		batch, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		streamed = append(streamed, batch.GetImages()...)
	}
	if diff := cmp.Diff(list.GetImages(), streamed, protocmp.Transform()); diff != "" {
		t.Errorf("filter %q (-listed +streamed)\n%s", filter, diff)
	}
	for _, image := range list.GetImages() {
		ids = append(ids, image.GetId())
	}
	return ids
}

func TestLifeOfAnImage(t *testing.T) {
	d := newDaemon(t)
	r := d.engine.Registry(registry.Login{})
	digest := r.Push(t, "app", "1", registry.Image{User: "1000:1000"})
	ref := r.Ref("app", "1")
	repository := strings.TrimSuffix(ref, ":1")
	if got := d.imageStatus(t, ref); got != nil {
		t.Errorf("before the pull: %v", got)
	}
	id := d.mustPull(t, ref)
	want := &runtimeapi.Image{
		Id: id, RepoTags: []string{ref}, RepoDigests: []string{repository + "@" + digest}, Size: 1 << 20, Uid: &runtimeapi.Int64Value{Value: 1000},
	}
	for _, name := range []string{ref, repository + "@" + digest, ref + "@" + digest, id, id[7:], id[7:20]} {
		if diff := cmp.Diff(want, d.imageStatus(t, name), protocmp.Transform()); diff != "" {
			t.Errorf("%s (-want +got)\n%s", name, diff)
		}
	}
	if again := d.mustPull(t, ref); again != id {
		t.Errorf("pulled again: %s, want %s", again, id)
	}
	resp, err := d.image.ImageStatus(t.Context(), &runtimeapi.ImageStatusRequest{Image: imageSpec(ref), Verbose: true})
	if err != nil || !strings.Contains(resp.GetInfo()["info"], `"imageSpec":{`) || !strings.Contains(resp.GetInfo()["info"], `"User":"1000:1000"`) {
		t.Errorf("verbose: %v, %v", err, resp.GetInfo())
	}
	for range 2 { // idempotent
		if _, err := d.image.RemoveImage(t.Context(), &runtimeapi.RemoveImageRequest{Image: imageSpec(ref)}); err != nil {
			t.Fatal(err)
		}
	}
	if got := d.imageStatus(t, id); got != nil {
		t.Errorf("after removal: %v", got)
	}
}

func TestListOfImages(t *testing.T) {
	d := newDaemon(t)
	r := d.engine.Registry(registry.Login{})
	var all []string
	for i := range 23 { // three batches
		r.Push(t, fmt.Sprintf("app%d", i), "1", registry.Image{User: fmt.Sprint("user", i)})
		all = append(all, d.mustPull(t, r.Ref(fmt.Sprintf("app%d", i), "1")))
	}
	// What is tagged behind our back is there at once.
	d.engine.User().Tag(t, all[0], "built:latest")
	d.engine.User().Tag(t, all[0], "built:2")
	d.engine.User().Tag(t, all[1], "built:3")
	withSandbox := append(slices.Clone(all), enginetest.FakeImage)
	slices.Sort(withSandbox)
	for filter, want := range map[string][]string{
		"":                               withSandbox,
		"built":                          {all[0], all[1]},
		"built:3":                        {all[1]},
		"docker.io/library/built:latest": {all[0]},
		"built:4":                        nil,
		r.Ref("app7", "1"):               {all[7]},
		all[5]:                           {all[5]},
		all[5][7:19]:                     {all[5]},
		"missing":                        nil,
	} {
		slices.Sort(want)
		if diff := cmp.Diff(want, d.images(t, filter)); diff != "" {
			t.Errorf("filter %q (-want +got)\n%s", filter, diff)
		}
	}
}

func TestUsersOfImages(t *testing.T) {
	d := newDaemon(t)
	r := d.engine.Registry(registry.Login{})
	for user, want := range map[string]string{
		"": "<nil> ", "1000": "value:1000 ", "1000:1000": "value:1000 ", "0": "value:0 ", "web": "<nil> web", "web:staff": "<nil> web", "1000web": "<nil> 1000web",
	} {
		r.Push(t, "app", "1", registry.Image{User: user})
		image := d.imageStatus(t, d.mustPull(t, r.Ref("app", "1")))
		uid := "<nil>"
		if image.GetUid() != nil {
			uid = fmt.Sprint("value:", image.GetUid().GetValue())
		}
		if got := uid + " " + image.GetUsername(); got != want {
			t.Errorf("user %q: %q, want %q", user, got, want)
		}
	}
}

// The sandbox image is pinned by whichever of its names it is asked for.
func TestSandboxImageIsPinned(t *testing.T) {
	d := newDaemon(t)
	d.run(t, podConfig("web"))
	pause := d.imageStatus(t, "pause:test")
	if !pause.GetPinned() {
		t.Errorf("not pinned: %v", pause)
	}
	d.engine.User().Tag(t, pause.GetId(), "other:name")
	for _, name := range []string{"other:name", pause.GetId(), pause.GetId()[7:19]} {
		if image := d.imageStatus(t, name); !image.GetPinned() {
			t.Errorf("by %s not pinned: %v", name, image)
		}
	}
	list, err := d.image.ListImages(t.Context(), &runtimeapi.ListImagesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, image := range list.GetImages() {
		if image.GetPinned() != (image.GetId() == pause.GetId()) {
			t.Errorf("pinned: %v", image)
		}
	}
}

func TestImageInUseIsNotRemoved(t *testing.T) {
	d := newDaemon(t)
	d.engine.User().Run(t, "nginx", nil)
	_, err := d.image.RemoveImage(t.Context(), &runtimeapi.RemoveImageRequest{Image: imageSpec(enginetest.FakeImage)})
	wantCode(t, err, codes.FailedPrecondition, "nginx")
	if d.imageStatus(t, enginetest.FakeImage) == nil {
		t.Error("it is gone")
	}
}

func TestImageFsInfo(t *testing.T) {
	d := newDaemon(t)
	before := time.Now().UnixNano()
	resp, err := d.image.ImageFsInfo(t.Context(), &runtimeapi.ImageFsInfoRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range [][]*runtimeapi.FilesystemUsage{resp.GetImageFilesystems(), resp.GetContainerFilesystems()} {
		if len(list) != 1 || list[0].GetFsId().GetMountpoint() != "/" || list[0].GetUsedBytes().GetValue() != 1<<20 ||
			list[0].GetInodesUsed().GetValue() != 1 || list[0].GetTimestamp() < before {
			t.Errorf("file systems: %v", list)
		}
	}
}

func TestCredentials(t *testing.T) {
	login := registry.Login{Username: "somebody", Password: "a:secret", Token: "registry-secret", IdentityToken: "identity-secret"}
	encoded := func(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }
	for name, tt := range map[string]struct {
		auth *runtimeapi.AuthConfig
		code codes.Code
		says []string
	}{
		"password":         {&runtimeapi.AuthConfig{Username: "somebody", Password: "a:secret"}, codes.OK, nil},
		"auth":             {&runtimeapi.AuthConfig{Auth: encoded("somebody:a:secret")}, codes.OK, nil},
		"padded auth":      {&runtimeapi.AuthConfig{Auth: encoded("somebody:a:secret\x00\x00")}, codes.OK, nil},
		"identity token":   {&runtimeapi.AuthConfig{IdentityToken: "identity-secret"}, codes.OK, nil},
		"registry token":   {&runtimeapi.AuthConfig{RegistryToken: "registry-secret"}, codes.OK, nil},
		"for this server":  {&runtimeapi.AuthConfig{Username: "somebody", Password: "a:secret", ServerAddress: "https://registry0.test:5000/v2/"}, codes.OK, nil},
		"for this host":    {&runtimeapi.AuthConfig{Username: "somebody", Password: "a:secret", ServerAddress: "registry0.test:5000"}, codes.OK, nil},
		"none":             {nil, codes.Unauthenticated, []string{"registry0.test"}},
		"wrong password":   {&runtimeapi.AuthConfig{Username: "somebody", Password: "wrong-secret"}, codes.Unauthenticated, []string{"registry0.test"}},
		"for another host": {&runtimeapi.AuthConfig{Username: "somebody", Password: "a:secret", ServerAddress: "docker.io"}, codes.Unauthenticated, nil},
		"no base64":        {&runtimeapi.AuthConfig{Auth: "%secret"}, codes.InvalidArgument, []string{"auth.auth", "base64"}},
		"no colon":         {&runtimeapi.AuthConfig{Auth: encoded("secret")}, codes.InvalidArgument, []string{"auth.auth", "user:password"}},
		"no server":        {&runtimeapi.AuthConfig{Username: "a", ServerAddress: "https://%secret"}, codes.InvalidArgument, []string{"auth.server_address"}},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDaemon(t)
			r := d.engine.Registry(login)
			r.Push(t, "app", "1", registry.Image{})
			_, err := d.pull(t, r.Ref("app", "1"), tt.auth)
			wantCode(t, err, tt.code, tt.says...)
			if strings.Contains(fmt.Sprint(err), "secret") {
				t.Errorf("a secret in: %v", err)
			}
		})
	}
}

func TestBadImageRequests(t *testing.T) {
	d := newDaemon(t)
	d.images(t, "") // the health monitor has looked
	eventually(t, "the engine's facts are known", func() bool {
		resp, err := d.Status(t.Context(), &runtimeapi.StatusRequest{})
		return err == nil && len(resp.GetRuntimeHandlers()) > 0
	})
	calls := map[string]func(*runtimeapi.ImageSpec) error{
		"ImageStatus": func(spec *runtimeapi.ImageSpec) error {
			_, err := d.image.ImageStatus(t.Context(), &runtimeapi.ImageStatusRequest{Image: spec})
			return err
		},
		"PullImage": func(spec *runtimeapi.ImageSpec) error {
			_, err := d.image.PullImage(t.Context(), &runtimeapi.PullImageRequest{Image: spec})
			return err
		},
		"RemoveImage": func(spec *runtimeapi.ImageSpec) error {
			_, err := d.image.RemoveImage(t.Context(), &runtimeapi.RemoveImageRequest{Image: spec})
			return err
		},
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			wantCode(t, call(nil), codes.InvalidArgument, "image.image", "missing")
			wantCode(t, call(imageSpec("../containers/a")), codes.InvalidArgument, "image.image", "../containers/a")
			wantCode(t, call(imageSpec("UPPER:1")), codes.InvalidArgument, "image.image", "UPPER")
			wantCode(t, call(&runtimeapi.ImageSpec{Image: "a", RuntimeHandler: "kata"}), codes.InvalidArgument, "image.runtime_handler", "kata", "runc")
		})
	}
	wantCode(t, calls["PullImage"](imageSpec(strings.Repeat("0", 64))), codes.InvalidArgument, "image.image")
	_, err := d.image.ListImages(t.Context(), &runtimeapi.ListImagesRequest{Filter: &runtimeapi.ImageFilter{Image: imageSpec("UPPER")}})
	wantCode(t, err, codes.InvalidArgument, "filter.image.image")
	resp, err := d.image.ImageStatus(t.Context(), &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{
		Image: enginetest.FakeImage, RuntimeHandler: "runc", Annotations: map[string]string{"of.the/pod": "x"}, UserSpecifiedImage: "y",
	}})
	if err != nil || resp.GetImage() == nil {
		t.Errorf("with a handler that exists and the pod's annotations: %v, %v", resp, err)
	}
}

func TestPullErrors(t *testing.T) {
	d := newDaemon(t)
	r := d.engine.Registry(registry.Login{})
	_, err := d.pull(t, r.Ref("missing", "1"), nil)
	wantCode(t, err, codes.NotFound, r.Ref("missing", "1"))
	_, err = d.pull(t, "elsewhere.test/app:1", nil)
	wantCode(t, err, codes.Internal, "elsewhere.test")
	d.engine.Down()
	defer d.engine.Up()
	_, err = d.pull(t, r.Ref("missing", "1"), nil)
	wantCode(t, err, codes.Unavailable, "Docker Engine")
}

// pulls counts those that reached the engine.
func (d *daemon) pulls() (n int) {
	for _, call := range d.engine.Calls() {
		if strings.HasPrefix(call, "PullImage ") {
			n++
		}
	}
	return n
}

// Requests for the same share a pull, though the first to ask gives up, and end with
// their own time.
func TestPullsAreShared(t *testing.T) {
	d := newDaemon(t)
	r := d.engine.Registry(registry.Login{})
	r.Push(t, "app", "1", registry.Image{})
	release := d.engine.Hold("PullImage")
	pull := func(ctx context.Context, auth *runtimeapi.AuthConfig) error {
		_, err := d.image.PullImage(ctx, &runtimeapi.PullImageRequest{Image: imageSpec(r.Ref("app", "1")), Auth: auth})
		return err
	}
	first, giveUp := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer giveUp()
	var all sync.WaitGroup
	all.Go(func() { wantCode(t, pull(first, nil), codes.DeadlineExceeded) })
	eventually(t, "the first pull is under way", func() bool { return d.pulls() == 1 })
	for range 3 {
		all.Go(func() {
			if err := pull(t.Context(), nil); err != nil {
				t.Errorf("joined: %v", err)
			}
		})
	}
	all.Go(func() {
		if err := pull(t.Context(), &runtimeapi.AuthConfig{RegistryToken: "x"}); err != nil {
			t.Errorf("by other credentials: %v", err)
		}
	})
	eventually(t, "the pull by other credentials is under way", func() bool { return d.pulls() == 2 })
	<-first.Done()
	time.Sleep(50 * time.Millisecond) // for what the end of the first must not bring about
	release()
	all.Wait()
	if n := d.pulls(); n != 2 {
		t.Errorf("%d pulls, want 2:\n%s", n, strings.Join(d.engine.Calls(), "\n"))
	}
}
