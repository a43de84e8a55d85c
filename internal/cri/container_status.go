package cri

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

// Why a container ended, in the words that Kubernetes shows its users.
const (
	reasonCompleted  = "Completed"
	reasonError      = "Error"
	reasonOOMKilled  = "OOMKilled"
	reasonStartError = "StartError"
)

// ContainerStatus answers from memory.
func (s *Server) ContainerStatus(ctx context.Context, req *cri.ContainerStatusRequest) (*cri.ContainerStatusResponse, error) {
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	container, err := s.opts.Index.Container(req.GetContainerId())
	if err != nil {
		return nil, err
	}
	resp := &cri.ContainerStatusResponse{Status: s.containerStatus(container)}
	if req.GetVerbose() {
		if resp.Info, err = containerInfo(container); err != nil {
			return nil, err
		}
	}
	return resp, nil
}

func (s *Server) containerStatus(c pod.Container) *cri.ContainerStatus {
	config := c.Config
	image := &cri.ImageSpec{}
	proto.Merge(image, config.GetImage())
	image.Image = c.ImageName
	status := &cri.ContainerStatus{
		Id:          c.ID,
		Metadata:    config.GetMetadata(),
		State:       c.State(),
		CreatedAt:   c.CreatedAt.UnixNano(),
		StartedAt:   nanos(c.StartedAt),
		Image:       image,
		ImageRef:    c.ImageRef,
		ImageId:     c.Image,
		Labels:      config.GetLabels(),
		Annotations: config.GetAnnotations(),
		Mounts:      config.GetMounts(),
		LogPath:     c.LogPath,
		Resources:   &cri.ContainerResources{Linux: s.resources(c)},
		User:        &cri.ContainerUser{Linux: &cri.LinuxContainerUser{Uid: c.User.UID, Gid: c.User.GID, SupplementalGroups: c.User.Groups}},
		StopSignal:  c.StopSignal,
	}
	if status.State == cri.ContainerState_CONTAINER_EXITED {
		// Docker notes no time for a start that failed, and for the start of a container
		// that ends at once one after its end.
		ended := max(c.CreatedAt.UnixNano(), nanos(c.StartedAt), nanos(c.FinishedAt))
		status.FinishedAt, status.ExitCode = ended, int32(c.ExitCode)
		status.Reason, status.Message = reason(c)
	}
	return status
}

// nanos is 0 for what has not happened.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// reason says why a container ended, and in the engine's words where it never began.
func reason(c pod.Container) (reason, message string) {
	switch {
	case c.OOMKilled:
		return reasonOOMKilled, ""
	case c.StartError != "":
		return reasonStartError, c.StartError
	case c.ExitCode == 0:
		return reasonCompleted, ""
	}
	return reasonError, ""
}

// containerInfo is the verbose part, see sandboxInfo.
func containerInfo(c pod.Container) (map[string]string, error) {
	config, err := protojson.Marshal(c.Config)
	if err != nil {
		return nil, fmt.Errorf("encode config: %w", err)
	}
	return jsonInfo("info", struct {
		SandboxID string          `json:"sandboxID"`
		PID       int             `json:"pid"`
		Name      string          `json:"name"`
		Instance  string          `json:"instance"`
		Image     string          `json:"image"`
		LogSource string          `json:"logSource"`
		Config    json.RawMessage `json:"config"`
	}{c.SandboxID, c.PID, c.Name, c.Instance, cmp.Or(c.ImageName, c.Image), c.LogSource, config})
}
