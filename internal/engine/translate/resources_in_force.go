package translate

import (
	"github.com/moby/moby/api/types/container"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ResourcesInForce says the engine's limits in the CRI's words.
func ResourcesInForce(in *container.HostConfig) *cri.LinuxContainerResources {
	if in == nil {
		return nil
	}
	return &cri.LinuxContainerResources{
		CpuPeriod:              in.CPUPeriod,
		CpuQuota:               in.CPUQuota,
		CpuShares:              in.CPUShares,
		MemoryLimitInBytes:     in.Memory,
		MemorySwapLimitInBytes: in.MemorySwap,
		OomScoreAdj:            int64(in.OomScoreAdj),
		CpusetCpus:             in.CpusetCpus,
		CpusetMems:             in.CpusetMems,
	}
}
