package translate

import (
	"github.com/moby/moby/api/types/container"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

// unlimited is Docker's and the kernel's word for no limit.
const unlimited = -1

// limits sets the resources that Docker's API knows; hugepage limits and unified are
// written into the container's cgroup by the caller after the start.
func limits(spec pod.ContainerSpec, host Host, _ *container.Config, out *container.HostConfig) (err error) {
	in := spec.Config.GetLinux().GetResources()
	if out.Resources, err = Resources(in, host); err != nil {
		return err
	}
	out.OomScoreAdj = max(int(in.GetOomScoreAdj()), host.OOMFloor)
	out.CgroupParent, err = podCgroup(spec.Sandbox.Config.GetLinux().GetCgroupParent(), host)
	return err
}

// Resources returns Docker's form of in, but for the OOM score, which an update can't
// change. A zero stands for the default.
func Resources(in *cri.LinuxContainerResources, host Host) (container.Resources, error) {
	if score := in.GetOomScoreAdj(); score < -1000 || score > 1000 {
		return container.Resources{}, invalid("linux.resources.oom_score_adj: %d is not between -1000 and 1000", score)
	}
	for field, value := range map[string]int64{
		"cpu_period": in.GetCpuPeriod(), "cpu_shares": in.GetCpuShares(), "memory_limit_in_bytes": in.GetMemoryLimitInBytes(),
	} {
		if value < 0 {
			return container.Resources{}, invalid("linux.resources.%s: %d is negative", field, value)
		}
	}
	// -1 is the kernel's "no limit", for a quota and for swap.
	for field, value := range map[string]int64{"cpu_quota": in.GetCpuQuota(), "memory_swap_limit_in_bytes": in.GetMemorySwapLimitInBytes()} {
		if value < unlimited {
			return container.Resources{}, invalid("linux.resources.%s: %d is below -1, which means no limit", field, value)
		}
	}
	out := container.Resources{
		CPUPeriod:  in.GetCpuPeriod(),
		CPUQuota:   in.GetCpuQuota(),
		CPUShares:  min(in.GetCpuShares(), maxShares),
		CpusetCpus: in.GetCpusetCpus(),
		CpusetMems: in.GetCpusetMems(),
		Memory:     in.GetMemoryLimitInBytes(),
		MemorySwap: in.GetMemorySwapLimitInBytes(),
	}
	if out.MemorySwap != 0 && out.Memory == 0 {
		return out, invalid("linux.resources.memory_swap_limit_in_bytes: %d needs memory_limit_in_bytes", out.MemorySwap)
	}
	if out.MemorySwap > 0 && out.MemorySwap < out.Memory {
		return out, invalid("linux.resources.memory_swap_limit_in_bytes: %d is of memory and swap together, so not below memory_limit_in_bytes %d", out.MemorySwap, out.Memory)
	}
	switch {
	case out.Memory > 0 && out.MemorySwap == 0 && host.Facts.SwapLimit:
		out.MemorySwap = out.Memory // no swap, as with containerd; Docker would choose as much again
	case out.MemorySwap > out.Memory && !host.Facts.SwapLimit:
		return out, unmet("linux.resources.memory_swap_limit_in_bytes: the node can't limit swap: boot with swapaccount=1, or leave it out")
	case !host.Facts.SwapLimit:
		out.MemorySwap = 0 // as much as the memory means no swap, and there is nothing to limit
	}
	return out, nil
}

// Update returns Docker's form of an update by in of a container whose limits are before.
// A zero leaves a limit as it is, but swap that was kept out stays out, and a first limit of
// memory keeps it out as it does from the start.
func Update(in *cri.LinuxContainerResources, before container.Resources, host Host) (container.Resources, error) {
	limited := before.MemorySwap > 0
	if limited && in.GetMemorySwapLimitInBytes() == unlimited {
		return container.Resources{}, unsayable("linux.memory_swap_limit_in_bytes: Docker's API can't lift it from a container")
	}
	out, err := Resources(in, host)
	switch {
	case in.GetMemorySwapLimitInBytes() != 0 || out.MemorySwap == 0:
	case before.MemorySwap == unlimited:
		out.MemorySwap = unlimited // to be said again with the memory
	case limited && before.MemorySwap != before.Memory:
		out.MemorySwap = 0
	}
	return out, err
}

// maxShares is the kernel's most for cpu.shares, 1 << 18.
const maxShares = 1 << 18

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
		MemorySwapLimitInBytes: max(0, in.MemorySwap),
		OomScoreAdj:            int64(in.OomScoreAdj),
		CpusetCpus:             in.CpusetCpus,
		CpusetMems:             in.CpusetMems,
	}
}
