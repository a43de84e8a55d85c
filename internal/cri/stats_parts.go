package cri

import (
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

// defaultInterface is what CNI plugins are told to call a pod's first interface.
const defaultInterface = "eth0"

func value(n uint64) *cri.UInt64Value { return &cri.UInt64Value{Value: n} }

// valueOf returns nil for nil.
func valueOf(n *uint64) *cri.UInt64Value {
	if n == nil {
		return nil
	}
	return value(*n)
}

// available is what is left of a limit; nil where there is none, as the kubelet leaves
// out of its summary what has no bound.
func available(limit *uint64, used uint64) *cri.UInt64Value {
	if limit == nil {
		return nil
	}
	return value(*limit - min(*limit, used))
}

func cpuStats(u *pod.Usage) *cri.CpuUsage {
	if u.CPU == nil {
		return nil
	}
	return &cri.CpuUsage{
		Timestamp:            u.At.UnixNano(),
		UsageCoreNanoSeconds: value(uint64(u.CPU.Total)),
		UsageNanoCores:       valueOf(u.CPU.Rate),
		Psi:                  pressureStats(u.CPU.Pressure),
	}
}

func memoryStats(u *pod.Usage) *cri.MemoryUsage {
	m := u.Memory
	if m == nil {
		return nil
	}
	return &cri.MemoryUsage{
		Timestamp:       u.At.UnixNano(),
		WorkingSetBytes: value(m.WorkingSet()),
		AvailableBytes:  available(m.Limit, m.WorkingSet()),
		UsageBytes:      value(m.Used),
		RssBytes:        value(m.RSS),
		PageFaults:      value(m.PageFaults),
		MajorPageFaults: value(m.MajorPageFaults),
		Psi:             pressureStats(m.Pressure),
	}
}

func swapStats(u *pod.Usage) *cri.SwapUsage {
	if u.Memory == nil || u.Memory.Swap == nil {
		return nil
	}
	return &cri.SwapUsage{
		Timestamp:          u.At.UnixNano(),
		SwapAvailableBytes: available(u.Memory.SwapLimit, *u.Memory.Swap),
		SwapUsageBytes:     valueOf(u.Memory.Swap),
	}
}

func ioStats(u *pod.Usage) *cri.IoUsage {
	if u.IO == nil {
		return nil
	}
	return &cri.IoUsage{Timestamp: u.At.UnixNano(), Psi: pressureStats(u.IO)}
}

func pressureStats(p *pod.Pressure) *cri.PsiStats {
	if p == nil {
		return nil
	}
	stats := &cri.PsiStats{Some: stallStats(p.Some)}
	if p.Full != nil {
		stats.Full = stallStats(*p.Full)
	}
	return stats
}

func stallStats(s pod.Stall) *cri.PsiData {
	return &cri.PsiData{Total: uint64(s.Total), Avg10: s.Avg10, Avg60: s.Avg60, Avg300: s.Avg300}
}

func layerStats(l *pod.LayerUsage) *cri.FilesystemUsage {
	if l == nil {
		return nil
	}
	return &cri.FilesystemUsage{
		Timestamp:  l.At.UnixNano(),
		FsId:       &cri.FilesystemIdentifier{Mountpoint: l.MountPoint},
		UsedBytes:  value(l.UsedBytes),
		InodesUsed: value(l.UsedInodes),
	}
}

// trafficStats is nil for a pod that has lost its interface, as while it is being detached:
// the kubelet reads the default interface without looking whether there is one, and panics.
func trafficStats(n *pod.NetworkUsage) *cri.NetworkUsage {
	if n == nil {
		return nil
	}
	stats := &cri.NetworkUsage{Timestamp: n.At.UnixNano()}
	for _, i := range n.Interfaces {
		usage := &cri.NetworkInterfaceUsage{
			Name:    i.Name,
			RxBytes: value(i.Receive.Bytes), RxErrors: value(i.Receive.Errors),
			TxBytes: value(i.Transmit.Bytes), TxErrors: value(i.Transmit.Errors),
		}
		if i.Name == defaultInterface {
			stats.DefaultInterface = usage
		} else {
			stats.Interfaces = append(stats.Interfaces, usage)
		}
	}
	if stats.DefaultInterface == nil {
		return nil
	}
	return stats
}
