package pod_test

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

func full() pod.SandboxSpec {
	return pod.SandboxSpec{
		Instance:       "0123456789abcdef0123456789abcdef",
		RuntimeHandler: "runc",
		Config: &cri.PodSandboxConfig{
			Metadata:     &cri.PodSandboxMetadata{Name: "web", Namespace: "shop", Uid: "u-1", Attempt: 2},
			Hostname:     "web",
			Labels:       map[string]string{"app": "web"},
			Annotations:  map[string]string{"note": "a\nb\u2028\"{}"},
			PortMappings: []*cri.PortMapping{{HostPort: 80, ContainerPort: 8080, Protocol: cri.Protocol_SCTP}},
			Linux: &cri.LinuxPodSandboxConfig{
				Sysctls:   map[string]string{"net.ipv4.ip_forward": "1"},
				Resources: &cri.LinuxContainerResources{CpuShares: 1 << 40},
			},
		},
	}
}

func TestLabelsRoundTrip(t *testing.T) {
	spec := full()
	labels, err := pod.Labels(spec)
	if err != nil {
		t.Fatal(err)
	}
	got, err := pod.DecodeLabels(labels)
	if err != nil {
		t.Fatal(err)
	}
	want := pod.Decoded{Kind: pod.KindSandbox, Instance: spec.Instance, Config: spec.Config, RuntimeHandler: spec.RuntimeHandler}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	for key, value := range map[string]string{"io.kubernetes.pod.name": "web", "io.kubernetes.pod.namespace": "shop", "io.kubernetes.pod.uid": "u-1", "io.kubernetes.container.name": "POD"} {
		if labels[key] != value {
			t.Errorf("courtesy label %s is %q, want %q", key, labels[key], value)
		}
	}
}

func TestForeignLabels(t *testing.T) {
	for name, labels := range map[string]map[string]string{
		"none":                nil,
		"a later version":     {"io.mascri.v2": "{}"},
		"no JSON":             {pod.LabelKey: "{"},
		"another kind":        {pod.LabelKey: `{"kind":"other","instance":"x","config":{}}`},
		"no instance":         {pod.LabelKey: `{"kind":"sandbox","config":{}}`},
		"a config of no form": {pod.LabelKey: `{"kind":"sandbox","instance":"x","config":[]}`},
	} {
		if _, err := pod.DecodeLabels(labels); !errors.Is(err, pod.ErrForeign) {
			t.Errorf("%s: error %v, want ErrForeign", name, err)
		}
	}
	// A field that a later build stored must not make its sandboxes foreign to this one.
	later := map[string]string{pod.LabelKey: `{"kind":"sandbox","instance":"x","config":{"hostname":"h","newField":1},"more":2}`}
	if d, err := pod.DecodeLabels(later); err != nil || d.Config.GetHostname() != "h" {
		t.Errorf("label of a later build: %v, %v", d, err)
	}
}

func FuzzDecodeLabels(f *testing.F) {
	labels, err := pod.Labels(full())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(labels[pod.LabelKey])
	f.Add(`{"kind":"sandbox","instance":"x","config":null}`)
	f.Fuzz(func(t *testing.T, text string) {
		got, err := pod.DecodeLabels(map[string]string{pod.LabelKey: text})
		if err != nil {
			if !errors.Is(err, pod.ErrForeign) {
				t.Fatalf("error %v is not ErrForeign", err)
			}
			return
		}
		labels, err := pod.Labels(pod.SandboxSpec{Instance: got.Instance, Config: got.Config, RuntimeHandler: got.RuntimeHandler})
		if err != nil {
			t.Fatalf("what was decoded can't be encoded: %v", err)
		}
		again, err := pod.DecodeLabels(labels)
		if err != nil || again.Instance != got.Instance || again.RuntimeHandler != got.RuntimeHandler || !proto.Equal(again.Config, got.Config) {
			t.Fatalf("round trip: %v, %v; want %v", again, err, got)
		}
	})
}

func TestSandboxName(t *testing.T) {
	for _, tt := range []struct {
		m    *cri.PodSandboxMetadata
		want string
	}{
		{&cri.PodSandboxMetadata{Name: "web-0.a", Namespace: "shop", Uid: "1-2", Attempt: 3}, "k8s_POD_web-0.a_shop_1-2_3"},
		{&cri.PodSandboxMetadata{Name: "only"}, "k8s_POD_only___0"},
		{&cri.PodSandboxMetadata{Name: "a_b/c", Namespace: "ü"}, "k8s_POD_a..5fb..2fc_..c3..bc__0"},
		{&cri.PodSandboxMetadata{Name: "a..5fb"}, "k8s_POD_a..2e..2e5fb___0"},
	} {
		if got := pod.SandboxName(tt.m); got != tt.want {
			t.Errorf("%v: %q, want %q", tt.m, got, tt.want)
		}
	}
}

