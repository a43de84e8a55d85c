package podview

import (
	"cmp"
	"slices"
	"strings"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Usage is what the pods of a runtime use.
type Usage struct {
	Pods []PodUsage `json:"pods"`
}

// PodUsage is what a pod uses. Figures that the runtime does not tell are nil.
type PodUsage struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
	Figures
	Network    *NetworkUsage    `json:"network,omitempty"` // nil on the host network
	Processes  *uint64          `json:"processes,omitempty"`
	Containers []ContainerUsage `json:"containers"`
}

// ContainerUsage is what a container uses.
type ContainerUsage struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	Figures
}

// Figures are what pods and containers have both.
type Figures struct {
	Cores       *float64 `json:"cpuCores,omitempty"`         // since the sample before; 1 is a whole CPU
	Memory      *uint64  `json:"memoryBytes,omitempty"`      // the working set
	MemoryLimit *uint64  `json:"memoryLimitBytes,omitempty"` // nil where there is none
}

// NetworkUsage is what passed a pod's interfaces but lo. The rates are nil in the first
// sample.
type NetworkUsage struct {
	Received     uint64   `json:"receivedBytes"`
	Sent         uint64   `json:"sentBytes"`
	ReceivedRate *float64 `json:"receivedBytesPerSecond,omitempty"`
	SentRate     *float64 `json:"sentBytesPerSecond,omitempty"`
}

// A Meter turns samples of counters into usage. The zero value is ready; it is not for
// concurrent use.
type Meter struct{ last map[string]counter }

// counter is one reading of something that only grows, and the rate that it had.
type counter struct {
	at    int64 // nanoseconds since 1970
	value uint64
	rate  *float64 // per second
}

// Read returns the usage of what runs, as a sample and the one before tell.
func (m *Meter) Read(sample []*cri.PodSandboxStats) Usage {
	next := map[string]counter{}
	rate := func(key string, at int64, value uint64) *float64 {
		c := counter{at: at, value: value}
		// A runtime may answer with what it sampled before; a smaller value is of another life.
		if before, ok := m.last[key]; ok && value >= before.value {
			c.rate = before.rate
			if at > before.at {
				perSecond := float64(value-before.value) / (float64(at-before.at) / float64(time.Second))
				c.rate = &perSecond
			}
		}
		next[key] = c
		return c.rate
	}
	usage := Usage{Pods: []PodUsage{}}
	for _, s := range sample {
		linux, a := s.GetLinux(), s.GetAttributes()
		if linux.GetCpu() == nil && linux.GetMemory() == nil {
			continue // it does not run
		}
		p := PodUsage{
			ID: a.GetId(), Name: a.GetMetadata().GetName(), Namespace: a.GetMetadata().GetNamespace(),
			Figures: figures(a.GetId(), linux.GetCpu(), linux.GetMemory(), rate), Network: traffic(a.GetId(), linux.GetNetwork(), rate),
			Processes: number(linux.GetProcess().GetProcessCount()), Containers: []ContainerUsage{},
		}
		for _, c := range linux.GetContainers() {
			if c.GetCpu() == nil && c.GetMemory() == nil {
				continue
			}
			id := c.GetAttributes().GetId()
			p.Containers = append(p.Containers, ContainerUsage{
				ID: id, Name: c.GetAttributes().GetMetadata().GetName(), Figures: figures(id, c.GetCpu(), c.GetMemory(), rate),
			})
		}
		usage.Pods = append(usage.Pods, p)
	}
	m.last = next
	return usage
}

func figures(id string, cpu *cri.CpuUsage, memory *cri.MemoryUsage, rate func(string, int64, uint64) *float64) Figures {
	f := Figures{Memory: number(memory.GetWorkingSetBytes())}
	if total := cpu.GetUsageCoreNanoSeconds(); total != nil {
		if ns := rate("cpu "+id, cpu.GetTimestamp(), total.GetValue()); ns != nil {
			cores := *ns / float64(time.Second)
			f.Cores = &cores
		}
	}
	// Some runtimes say 0 where there is no limit.
	if left := memory.GetAvailableBytes().GetValue(); left > 0 && f.Memory != nil {
		limit := *f.Memory + left
		f.MemoryLimit = &limit
	}
	return f
}

func traffic(id string, network *cri.NetworkUsage, rate func(string, int64, uint64) *float64) *NetworkUsage {
	first := network.GetDefaultInterface()
	if first == nil {
		return nil
	}
	n := NetworkUsage{}
	for i, each := range append([]*cri.NetworkInterfaceUsage{first}, network.GetInterfaces()...) {
		if i > 0 && (each.GetName() == first.GetName() || each.GetName() == "lo") {
			continue
		}
		n.Received += each.GetRxBytes().GetValue()
		n.Sent += each.GetTxBytes().GetValue()
	}
	n.ReceivedRate = rate("received "+id, network.GetTimestamp(), n.Received)
	n.SentRate = rate("sent "+id, network.GetTimestamp(), n.Sent)
	return &n
}

func number(n *cri.UInt64Value) *uint64 {
	if n == nil {
		return nil
	}
	return &n.Value
}

// Order is what usage is sorted by.
type Order string

// The orders: the most first, and names as in a dictionary.
const (
	ByCPU     Order = "cpu"
	ByMemory  Order = "memory"
	ByNetwork Order = "network"
	ByName    Order = "name"
)

// Orders are all of them.
func Orders() []Order { return []Order{ByCPU, ByMemory, ByNetwork, ByName} }

// Sort sorts pods, and the containers of each.
func (u Usage) Sort(by Order) {
	slices.SortFunc(u.Pods, func(a, b PodUsage) int {
		n := a.compare(b.Figures, by)
		if by == ByNetwork {
			n = cmp.Compare(b.Network.rate(), a.Network.rate())
		}
		return cmp.Or(n, strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name), strings.Compare(a.ID, b.ID))
	})
	for _, p := range u.Pods {
		slices.SortFunc(p.Containers, func(a, b ContainerUsage) int {
			return cmp.Or(a.compare(b.Figures, by), strings.Compare(a.Name, b.Name), strings.Compare(a.ID, b.ID))
		})
	}
}

func (f Figures) compare(other Figures, by Order) int {
	switch by {
	case ByCPU:
		return cmp.Compare(value(other.Cores), value(f.Cores))
	case ByMemory:
		return cmp.Compare(value(other.Memory), value(f.Memory))
	}
	return 0
}

// rate is both directions together.
func (n *NetworkUsage) rate() float64 {
	if n == nil {
		return -1
	}
	return value(n.ReceivedRate) + value(n.SentRate)
}

// value is -1 or so for what is not known, so that it comes last.
func value[N float64 | uint64](n *N) float64 {
	if n == nil {
		return -1
	}
	return float64(*n)
}
