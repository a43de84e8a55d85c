package stats

import "github.com/mascri/mascri/internal/pod"

// add returns the sum of two cgroups; a nil one adds nothing. Pressures don't add up, so
// that a sum has none, and no limit either.
func add(a, b *pod.Usage) *pod.Usage {
	if a == nil {
		a = &pod.Usage{At: b.At}
	}
	if b.CPU != nil {
		if a.CPU == nil {
			a.CPU = &pod.CPUUsage{}
		}
		a.CPU.Total += b.CPU.Total
	}
	if b.Memory != nil {
		if a.Memory == nil {
			a.Memory = &pod.MemoryUsage{}
		}
		a.Memory.Used += b.Memory.Used
		a.Memory.InactiveFile += b.Memory.InactiveFile
		a.Memory.RSS += b.Memory.RSS
		a.Memory.PageFaults += b.Memory.PageFaults
		a.Memory.MajorPageFaults += b.Memory.MajorPageFaults
		if b.Memory.Swap != nil {
			if a.Memory.Swap == nil {
				a.Memory.Swap = new(uint64)
			}
			*a.Memory.Swap += *b.Memory.Swap
		}
	}
	return a
}
