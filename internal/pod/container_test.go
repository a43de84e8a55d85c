package pod_test

import (
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

func fullContainer() pod.ContainerSpec {
	return pod.ContainerSpec{
		Instance: "0123456789abcdef0123456789abcdef", Sandbox: pod.Sandbox{Config: full().Config},
		Fixed: pod.Fixed{
			SandboxID: strings.Repeat("5a", 32), ImageName: "busybox:1", ImageRef: "busybox@sha256:1234", LogPath: "/var/log/pods/app/0.log",
			User: pod.User{UID: 1000, GID: 2000, Groups: []int64{2000, 3000}},
			Config: &cri.ContainerConfig{
				Metadata: &cri.ContainerMetadata{Name: "app", Attempt: 3}, Image: &cri.ImageSpec{Image: "busybox:1"},
				Labels: map[string]string{"app": "web"}, Annotations: map[string]string{"note": "a\nb\u2028\"{}"},
				Args: []string{"x"}, Mounts: []*cri.Mount{{HostPath: "/a", ContainerPath: "/b"}},
			},
		},
	}
}

func TestContainerLabelsRoundTrip(t *testing.T) {
	spec := fullContainer()
	want := pod.Decoded{Kind: pod.KindContainer, Instance: spec.Instance, Container: spec.Fixed}
	want.Container.Config = proto.CloneOf(spec.Config)
	spec.Config.Envs = []*cri.KeyValue{{Key: "PASSWORD", Value: []byte("secret")}}
	labels, err := pod.ContainerLabels(spec)
	if err != nil {
		t.Fatal(err)
	}
	got, err := pod.DecodeLabels(labels)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	for key, text := range labels {
		if strings.Contains(text, "PASSWORD") || strings.Contains(text, "secret") {
			t.Errorf("label %s has the environment: %s", key, text)
		}
	}
	if len(spec.Config.GetEnvs()) != 1 {
		t.Error("the request was changed")
	}
	if labels["io.kubernetes.container.name"] != "app" || labels["io.kubernetes.pod.uid"] != "u-1" {
		t.Errorf("courtesy labels: %v", labels)
	}
}

func TestProbeLabels(t *testing.T) {
	labels, err := pod.ProbeLabels("x")
	if err != nil {
		t.Fatal(err)
	}
	if d, err := pod.DecodeLabels(labels); err != nil || d.Kind != pod.KindProbe || d.Instance != "x" {
		t.Errorf("%v, %v", d, err)
	}
}

func FuzzDecodeContainerLabels(f *testing.F) {
	labels, err := pod.ContainerLabels(fullContainer())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(labels[pod.LabelKey])
	f.Add(`{"kind":"container","instance":"x","config":{},"groups":[1,-1]}`)
	f.Add(`{"kind":"container","instance":"x","config":null}`)
	f.Fuzz(func(t *testing.T, text string) {
		got, err := pod.DecodeLabels(map[string]string{pod.LabelKey: text})
		if err != nil {
			if !errors.Is(err, pod.ErrForeign) {
				t.Fatalf("error %v is not ErrForeign", err)
			}
			return
		}
		if got.Kind != pod.KindContainer {
			return
		}
		got.Container.Config.Envs = nil // as in all that we write
		labels, err := pod.ContainerLabels(pod.ContainerSpec{Instance: got.Instance, Fixed: got.Container})
		if err != nil {
			t.Fatalf("what was decoded can't be encoded: %v", err)
		}
		again, err := pod.DecodeLabels(labels)
		if err != nil || !proto.Equal(got.Container.Config, again.Container.Config) {
			t.Fatalf("config: %v, %v; want %v", again.Container.Config, err, got.Container.Config)
		}
		got.Container.Config, again.Container.Config = nil, nil
		if len(got.Container.User.Groups) == 0 {
			got.Container.User.Groups = nil
		}
		if diff := cmp.Diff(got, again); diff != "" {
			t.Fatalf("round trip (-first +second)\n%s", diff)
		}
	})
}

// Two different containers never get one name, nor does a container a sandbox's, and the
// engine takes every name.
func FuzzContainerName(f *testing.F) {
	engine := regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`) // moby, daemon/names
	f.Add("POD", "a", "..50OD", "a")
	f.Add("app", "POD_a", "app_POD", "a")
	f.Add("", "", ".", "_")
	f.Add("POD", "", "", "POD")
	f.Fuzz(func(t *testing.T, container1, pod1, container2, pod2 string) {
		name := func(container, sandbox string) string {
			return pod.ContainerName(&cri.ContainerMetadata{Name: container}, &cri.PodSandboxMetadata{Name: sandbox})
		}
		one, two := name(container1, pod1), name(container2, pod2)
		if same := container1 == container2 && pod1 == pod2; same != (one == two) {
			t.Fatalf("%q/%q and %q/%q are named %q and %q", pod1, container1, pod2, container2, one, two)
		}
		if sandbox := pod.SandboxName(&cri.PodSandboxMetadata{Name: pod2}); one == sandbox || strings.HasPrefix(one, "k8s_POD_") {
			t.Fatalf("container %q/%q is named like a sandbox: %q", pod1, container1, one)
		}
		if !engine.MatchString(one) {
			t.Fatalf("the engine refuses %q", one)
		}
	})
}

func TestContainerName(t *testing.T) {
	m := &cri.PodSandboxMetadata{Name: "web-0.a", Namespace: "shop", Uid: "1-2", Attempt: 9}
	if got := pod.ContainerName(&cri.ContainerMetadata{Name: "app", Attempt: 3}, m); got != "k8s_app_web-0.a_shop_1-2_3" {
		t.Errorf("%q", got)
	}
}

func TestContainerState(t *testing.T) {
	at := time.Unix(1, 0)
	for name, tt := range map[string]struct {
		c    pod.Container
		want cri.ContainerState
	}{
		"created":              {pod.Container{}, cri.ContainerState_CONTAINER_CREATED},
		"running":              {pod.Container{Running: true, StartedAt: at}, cri.ContainerState_CONTAINER_RUNNING},
		"running once more":    {pod.Container{Running: true, StartedAt: at, FinishedAt: at}, cri.ContainerState_CONTAINER_RUNNING},
		"ended":                {pod.Container{StartedAt: at, FinishedAt: at}, cri.ContainerState_CONTAINER_EXITED},
		"could not be started": {pod.Container{StartError: "no such file"}, cri.ContainerState_CONTAINER_EXITED},
	} {
		if got := tt.c.State(); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}
