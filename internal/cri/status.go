package cri

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

const (
	runtimeName = "mascri"
	// What the kubelet calls the version of its runtime API, ever since.
	kubeletAPIVersion = "0.1.0"
	criVersion        = "v1"
)

// Version answers at any time.
func (s *Server) Version(_ context.Context, req *cri.VersionRequest) (*cri.VersionResponse, error) {
	if v := req.GetVersion(); !slices.Contains([]string{"", kubeletAPIVersion, criVersion}, v) {
		return nil, invalid("version", "%q is not spoken here; this is CRI %s, version %s of the kubelet's runtime API", v, criVersion, kubeletAPIVersion)
	}
	return &cri.VersionResponse{
		Version:           kubeletAPIVersion,
		RuntimeName:       runtimeName,
		RuntimeVersion:    s.opts.Version,
		RuntimeApiVersion: criVersion,
	}, nil
}

// Status answers at any time, from memory.
func (s *Server) Status(_ context.Context, req *cri.StatusRequest) (*cri.StatusResponse, error) {
	facts, engineErr := s.opts.Health.Facts()
	network := s.opts.Network.Status()
	resp := &cri.StatusResponse{
		Status: &cri.RuntimeStatus{Conditions: []*cri.RuntimeCondition{
			s.runtimeCondition(facts, engineErr),
			networkCondition(network),
		}},
		RuntimeHandlers: handlers(facts),
		Features:        &cri.RuntimeFeatures{SupplementalGroupsPolicy: true},
	}
	if !req.GetVerbose() {
		return resp, nil
	}
	info, err := s.statusInfo(facts, engineErr, network)
	resp.Info = info
	return resp, err
}

func (s *Server) runtimeCondition(facts pod.EngineFacts, engineErr error) *cri.RuntimeCondition {
	c := &cri.RuntimeCondition{Type: cri.RuntimeReady}
	switch {
	case engineErr != nil:
		c.Reason, c.Message = "EngineUnavailable", engineErr.Error()
	case len(facts.Problems) > 0:
		var texts []string
		for _, p := range facts.Problems {
			texts = append(texts, p.Message+"; "+p.Fix)
		}
		c.Reason, c.Message = facts.Problems[0].Reason, strings.Join(texts, ". ")
	case !s.isRecovered():
		c.Reason, c.Message = "Recovering", "reading the engine's state after start"
	default:
		c.Status = true
	}
	return c
}

func networkCondition(n pod.NetworkStatus) *cri.RuntimeCondition {
	return &cri.RuntimeCondition{Type: cri.NetworkReady, Status: n.Ready, Reason: n.Reason, Message: n.Message}
}

// handlers lists the engine's OCI runtimes; the empty name is the default one.
func handlers(facts pod.EngineFacts) (list []*cri.RuntimeHandler) {
	if len(facts.Runtimes) == 0 {
		return nil
	}
	for _, name := range append([]string{""}, facts.Runtimes...) {
		list = append(list, &cri.RuntimeHandler{Name: name, Features: &cri.RuntimeHandlerFeatures{
			RecursiveReadOnlyMounts: slices.Contains(facts.RecursiveRO, cmp.Or(name, facts.DefaultRuntime)),
		}})
	}
	return list
}

func (s *Server) statusInfo(facts pod.EngineFacts, engineErr error, network pod.NetworkStatus) (map[string]string, error) {
	type engine struct {
		pod.EngineFacts
		Error string `json:"error,omitempty"`
	}
	e := engine{EngineFacts: facts}
	if engineErr != nil {
		e.Error = engineErr.Error()
	}
	info := map[string]string{}
	values := map[string]any{
		"config": s.opts.Config,
		"engine": e,
		"cni":    network,
		"index":  map[string]any{"sandboxes": len(s.opts.Index.Sandboxes()), "containers": len(s.opts.Index.Containers()), "drift": s.opts.Index.Drift()},
	}
	if s.opts.Served != nil {
		values["metrics"] = s.opts.Served()
	}
	for key, value := range values {
		part, err := jsonInfo(key, value)
		if err != nil {
			return nil, err
		}
		info[key] = part[key]
	}
	return info, nil
}

// RuntimeConfig tells the kubelet the cgroup driver. The kubelet asks at its start, and
// gives up where it gets no answer: so the engine is waited for.
func (s *Server) RuntimeConfig(ctx context.Context, _ *cri.RuntimeConfigRequest) (*cri.RuntimeConfigResponse, error) {
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	facts, err := s.opts.Health.Facts()
	if facts.CgroupDriver == "" {
		return nil, fmt.Errorf("cgroup driver of the engine: %w", err)
	}
	driver := cri.CgroupDriver_CGROUPFS
	if facts.CgroupDriver == "systemd" {
		driver = cri.CgroupDriver_SYSTEMD
	}
	return &cri.RuntimeConfigResponse{Linux: &cri.LinuxRuntimeConfiguration{CgroupDriver: driver}}, nil
}

// UpdateRuntimeConfig takes the node's pod CIDRs, comma-separated. An empty one
// changes nothing.
func (s *Server) UpdateRuntimeConfig(_ context.Context, req *cri.UpdateRuntimeConfigRequest) (*cri.UpdateRuntimeConfigResponse, error) {
	cidr := req.GetRuntimeConfig().GetNetworkConfig().GetPodCidr()
	if cidr == "" {
		return &cri.UpdateRuntimeConfigResponse{}, nil
	}
	var cidrs []netip.Prefix
	for _, text := range strings.Split(cidr, ",") {
		prefix, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil {
			return nil, invalid("runtime_config.network_config.pod_cidr", "%q is no CIDR such as 10.244.1.0/24", text)
		}
		cidrs = append(cidrs, prefix.Masked())
	}
	if err := s.opts.Network.SetPodCIDRs(cidrs); err != nil {
		return nil, fmt.Errorf("keep the pod CIDR: %w", err)
	}
	return &cri.UpdateRuntimeConfigResponse{}, nil
}

// ready waits until the state of an earlier life is known.
func (s *Server) ready(ctx context.Context) error {
	select {
	case <-s.recovered:
		return nil
	case <-ctx.Done():
		_, err := s.opts.Health.Facts()
		return fmt.Errorf("MasCRI has not read the engine's state yet (%v): %w", err, errdefs.ErrUnavailable)
	}
}

func (s *Server) isRecovered() bool {
	select {
	case <-s.recovered:
		return true
	default:
		return false
	}
}
