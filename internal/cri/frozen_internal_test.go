package cri

import (
	"bytes"
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

// labelled has n labels. Those of a message are encoded in an order of their own each time.
func labelled(n int) pod.Container {
	c := pod.Container{ID: "id", Image: "image", Running: true, Fixed: pod.Fixed{SandboxID: "sandbox", ImageRef: "ref", Config: &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: "web", Attempt: 3}, Image: &cri.ImageSpec{Image: "busybox"}, Labels: map[string]string{},
	}}}
	for i := range n {
		c.Config.Labels[fmt.Sprint("key-", i)] = fmt.Sprint("value-", i)
	}
	return c
}

func lists(n int, freeze bool) map[string]proto.Message {
	c := labelled(n)
	sandbox := pod.Sandbox{ID: "id", Config: &cri.PodSandboxConfig{Metadata: &cri.PodSandboxMetadata{Name: "web"}, Labels: c.Config.GetLabels()}}
	container, attributes, listedSandbox := listedContainer(c), containerAttributes(c), listed(sandbox, cri.PodSandboxState_SANDBOX_NOTREADY)
	stats := &cri.ContainerStats{Attributes: attributes, Cpu: &cri.CpuUsage{Timestamp: 5, UsageCoreNanoSeconds: value(6)}}
	if freeze {
		container, listedSandbox, stats.Attributes = frozen(container), frozen(listedSandbox), frozen(attributes)
		stats = frozen(stats)
	}
	return map[string]proto.Message{
		"ListPodSandbox":     &cri.ListPodSandboxResponse{Items: []*cri.PodSandbox{listedSandbox, listedSandbox}},
		"ListContainers":     &cri.ListContainersResponse{Containers: []*cri.Container{container, container}},
		"ListContainerStats": &cri.ListContainerStatsResponse{Stats: []*cri.ContainerStats{stats, stats}},
	}
}

func TestFrozenIsTheSameOnTheWire(t *testing.T) {
	for _, labels := range []int{0, 1, 20} {
		ordinary := lists(labels, false)
		for name, list := range lists(labels, true) {
			want, err := proto.Marshal(ordinary[name])
			if err != nil {
				t.Fatal(err)
			}
			got, err := proto.Marshal(list)
			if err != nil {
				t.Fatal(err)
			}
			if labels < 2 && !bytes.Equal(got, want) {
				t.Errorf("%s with %d labels:\n%x, want\n%x", name, labels, got, want)
			}
			decoded := list.ProtoReflect().New().Interface()
			if err := proto.Unmarshal(got, decoded); err != nil {
				t.Fatal(err)
			}
			if len(got) != len(want) || !proto.Equal(decoded, ordinary[name]) || len(decoded.ProtoReflect().GetUnknown()) > 0 {
				t.Errorf("%s with %d labels: %d bytes, %v, want %d, %v", name, labels, len(got), decoded, len(want), ordinary[name])
			}
		}
	}
}

// What protobuf refuses fails by the answer, as it does without being frozen.
func TestFrozenIsNotEncodable(t *testing.T) {
	c := labelled(0)
	c.Config.Labels["key"] = "\xff"
	if _, err := proto.Marshal(&cri.ListContainersResponse{Containers: []*cri.Container{frozen(listedContainer(c))}}); err == nil {
		t.Error("a label that is no UTF-8 is sent")
	}
}

func TestKeptIsOfThisListAndState(t *testing.T) {
	var k kept[string, *cri.PodSandbox]
	made := 0
	ask := func(list []string, i int, state cri.PodSandboxState, wantMade int) {
		t.Helper()
		encoded, err := proto.Marshal(k.item(list, i, int32(state), func() *cri.PodSandbox {
			made++
			return &cri.PodSandbox{Id: list[i], State: state}
		}))
		if err != nil {
			t.Fatal(err)
		}
		var got cri.PodSandbox
		if err := proto.Unmarshal(encoded, &got); err != nil {
			t.Fatal(err)
		}
		if got.GetId() != list[i] || got.GetState() != state || made != wantMade {
			t.Errorf("%v after %d were made, want %s %v after %d", &got, made, list[i], state, wantMade)
		}
	}
	const ready, notReady = cri.PodSandboxState_SANDBOX_READY, cri.PodSandboxState_SANDBOX_NOTREADY
	first := []string{"a", "b"}
	ask(first, 0, ready, 1)
	ask(first, 1, notReady, 2)
	ask(first, 0, ready, 2)
	ask(first, 0, notReady, 3) // its attachment was lost
	ask(first, 1, notReady, 3)
	second := []string{"c", "b"}
	ask(second, 0, notReady, 4) // not that of "a"
	ask(second, 1, notReady, 5)
	ask(second[:1], 0, notReady, 6) // what was removed was the last one
	ask(first, 0, notReady, 7)      // by a request that began before the change
}
