package engine

import (
	"errors"
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

	if inode, own, err := netnsInode(os.Getpid(), cgroup); inode != want || !own || err != nil {
		t.Errorf("in cgroup %q: inode %d, own %t, %v; want %d, true", cgroup, inode, own, err, want)
	}
	if inode, own, err := netnsInode(os.Getpid(), strings.Repeat("f", 64)); inode != want || own || err != nil {
		t.Errorf("in another cgroup: inode %d, own %t, %v; want %d, false", inode, own, err, want)
	}
	ended := exec.Command("true")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	if inode, own, err := netnsInode(ended.Process.Pid, cgroup); inode != 0 || own || err != nil {
		t.Errorf("of a process that is gone: inode %d, own %t, %v; want 0, false", inode, own, err)
	}
}

// A process whose namespace can't be read is not one that is gone.
func TestNetnsInodeWithoutFileDescriptors(t *testing.T) {
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 0, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	inode, own, err := netnsInode(os.Getpid(), "")
	if restored := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before); restored != nil {
		t.Fatal(restored)
	}
	if inode != 0 || own || !errors.Is(err, syscall.EMFILE) {
		t.Errorf("inode %d, own %t, %v; want 0, false, EMFILE", inode, own, err)
	}
}
