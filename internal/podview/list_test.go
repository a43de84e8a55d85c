package podview

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/golden"
	"github.com/mascri/mascri/internal/table"
)

// start is when the youngest pod was made.
var start = time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC)

// A node is a runtime that answers from memory.
type node struct {
	cri.RuntimeServiceClient // its other methods are not called
	sandboxes                []*cri.PodSandbox
	ips                      map[string][]string
	containers               []*cri.Container
	exits                    map[string]*cri.ContainerStatus
	err                      error
}

func (n *node) ListPodSandbox(_ context.Context, req *cri.ListPodSandboxRequest, _ ...grpc.CallOption) (*cri.ListPodSandboxResponse, error) {
	resp := &cri.ListPodSandboxResponse{}
	for _, s := range n.sandboxes {
		if state := req.GetFilter().GetState(); (state == nil || state.State == s.State) && has(s.Labels, req.GetFilter().GetLabelSelector()) {
			resp.Items = append(resp.Items, s)
		}
	}
	return resp, n.err
}

func (n *node) PodSandboxStatus(_ context.Context, req *cri.PodSandboxStatusRequest, _ ...grpc.CallOption) (*cri.PodSandboxStatusResponse, error) {
	ips, ok := n.ips[req.PodSandboxId]
	if !ok {
		return nil, status.Error(codes.NotFound, "no such sandbox")
	}
	network := &cri.PodSandboxNetworkStatus{}
	for i, ip := range ips {
		if i == 0 {
			network.Ip = ip
			continue
		}
		network.AdditionalIps = append(network.AdditionalIps, &cri.PodIP{Ip: ip})
	}
	return &cri.PodSandboxStatusResponse{Status: &cri.PodSandboxStatus{Network: network}}, nil
}

func (n *node) ListContainers(_ context.Context, req *cri.ListContainersRequest, _ ...grpc.CallOption) (*cri.ListContainersResponse, error) {
	resp := &cri.ListContainersResponse{}
	for _, c := range n.containers {
		if state := req.GetFilter().GetState(); (state == nil || state.State == c.State) && has(c.Labels, req.GetFilter().GetLabelSelector()) {
			resp.Containers = append(resp.Containers, c)
		}
	}
	return resp, n.err
}

func (n *node) ContainerStatus(_ context.Context, req *cri.ContainerStatusRequest, _ ...grpc.CallOption) (*cri.ContainerStatusResponse, error) {
	s, ok := n.exits[req.ContainerId]
	if !ok {
		return nil, status.Error(codes.NotFound, "no such container")
	}
	return &cri.ContainerStatusResponse{Status: s}, nil
}

func has(labels, wanted map[string]string) bool {
	for key, value := range wanted {
		if labels[key] != value {
			return false
		}
	}
	return true
}

func (n *node) pod(id, namespace, name string, older time.Duration, state cri.PodSandboxState, ips ...string) {
	n.sandboxes = append(n.sandboxes, &cri.PodSandbox{
		Id: long(id), Metadata: &cri.PodSandboxMetadata{Name: name, Namespace: namespace, Uid: "uid-" + id},
		State: state, CreatedAt: start.Add(-older).UnixNano(), Labels: map[string]string{"app": name},
	})
	n.ips[long(id)] = ips
}

func (n *node) container(id, pod, name string, attempt uint32, state cri.ContainerState, image string) {
	n.containers = append(n.containers, &cri.Container{
		Id: long(id), PodSandboxId: long(pod), Metadata: &cri.ContainerMetadata{Name: name, Attempt: attempt}, State: state,
		Image: &cri.ImageSpec{Image: "sha256:" + long("f00d"), UserSpecifiedImage: image}, Labels: map[string]string{"tier": name},
		CreatedAt: start.Add(time.Duration(attempt) * time.Second).UnixNano(),
	})
}

func long(id string) string { return id + strings.Repeat("0", 64-len(id)) }