// Two different pods must never get one name, and the engine must take every name.
func FuzzSandboxName(f *testing.F) {
	engine := regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`) // moby, daemon/names
	f.Add("a", "b", "c", "d")
	f.Add("a_b", "c", "a", "b_c")
	f.Add("a.", "_", "a", "._")
	f.Add("..", "5f", ".", ".5f")
	f.Fuzz(func(t *testing.T, name1, namespace1, name2, namespace2 string) {
		one := pod.SandboxName(&cri.PodSandboxMetadata{Name: name1, Namespace: namespace1})
		two := pod.SandboxName(&cri.PodSandboxMetadata{Name: name2, Namespace: namespace2})
		if same := name1 == name2 && namespace1 == namespace2; same != (one == two) {
			t.Fatalf("%q/%q and %q/%q are named %q and %q", namespace1, name1, namespace2, name2, one, two)
		}
		if !engine.MatchString(one) {
			t.Fatalf("the engine refuses %q", one)
		}
	})
}

func TestReady(t *testing.T) {
	pods := &cri.PodSandboxConfig{}
	host := &cri.PodSandboxConfig{Linux: &cri.LinuxPodSandboxConfig{SecurityContext: &cri.LinuxSandboxSecurityContext{
		NamespaceOptions: &cri.NamespaceOption{Network: cri.NamespaceMode_NODE},
	}}}
	attached := &pod.Attachment{Phase: pod.Attached, NetnsInode: 7}
	for name, tt := range map[string]struct {
		sandbox    pod.Sandbox
		attachment *pod.Attachment
		want       bool
	}{
		"running and attached":        {pod.Sandbox{Config: pods, Running: true, NetnsInode: 7}, attached, true},
		"dead":                        {pod.Sandbox{Config: pods, NetnsInode: 7}, attached, false},
		"restarted: another netns":    {pod.Sandbox{Config: pods, Running: true, NetnsInode: 8}, attached, false},
		"being attached":              {pod.Sandbox{Config: pods, Running: true, NetnsInode: 7}, &pod.Attachment{Phase: pod.Attaching, NetnsInode: 7}, false},
		"being detached":              {pod.Sandbox{Config: pods, Running: true, NetnsInode: 7}, &pod.Attachment{Phase: pod.Detaching, NetnsInode: 7}, false},
		"never attached":              {pod.Sandbox{Config: pods, Running: true, NetnsInode: 7}, nil, false},
		"host network":                {pod.Sandbox{Config: host, Running: true}, nil, true},
		"host network, but not alive": {pod.Sandbox{Config: host}, nil, false},
	} {
		if got := tt.sandbox.Ready(tt.attachment); got != tt.want {
			t.Errorf("%s: ready %v, want %v", name, got, tt.want)
		}
	}
}

func TestMatches(t *testing.T) {
	s := pod.Sandbox{ID: strings.Repeat("ab", 32), Config: &cri.PodSandboxConfig{Labels: map[string]string{"app": "web", "tier": ""}}}
	ready, notReady := cri.PodSandboxState_SANDBOX_READY, cri.PodSandboxState_SANDBOX_NOTREADY
	for name, tt := range map[string]struct {
		filter *cri.PodSandboxFilter
		want   bool
	}{
		"no filter":         {nil, true},
		"whole id":          {&cri.PodSandboxFilter{Id: s.ID}, true},
		"prefix of the id":  {&cri.PodSandboxFilter{Id: "aba"}, true},
		"another id":        {&cri.PodSandboxFilter{Id: "b"}, false},
		"its state":         {&cri.PodSandboxFilter{State: &cri.PodSandboxStateValue{State: ready}}, true},
		"another state":     {&cri.PodSandboxFilter{State: &cri.PodSandboxStateValue{State: notReady}}, false},
		"its label":         {&cri.PodSandboxFilter{LabelSelector: map[string]string{"app": "web"}}, true},
		"an empty label":    {&cri.PodSandboxFilter{LabelSelector: map[string]string{"tier": ""}}, true},
		"a label it lacks":  {&cri.PodSandboxFilter{LabelSelector: map[string]string{"zone": ""}}, false},
		"one of two labels": {&cri.PodSandboxFilter{LabelSelector: map[string]string{"app": "web", "tier": "x"}}, false},
		"all but the state": {&cri.PodSandboxFilter{Id: "ab", LabelSelector: map[string]string{"app": "web"}, State: &cri.PodSandboxStateValue{State: notReady}}, false},
	} {
		if got := s.Matches(tt.filter, ready); got != tt.want {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}
