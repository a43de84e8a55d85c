package cri

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

// PodSandboxStatus answers from memory. It has no timestamp, by which a kubelet that listens
// to events would take the containers from here: then it does not see which of them are of
// the pod's present sandbox (kubernetes#133371), and restarts init containers for ever.
func (s *Server) PodSandboxStatus(ctx context.Context, req *cri.PodSandboxStatusRequest) (*cri.PodSandboxStatusResponse, error) {
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	sandbox, err := s.opts.Index.Sandbox(req.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	attachment := s.attachment(sandbox.ID)
	resp := &cri.PodSandboxStatusResponse{Status: sandboxStatus(sandbox, attachment)}
	for _, container := range s.opts.Index.Containers() {
		if container.SandboxID == sandbox.ID {
			resp.ContainersStatuses = append(resp.ContainersStatuses, s.containerStatus(container))
		}
	}
	if req.GetVerbose() {
		if resp.Info, err = sandboxInfo(sandbox, attachment, s.updates.of(sandbox.ID)); err != nil {
			return nil, err
		}
	}
	return resp, nil
}

func sandboxStatus(sandbox pod.Sandbox, attachment *pod.Attachment) *cri.PodSandboxStatus {
	return &cri.PodSandboxStatus{
		Id:             sandbox.ID,
		Metadata:       sandbox.Config.GetMetadata(),
		State:          sandbox.State(attachment),
		CreatedAt:      sandbox.CreatedAt.UnixNano(),
		Network:        networkStatus(attachment),
		Linux:          &cri.LinuxPodSandboxStatus{Namespaces: &cri.Namespace{Options: namespaceOptions(sandbox)}},
		Labels:         sandbox.Config.GetLabels(),
		Annotations:    sandbox.Config.GetAnnotations(),
		RuntimeHandler: sandbox.RuntimeHandler,
	}
}

// networkStatus is empty on the host network: the node's addresses are not the
// runtime's to report.
func networkStatus(a *pod.Attachment) *cri.PodSandboxNetworkStatus {
	status := &cri.PodSandboxNetworkStatus{}
	if a == nil || len(a.IPs) == 0 {
		return status
	}
	status.Ip = a.IPs[0].String()
	for _, ip := range a.IPs[1:] {
		status.AdditionalIps = append(status.AdditionalIps, &cri.PodIP{Ip: ip.String()})
	}
	return status
}

// namespaceOptions is never nil: the kubelet compares its modes with the pod's.
func namespaceOptions(sandbox pod.Sandbox) *cri.NamespaceOption {
	if o := sandbox.Config.GetLinux().GetSecurityContext().GetNamespaceOptions(); o != nil {
		return o
	}
	return &cri.NamespaceOption{}
}

// sandboxInfo is the verbose part: one JSON object under "info", where crictl and
// containerd's users look for it.
func sandboxInfo(sandbox pod.Sandbox, attachment *pod.Attachment, changed update) (map[string]string, error) {
	config, err := protojson.Marshal(sandbox.Config)
	if err != nil {
		return nil, fmt.Errorf("encode config: %w", err)
	}
	updated, err := changed.encode()
	if err != nil {
		return nil, fmt.Errorf("encode update: %w", err)
	}
	type info struct {
		PID            int             `json:"pid"`
		Name           string          `json:"name"`
		Image          string          `json:"image"`
		Instance       string          `json:"instance"`
		StartedAt      time.Time       `json:"startedAt"`
		FinishedAt     time.Time       `json:"finishedAt,omitzero"`
		ExitCode       int             `json:"exitCode"`
		NetnsPath      string          `json:"netnsPath,omitempty"`
		Attachment     *pod.Attachment `json:"attachment,omitempty"`
		RuntimeHandler string          `json:"runtimeHandler"`
		Files          pod.Files       `json:"files"`
		Config         json.RawMessage `json:"config"`
		Updated        json.RawMessage `json:"updated"` // resources and overhead, since the start
	}
	i := info{
		PID: sandbox.PID, Name: sandbox.Name, Image: sandbox.Image, Instance: sandbox.Instance,
		StartedAt: sandbox.StartedAt, FinishedAt: sandbox.FinishedAt, ExitCode: sandbox.ExitCode,
		Attachment: attachment, RuntimeHandler: sandbox.RuntimeHandler,
		Files: sandbox.Files, Config: config, Updated: updated,
	}
	if attachment != nil {
		i.NetnsPath = attachment.NetnsPath
	}
	return jsonInfo("info", i)
}

func jsonInfo(key string, value any) (map[string]string, error) {
	text, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", key, err)
	}
	return map[string]string{key: string(text)}, nil
}
