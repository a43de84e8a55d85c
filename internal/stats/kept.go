package stats

import (
	"path/filepath"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// kept are the files of one cgroup that each reading needs. They stay open in between: to
// open one takes the kernel several times as long as to read it, and some 5 KB until it is
// closed. Those of a cgroup that is gone can't be read any more, whatever comes by its name.
// The zero value keeps none.
type kept struct {
	mu   sync.Mutex     // guards all following fields, and is held for each reading: none is closed meanwhile
	left *atomic.Int64  // how many more may stay open, of all cgroups; nil: none
	open map[string]int // descriptors, by names that no two controllers have
}

// keepMost is how many files may stay open: half of what this process may open.
func keepMost() int64 {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return 0
	}
	return int64(min(limit.Cur, 1<<20) / 2)
}

// text returns a file's content in buffer, or nil where there is none; k.mu must be held.
func (k *kept) text(buffer []byte, dir, name string) []byte {
	fd, found := k.open[name]
	if found {
		if n, err := readAt(fd, buffer, 0); err == nil {
			return buffer[:n] // whole: the kernel makes up all of such a file at once
		}
		k.drop(name, fd)
	}
	fd, err := unix.Open(filepath.Join(dir, name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	n, err := readAt(fd, buffer, 0)
	if err != nil || !k.take() {
		_ = unix.Close(fd) // only read
	} else {
		k.open[name] = fd
	}
	if err != nil {
		return nil
	}
	return buffer[:n]
}

// take returns false where no more files may stay open.
func (k *kept) take() bool {
	if k.left == nil {
		return false
	}
	if k.left.Add(-1) >= 0 {
		return true
	}
	k.left.Add(1)
	return false
}

func (k *kept) drop(name string, fd int) {
	_ = unix.Close(fd) // only read
	delete(k.open, name)
	k.left.Add(1)
}

// keep lets files stay open from now on. Whoever calls it must call close.
func (k *kept) keep(left *atomic.Int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.left, k.open = left, map[string]int{}
}

// close closes all, and keeps none from now on.
func (k *kept) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for name, fd := range k.open {
		k.drop(name, fd)
	}
	k.left = nil
}

func readAt(fd int, buffer []byte, from int) (n int, err error) {
	for {
		if n, err = unix.Pread(fd, buffer, int64(from)); err != unix.EINTR {
			return n, err
		}
	}
}