// busy has what takes the most room.
func busy() *node {
	const ready, ended = cri.PodSandboxState_SANDBOX_READY, cri.PodSandboxState_SANDBOX_NOTREADY
	const created, running, exited = cri.ContainerState_CONTAINER_CREATED, cri.ContainerState_CONTAINER_RUNNING, cri.ContainerState_CONTAINER_EXITED
	n := &node{ips: map[string][]string{}, exits: map[string]*cri.ContainerStatus{}}
	n.pod("a1", "default", "web", 0, ready, "10.88.0.2", "fd00:88::2")
	n.pod("a0", "default", "old", 50*time.Hour, ended)
	n.pod("b1", "kube-system", "coredns-7db6d8ff4d-abcde", 3*time.Hour, ready, "203.100.113.124")
	n.pod("c1", "six", "only", 5*time.Minute, ready, "2001:db8:1111:2222:3333:4444:5555:6666")
	n.container("aa", "a1", "app", 3, running, "registry.example.com/team/application:1.2.3")
	n.container("ab", "a1", "app", 2, exited, "registry.example.com/team/application:1.2.3")
	n.container("ac", "a1", "log", 0, created, "")
	n.container("ad", "a1", "setup", 0, exited, "busybox:1")
	n.container("bb", "b1", "coredns", 12, exited, "coredns:1")
	n.exits[long("ab")] = &cri.ContainerStatus{ExitCode: 137, Reason: "OOMKilled"}
	n.exits[long("ad")] = &cri.ContainerStatus{Reason: "Completed"}
	n.exits[long("bb")] = &cri.ContainerStatus{ExitCode: 1, Reason: "Error"}
	return n
}

func TestTablesFitATerminal(t *testing.T) {
	now := start.Add(42 * time.Second)
	for name, n := range map[string]*node{"": busy(), "-empty": {}} {
		pods, err := ListPods(t.Context(), n, Wanted{All: true})
		if err != nil {
			t.Fatal(err)
		}
		containers, err := ListContainers(t.Context(), n, Wanted{All: true})
		if err != nil {
			t.Fatal(err)
		}
		for kind, write := range map[string]func(*bytes.Buffer, bool) error{
			"pods": func(b *bytes.Buffer, colour bool) error { return pods.WriteText(b, now, 80, colour) },
			"ps":   func(b *bytes.Buffer, colour bool) error { return containers.WriteText(b, now, 80, colour) },
		} {
			var b, coloured bytes.Buffer
			if err := write(&b, false); err != nil {
				t.Fatal(err)
			}
			golden.Compare(t, kind+name+".txt", b.Bytes())
			for line := range strings.Lines(b.String()) {
				if n := utf8.RuneCountInString(strings.TrimSpace(line)); n > 80 {
					t.Errorf("%d columns: %s", n, line)
				}
			}
			if err := write(&coloured, true); err != nil {
				t.Fatal(err)
			}
			if bare := strings.NewReplacer(table.Bold, "", table.Plain, "").Replace(coloured.String()); bare != b.String() {
				t.Errorf("in colour:\n%q", coloured.String())
			}
		}
	}
}

func TestAWiderTerminalShortensNothing(t *testing.T) {
	containers, err := ListContainers(t.Context(), busy(), Wanted{All: true})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := containers.WriteText(&b, start, 200, false); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"kube-system/coredns-7db6d8ff4d-abcde", "application:1.2.3"} {
		if !strings.Contains(b.String(), name) {
			t.Errorf("no %s in\n%s", name, b.String())
		}
	}
}

func TestListsHoldWhatIsWanted(t *testing.T) {
	for name, tt := range map[string]struct {
		wanted           Wanted
		pods, containers string
	}{
		"what runs":     {Wanted{}, "a1 b1 c1", "aa"},
		"all":           {Wanted{All: true}, "a1 a0 b1 c1", "aa ab ac ad bb"},
		"a namespace":   {Wanted{All: true, Namespace: "kube-system"}, "b1", "bb"},
		"a pod's label": {Wanted{All: true, Labels: map[string]string{"app": "old"}}, "a0", ""},
		"a container's": {Wanted{All: true, Labels: map[string]string{"tier": "app"}}, "", "aa ab"},
	} {
		t.Run(name, func(t *testing.T) {
			pods, err := ListPods(t.Context(), busy(), tt.wanted)
			if err != nil {
				t.Fatal(err)
			}
			containers, err := ListContainers(t.Context(), busy(), tt.wanted)
			if err != nil {
				t.Fatal(err)
			}
			if got := begins(t, pods.WriteIDs); got != tt.pods {
				t.Errorf("pods %q, want %q", got, tt.pods)
			}
			if got := begins(t, containers.WriteIDs); got != tt.containers {
				t.Errorf("containers %q, want %q", got, tt.containers)
			}
		})
	}
}

// begins are the first two letters of each id.
func begins(t *testing.T, write func(io.Writer) error) string {
	t.Helper()
	var b bytes.Buffer
	if err := write(&b); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for id := range strings.Lines(b.String()) {
		ids = append(ids, id[:2])
	}
	return strings.Join(ids, " ")
}
