package e2e

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine/enginetest"
	"github.com/mascri/mascri/test/registry"
)

// allStores runs a test on both engines, and on the image store that newer engines have.
func allStores(t *testing.T, test func(t *testing.T, n *node)) {
	bothEngines(t, func(t *testing.T, version enginetest.Version) { test(t, newNode(t, version, userConf())) })
	t.Run("engine 28/containerd image store", func(t *testing.T) {
		engine := enginetest.StartDaemon(t, enginetest.Engine28, "--feature", "containerd-snapshotter=true", "--storage-driver", "overlayfs")
		test(t, newNodeOn(t, engine, userConf()))
	})
}

// crictlImage is what crictl prints of an image.
type crictlImage struct {
	ID          string
	RepoTags    []string
	RepoDigests []string
	Size        string
	Pinned      bool
	Username    string
	UID         *struct{ Value string }
}

func (n *node) crictlImages(t *testing.T, filter ...string) []crictlImage {
	t.Helper()
	var list struct{ Images []crictlImage }
	if err := json.Unmarshal([]byte(n.crictl(t, append([]string{"images", "-o", "json"}, filter...)...)), &list); err != nil {
		t.Fatal(err)
	}
	return list.Images
}

// The images of a node by a user's own hands: crictl, docker and a registry that asks
// for a password.
func TestUserPullsAnImage(t *testing.T) {
	allStores(t, func(t *testing.T, n *node) {
		r := registry.Start(t, registry.Login{Username: "somebody", Password: "s3cret-password"})
		digest := r.Push(t, "team/web", "1.0", registry.Image{User: "1000:1000", Cmd: []string{"sh"}})
		ref := r.Ref("team/web", "1.0")
		if out, err := try(repo(t, "bin/crictl"), "--image-endpoint", "unix://"+n.socket, "pull", ref); err == nil {
			t.Errorf("pulled without the password:\n%s", out)
		}
		n.crictl(t, "pull", "--creds", "somebody:s3cret-password", ref)
		id := n.docker(t, "image", "inspect", "-f", "{{.Id}}", ref)
		images := n.crictlImages(t, ref)
		if len(images) != 1 || images[0].ID != id || !slices.Equal(images[0].RepoTags, []string{ref}) || images[0].Size == "0" || images[0].Pinned ||
			!slices.Equal(images[0].RepoDigests, []string{strings.TrimSuffix(ref, ":1.0") + "@" + digest}) || images[0].UID == nil || images[0].UID.Value != "1000" {
			t.Errorf("crictl images: %+v", images)
		}
		for _, name := range []string{ref, id, id[7:20], strings.TrimSuffix(ref, ":1.0") + "@" + digest, ref + "@" + digest} {
			var inspecti struct {
				Status crictlImage
				Info   struct {
					ImageSpec struct{ Config struct{ User string } }
				}
			}
			if err := json.Unmarshal([]byte(n.crictl(t, "inspecti", name)), &inspecti); err != nil {
				t.Fatal(err)
			}
			if inspecti.Status.ID != id || inspecti.Info.ImageSpec.Config.User != "1000:1000" {
				t.Errorf("crictl inspecti %s: %+v", name, inspecti)
			}
		}
		n.docker(t, "tag", ref, "mine:1")
		n.crictl(t, "rmi", "mine:1")
		if out := n.docker(t, "images", "-q", "--no-trunc"); strings.Contains(out, id) {
			t.Errorf("docker images after crictl rmi:\n%s", out)
		}
		if log, err := os.ReadFile(n.logFile); err != nil || strings.Contains(string(log), "s3cret-password") {
			t.Errorf("the daemon's log has the password: %v", err)
		}
	})
}

// What docker build or docker import makes needs no registry, and no time, to be there.
func TestImagesMadeHere(t *testing.T) {
	allStores(t, func(t *testing.T, n *node) {
		dir := shortDir(t)
		if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM scratch\nCOPY Dockerfile /\nUSER web:staff\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		run(t, "sh", "-c", "DOCKER_BUILDKIT=0 docker -H "+n.host+" build -t built:1 "+dir)
		if images := n.crictlImages(t, "built"); len(images) != 1 || !slices.Equal(images[0].RepoTags, []string{"built:1"}) || images[0].Username != "web" {
			t.Errorf("crictl images built: %+v", images)
		}
		run(t, "sh", "-c", "tar -C "+dir+" -c . | docker -H "+n.host+" import - imported:2")
		if images := n.crictlImages(t, "imported:2"); len(images) != 1 || !slices.Equal(images[0].RepoTags, []string{"imported:2"}) {
			t.Errorf("crictl images imported: %+v", images)
		}
		// Kubeadm and the kubelet take a size of 0 for an error, and pull what is there.
		run(t, "sh", "-c", "tar -c -T /dev/null | docker -H "+n.host+" import - empty:3")
		if images := n.crictlImages(t, "empty:3"); len(images) != 1 || images[0].Size == "0" {
			t.Errorf("crictl images empty: %+v", images)
		}
		n.docker(t, "rmi", "built:1")
		if images := n.crictlImages(t, "built:1"); len(images) != 0 {
			t.Errorf("after docker rmi: %+v", images)
		}
	})
}

