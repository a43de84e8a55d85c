package translate

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/moby/moby/client/pkg/versions"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

// annotationsAPI is the first API version with HostConfig.Annotations (engine 24).
const annotationsAPI = "1.43"

// annotations are the OCI annotations by which runtimes that start a virtual machine
// (Kata Containers) tell a sandbox and size it. The names are containerd's, which such
// runtimes read; for the overhead, and for the sums as a whole, it has none, so those are
// CRI-O's, which they read as well. runc ignores all of them, and engines before 24 can't
// pass any: the pod's cgroup, which the kubelet makes, holds the limits with every runtime.
func annotations(config *cri.PodSandboxConfig, facts pod.EngineFacts) (map[string]string, error) {
	if versions.LessThan(facts.APIVersion, annotationsAPI) {
		return nil, nil
	}
	out := map[string]string{
		"io.kubernetes.cri.container-type":    "sandbox",
		"io.kubernetes.cri.sandbox-name":      config.GetMetadata().GetName(),
		"io.kubernetes.cri.sandbox-namespace": config.GetMetadata().GetNamespace(),
		"io.kubernetes.cri.sandbox-uid":       config.GetMetadata().GetUid(),
	}
	if sum := config.GetLinux().GetResources(); sum != nil {
		out["io.kubernetes.cri.sandbox-cpu-period"] = strconv.FormatInt(sum.GetCpuPeriod(), 10)
		out["io.kubernetes.cri.sandbox-cpu-quota"] = strconv.FormatInt(sum.GetCpuQuota(), 10)
		out["io.kubernetes.cri.sandbox-cpu-shares"] = strconv.FormatInt(sum.GetCpuShares(), 10)
		out["io.kubernetes.cri.sandbox-memory"] = strconv.FormatInt(sum.GetMemoryLimitInBytes(), 10)
	}
	for key, resources := range map[string]*cri.LinuxContainerResources{
		"io.kubernetes.cri-o.PodLinuxResources": config.GetLinux().GetResources(),
		"io.kubernetes.cri-o.PodLinuxOverhead":  config.GetLinux().GetOverhead(),
	} {
		if resources == nil {
			continue
		}
		text, err := json.Marshal(resources)
		if err != nil {
			return nil, fmt.Errorf("annotation %s: %w", key, err)
		}
		out[key] = string(text)
	}
	return out, nil
}
