package pod_test

import (
	"fmt"
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