// An image that a pod is made from stays, and so does the next pod's.
func TestImagesInUse(t *testing.T) {
	allStores(t, func(t *testing.T, n *node) {
		s := n.runPod(t, config("web"))
		pause := n.docker(t, "inspect", "-f", "{{.Image}}", s.id)
		for _, image := range n.crictlImages(t) {
			if image.Pinned != (image.ID == pause) {
				t.Errorf("pinned: %+v, the sandbox's image is %s", image, pause)
			}
		}
		remove := func(name string) error {
			_, err := n.image.RemoveImage(t.Context(), &cri.RemoveImageRequest{Image: &cri.ImageSpec{Image: name}})
			return err
		}
		if err := remove(pause); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), s.id) {
			t.Errorf("remove the sandbox image in use: %v", err)
		}
		r := registry.Start(t, registry.Login{})
		r.Push(t, "app", "1", registry.Image{Cmd: []string{"sh"}})
		n.crictl(t, "pull", r.Ref("app", "1"))
		id := n.docker(t, "create", "--name", "stopped", r.Ref("app", "1"))
		if err := remove(r.Ref("app", "1")); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "stopped") || !strings.Contains(err.Error(), id) {
			t.Errorf("remove an image in use: %v", err)
		}
		n.docker(t, "rm", "stopped")
		for range 2 {
			if err := remove(r.Ref("app", "1")); err != nil {
				t.Error(err)
			}
		}
		n.removePod(t, s.id)
		if err := remove(pause); err != nil { // pinned is a recommendation
			t.Errorf("remove the sandbox image, no longer in use: %v", err)
		}
		n.removePod(t, n.runPod(t, config("web")).id) // it is loaded again
		n.wantWhole(t, 0)
	})
}

// The numbers are those of the file system that the engine's layers are on.
func TestImageFilesystem(t *testing.T) {
	allStores(t, func(t *testing.T, n *node) {
		used := func() *cri.FilesystemUsage {
			t.Helper()
			resp, err := n.image.ImageFsInfo(t.Context(), &cri.ImageFsInfoRequest{})
			if err != nil || len(resp.GetImageFilesystems()) != 1 || len(resp.GetContainerFilesystems()) != 1 {
				t.Fatalf("%v, %v", resp, err)
			}
			return resp.GetImageFilesystems()[0]
		}
		r := registry.Start(t, registry.Login{})
		r.Push(t, "app", "1", registry.Image{Files: map[string]string{"big": strings.Repeat("x", 3<<20)}})
		before := used()
		n.crictl(t, "pull", r.Ref("app", "1"))
		after := used()
		root := n.docker(t, "info", "-f", "{{.DockerRootDir}}")
		if want := run(t, "stat", "-c", "%m", root); after.GetFsId().GetMountpoint() != want {
			t.Errorf("mount point %q, want %q", after.GetFsId().GetMountpoint(), want)
		}
		if grown := after.GetUsedBytes().GetValue() - before.GetUsedBytes().GetValue(); grown < 4<<20 || grown > 16<<20 {
			t.Errorf("an image of 5 MiB took up %d", grown)
		}
		if grown := after.GetInodesUsed().GetValue() - before.GetInodesUsed().GetValue(); grown < 10 || grown > 40 {
			t.Errorf("an image of a dozen files took up %d inodes", grown)
		}
	})
}

