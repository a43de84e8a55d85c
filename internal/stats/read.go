package stats

import (
	"bytes"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mascri/mascri/internal/pod"
)

// unlimited is beyond what a limit can be: cgroup v1 rounds its largest number to pages.
const unlimited = 1 << 62

// reader reads small files of the kernel's. It is made for speed: nodes run hundreds of
// containers, each with a dozen files.
type reader struct {
	buffer [16 << 10]byte
	kept   *kept // files of the cgroup that is being read; nil: none stays open
}

// text returns a file's content, valid until the next call, or nil where there is none.
func (r *reader) text(dir, name string) []byte {
	if dir == "" { // a controller that is not in use
		return nil
	}
	if r.kept != nil {
		return r.kept.text(r.buffer[:], dir, name)
	}
	fd, err := unix.Open(filepath.Join(dir, name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	n := 0
	for n < len(r.buffer) {
		m, err := readAt(fd, r.buffer[n:], n)
		if err != nil { // such as of a cgroup being removed, or of pressure that is not counted
			return nil
		}
		if m == 0 {
			break
		}
		n += m
	}
	return r.buffer[:n]
}

// number returns a file's only number; "max" is beyond unlimited. ok is false where
// there is none.
func (r *reader) number(dir, name string) (n uint64, ok bool) {
	text := bytes.TrimSpace(r.text(dir, name))
	if string(text) == "max" {
		return unlimited + 1, true
	}
	n, err := strconv.ParseUint(string(text), 10, 64)
	return n, err == nil
}

// limit returns nil for none.
func (r *reader) limit(dir, name string) *uint64 {
	n, ok := r.number(dir, name)
	if !ok || n > unlimited {
		return nil
	}
	return &n
}

// fields calls f for each line that is a key and a number; the key is valid until f returns.
func fields(text []byte, f func(key []byte, n uint64)) {
	for len(text) > 0 {
		line := text
		if end := bytes.IndexByte(text, '\n'); end >= 0 {
			line, text = text[:end], text[end+1:]
		} else {
			text = nil
		}
		at := bytes.IndexByte(line, ' ')
		if at < 0 {
			continue
		}
		if n, err := strconv.ParseUint(string(line[at+1:]), 10, 64); err == nil {
			f(line[:at], n)
		}
	}
}

// pressure reads a file such as cpu.pressure; nil where the kernel does not count it.
func (r *reader) pressure(dir, name string) *pod.Pressure {
	var p pod.Pressure
	some := false
	for line := range bytes.Lines(r.text(dir, name)) {
		var stall pod.Stall
		words := bytes.Fields(line)
		if len(words) == 0 {
			continue
		}
		for _, word := range words[1:] {
			key, value, _ := bytes.Cut(word, []byte("="))
			number, err := strconv.ParseFloat(string(value), 64)
			if err != nil {
				continue
			}
			switch string(key) {
			case "avg10":
				stall.Avg10 = number
			case "avg60":
				stall.Avg60 = number
			case "avg300":
				stall.Avg300 = number
			case "total":
				stall.Total = time.Duration(number) * time.Microsecond
			}
		}
		switch string(words[0]) {
		case "some":
			p.Some, some = stall, true
		case "full":
			p.Full = &stall
		}
	}
	if !some {
		return nil
	}
	return &p
}

// read returns errGone where nothing of the cgroup is left.
func (g *group) read(r *reader) (*pod.Usage, error) {
	g.kept.mu.Lock()
	defer g.kept.mu.Unlock()
	r.kept = &g.kept
	defer func() { r.kept = nil }()
	usage := &pod.Usage{At: time.Now()}
	if g.unified != "" {
		usage.CPU, usage.Memory = r.cpuV2(g.unified), r.memoryV2(g.unified)
		usage.IO = r.pressure(g.unified, "io.pressure")
	} else {
		usage.CPU, usage.Memory = r.cpuV1(g.v1["cpuacct"]), r.memoryV1(g.v1["memory"])
	}
	if usage.CPU == nil && usage.Memory == nil {
		return nil, errGone
	}
	return usage, nil
}

func (r *reader) cpuV1(dir string) *pod.CPUUsage {
	total, ok := r.number(dir, "cpuacct.usage")
	if !ok {
		return nil
	}
	return &pod.CPUUsage{Total: time.Duration(total)}
}

func (r *reader) memoryV1(dir string) *pod.MemoryUsage {
	var m pod.MemoryUsage
	var ok bool
	if m.Used, ok = r.number(dir, "memory.usage_in_bytes"); !ok {
		return nil
	}
	limited := true
	fields(r.text(dir, "memory.stat"), func(key []byte, n uint64) {
		switch string(key) { // of the cgroup and those below
		case "hierarchical_memory_limit": // the least of this cgroup's and those above
			limited = n <= unlimited
		case "total_rss":
			m.RSS = n
		case "total_inactive_file":
			m.InactiveFile = n
		case "total_pgfault":
			m.PageFaults = n
		case "total_pgmajfault":
			m.MajorPageFaults = n
		case "total_swap": // where the kernel accounts for swap
			swap := n // that n need not be allocated for each line
			m.Swap = &swap
		}
	})
	if limited { // or no cgroup above is, nor this one
		m.Limit = r.limit(dir, "memory.limit_in_bytes")
	}
	if m.Swap != nil && m.Limit != nil {
		if both := r.limit(dir, "memory.memsw.limit_in_bytes"); both != nil {
			limit := *both - min(*both, *m.Limit)
			m.SwapLimit = &limit
		}
	}
	return &m
}

func (r *reader) cpuV2(dir string) *pod.CPUUsage {
	var cpu *pod.CPUUsage
	fields(r.text(dir, "cpu.stat"), func(key []byte, n uint64) {
		if string(key) == "usage_usec" {
			cpu = &pod.CPUUsage{Total: time.Duration(n) * time.Microsecond}
		}
	})
	if cpu != nil {
		cpu.Pressure = r.pressure(dir, "cpu.pressure")
	}
	return cpu
}

func (r *reader) memoryV2(dir string) *pod.MemoryUsage {
	var m pod.MemoryUsage
	var ok bool
	if m.Used, ok = r.number(dir, "memory.current"); !ok {
		return nil
	}
	m.Limit = r.limit(dir, "memory.max")
	fields(r.text(dir, "memory.stat"), func(key []byte, n uint64) {
		switch string(key) {
		case "anon":
			m.RSS = n
		case "inactive_file":
			m.InactiveFile = n
		case "pgfault":
			m.PageFaults = n
		case "pgmajfault":
			m.MajorPageFaults = n
		}
	})
	if swap, ok := r.number(dir, "memory.swap.current"); ok {
		m.Swap, m.SwapLimit = &swap, r.limit(dir, "memory.swap.max")
	}
	m.Pressure = r.pressure(dir, "memory.pressure")
	return &m
}
