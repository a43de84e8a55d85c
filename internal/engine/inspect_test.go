package engine

import (
	"os"
	"os/exec"
	"path"
	"strings"
	"syscall"
	"testing"
)

func TestNetnsInode(t *testing.T) {
	stat, err := os.Stat("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	want := stat.Sys().(*syscall.Stat_t).Ino
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	cgroup := path.Base(line) // of this process, as a container's has its id

	if inode, own := netnsInode(os.Getpid(), cgroup); inode != want || !own {
		t.Errorf("in cgroup %q: inode %d, own %t; want %d, true", cgroup, inode, own, want)
	}
	if inode, own := netnsInode(os.Getpid(), strings.Repeat("f", 64)); inode != want || own {
		t.Errorf("in another cgroup: inode %d, own %t; want %d, false", inode, own, want)
	}
	ended := exec.Command("true")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	if inode, own := netnsInode(ended.Process.Pid, cgroup); inode != 0 || own {
		t.Errorf("of a process that is gone: inode %d, own %t; want 0, false", inode, own)
	}
}
