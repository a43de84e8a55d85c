package cri

import (
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/pod"
)

// The kinds of a container's metrics: each knows when there is nothing to tell.

func gauge(name, help string, of func(measured) *uint64) metric {
	return metric{name, help, cri.MetricType_GAUGE, nil, func(m measured) []sample {
		if n := of(m); n != nil {
			return one(*n)
		}
		return nil
	}}
}

func cpuMetric(name, help string, labels []string, of func(measured) []sample) metric {
	return metric{name, help, cri.MetricType_COUNTER, labels, func(m measured) []sample {
		if m.used.Usage == nil || m.used.Usage.CPU == nil {
			return nil
		}
		return of(m)
	}}
}

func throttleMetric(name, help string, of func(pod.Throttling) uint64) metric {
	return cpuMetric(name, help, nil, func(m measured) []sample {
		if m.used.CPU.Throttling == nil {
			return nil
		}
		return one(of(*m.used.CPU.Throttling))
	})
}

func memoryGauge(name, help string, of func(measured) *uint64) metric {
	return gauge(name, help, func(m measured) *uint64 {
		if m.used.Usage == nil || m.used.Usage.Memory == nil {
			return nil
		}
		return of(m)
	})
}

func memoryCounter(name, help string, of func(measured) *uint64) metric {
	m := memoryGauge(name, help, of)
	m.kind = cri.MetricType_COUNTER
	return m
}

func hugePageMetric(name, help string, of func(pod.HugePages) *uint64) metric {
	return metric{name, help, cri.MetricType_GAUGE, []string{"pagesize"}, func(m measured) (samples []sample) {
		for _, p := range m.used.HugePages {
			if n := of(p); n != nil {
				samples = append(samples, sample{value: *n, labels: []string{p.Size}})
			}
		}
		return samples
	}}
}

func fsGauge(name, help string, of func(pod.FilesystemDetails) uint64) metric {
	return metric{name, help, cri.MetricType_GAUGE, []string{"device"}, func(m measured) []sample {
		if m.used.Filesystem == nil {
			return nil
		}
		return []sample{{value: of(*m.used.Filesystem), labels: []string{m.used.Filesystem.Device}}}
	}}
}

func diskMetric(name, help string, of func(pod.DiskUsage) uint64) metric {
	return metric{name, help, cri.MetricType_COUNTER, []string{"device"}, func(m measured) (samples []sample) {
		for _, d := range m.used.Disks {
			samples = append(samples, sample{value: of(d), labels: []string{d.Device}})
		}
		return samples
	}}
}

func processGauge(name, help string, of func(pod.ProcessDetails) uint64) metric {
	return gauge(name, help, func(m measured) *uint64 {
		if m.used.Usage == nil {
			return nil
		}
		n := of(m.used.Processes)
		return &n
	})
}

func pressureMetric(name, help string, of func(pod.Usage) *pod.Pressure, pick func(pod.Pressure) *pod.Stall) metric {
	m := gauge(name, help, func(m measured) *uint64 {
		if m.used.Usage == nil {
			return nil
		}
		pressure := of(*m.used.Usage)
		if pressure == nil {
			return nil
		}
		stall := pick(*pressure)
		if stall == nil {
			return nil
		}
		n := seconds(stall.Total)
		return &n
	})
	m.kind = cri.MetricType_COUNTER
	return m
}

func cpuPressure(u pod.Usage) *pod.Pressure {
	if u.CPU == nil {
		return nil
	}
	return u.CPU.Pressure
}

func memoryPressure(u pod.Usage) *pod.Pressure {
	if u.Memory == nil {
		return nil
	}
	return u.Memory.Pressure
}

func ioPressure(u pod.Usage) *pod.Pressure { return u.IO }

func some(p pod.Pressure) *pod.Stall { return &p.Some }
func full(p pod.Pressure) *pod.Stall { return p.Full }

func one(n uint64) []sample { return []sample{{value: n}} }

func seconds(d time.Duration) uint64 { return uint64(d / time.Second) }

func unix(t time.Time) *uint64 { n := uint64(max(0, t.Unix())); return &n }

func unsigned(n int64) *uint64 { u := uint64(max(0, n)); return &u }

// orZero makes 0 of nil.
func orZero(n *uint64) *uint64 {
	if n == nil {
		return new(uint64)
	}
	return n
}
