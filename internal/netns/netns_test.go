package netns

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// current is the namespace of the calling thread.
func current() (string, error) { return os.Readlink("/proc/thread-self/ns/net") }

func TestWorkIsDoneInTheOtherNamespace(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: enters a network namespace")
	}
	sleeper := exec.Command("sleep", "60")
	sleeper.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sleeper.Process.Kill(); _ = sleeper.Wait() })
	path := fmt.Sprintf("/proc/%d/ns/net", sleeper.Process.Pid)
	want, err := os.Readlink(path)
	if err != nil {
		t.Fatal(err)
	}
	home, err := current()
	if err != nil || home == want {
		t.Fatalf("home %s, other %s, error %v", home, want, err)
	}
	failed := errors.New("failed")
	for range 20 { // threads are used again
		var inside string
		err := At(path, func() (err error) {
			inside, err = current()
			return errors.Join(err, failed)
		})
		if !errors.Is(err, failed) || inside != want {
			t.Errorf("was in %s, want %s; error %v", inside, want, err)
		}
		if now, err := current(); now != home {
			t.Fatalf("is in %s, not at home in %s; error %v", now, home, err)
		}
	}
	inode, ok := Inode(path)
	if !ok || fmt.Sprintf("net:[%d]", inode) != want {
		t.Errorf("inode %d, %t of %s", inode, ok, want)
	}
}

func TestWhatIsNoNamespace(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, file + ".none"} {
		if err := At(path, func() error { t.Error("done"); return nil }); err == nil {
			t.Errorf("%s was entered", path)
		}
		if inode, ok := Inode(path); ok {
			t.Errorf("%s has inode %d", path, inode)
		}
	}
}
