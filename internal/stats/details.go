package stats

import (
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mascri/mascri/internal/pod"
)

// Details returns all that is known of what c uses. It looks at each process and each of
// its open files. It never fails: what can't be read is left out.
func (s *Stats) Details(c pod.Container) pod.ContainerDetails {
	details := pod.ContainerDetails{ContainerUsage: s.Container(c)}
	g := s.remembered(c.ID)
	if details.Usage == nil || g == nil {
		return details
	}
	r, _ := s.readers.Get().(*reader)
	defer s.readers.Put(r)
	if g.unified != "" {
		details.CPU, details.Memory, details.Disks = r.cpuDetailsV2(g.unified), r.memoryDetailsV2(g.unified), r.disksV2(g.unified)
		details.HugePages = r.hugePages(g.unified, "current", "")
	} else {
		details.CPU, details.Memory, details.Disks = r.cpuDetailsV1(g.v1["cpuacct"], g.v1["cpu"]), r.memoryDetailsV1(g.v1["memory"]), r.disksV1(g.v1["blkio"])
		details.HugePages = r.hugePages(g.v1["hugetlb"], "usage_in_bytes", "max_usage_in_bytes")
	}
	for i, disk := range details.Disks {
		details.Disks[i].Device = device(disk.Major, disk.Minor)
	}
	details.Processes = s.processDetails(r, g, c.PID)
	if details.Layer != nil {
		details.Filesystem = filesystem(details.Layer.MountPoint)
	}
	return details
}

func (r *reader) cpuDetailsV1(cpuacct, cpu string) (d pod.CPUDetails) {
	user, _ := r.number(cpuacct, "cpuacct.usage_user")
	system, _ := r.number(cpuacct, "cpuacct.usage_sys")
	d.User, d.System = time.Duration(user), time.Duration(system)
	fields(r.text(cpu, "cpu.stat"), func(key []byte, n uint64) { throttled(&d, key, n) })
	return d
}

func (r *reader) cpuDetailsV2(dir string) (d pod.CPUDetails) {
	fields(r.text(dir, "cpu.stat"), func(key []byte, n uint64) {
		switch string(key) {
		case "user_usec":
			d.User = time.Duration(n) * time.Microsecond
		case "system_usec":
			d.System = time.Duration(n) * time.Microsecond
		}
		throttled(&d, key, n)
	})
	return d
}

// throttled takes what both versions have in cpu.stat, where the CPU can be limited.
func throttled(d *pod.CPUDetails, key []byte, n uint64) {
	if string(key) == "nr_periods" {
		d.Throttling = &pod.Throttling{Periods: n}
	}
	if d.Throttling == nil {
		return
	}
	switch string(key) {
	case "nr_throttled":
		d.Throttling.Throttled = n
	case "throttled_time":
		d.Throttling.Time = time.Duration(n)
	case "throttled_usec":
		d.Throttling.Time = time.Duration(n) * time.Microsecond
	}
}

// count returns nil for a number that is not there.
func (r *reader) count(dir, name string) *uint64 {
	if n, ok := r.number(dir, name); ok {
		return &n
	}
	return nil
}

func (r *reader) memoryDetailsV1(dir string) (d pod.MemoryDetails) {
	fields(r.text(dir, "memory.stat"), func(key []byte, n uint64) {
		switch string(key) {
		case "total_cache":
			d.Cache = n
		case "total_mapped_file":
			d.Mapped = n
		}
	})
	d.Kernel = r.count(dir, "memory.kmem.usage_in_bytes")
	d.Most = r.count(dir, "memory.max_usage_in_bytes")
	d.LimitHits = r.count(dir, "memory.failcnt")
	fields(r.text(dir, "memory.oom_control"), func(key []byte, n uint64) {
		if string(key) == "oom_kill" {
			d.OOMKills = &n
		}
	})
	return d
}

func (r *reader) memoryDetailsV2(dir string) (d pod.MemoryDetails) {
	var parts uint64 // of the kernel's, where it does not sum them up, before Linux 5.18
	fields(r.text(dir, "memory.stat"), func(key []byte, n uint64) {
		switch string(key) {
		case "file":
			d.Cache = n
		case "file_mapped":
			d.Mapped = n
		case "kernel":
			d.Kernel = &n
		case "kernel_stack", "slab", "percpu", "pagetables":
			parts += n
		}
	})
	if d.Kernel == nil {
		d.Kernel = &parts
	}
	d.Most = r.count(dir, "memory.peak")
	fields(r.text(dir, "memory.events"), func(key []byte, n uint64) {
		switch string(key) {
		case "max":
			d.LimitHits = &n
		case "oom_kill":
			d.OOMKills = &n
		}
	})
	return d
}

