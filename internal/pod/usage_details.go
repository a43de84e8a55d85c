package pod

import "time"

// ContainerDetails is what one container uses, and what of its limits the kernel has: as
// much as the kubelet's metrics tell.
type ContainerDetails struct {
	ContainerUsage
	CPU        CPUDetails
	Memory     MemoryDetails
	Disks      []DiskUsage
	HugePages  []HugePages
	Processes  ProcessDetails
	Filesystem *FilesystemDetails // that its layer is on; nil where that is not known
}

// CPUDetails is where the time went.
type CPUDetails struct {
	User, System time.Duration
	Throttling   *Throttling // nil: the kernel does not limit here
}

// Throttling is what a CPU limit did.
type Throttling struct {
	Periods, Throttled uint64
	Time               time.Duration
}

// MemoryDetails is in bytes, but for counts.
type MemoryDetails struct {
	Cache, Mapped uint64
	Kernel        *uint64
	Most          *uint64 // that was ever used at once
	LimitHits     *uint64 // how often
	OOMKills      *uint64 // how many processes
}

// DiskUsage is what was read and written of one block device.
type DiskUsage struct {
	Device        string // such as /dev/sda
	Major, Minor  uint64
	Read, Written uint64 // bytes
	Reads, Writes uint64
}

// HugePages is what is used of pages of one size, in bytes.
type HugePages struct {
	Size string // such as 2MB
	Used uint64
	Most *uint64 // that was ever used at once
}

// ProcessDetails counts the processes and what they have.
type ProcessDetails struct {
	Processes, Threads uint64
	ThreadLimit        *uint64 // nil: none
	Files, Sockets     uint64  // open
	FileLimit          *uint64 // soft one, of the first process; nil: none
}

// FilesystemDetails is of a whole file system.
type FilesystemDetails struct {
	Device             string
	Bytes              uint64
	Inodes, InodesFree uint64
}
