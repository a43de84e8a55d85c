package cri_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine/enginetest"
)

const logDirectory = "/var/log/pods/of-the-test"

// containerConfig is of a container that runs the fake's program with words.
func containerConfig(name string, words ...string) *runtimeapi.ContainerConfig {
	return &runtimeapi.ContainerConfig{
		Metadata: &runtimeapi.ContainerMetadata{Name: name}, Image: imageSpec(enginetest.FakeImage), Args: words, LogPath: name + "/0.log",
		Linux: &runtimeapi.LinuxContainerConfig{SecurityContext: &runtimeapi.LinuxContainerSecurityContext{}, Resources: &runtimeapi.LinuxContainerResources{}},
	}
}

func (d *daemon) create(ctx context.Context, sandbox string, config *runtimeapi.ContainerConfig) (string, error) {
	resp, err := d.CreateContainer(ctx, &runtimeapi.CreateContainerRequest{
		PodSandboxId: sandbox, Config: config, SandboxConfig: &runtimeapi.PodSandboxConfig{LogDirectory: logDirectory},
	})
	return resp.GetContainerId(), err
}

func (d *daemon) mustCreate(t *testing.T, sandbox string, config *runtimeapi.ContainerConfig) string {
	t.Helper()
	id, err := d.create(t.Context(), sandbox, config)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func (d *daemon) start(t *testing.T, id string) error {
	t.Helper()
	_, err := d.StartContainer(t.Context(), &runtimeapi.StartContainerRequest{ContainerId: id})
	return err
}

func (d *daemon) mustStart(t *testing.T, sandbox string, config *runtimeapi.ContainerConfig) string {
	t.Helper()
	id := d.mustCreate(t, sandbox, config)
	if err := d.start(t, id); err != nil {
		t.Fatal(err)
	}
	return id
}

func (d *daemon) stopContainer(t *testing.T, id string, seconds int64) error {
	t.Helper()
	_, err := d.StopContainer(t.Context(), &runtimeapi.StopContainerRequest{ContainerId: id, Timeout: seconds})
	return err
}

func (d *daemon) removeContainer(t *testing.T, id string) error {
	t.Helper()
	_, err := d.RemoveContainer(t.Context(), &runtimeapi.RemoveContainerRequest{ContainerId: id})
	return err
}

func (d *daemon) update(t *testing.T, id string, asked *runtimeapi.LinuxContainerResources) error {
	t.Helper()
	_, err := d.UpdateContainerResources(t.Context(), &runtimeapi.UpdateContainerResourcesRequest{ContainerId: id, Linux: asked})
	return err
}

func (d *daemon) containerStatus(t *testing.T, id string) *runtimeapi.ContainerStatus {
	t.Helper()
	resp, err := d.ContainerStatus(t.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: id})
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetStatus()
}

// containers returns those that pass the filter as "name state", newest first, by list and
// by stream alike.
func (d *daemon) containers(t *testing.T, filter *runtimeapi.ContainerFilter) string {
	t.Helper()
	list, err := d.ListContainers(t.Context(), &runtimeapi.ListContainersRequest{Filter: filter})
	if err != nil {
		t.Fatal(err)
	}
	stream, err := d.StreamContainers(t.Context(), &runtimeapi.StreamContainersRequest{Filter: filter})
	if err != nil {
		t.Fatal(err)
	}
	var streamed []*runtimeapi.Container
	for {
		batch, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		streamed = append(streamed, batch.GetContainers()...)
	}
	again, err := d.ListContainers(t.Context(), &runtimeapi.ListContainersRequest{Filter: filter})
	if err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(list, again) { // something changed meanwhile, in the middle of which was the stream
		return d.containers(t, filter)
	}
	if diff := cmp.Diff(list.GetContainers(), streamed, protocmp.Transform()); diff != "" {
		t.Errorf("filter %v (-listed +streamed)\n%s", filter, diff)
	}
	var lines []string
	for _, c := range list.GetContainers() {
		lines = append(lines, c.GetMetadata().GetName()+" "+strings.TrimPrefix(c.GetState().String(), "CONTAINER_"))
	}
	return strings.Join(lines, ", ")
}

func (d *daemon) wantContainers(t *testing.T, want string) {
	t.Helper()
	if got := d.containers(t, nil); got != want {
		t.Errorf("containers: %q, want %q", got, want)
	}
}
