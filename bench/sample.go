package main

import "fmt"

// What is measured. A step of a stage has a name of its own where it is timed.
const (
	podStart    = "pod_start"
	createStart = "create_start"
	podReady    = "pod_ready"
	execSync    = "exec_sync"
	stopPod     = "stop"
	removePod   = "remove"
	part        = "part"
	list        = "list"
	listBytes   = "list_bytes"
	pollCPU     = "poll_cpu"
	memory      = "memory"
	memoryPod   = "memory_per_pod"
	restart     = "restart"
	logRate     = "log_throughput"
	logCPU      = "log_cpu_per_mb"
)

// measures tells what is measured, in which unit, in the order of the report.
var measures = []struct {
	Name  string `json:"name"`
	Unit  string `json:"unit"`
	Means string `json:"means"`
}{
	{podStart, "ms", "RunPodSandbox"},
	{podReady, "ms", "RunPodSandbox, CreateContainer and StartContainer"},
	{createStart, "ms", "CreateContainer and StartContainer"},
	{execSync, "ms", "ExecSync of /bin/true"},
	{stopPod, "ms", "StopContainer, whose stop signal is SIGKILL, and StopPodSandbox"},
	{"stop_container", "ms", "StopContainer of that"},
	{"stop_sandbox", "ms", "StopPodSandbox of that"},
	{removePod, "ms", "RemoveContainer and RemovePodSandbox"},
	{"remove_container", "ms", "RemoveContainer of that"},
	{"remove_sandbox", "ms", "RemovePodSandbox of that"},
	{list, "ms", "ListPodSandbox, ListContainers, ListContainerStats, and both statuses of one pod"},
	{"list_pods", "ms", "ListPodSandbox of that"},
	{"list_containers", "ms", "ListContainers of that"},
	{"list_stats", "ms", "ListContainerStats of that"},
	{"statuses", "ms", "PodSandboxStatus and ContainerStatus of that"},
	{listBytes, "KB", "messages of all that"},
	{pollCPU, "CPU s/min", "of the daemons, shims and what they start, while a client polls"},
	{memory, "MB", "PSS of daemons and shims, while a client polls"},
	{memoryPod, "MB", "that, divided by the number of pods"},
	{restart, "ms", "from the start of the killed CRI daemon until it lists all pods as running"},
	{logRate, "MB/s", "100-byte lines of one container until the log file is complete; more is better"},
	{logCPU, "CPU ms/MB", "of the daemons and shims for that"},
	{part, "ms", "a part of a pod"},
}

// The modes of measures that don't depend on how many pods there are.
const (
	serial = "serial"
	stream = "one writer"
)

func parallel(width int) string { return fmt.Sprintf("%d at once", width) }

const withPodsFormat = "%d pods"

func withPods(count int) string { return fmt.Sprintf(withPodsFormat, count) }

// sample is one measured value.
type sample struct {
	Contestant string  `json:"contestant"`
	Measure    string  `json:"measure"`
	Mode       string  `json:"mode"`
	Round      int     `json:"round"`
	Value      float64 `json:"value"`
}