// disksV1 reads lines such as "8:0 Read 4096". Only newer kernels add up the cgroups
// below.
func (r *reader) disksV1(dir string) (disks []pod.DiskUsage) {
	for _, file := range []string{"blkio.throttle.io_service_bytes", "blkio.throttle.io_serviced"} {
		text := r.text(dir, file+"_recursive")
		if text == nil {
			text = r.text(dir, file)
		}
		for line := range strings.Lines(string(text)) {
			words := strings.Fields(line)
			if len(words) != 3 {
				continue // the total
			}
			n, err := strconv.ParseUint(words[2], 10, 64)
			disk := diskOf(&disks, words[0])
			if disk == nil || err != nil {
				continue
			}
			switch strings.TrimPrefix(file, "blkio.throttle.io_") + " " + words[1] {
			case "service_bytes Read":
				disk.Read = n
			case "service_bytes Write":
				disk.Written = n
			case "serviced Read":
				disk.Reads = n
			case "serviced Write":
				disk.Writes = n
			}
		}
	}
	return disks
}

// disksV2 reads lines such as "8:0 rbytes=4096 wbytes=0 rios=1 wios=0".
func (r *reader) disksV2(dir string) (disks []pod.DiskUsage) {
	for line := range strings.Lines(string(r.text(dir, "io.stat"))) {
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		disk := diskOf(&disks, words[0])
		if disk == nil {
			continue
		}
		for _, word := range words[1:] {
			key, value, _ := strings.Cut(word, "=")
			n, err := strconv.ParseUint(value, 10, 64)
			if err != nil {
				continue
			}
			switch key {
			case "rbytes":
				disk.Read = n
			case "wbytes":
				disk.Written = n
			case "rios":
				disk.Reads = n
			case "wios":
				disk.Writes = n
			}
		}
	}
	return disks
}

// diskOf returns the entry of a device such as "8:0", and adds it where it is missing.
func diskOf(disks *[]pod.DiskUsage, numbers string) *pod.DiskUsage {
	left, right, _ := strings.Cut(numbers, ":")
	major, err := strconv.ParseUint(left, 10, 32)
	if err != nil {
		return nil
	}
	minor, err := strconv.ParseUint(right, 10, 32)
	if err != nil {
		return nil
	}
	for i, disk := range *disks {
		if disk.Major == major && disk.Minor == minor {
			return &(*disks)[i]
		}
	}
	*disks = append(*disks, pod.DiskUsage{Major: major, Minor: minor})
	return &(*disks)[len(*disks)-1]
}

// hugePages reads files such as hugetlb.2MB.current; most may be "", as cgroup v2 does
// not keep it.
func (r *reader) hugePages(dir, used, most string) (pages []pod.HugePages) {
	if dir == "" {
		return nil
	}
	files, err := filepath.Glob(filepath.Join(dir, "hugetlb.*B."+used))
	if err != nil {
		return nil
	}
	for _, file := range files {
		size := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), "hugetlb."), "."+used)
		n, ok := r.number(dir, filepath.Base(file))
		if !ok || strings.Contains(size, ".") { // .rsvd: what is only reserved
			continue
		}
		p := pod.HugePages{Size: size, Used: n}
		if most != "" {
			p.Most = r.count(dir, "hugetlb."+size+"."+most)
		}
		pages = append(pages, p)
	}
	return pages
}

func filesystem(mountPoint string) *pod.FilesystemDetails {
	var stat unix.Statfs_t
	var file syscall.Stat_t
	if unix.Statfs(mountPoint, &stat) != nil || syscall.Stat(mountPoint, &file) != nil {
		return nil
	}
	return &pod.FilesystemDetails{
		Device: device(uint64(unix.Major(file.Dev)), uint64(unix.Minor(file.Dev))),
		Bytes:  stat.Blocks * uint64(stat.Bsize),
		Inodes: stat.Files, InodesFree: stat.Ffree,
	}
}
