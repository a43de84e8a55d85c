package cri

import (
	"context"
	"time"

	"google.golang.org/grpc"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

// ListMetricDescriptors names all metrics that ListPodSandboxMetrics may tell.
func (s *Server) ListMetricDescriptors(context.Context, *cri.ListMetricDescriptorsRequest) (*cri.ListMetricDescriptorsResponse, error) {
	resp := &cri.ListMetricDescriptorsResponse{}
	for _, m := range containerMetrics {
		resp.Descriptors = append(resp.Descriptors, descriptor(m.name, m.help, m.labels))
	}
	for _, m := range networkMetrics {
		resp.Descriptors = append(resp.Descriptors, descriptor(m.name, m.help, interfaceLabel))
	}
	return resp, nil
}

// ListPodSandboxMetrics asks the kernel, as ListContainerStats does. What it can't tell is
// left out.
func (s *Server) ListPodSandboxMetrics(ctx context.Context, _ *cri.ListPodSandboxMetricsRequest) (*cri.ListPodSandboxMetricsResponse, error) {
	metrics, err := s.listMetrics(ctx)
	if err != nil {
		return nil, err
	}
	return &cri.ListPodSandboxMetricsResponse{PodMetrics: metrics}, nil
}

// StreamPodSandboxMetrics is ListPodSandboxMetrics in batches.
func (s *Server) StreamPodSandboxMetrics(_ *cri.StreamPodSandboxMetricsRequest, stream grpc.ServerStreamingServer[cri.StreamPodSandboxMetricsResponse]) error {
	metrics, err := s.listMetrics(stream.Context())
	if err != nil {
		return err
	}
	return inBatches(metrics, func(batch []*cri.PodSandboxMetrics) error {
		return stream.Send(&cri.StreamPodSandboxMetricsResponse{PodSandboxMetrics: batch})
	})
}

func (s *Server) listMetrics(ctx context.Context) ([]*cri.PodSandboxMetrics, error) {
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	containers := s.containersBySandbox()
	return forEach(ctx, s.opts.Index.Sandboxes(), func(sandbox pod.Sandbox) *cri.PodSandboxMetrics {
		metrics := &cri.PodSandboxMetrics{
			PodSandboxId: sandbox.ID,
			Metrics:      trafficMetrics(sandbox, s.opts.Usage.Network(s.attachment(sandbox.ID))),
		}
		for _, c := range containers[sandbox.ID] {
			if c.Running {
				metrics.ContainerMetrics = append(metrics.ContainerMetrics, s.containerMetrics(sandbox, c))
			}
		}
		return metrics
	})
}

func (s *Server) containerMetrics(sandbox pod.Sandbox, c pod.Container) *cri.ContainerMetrics {
	m := measured{Container: c, now: time.Now(), used: s.opts.Usage.Details(c)}
	of := labelValues(sandbox, c.ID, c.Name, c.Config.GetMetadata().GetName(), c.ImageName)
	metrics := &cri.ContainerMetrics{ContainerId: c.ID}
	for _, metric := range containerMetrics {
		for _, sample := range metric.samples(m) {
			metrics.Metrics = append(metrics.Metrics, &cri.Metric{
				Name: metric.name, MetricType: metric.kind, Value: value(sample.value), LabelValues: append(of[:len(of):len(of)], sample.labels...),
				Timestamp: nanos(sample.at),
			})
		}
	}
	return metrics
}

func trafficMetrics(sandbox pod.Sandbox, network *pod.NetworkUsage) (metrics []*cri.Metric) {
	if network == nil {
		return nil
	}
	of := labelValues(sandbox, sandbox.ID, sandbox.Name, "POD", "")
	for _, i := range network.Interfaces {
		for _, metric := range networkMetrics {
			metrics = append(metrics, &cri.Metric{
				Name: metric.name, MetricType: cri.MetricType_COUNTER, Value: value(metric.of(i)), LabelValues: append(of[:len(of):len(of)], i.Name),
			})
		}
	}
	return metrics
}

// baseLabels are those that the kubelet's own metrics have, in the order of labelValues.
func baseLabels() []string { return []string{"container", "id", "image", "name", "namespace", "pod"} }

func labelValues(sandbox pod.Sandbox, id, name, container, image string) []string {
	m := sandbox.Config.GetMetadata()
	return []string{container, id, image, name, m.GetNamespace(), m.GetName()}
}

func descriptor(name, help string, labels []string) *cri.MetricDescriptor {
	return &cri.MetricDescriptor{Name: name, Help: help, LabelKeys: append(baseLabels(), labels...)}
}
