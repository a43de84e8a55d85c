package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// At no moment others than root may use the socket, whatever umask and group the daemon was
// started with.
func TestSocketIsNeverOpenToOthers(t *testing.T) {
	defer unix.Umask(unix.Umask(0))
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o2777); err != nil { // what is made there belongs to the directory's group
		t.Fatal(err)
	}
	if err := os.Chown(dir, 0, 12345); err != nil {
		t.Skip(err)
	}
	path := filepath.Join(dir, "s")
	ended := make(chan struct{})
	seen := make(chan string, 1)
	looks := 0
	go func() {
		defer close(seen)
		for {
			select {
			case <-ended:
				return
			default:
			}
			for _, name := range []string{path, path + ".new"} {
				stat, err := os.Lstat(name)
				if err != nil {
					continue
				}
				looks++
				owner, _ := stat.Sys().(*syscall.Stat_t)
				if stat.Mode().Perm()&0o007 != 0 || owner.Uid != 0 || owner.Gid != 0 && stat.Mode().Perm()&0o070 != 0 {
					seen <- stat.Mode().String()
					return
				}
			}
		}
	}()
	for range 3000 {
		l, err := listenAt(path)
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
	}
	close(ended)
	if mode, open := <-seen; open {
		t.Errorf("it was open to others: %s", mode)
	}
	stat, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	owner, _ := stat.Sys().(*syscall.Stat_t)
	if stat.Mode().Perm() != 0o660 || owner.Gid != 0 || looks == 0 {
		t.Errorf("in the end: %s, group %d, after %d looks", stat.Mode(), owner.Gid, looks)
	}
	if old := unix.Umask(0); old != 0 {
		t.Errorf("the umask is left at %o", old)
	}
}

func TestSocketPathThatIsSomethingElse(t *testing.T) {
	dir := t.TempDir()
	other, err := listenAt(filepath.Join(dir, "other"))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for name, make := range map[string]func(path string) error{
		"a file":             func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"a directory":        func(path string) error { return os.Mkdir(path, 0o700) },
		"a link to a socket": func(path string) error { return os.Symlink(filepath.Join(dir, "other"), path) },
		"a link to nothing":  func(path string) error { return os.Symlink("nothing", path) },
		"a pipe":             func(path string) error { return unix.Mkfifo(path, 0o600) },
		"another daemon's":   func(path string) error { return os.Link(filepath.Join(dir, "other"), path) },
	} {
		path := filepath.Join(t.TempDir(), "s")
		if err := make(path); err != nil {
			t.Fatal(err)
		}
		l, err := listenAt(path)
		if err == nil {
			l.Close()
			t.Errorf("%s was replaced", name)
		} else if text := err.Error(); !strings.Contains(text, path) || !strings.Contains(text, "another --socket") {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("%s is gone: %v", name, err)
		}
	}
}
