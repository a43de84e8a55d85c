package cgroup

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// kernel returns a node without processes, but for this one in its network namespace.
func kernel(t *testing.T, unified bool) node {
	files := map[string]string{}
	if unified {
		files["cgroup.controllers"] = "pids"
	}
	n := newNode(t, "", files)
	n.link("thread-self", "net:[1]")
	return n
}

func (n node) link(pid, netns string) {
	n.t.Helper()
	path := filepath.Join(n.proc, pid, "ns/net")
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.Symlink(netns, path)); err != nil {
		n.t.Fatal(err)
	}
}

func (n node) process(pid int, nspid, netns string) {
	n.t.Helper()
	n.write(filepath.Join(n.proc, strconv.Itoa(pid), "status"), "Name:\trunc:[2:INIT]\nNSpid:\t"+nspid+"\nThreads:\t1\n")
	n.link(strconv.Itoa(pid), netns)
}

func TestBornIsFoundByEitherDriver(t *testing.T) {
	for name, test := range map[string]struct {
		unified       bool
		parent, place string
	}{
		"cgroupfs, v1":           {false, "/kubepods/pod7", "pids/kubepods/pod7/c1"},
		"cgroupfs, v2":           {true, "/kubepods/pod7", "kubepods/pod7/c1"},
		"cgroupfs, no parent":    {true, "", "docker/c1"},
		"systemd, v2":            {true, "kubepods-burstable-pod7.slice", "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod7.slice/docker-c1.scope"},
		"systemd, v1, a path":    {false, "/kubepods.slice/kubepods-pod7.slice", "pids/kubepods.slice/kubepods-pod7.slice/docker-c1.scope"},
		"systemd, v2, no parent": {true, "", "system.slice/docker-c1.scope"},
	} {
		t.Run(name, func(t *testing.T) {
			n := kernel(t, test.unified)
			procs := filepath.Join(n.root, test.place, "cgroup.procs")
			n.process(10, "10", "net:[1]")     // runc, before it has made namespaces
			n.process(11, "11", "net:[2]")     // in a network namespace, but not in the pid namespace
			n.process(12, "12\t1", "net:[2]")  // the first
			n.process(13, "13\t17", "net:[2]") // one that the first made
			go func() {
				time.Sleep(30 * time.Millisecond)
				n.write(procs, "10\n11\n13\n")
				time.Sleep(30 * time.Millisecond)
				n.write(procs, "10\n11\n12\n13\n")
			}()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			pid, alive, err := n.Born(ctx, "c1", test.parent)
			if err != nil || pid != 12 {
				t.Fatalf("%d, %v", pid, err)
			}
			if err := alive(); err != nil {
				t.Error(err)
			}
			n.write(procs, "13\n")
			if err := alive(); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("after its end: %v", err)
			}
			if err := os.Remove(procs); err != nil {
				t.Fatal(err)
			}
			if err := alive(); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("without a cgroup: %v", err)
			}
		})
	}
}

func TestBornEndsWithItsContext(t *testing.T) {
	for name, prepare := range map[string]func(node, string){
		"nothing is there": func(node, string) {},
		"a process on the host's network": func(n node, procs string) {
			n.process(12, "12\t1", "net:[1]")
			n.write(procs, "12\n")
		},
		"a process in the host's pid namespace": func(n node, procs string) {
			n.process(12, "12", "net:[2]")
			n.write(procs, "12\n")
		},
		"processes of elsewhere": func(n node, procs string) { n.write(procs, "0\n99\nx\n") },
	} {
		t.Run(name, func(t *testing.T) {
			n := kernel(t, true)
			prepare(n, filepath.Join(n.root, "kubepods/c1/cgroup.procs"))
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			if pid, _, err := n.Born(ctx, "c1", "/kubepods"); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%d, %v", pid, err)
			}
		})
	}
}
