package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const id = "0123456789abcdef"

// node is a tree of files in place of /proc and /sys/fs/cgroup, where process 7 is the
// container's.
type node struct {
	*Cgroups
	t *testing.T
}

func newNode(t *testing.T, cgroups string, files map[string]string) node {
	t.Helper()
	dir := t.TempDir()
	n := node{&Cgroups{proc: filepath.Join(dir, "proc"), root: filepath.Join(dir, "cgroup"), oomFloor: -500}, t}
	n.write(n.proc+"/7/cgroup", cgroups)
	for name, text := range files {
		n.write(filepath.Join(n.root, name), text)
	}
	return n
}

func (n node) write(file, text string) {
	n.t.Helper()
	err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644))
	if err != nil {
		n.t.Fatal(err)
	}
}

func (n node) want(file, want string) {
	n.t.Helper()
	text, err := os.ReadFile(file)
	if err != nil || string(text) != want {
		n.t.Errorf("%s: %q, %v; want %q", file, text, err, want)
	}
}

// On cgroup v1 each controller has a hierarchy of its own, and may be below another path.
func v1(t *testing.T) node {
	return newNode(t, "9:hugetlb:/huge/"+id+"\n5:memory:/pods/"+id+"\n4:cpu,cpuacct:/pods/"+id+"\n1:name=systemd:/x\n0::/unused/"+id+"\n", map[string]string{
		"hugetlb/huge/" + id + "/hugetlb.2MB.limit_in_bytes": "unlimited",
		"memory/pods/" + id + "/cgroup.procs":                "7\n8\n9\n",
	})
}

func v2(t *testing.T) node {
	scope := "kubepods.slice/docker-" + id + ".scope/"
	return newNode(t, "0::/"+scope[:len(scope)-1]+"\n", map[string]string{
		"cgroup.controllers": "cpu memory hugetlb\n", scope + "hugetlb.2MB.max": "max", scope + "memory.oom.group": "0", scope + "memory.high": "max",
		scope + "cgroup.procs": "7\n",
	})
}

func huge(size string, limit uint64) *cri.LinuxContainerResources {
	return &cri.LinuxContainerResources{HugepageLimits: []*cri.HugepageLimit{{PageSize: size, Limit: limit}}}
}

func unified(pairs ...string) *cri.LinuxContainerResources {
	r := &cri.LinuxContainerResources{Unified: map[string]string{}}
	for i := 0; i < len(pairs); i += 2 {
		r.Unified[pairs[i]] = pairs[i+1]
	}
	return r
}

func TestLimitsAreWritten(t *testing.T) {
	one := v1(t)
	if err := errors.Join(one.Check(7, id, huge("2MB", 4096)), one.Set(7, id, huge("2MB", 4096))); err != nil {
		t.Fatal(err)
	}
	one.want(one.root+"/hugetlb/huge/"+id+"/hugetlb.2MB.limit_in_bytes", "4096")

	two := v2(t)
	all := unified("memory.oom.group", "1", "memory.high", "1000")
	all.HugepageLimits = huge("2MB", 0).HugepageLimits
	if err := two.Check(7, id, all); err != nil {
		t.Fatal(err)
	}
	scope := two.root + "/kubepods.slice/docker-" + id + ".scope/"
	two.want(scope+"hugetlb.2MB.max", "max") // checked only
	if err := two.Set(7, id, all); err != nil {
		t.Fatal(err)
	}
	two.want(scope+"hugetlb.2MB.max", "0")
	two.want(scope+"memory.oom.group", "1")
	two.want(scope+"memory.high", "1000")
}

