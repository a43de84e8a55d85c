package kubelet

import (
	"strings"
	"testing"

	"github.com/mascri/mascri/test/registry"
)

func imagePolicies(t *testing.T, b bench) {
	once := func(name, image, policy string) {
		b.add(t, name, `
restartPolicy: Never
containers:
- {name: main, image: "`+image+`", imagePullPolicy: `+policy+`, command: [sh, -c, "cat /words || echo none"]}`)
	}
	b.registry.Push(t, "policy/always", "1", registry.Image{Env: []string{"PATH=/bin"}, Files: map[string]string{"words": "pulled\n"}})
	once("image-always-1", b.registry.Ref("policy/always", "1"), "Always")
	once("image-never", b.registry.Ref("policy/never", "1"), "Never")
	once("image-missing", b.registry.Ref("policy/missing", "1"), "IfNotPresent")

	// An image that was just built is in no registry.
	dir := t.TempDir()
	write(t, dir+"/words", "built a moment ago\n")
	write(t, dir+"/Dockerfile", "FROM "+b.image+"\nCOPY words /words\n")
	b.docker(t, "build", "--quiet", "--tag", "just/built:1", dir)
	once("image-built", "just/built:1", "IfNotPresent")
	b.untilDone(t, "image-built")
	if log := b.log(t, "image-built", "main", ""); log != "built a moment ago\n" {
		t.Errorf("of the image just built: %q", log)
	}
	b.shows(t, "an image just built by docker build runs", "just/built:1 says %q", strings.TrimSpace(b.log(t, "image-built", "main", "")))

	b.untilDone(t, "image-always-1")
	once("image-always-2", b.registry.Ref("policy/always", "1"), "Always")
	once("image-present", b.registry.Ref("policy/always", "1"), "IfNotPresent")
	b.untilDone(t, "image-always-2")
	b.untilDone(t, "image-present")
	waits := func(name, reason string) string {
		p := b.until(t, name, "waits for its image", func(p pod) bool {
			w := p.container("main").State.Waiting
			return w != nil && strings.Contains(reason, w.Reason) && w.Reason != ""
		})
		return p.container("main").State.Waiting.Reason
	}
	never, missing := waits("image-never", "ErrImageNeverPull"), waits("image-missing", "ErrImagePull ImagePullBackOff")
	asked := len(b.registry.Requests("/v2/policy/always/manifests/1"))
	blobs := len(b.registry.Requests("GET /v2/policy/always/blobs"))
	if asked < 2 || len(b.registry.Requests("/v2/policy/never")) > 0 {
		t.Errorf("the registry was asked %d times for the image that is always pulled, and of the one that never is: %v", asked, b.registry.Requests("/v2/policy/never"))
	}
	b.shows(t, "image pull policies are kept", "Always: the manifest was asked for %d times, blobs %d times; Never: %s; missing: %s", asked, blobs, never, missing)
}

// The node has credentials for one registry in the file that the kubelet reads.
func imageCredentials(t *testing.T, b bench) {
	for name, r := range map[string]*registry.Registry{"image-private": b.private, "image-forbidden": b.forbidden} {
		b.add(t, name, `
restartPolicy: Never
containers:
- {name: main, image: "`+r.Ref("own/app", "1")+`", command: ["true"]}`)
	}
	b.untilDone(t, "image-private")
	p := b.until(t, "image-forbidden", "is refused", func(p pod) bool {
		w := p.container("main").State.Waiting
		return w != nil && w.Reason == "ErrImagePull"
	})
	b.shows(t, "images come from a registry with credentials, and not without", "pulled from %s; from the other: %s", b.private.Host, p.container("main").State.Waiting.Message)
	if strings.Contains(read(t, b.mascri.log), password) {
		t.Error("the password is in MasCRI's log")
	}
}
