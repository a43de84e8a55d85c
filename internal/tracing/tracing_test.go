package tracing

import (
	"testing"

	sdk "go.opentelemetry.io/otel/sdk/trace"
)

func TestWhatClientsLookOnByBeginsNoTrace(t *testing.T) {
	const prefix = "runtime.v1.RuntimeService/"
	for rpc, want := range map[string]sdk.SamplingDecision{
		"RunPodSandbox": sdk.RecordAndSample, "StopContainer": sdk.RecordAndSample, "ExecSync": sdk.RecordAndSample, "PullImage": sdk.RecordAndSample,
		"ListPodSandbox": sdk.Drop, "StreamContainers": sdk.Drop, "Status": sdk.Drop, "PodSandboxStatus": sdk.Drop, "ImageStatus": sdk.Drop,
		"ContainerStats": sdk.Drop, "Version": sdk.Drop, "GetContainerEvents": sdk.Drop, "ImageFsInfo": sdk.Drop,
	} {
		if got := (roots{sdk.AlwaysSample()}).ShouldSample(sdk.SamplingParameters{Name: prefix + rpc}); got.Decision != want {
			t.Errorf("%s: %v, want %v", rpc, got.Decision, want)
		}
	}
	if got := (roots{sdk.NeverSample()}).ShouldSample(sdk.SamplingParameters{Name: prefix + "RunPodSandbox"}); got.Decision != sdk.Drop {
		t.Errorf("the share is not kept: %v", got.Decision)
	}
}