// A limit of 0 for a page size that the kernel lacks needs nothing done: the kubelet sends
// one for every size of the node.
func TestNoPagesOfThatSize(t *testing.T) {
	for name, n := range map[string]node{"v1": v1(t), "v2": v2(t)} {
		if err := errors.Join(n.Check(7, id, huge("1GB", 0)), n.Set(7, id, huge("1GB", 0))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhatCannotBeLimited(t *testing.T) {
	invalid, unmet, gone := errdefs.ErrInvalidArgument, errdefs.ErrFailedPrecondition, errdefs.ErrNotFound
	for name, tt := range map[string]struct {
		on    func(*testing.T) node
		pid   int
		asked *cri.LinuxContainerResources
		kind  error
		says  string
	}{
		"no such pages":             {v2, 7, huge("1GB", 1), unmet, "hugepage_limits: 1GB"},
		"no such pages on v1":       {v1, 7, huge("1GB", 1), unmet, "hugepage_limits: 1GB"},
		"a size that is a path":     {v2, 7, huge("../../2MB", 0), invalid, "hugepage_limits: ../../2MB"},
		"a size without a unit":     {v1, 7, huge("2048", 0), invalid, "hugepage_limits: 2048"},
		"unified on v1":             {v1, 7, unified("memory.high", "1"), unmet, `unified["memory.high"]: needs cgroup v2`},
		"no such key":               {v2, 7, unified("memory.no_such", "1"), unmet, `unified["memory.no_such"]`},
		"a key that is a path":      {v2, 7, unified("../memory.high", "1"), invalid, `unified["../memory.high"]`},
		"a key that is a directory": {v2, 7, unified("a/memory.high", "1"), invalid, `unified["a/memory.high"]`},
		"the process is gone":       {v2, 6, unified("memory.high", "1"), gone, "does not run"},
		"the process is another's":  {func(t *testing.T) node { n := v2(t); n.write(n.proc+"/6/cgroup", "0::/other\n"); return n }, 6, huge("2MB", 1), gone, "process 6"},
		"the container just ended":  {func(t *testing.T) node { n := v2(t); os.RemoveAll(n.root + "/kubepods.slice"); return n }, 7, unified("memory.high", "1"), gone, "does not run"},
		"it just ended, on v1": {func(t *testing.T) node {
			n := v1(t)
			os.RemoveAll(n.root + "/hugetlb")
			n.write(n.root+"/hugetlb/x", "")
			return n
		}, 7, huge("2MB", 1), gone, "does not run"},
		"a kernel without hugepages": {func(t *testing.T) node {
			return newNode(t, "5:memory:/"+id+"\n", map[string]string{"memory/" + id + "/x": ""})
		}, 7, huge("2MB", 1), unmet, "hugepage_limits: 2MB"},
	} {
		t.Run(name, func(t *testing.T) {
			n := tt.on(t)
			for what, call := range map[string]func(int, string, *cri.LinuxContainerResources) error{"check": n.Check, "set": n.Set} {
				if err := call(tt.pid, id, tt.asked); !errors.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.says) {
					t.Errorf("%s: %v; want a %v that says %q", what, err, tt.kind, tt.says)
				}
			}
			if _, err := os.Stat(n.root + "/kubepods.slice/docker-" + id + ".scope/memory.no_such"); err == nil {
				t.Error("the file was made")
			}
		})
	}
}

func TestNothingAskedNothingDone(t *testing.T) {
	n := newNode(t, "", nil) // where any look would fail
	for _, none := range []*cri.LinuxContainerResources{nil, {}, {CpuShares: 2}} {
		if err := errors.Join(n.Check(1, id, none), n.Set(1, id, none)); err != nil {
			t.Error(err)
		}
	}
}

func TestOOMScore(t *testing.T) {
	for name, n := range map[string]node{"v1": v1(t), "v2": v2(t)} {
		n.write(n.proc+"/7/oom_score_adj", "0")
		n.write(n.proc+"/9/oom_score_adj", "0") // 8 ended meanwhile
		for asked, want := range map[int]string{900: "900", 0: "0", -500: "-500", -1000: "-500"} {
			if err := n.SetOOMScore(7, id, asked); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			n.want(n.proc+"/7/oom_score_adj", want)
			if name == "v1" {
				n.want(n.proc+"/9/oom_score_adj", want)
			}
		}
		if err := n.SetOOMScore(6, id, 1); !errdefs.IsNotFound(err) {
			t.Errorf("%s: process that is gone: %v, want NotFound", name, err)
		}
		os.RemoveAll(n.root + "/memory/pods")
		os.RemoveAll(n.root + "/kubepods.slice")
		if err := n.SetOOMScore(7, id, 1); !errdefs.IsNotFound(err) {
			t.Errorf("%s: container that just ended: %v, want NotFound", name, err)
		}
	}
}
