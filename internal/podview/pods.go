package podview

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Pods are those of a runtime.
type Pods struct {
	Pods []Pod `json:"pods"`
}

// Pod is a sandbox, and how its containers fare.
type Pod struct {
	ID        string            `json:"id"`
	Name      string            `json:"name"`
	Namespace string            `json:"namespace"`
	UID       string            `json:"uid"`
	Attempt   uint32            `json:"attempt"` // how many sandboxes the pod had before
	State     string            `json:"state"`   // Ready or NotReady
	IPs       []netip.Addr      `json:"ips"`     // the first is the pod's; none on the host network
	CreatedAt time.Time         `json:"createdAt"`
	Handler   string            `json:"runtimeHandler,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`
	// Running and Total count the containers by name, as a name's earlier attempts are
	// of the past; Restarts adds up the attempts of the latest.
	Running  int `json:"running"`
	Total    int `json:"total"`
	Restarts int `json:"restarts"`
}

// ListPods asks for sandboxes, those of one namespace together and the youngest first.
func ListPods(ctx context.Context, runtime cri.RuntimeServiceClient, wanted Wanted) (Pods, error) {
	filter := &cri.PodSandboxFilter{LabelSelector: wanted.Labels}
	if !wanted.All {
		filter.State = &cri.PodSandboxStateValue{State: cri.PodSandboxState_SANDBOX_READY}
	}
	sandboxes, err := runtime.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{Filter: filter})
	if err != nil {
		return Pods{}, fmt.Errorf("list pods: %w", err)
	}
	containers, err := runtime.ListContainers(ctx, &cri.ListContainersRequest{})
	if err != nil {
		return Pods{}, fmt.Errorf("list containers: %w", err)
	}
	by := map[string][]*cri.Container{}
	for _, c := range containers.GetContainers() {
		by[c.GetPodSandboxId()] = append(by[c.GetPodSandboxId()], c)
	}
	pods := []Pod{}
	for _, s := range sandboxes.GetItems() {
		if wanted.Namespace == "" || wanted.Namespace == s.GetMetadata().GetNamespace() {
			pods = append(pods, podOf(s, by[s.GetId()]))
		}
	}
	slices.SortFunc(pods, func(a, b Pod) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), b.CreatedAt.Compare(a.CreatedAt), strings.Compare(a.ID, b.ID))
	})
	err = each(ctx, len(pods), func(ctx context.Context, i int) (err error) {
		pods[i].IPs, err = addresses(ctx, runtime, pods[i].ID)
		return err
	})
	return Pods{Pods: pods}, err
}

func podOf(s *cri.PodSandbox, containers []*cri.Container) Pod {
	p := Pod{
		ID: s.GetId(), Name: s.GetMetadata().GetName(), Namespace: s.GetMetadata().GetNamespace(), UID: s.GetMetadata().GetUid(),
		Attempt: s.GetMetadata().GetAttempt(), State: "NotReady", IPs: []netip.Addr{}, CreatedAt: time.Unix(0, s.GetCreatedAt()),
		Handler: s.GetRuntimeHandler(), Labels: s.GetLabels(),
	}
	if s.GetState() == cri.PodSandboxState_SANDBOX_READY {
		p.State = "Ready"
	}
	latest := map[string]*cri.Container{}
	for _, c := range containers {
		name := c.GetMetadata().GetName()
		if had := latest[name]; had == nil || had.GetMetadata().GetAttempt() < c.GetMetadata().GetAttempt() {
			latest[name] = c
		}
	}
	p.Total = len(latest)
	for _, c := range latest {
		p.Restarts += int(c.GetMetadata().GetAttempt())
		if c.GetState() == cri.ContainerState_CONTAINER_RUNNING {
			p.Running++
		}
	}
	return p
}

// addresses are a sandbox's; none of one that was removed meanwhile.
func addresses(ctx context.Context, runtime cri.RuntimeServiceClient, id string) ([]netip.Addr, error) {
	ips := []netip.Addr{}
	resp, err := runtime.PodSandboxStatus(ctx, &cri.PodSandboxStatusRequest{PodSandboxId: id})
	if status.Code(err) == codes.NotFound {
		return ips, nil
	}
	if err != nil {
		return ips, fmt.Errorf("status of pod %.12s: %w", id, err)
	}
	network := resp.GetStatus().GetNetwork()
	texts := []string{network.GetIp()}
	for _, more := range network.GetAdditionalIps() {
		texts = append(texts, more.GetIp())
	}
	for _, text := range texts {
		if ip, err := netip.ParseAddr(text); err == nil {
			ips = append(ips, ip)
		}
	}
	return ips, nil
}
