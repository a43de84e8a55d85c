package cri_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// The kubelet lists every second, however many pods there are: it is answered from memory.
func TestListsOf250PodsMakeNoEngineCall(t *testing.T) {
	const pods = 250
	d := newDaemon(t)
	var sandbox, container string
	for i := range pods {
		sandbox = d.run(t, podConfig(fmt.Sprint("pod-", i)))
		container = d.mustCreate(t, sandbox, containerConfig("app"))
		if err := d.start(t, container); err != nil {
			t.Fatal(err)
		}
	}
	// What the daemon asks by itself, whether somebody lists or not.
	calls := func() []string {
		return slices.DeleteFunc(d.engine.Calls(), func(call string) bool {
			return strings.HasPrefix(call, "Ping") || strings.HasPrefix(call, "Facts") || strings.HasPrefix(call, "Pools")
		})
	}
	ask := map[string]func() (items int, err error){
		"ListPodSandbox": func() (int, error) {
			resp, err := d.ListPodSandbox(t.Context(), &runtimeapi.ListPodSandboxRequest{})
			return len(resp.GetItems()), err
		},
		"StreamPodSandboxes": func() (int, error) {
			stream, err := d.StreamPodSandboxes(t.Context(), &runtimeapi.StreamPodSandboxesRequest{})
			if err != nil {
				return 0, err
			}
			return len(drain(t, stream, (*runtimeapi.StreamPodSandboxesResponse).GetPodSandboxes)), nil
		},
		"ListContainers": func() (int, error) {
			resp, err := d.ListContainers(t.Context(), &runtimeapi.ListContainersRequest{})
			return len(resp.GetContainers()), err
		},
		"StreamContainers": func() (int, error) {
			stream, err := d.StreamContainers(t.Context(), &runtimeapi.StreamContainersRequest{})
			if err != nil {
				return 0, err
			}
			return len(drain(t, stream, (*runtimeapi.StreamContainersResponse).GetContainers)), nil
		},
		"ListContainerStats": func() (int, error) {
			resp, err := d.ListContainerStats(t.Context(), &runtimeapi.ListContainerStatsRequest{})
			return len(resp.GetStats()), err
		},
		"ListPodSandboxStats": func() (int, error) {
			resp, err := d.ListPodSandboxStats(t.Context(), &runtimeapi.ListPodSandboxStatsRequest{})
			return len(resp.GetStats()), err
		},
		"ListPodSandboxMetrics": func() (int, error) {
			resp, err := d.ListPodSandboxMetrics(t.Context(), &runtimeapi.ListPodSandboxMetricsRequest{})
			return len(resp.GetPodMetrics()), err
		},
		"PodSandboxStatus": func() (int, error) {
			resp, err := d.PodSandboxStatus(t.Context(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: sandbox})
			return pods * len(resp.GetContainersStatuses()), err
		},
		"ContainerStatus": func() (int, error) {
			_, err := d.ContainerStatus(t.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: container})
			return pods, err
		},
	}
	for name, list := range ask {
		var made []string
		// Hints of what was done before may still be worked off: between two of them there is a pause.
		eventually(t, name+" without a call", func() bool {
			before := len(calls())
			if items, err := list(); err != nil || items != pods {
				t.Fatalf("%s: %d items, %v", name, items, err)
			}
			made = calls()[before:]
			return len(made) == 0
		})
		if len(made) > 0 {
			t.Errorf("%s: %q", name, made)
		}
	}
}
