package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	oldImageMounts = "needs Docker Engine 28"
	oldRecursive   = "recursive_read_only: needs Docker Engine 25"
)

// mountFields are those of mounts.
var mountFields = merge(prefixed("config.mounts.", map[string]containerField{
	"container_path":                {script: "cat /mnt/dir/name", set: mount(func(m *cri.Mount) { m.ContainerPath = "/mnt/dir" }), see: wantOutput("of the host\n")},
	"container_path not absolute":   {set: mount(func(m *cri.Mount) { m.ContainerPath = "mnt" }), code: codes.InvalidArgument, text: "mounts[0].container_path"},
	"host_path":                     {script: "echo back >/mnt/new", set: mount(nil), see: wantOnHost("new", "back\n")},
	"host_path not absolute":        {set: mount(func(m *cri.Mount) { m.HostPath = "mnt" }), code: codes.InvalidArgument, text: "config.mounts[0].host_path"},
	"host_path that is missing":     {script: "echo back >/mnt/new", set: mount(func(m *cri.Mount) { m.HostPath += "/not/there" }), see: wantOnHost("new", "back\n")},
	"host_path that is a file":      {script: "cat /mnt", set: mount(func(m *cri.Mount) { m.HostPath += "/name" }), see: wantOutput("of the host\n")},
	"host_path that is a link":      {script: "cat /mnt/name", set: mount(func(m *cri.Mount) { m.HostPath += "/link" }), see: wantOutput("of the host\n")},
	"host_path in place of a pod's": {script: "cat /etc/hosts", set: mount(func(m *cri.Mount) { m.HostPath, m.ContainerPath = m.HostPath+"/name", "/etc/hosts" }), see: wantOutput("of the host\n")},
	"readonly":                      {set: mount(func(m *cri.Mount) { m.Readonly = true }), see: wantWritable(false, true)},
	"readonly not given":            {set: mount(func(*cri.Mount) {}), see: wantWritable(true, true)},
	"recursive_read_only":           {set: mount(func(m *cri.Mount) { m.Readonly, m.RecursiveReadOnly = true, true }), see: wantWritable(false, false), old: oldRecursive},
	"recursive_read_only without readonly": {
		set: mount(func(m *cri.Mount) { m.RecursiveReadOnly = true }), code: codes.InvalidArgument, text: "mounts[0].recursive_read_only: needs readonly",
	},
	"recursive_read_only with propagation": {set: mount(func(m *cri.Mount) {
		m.Readonly, m.RecursiveReadOnly, m.Propagation = true, true, cri.MountPropagation_PROPAGATION_HOST_TO_CONTAINER
	}), code: codes.InvalidArgument, text: "mounts[0].recursive_read_only: needs propagation PRIVATE"},
	"selinux_relabel": {script: "cat /mnt/name", set: mount(func(m *cri.Mount) { m.SelinuxRelabel = true }), see: wantOutput("of the host\n")}, // no SELinux here

	"propagation":               {set: sharedMount(cri.MountPropagation_PROPAGATION_PRIVATE), see: wantPropagation(false, false)},
	"propagation from the host": {set: sharedMount(cri.MountPropagation_PROPAGATION_HOST_TO_CONTAINER), see: wantPropagation(true, false)},
	"propagation both ways":     {set: sharedMount(cri.MountPropagation_PROPAGATION_BIDIRECTIONAL), see: wantPropagation(true, true)},
	"propagation both ways of what is not shared": {
		set:  mount(func(m *cri.Mount) { m.Propagation = cri.MountPropagation_PROPAGATION_BIDIRECTIONAL }),
		code: codes.Internal, text: "not a shared mount", start: true,
	},
	"propagation from the host of what is not shared": {
		set:  mount(func(m *cri.Mount) { m.Propagation = cri.MountPropagation_PROPAGATION_HOST_TO_CONTAINER }),
		code: codes.Internal, text: "not a shared or slave mount", start: true,
	},
	"propagation of none": {set: mount(func(m *cri.Mount) { m.Propagation = 9 }), code: codes.InvalidArgument, text: "mounts[0].propagation"},

	"mount_options": {set: mount(func(m *cri.Mount) { m.MountOptions = []string{"noexec"} }), code: codes.Unimplemented, text: "mounts[0].mount_options: noexec"},

	"image.image":                {script: "cat /mnt/sub/file; busybox touch /mnt/new 2>/dev/null || echo ro", set: imageMount(nil), see: wantImageMount("in the image\nro\n"), old: oldImageMounts},
	"image.image of none":        {set: imageMount(func(m *cri.Mount) { m.Image.Image = "none:1" }), code: codes.NotFound, text: "config.mounts[0].image.image"},
	"image.image and a path":     {set: imageMount(func(m *cri.Mount) { m.HostPath = "/" }), code: codes.InvalidArgument, text: "mounts[0].host_path"},
	"image.image shared":         {set: imageMount(func(m *cri.Mount) { m.Propagation = cri.MountPropagation_PROPAGATION_BIDIRECTIONAL }), code: codes.InvalidArgument, text: "mounts[0].propagation"},
	"image.annotations":          {script: "cat /mnt/sub/file", set: imageMount(func(m *cri.Mount) { m.Image.Annotations = map[string]string{"a": "b"} }), see: wantImageMount("in the image\n"), old: oldImageMounts},
	"image.user_specified_image": {script: "cat /mnt/sub/file", set: imageMount(func(m *cri.Mount) { m.Image.UserSpecifiedImage = "app" }), see: wantImageMount("in the image\n"), old: oldImageMounts},
	"image.runtime_handler":      {set: imageMount(func(m *cri.Mount) { m.Image.RuntimeHandler = "kata" }), code: codes.InvalidArgument, text: "config.mounts[0].image.runtime_handler"},
	"image.image_ref":            {script: "cat /mnt/sub/file", set: imageMount(func(m *cri.Mount) { m.Image.ImageRef = "" }), see: wantImageMount("in the image\n"), old: oldImageMounts},
	"image_sub_path":             {script: "cat /mnt/file", set: imageMount(func(m *cri.Mount) { m.ImageSubPath = "sub" }), see: wantImageMount("in the image\n"), old: oldImageMounts},
	"image_sub_path that is missing": {
		set: imageMount(func(m *cri.Mount) { m.ImageSubPath = "none" }), code: codes.FailedPrecondition, text: "/none: no such file", old: oldImageMounts, start: true,
	},
	"image_sub_path that leads out":   {set: imageMount(func(m *cri.Mount) { m.ImageSubPath = "../x" }), code: codes.InvalidArgument, text: "mounts[0].image_sub_path"},
	"image_sub_path without an image": {set: mount(func(m *cri.Mount) { m.ImageSubPath = "x" }), code: codes.InvalidArgument, text: "mounts[0].image_sub_path"},
}), prefixed("config.mounts.uidMappings.", idmapped(func(m *cri.Mount, ids []*cri.IDMapping) { m.UidMappings = ids })),
	prefixed("config.mounts.gidMappings.", idmapped(func(m *cri.Mount, ids []*cri.IDMapping) { m.GidMappings = ids })))

