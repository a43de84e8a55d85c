package critest

import (
	"runtime"
	"testing"

	"github.com/mascri/mascri/test/registry"
)

// Repositories of the images, on hosts that are one here.
const (
	e2e     = "e2e-test-images/"
	staging = "k8s-staging-cri-tools/"
)

// environment is that of the busybox image: with no PATH an engine sets one.
var environment = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}

// Serve runs a registry with every image that critest asks for, and returns the digest of
// the one that critest asks for by its digest (sha256:...).
func Serve(t testing.TB) (digest string) {
	t.Helper()
	hosts := registry.StartAs(t, "registry.k8s.io", "k8s.gcr.io", "gcr.io")
	fs := newRootfs(t)
	push := func(name, tag string, image registry.Image) string {
		t.Helper()
		image.Env = environment
		return hosts.Push(t, name, tag, image)
	}
	shell := func(files ...file) registry.Image {
		return registry.Image{Cmd: []string{"sh"}, Layer: fs.layer(t, files...)}
	}
	named := func(name string) registry.Image { return shell(file{name, 0o644, nil}) }

	push(e2e+"busybox", "1.29-2", shell())
	push("pause", "3.9", registry.Image{Entrypoint: []string{"sleep", "infinity"}, Layer: fs.layer(t, file{"pause", 0o644, nil})})
	push(e2e+"nonewprivs", "1.3", registry.Image{
		Entrypoint: []string{"/nonewprivs"}, Layer: fs.layer(t, file{"nonewprivs", 0o4755, program(t, "nonewprivs")}),
	})

	binary := program(t, "webserver")
	web := func(name, port string) registry.Image {
		return registry.Image{Cmd: []string{"/usr/sbin/" + name, port}, Layer: fs.layer(t, file{"usr/sbin/" + name, 0o755, binary})}
	}
	push(e2e+"nginx", "1.14-2", web("nginx", "80"))
	push(e2e+"httpd", "2.4.39-4", web("httpd", "80"))
	push(staging+"hostnet-nginx-"+runtime.GOARCH, "latest", web("nginx", "12003"))

	for _, name := range []string{"test-image-1", "test-image-2", "test-image-3", "test-image-latest"} {
		push(staging+name, "latest", named(name))
	}
	for _, tag := range []string{"1", "2", "3"} {
		push(staging+"test-image-tags", tag, named("same-image"))
	}
	for _, tag := range []string{"test", "all"} {
		push(staging+"test-image-tag", tag, named(tag))
	}
	for name, user := range map[string]string{
		"test-image-user-uid": "1002", "test-image-user-username": "www-data",
		"test-image-user-uid-group": "1003:1004", "test-image-user-username-group": "www-data:1004",
	} {
		image := shell()
		image.User = user
		push(staging+name, "latest", image)
	}
	grouped := shell(
		file{"etc/passwd", 0o644, []byte(passwd + "default-user:x:1000:1000::/home/default-user:/bin/sh\n")},
		file{"etc/group", 0o644, []byte(group + "default-user:x:1000:\ngroup-defined-in-image:x:50000:default-user\n")},
	)
	grouped.User = "1000"
	push(staging+"test-image-predefined-group", "latest", grouped)
	return push(staging+"test-image-digest", "latest", named("test-image-digest"))
}
