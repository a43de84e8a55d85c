package podview

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Containers are those of a runtime, without the sandboxes.
type Containers struct {
	Containers []Container `json:"containers"`
}

// Container is one, and how it fares.
type Container struct {
	ID        string            `json:"id"`
	Name      string            `json:"name"`
	Attempt   uint32            `json:"attempt"` // how often it was started anew
	PodID     string            `json:"podId"`
	Pod       string            `json:"pod"` // its name; "": the sandbox is gone
	Namespace string            `json:"namespace"`
	State     string            `json:"state"` // Created, Running, Exited or Unknown
	Exit      *Exit             `json:"exit,omitempty"`
	Image     string            `json:"image"` // as it was asked for, where that is known
	CreatedAt time.Time         `json:"createdAt"`
	Labels    map[string]string `json:"labels,omitempty"`
}

// Exit is how a container ended.
type Exit struct {
	Code       int32     `json:"code"`
	Reason     string    `json:"reason"`
	FinishedAt time.Time `json:"finishedAt"`
}

// ListContainers asks for containers, those of a pod together and the youngest first.
func ListContainers(ctx context.Context, runtime cri.RuntimeServiceClient, wanted Wanted) (Containers, error) {
	filter := &cri.ContainerFilter{LabelSelector: wanted.Labels}
	if !wanted.All {
		filter.State = &cri.ContainerStateValue{State: cri.ContainerState_CONTAINER_RUNNING}
	}
	listed, err := runtime.ListContainers(ctx, &cri.ListContainersRequest{Filter: filter})
	if err != nil {
		return Containers{}, fmt.Errorf("list containers: %w", err)
	}
	sandboxes, err := runtime.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
	if err != nil {
		return Containers{}, fmt.Errorf("list pods: %w", err)
	}
	pods := map[string]*cri.PodSandboxMetadata{}
	for _, s := range sandboxes.GetItems() {
		pods[s.GetId()] = s.GetMetadata()
	}
	containers := []Container{}
	for _, c := range listed.GetContainers() {
		one := containerOf(c, pods[c.GetPodSandboxId()])
		if wanted.Namespace == "" || wanted.Namespace == one.Namespace {
			containers = append(containers, one)
		}
	}
	slices.SortFunc(containers, func(a, b Container) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Pod, b.Pod), strings.Compare(a.PodID, b.PodID),
			b.CreatedAt.Compare(a.CreatedAt), strings.Compare(a.ID, b.ID))
	})
	err = each(ctx, len(containers), func(ctx context.Context, i int) (err error) {
		if containers[i].State == stateExited {
			containers[i].Exit, err = exit(ctx, runtime, containers[i].ID)
		}
		return err
	})
	return Containers{Containers: containers}, err
}

const stateExited = "Exited"

func containerOf(c *cri.Container, sandbox *cri.PodSandboxMetadata) Container {
	states := map[cri.ContainerState]string{
		cri.ContainerState_CONTAINER_CREATED: "Created",
		cri.ContainerState_CONTAINER_RUNNING: "Running",
		cri.ContainerState_CONTAINER_EXITED:  stateExited,
		cri.ContainerState_CONTAINER_UNKNOWN: "Unknown",
	}
	return Container{
		ID: c.GetId(), Name: c.GetMetadata().GetName(), Attempt: c.GetMetadata().GetAttempt(),
		PodID: c.GetPodSandboxId(), Pod: sandbox.GetName(), Namespace: cmp.Or(sandbox.GetNamespace(), c.GetLabels()[namespaceLabel]),
		State: states[c.GetState()], CreatedAt: time.Unix(0, c.GetCreatedAt()), Labels: c.GetLabels(),
		Image: cmp.Or(c.GetImage().GetUserSpecifiedImage(), c.GetImage().GetImage(), c.GetImageRef()),
	}
}

// exit is how a container ended; nil if it was removed meanwhile.
func exit(ctx context.Context, runtime cri.RuntimeServiceClient, id string) (*Exit, error) {
	resp, err := runtime.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: id})
	if status.Code(err) == codes.NotFound {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("status of container %.12s: %w", id, err)
	}
	s := resp.GetStatus()
	return &Exit{Code: s.GetExitCode(), Reason: s.GetReason(), FinishedAt: time.Unix(0, s.GetFinishedAt())}, nil
}
