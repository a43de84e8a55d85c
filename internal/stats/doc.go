// Package stats tells what containers and sandboxes use, from the kernel's files and
// network counters alone: the engine is not asked.
//
// Cgroups, of v1 or v2, are read when somebody asks; nothing is sampled meanwhile. Only
// what a container wrote to its root file system takes long to find out, so that it is
// measured in the background, for those that somebody asked about, one at a time.
//
// It reads cgroups as the kernel shows them to this process: MasCRI must be in the node's
// cgroup namespace.
package stats
