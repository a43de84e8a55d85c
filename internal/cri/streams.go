package cri

import (
	"context"
	"fmt"
	"math"

	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Exec returns where a command can be run in a running container, with its input and
// output streamed.
func (s *Server) Exec(ctx context.Context, req *cri.ExecRequest) (*cri.ExecResponse, error) {
	if err := validateCommand(req.GetCmd()); err != nil {
		return nil, err
	}
	container, err := s.running(ctx, req.GetContainerId())
	if err != nil {
		return nil, err
	}
	if err := validateStreams(req.GetTty(), req.GetStdin(), req.GetStdout(), req.GetStderr()); err != nil {
		return nil, err
	}
	req = proto.CloneOf(req)
	req.ContainerId = container.ID
	return s.opts.Streams.Exec(req)
}

// Attach returns where the input and output of a running container's first process can be
// streamed.
func (s *Server) Attach(ctx context.Context, req *cri.AttachRequest) (*cri.AttachResponse, error) {
	container, err := s.running(ctx, req.GetContainerId())
	if err != nil {
		return nil, err
	}
	if err := validateStreams(req.GetTty(), req.GetStdin(), req.GetStdout(), req.GetStderr()); err != nil {
		return nil, err
	}
	switch {
	case req.GetTty() != container.Config.GetTty():
		return nil, invalid("tty", "%t, but container %q was created with tty %t", req.GetTty(), container.ID, container.Config.GetTty())
	case req.GetStdin() && !container.Config.GetStdin():
		return nil, invalid("stdin", "container %q was created without stdin", container.ID)
	}
	req = proto.CloneOf(req)
	req.ContainerId = container.ID
	return s.opts.Streams.Attach(req)
}

func validateStreams(tty, stdin, stdout, stderr bool) error {
	switch {
	case tty && stderr:
		return invalid("stderr", "a terminal has one output, which is stdout")
	case !stdin && !stdout && !stderr:
		return invalid("stdin, stdout, stderr", "at least one is needed")
	}
	return nil
}

// PortForward returns where connections to ports of a pod's loopback can be made.
func (s *Server) PortForward(ctx context.Context, req *cri.PortForwardRequest) (*cri.PortForwardResponse, error) {
	for i, port := range req.GetPort() {
		if port < 1 || port > math.MaxUint16 {
			return nil, invalid(fmt.Sprintf("port[%d]", i), "%d is no port; give 1 to 65535", port)
		}
	}
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	sandbox, err := s.readySandbox(req.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	return s.opts.Streams.PortForward(&cri.PortForwardRequest{PodSandboxId: sandbox.ID, Port: req.GetPort()})
}

// Netns returns the path of the network namespace of a sandbox that is ready, "" for the
// node's own.
func (s *Server) Netns(id string) (string, error) {
	sandbox, err := s.readySandbox(id)
	if err != nil || sandbox.HostNetwork() {
		return "", err
	}
	a := s.attachment(sandbox.ID)
	if a == nil {
		return "", fmt.Errorf("sandbox %q has no network any more: %w", sandbox.ID, errdefs.ErrFailedPrecondition)
	}
	return a.NetnsPath, nil
}
