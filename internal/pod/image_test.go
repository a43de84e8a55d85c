package pod_test

import (
	"fmt"
	"path"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/mascri/mascri/internal/pod"
)

func TestImageName(t *testing.T) {
	id := strings.Repeat("ab", 32)
	for text, want := range map[string]string{
		"busybox":                    "busybox",
		"busybox:1":                  "busybox:1",
		"busybox@sha256:" + id:       "docker.io/library/busybox@sha256:" + id,
		"a.b:5/c/d:1@sha256:" + id:   "a.b:5/c/d@sha256:" + id,
		id:                           id,
		"sha256:" + id:               "sha256:" + id,
		id[:12]:                      id[:12],
		"sha256:" + id[:12]:          "sha256:" + id[:12],
		"":                           "",
		"UPPER":                      "",
		"../containers/x":            "",
		"a?b":                        "",
		"busybox@sha256:" + id[:10]:  "",
		"busybox:1:2":                "",
		"https://registry.test/busy": "",
	} {
		got, err := pod.ImageName(text)
		if got != want || (err != nil) != (want == "") || err != nil && !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %q, %v; want %q", text, got, err, want)
		}
	}
}

func TestPullName(t *testing.T) {
	id := strings.Repeat("ab", 32)
	for text, want := range map[string][2]string{
		"busybox":                  {"docker.io/library/busybox:latest", "docker.io"},
		"index.docker.io/a/b":      {"docker.io/a/b:latest", "docker.io"},
		"a.b:5/c/d:1@sha256:" + id: {"a.b:5/c/d@sha256:" + id, "a.b:5"},
		"localhost/c:1":            {"localhost/c:1", "localhost"},
		id:                         {},
		"":                         {},
		"UPPER":                    {},
	} {
		ref, host, err := pod.PullName(text)
		if got := [2]string{ref, host}; got != want || (err != nil) != (want[0] == "") || err != nil && !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %q, %v; want %q", text, got, err, want)
		}
	}
}

func TestMatchesOfAnImage(t *testing.T) {
	id := strings.Repeat("ab", 32)
	image := pod.Image{ID: "sha256:" + id, Tags: []string{"busybox:1", "a.b:5/c:2"}, Digests: []string{"busybox@sha256:" + strings.Repeat("cd", 32)}}
	for name, want := range map[string]bool{
		id: true, "sha256:" + id: true, id[:12]: true, "sha256:" + id[:12]: true, id[:11]: false, "ab": false, "sha256:ab": false,
		"busybox": true, "busybox:1": true, "docker.io/library/busybox:1": true, "busybox:2": false, "busybox:latest": false, "busy": false,
		"a.b:5/c": true, "a.b:5/c:2": true, "c:2": false,
		"docker.io/library/busybox@sha256:" + strings.Repeat("cd", 32): true, "busybox@sha256:" + id: false, "a.b:5/c@sha256:" + strings.Repeat("cd", 32): false,
	} {
		if got := image.Matches(name); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

func TestCredentialsPrintWithoutSecrets(t *testing.T) {
	auth := pod.RegistryAuth{Username: "somebody", Password: "secret1", IdentityToken: "secret2", RegistryToken: "secret3"}
	for _, text := range []string{fmt.Sprint(auth), fmt.Sprintf("%+v", auth), fmt.Sprintf("%#v", auth), auth.Key()} {
		if strings.Contains(text, "secret") {
			t.Error(text)
		}
	}
	other := auth
	other.Password = "secret4"
	if auth.Key() == other.Key() {
		t.Error("two passwords have one key")
	}
}

// What is accepted leads to no other path of the engine's API, and back to itself.
func FuzzImageName(f *testing.F) {
	for _, text := range []string{"busybox:1", "a.b:5/c@sha256:" + strings.Repeat("ab", 32), "../x", "a/../b", "a//b", "a?b#c", "a%2e%2e"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		name, err := pod.ImageName(text)
		if err != nil {
			if !errdefs.IsInvalidArgument(err) {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		if request := "/images/" + name + "/json"; path.Clean(request) != request || strings.ContainsAny(name, "?#% \x00") {
			t.Fatalf("%q leads to %q", text, request)
		}
		if again, err := pod.ImageName(name); err != nil || again != name {
			t.Fatalf("%q is %q, and that %q: %v", text, name, again, err)
		}
		if ref, _, err := pod.PullName(text); err == nil {
			image := pod.Image{ID: "sha256:x", Tags: []string{ref}}
			if strings.Contains(ref, "@") {
				image = pod.Image{ID: "sha256:x", Digests: []string{ref}}
			}
			if !image.Matches(name) {
				t.Fatalf("the image pulled as %q, %q, is not found as %q", text, ref, name)
			}
		}
	})
}