// Each field of the image service's requests has its effect, or its error.
func TestFieldsOfImages(t *testing.T) {
	bothEngines(t, func(t *testing.T, version enginetest.Version) {
		n := newNode(t, version, userConf())
		login := registry.Login{Username: "somebody", Password: "s3cret", Token: "t0ken-r", IdentityToken: "t0ken-i"}
		r := registry.Start(t, login)
		for name, tt := range map[string]struct {
			auth *cri.AuthConfig
			ok   bool
		}{
			"username, password":        {&cri.AuthConfig{Username: "somebody", Password: "s3cret"}, true},
			"auth":                      {&cri.AuthConfig{Auth: base64.StdEncoding.EncodeToString([]byte("somebody:s3cret"))}, true},
			"identity_token":            {&cri.AuthConfig{IdentityToken: "t0ken-i"}, true},
			"registry_token":            {&cri.AuthConfig{RegistryToken: "t0ken-r"}, true},
			"server_address":            {&cri.AuthConfig{RegistryToken: "t0ken-r", ServerAddress: "https://" + r.Host + "/v2/"}, true},
			"server_address of another": {&cri.AuthConfig{RegistryToken: "t0ken-r", ServerAddress: "https://registry.test"}, false},
			"nothing":                   {nil, false},
		} {
			t.Run(name, func(t *testing.T) {
				app := strings.ReplaceAll(strings.ReplaceAll(name, " ", "-"), ",", "")
				r.Push(t, app, "1", registry.Image{Files: map[string]string{"name": name}})
				_, err := n.image.PullImage(t.Context(), &cri.PullImageRequest{Image: &cri.ImageSpec{Image: r.Ref(app, "1")}, Auth: tt.auth})
				if (err == nil) != tt.ok || strings.Contains(fmt.Sprint(err), "t0ken") {
					t.Errorf("pull: %v", err)
				}
			})
		}
		open := registry.Start(t, registry.Login{})
		open.Push(t, "app", "1", registry.Image{})
		// What says nothing of which image is meant makes no difference.
		spec := &cri.ImageSpec{
			Image: open.Ref("app", "1"), RuntimeHandler: "runc", Annotations: map[string]string{"a": "b"}, UserSpecifiedImage: "other:1", ImageRef: "sha256:0",
		}
		bad := &cri.ImageSpec{Image: open.Ref("app", "1"), RuntimeHandler: "kata"}
		for name, call := range n.imageCalls(t) {
			if found, err := call(spec); err != nil || !found {
				t.Errorf("%s: found %t, %v", name, found, err)
			}
			if _, err := call(bad); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "image.runtime_handler") {
				t.Errorf("%s with a handler that is missing: %v", name, err)
			}
		}
	})
}

// imageCalls are the calls that an image spec is part of; each pulls the image first, and
// tells whether it met it.
func (n *node) imageCalls(t *testing.T) map[string]func(*cri.ImageSpec) (bool, error) {
	ctx := t.Context()
	pull := func(spec *cri.ImageSpec) (string, error) {
		resp, err := n.image.PullImage(ctx, &cri.PullImageRequest{Image: spec, SandboxConfig: config("web")})
		return resp.GetImageRef(), err
	}
	pulled := func(spec *cri.ImageSpec) string {
		t.Helper()
		id, err := pull(&cri.ImageSpec{Image: spec.GetImage()})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	return map[string]func(*cri.ImageSpec) (bool, error){
		"PullImage": func(spec *cri.ImageSpec) (bool, error) {
			id, err := pull(spec)
			return err == nil && id == pulled(spec), err
		},
		"ImageStatus": func(spec *cri.ImageSpec) (bool, error) {
			id := pulled(spec)
			brief, err := n.image.ImageStatus(ctx, &cri.ImageStatusRequest{Image: spec})
			if err != nil {
				return false, err
			}
			verbose, err := n.image.ImageStatus(ctx, &cri.ImageStatusRequest{Image: spec, Verbose: true})
			return brief.GetImage().GetId() == id && len(brief.GetInfo()) == 0 && len(verbose.GetInfo()) > 0, err
		},
		"ListImages": func(spec *cri.ImageSpec) (bool, error) {
			id := pulled(spec)
			resp, err := n.image.ListImages(ctx, &cri.ListImagesRequest{Filter: &cri.ImageFilter{Image: spec}})
			return len(resp.GetImages()) == 1 && resp.GetImages()[0].GetId() == id, err
		},
		"StreamImages": func(spec *cri.ImageSpec) (bool, error) {
			id := pulled(spec)
			stream, err := n.image.StreamImages(ctx, &cri.StreamImagesRequest{Filter: &cri.ImageFilter{Image: spec}})
			if err != nil {
				return false, err
			}
			resp, err := stream.Recv()
			if err != nil {
				return false, err
			}
			_, end := stream.Recv()
			return errors.Is(end, io.EOF) && len(resp.GetImages()) == 1 && resp.GetImages()[0].GetId() == id, nil
		},
		"RemoveImage": func(spec *cri.ImageSpec) (bool, error) {
			id := pulled(spec)
			if _, err := n.image.RemoveImage(ctx, &cri.RemoveImageRequest{Image: spec}); err != nil {
				return false, err
			}
			left, err := n.image.ImageStatus(ctx, &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: id}})
			return left.GetImage() == nil, err
		},
	}
}