func idmapped(set func(*cri.Mount, []*cri.IDMapping)) map[string]containerField {
	rows := map[string]containerField{}
	for name, ids := range map[string]*cri.IDMapping{"host_id": {HostId: 1, Length: 1}, "container_id": {ContainerId: 1, Length: 1}, "length": {Length: 1}} {
		rows[name] = containerField{set: mount(func(m *cri.Mount) { set(m, []*cri.IDMapping{ids}) }), code: codes.Unimplemented, text: "mounts[0].uidMappings, gidMappings"}
	}
	return rows
}

// mount adds a mount of a directory, with a file and another mount in it, at /mnt.
func mount(change func(*cri.Mount)) func(*testing.T, *cri.CreateContainerRequest) {
	return func(t *testing.T, req *cri.CreateContainerRequest) {
		t.Helper()
		dir := t.TempDir()
		below := filepath.Join(dir, "below")
		if err := os.WriteFile(filepath.Join(dir, "name"), []byte("of the host"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(dir, filepath.Join(dir, "link")); err != nil {
			t.Fatal(err)
		}
		mountTmpfs(t, below)
		m := &cri.Mount{HostPath: dir, ContainerPath: "/mnt"}
		if change != nil {
			change(m)
		}
		req.Config.Mounts = append(req.Config.Mounts, m)
	}
}

func mountTmpfs(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
}

// sharedMount adds a mount of a file system that is shared, as systemd makes all of them.
func sharedMount(propagation cri.MountPropagation) func(*testing.T, *cri.CreateContainerRequest) {
	return func(t *testing.T, req *cri.CreateContainerRequest) {
		t.Helper()
		dir := filepath.Join(t.TempDir(), "shared")
		mountTmpfs(t, dir)
		if err := unix.Mount("", dir, "", unix.MS_SHARED, ""); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"host", "container"} {
			if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		req.Config.Mounts = append(req.Config.Mounts, &cri.Mount{HostPath: dir, ContainerPath: "/mnt", Propagation: propagation})
	}
}

// imageMount adds a mount of the bench's image at /mnt.
func imageMount(change func(*cri.Mount)) func(*testing.T, *cri.CreateContainerRequest) {
	return func(_ *testing.T, req *cri.CreateContainerRequest) {
		m := &cri.Mount{Image: &cri.ImageSpec{Image: req.Config.Image.Image}, ContainerPath: "/mnt"}
		if change != nil {
			change(m)
		}
		req.Config.Mounts = append(req.Config.Mounts, m)
	}
}

func wantImageMount(output string) func(*testing.T, *bench, container) {
	return func(t *testing.T, b *bench, c container) {
		t.Helper()
		wantOutput(output)(t, b, c)
		id := b.docker(t, "image", "inspect", "-f", "{{.Id}}", b.image)
		if m := c.status.GetMounts(); len(m) != 1 || m[0].GetImage().GetImage() != id || m[0].GetImage().GetImageRef() != b.digest {
			t.Errorf("mounts in the status: %v, want image %s, %s", m, id, b.digest)
		}
	}
}

func wantOnHost(name, text string) func(*testing.T, *bench, container) {
	return func(t *testing.T, b *bench, c container) {
		t.Helper()
		wantOutput("")(t, b, c)
		if got, err := os.ReadFile(filepath.Join(c.status.GetMounts()[0].GetHostPath(), name)); err != nil || string(got) != text {
			t.Errorf("on the host: %q, %v", got, err)
		}
	}
}

// wantWritable checks the mount itself, and what is mounted below it.
func wantWritable(mount, below bool) func(*testing.T, *bench, container) {
	return func(t *testing.T, _ *bench, c container) {
		t.Helper()
		for path, want := range map[string]bool{"/mnt": mount, "/mnt/below": below} {
			if options := c.mounted(t, path); strings.HasPrefix(options, "rw") != want || options == "" {
				t.Errorf("%s is mounted %q, writable: want %v", path, options, want)
			}
		}
		if m := c.status.GetMounts()[0]; m.GetReadonly() != !mount || m.GetRecursiveReadOnly() != !below {
			t.Errorf("the status says %v", m)
		}
	}
}

// wantPropagation mounts something in the container, by its mount namespace, and on the
// host, and looks for it on the other side.
func wantPropagation(toContainer, toHost bool) func(*testing.T, *bench, container) {
	return func(t *testing.T, _ *bench, c container) {
		t.Helper()
		m := c.status.GetMounts()[0]
		mountTmpfs(t, filepath.Join(m.GetHostPath(), "host"))
		if options := c.mounted(t, "/mnt/host"); (options != "") != toContainer {
			t.Errorf("a mount on the host is in the container as %q, want it there: %v", options, toContainer)
		}
		run(t, "nsenter", fmt.Sprintf("--mount=/proc/%d/ns/mnt", c.pid(t)), "--wd=/", "/bin/busybox", "mount", "-t", "tmpfs", "tmpfs", "/mnt/container")
		host, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(m.GetHostPath(), "container")
		if got := strings.Contains(string(host), " "+path+" "); got != toHost {
			t.Errorf("a mount in the container is on the host: %v, want %v", got, toHost)
		}
	}
}
