package pod

import "time"

// Usage is what the processes of one cgroup use, as the kernel counts it: counters since
// the cgroup was made. What is nil the kernel does not tell.
type Usage struct {
	At     time.Time // when it was read
	CPU    *CPUUsage
	Memory *MemoryUsage
	IO     *Pressure
}

// CPUUsage is time on all CPUs together.
type CPUUsage struct {
	Total    time.Duration
	Rate     *uint64 // ns per second between two samples at least a second apart; nil before the second
	Pressure *Pressure
}

// MemoryUsage is in bytes.
type MemoryUsage struct {
	Used            uint64
	InactiveFile    uint64 // of Used: file cache that is given up first
	RSS             uint64
	Limit           *uint64 // nil: none
	PageFaults      uint64
	MajorPageFaults uint64 // with I/O
	Swap            *uint64
	SwapLimit       *uint64 // nil: none
	Pressure        *Pressure
}

// WorkingSet is what can't be given up easily: the kubelet evicts by it.
func (m MemoryUsage) WorkingSet() uint64 { return m.Used - min(m.Used, m.InactiveFile) }

// Pressure is how long some or all of the processes that could run waited for something.
type Pressure struct {
	Some Stall
	Full *Stall // nil: not told for the CPU by old kernels
}

// Stall is time lost to waiting.
type Stall struct {
	Total                time.Duration
	Avg10, Avg60, Avg300 float64 // percent of the last 10, 60 and 300 seconds
}

// ContainerUsage is what one container uses.
type ContainerUsage struct {
	Usage *Usage      // nil: it does not run
	Layer *LayerUsage // nil: not measured yet, or not where it can be
}

// LayerUsage is what a container wrote to its root file system.
type LayerUsage struct {
	Filesystem
	At time.Time // when it was measured
}

// SandboxUsage is what a sandbox and all containers in it use.
type SandboxUsage struct {
	Usage     *Usage // nil: nothing of it runs
	Processes uint64
	// Network is nil on the host network, and where there is none any more.
	Network *NetworkUsage
}

// NetworkUsage is the traffic of a sandbox's interfaces.
type NetworkUsage struct {
	At         time.Time
	Interfaces []InterfaceUsage // but for loopback, in the kernel's order
}

// InterfaceUsage is one interface's traffic, as its pod sees it.
type InterfaceUsage struct {
	Name              string
	Receive, Transmit Traffic
}

// Traffic is one direction, since the interface was made.
type Traffic struct{ Bytes, Packets, Errors, Dropped uint64 }
