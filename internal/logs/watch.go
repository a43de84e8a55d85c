package logs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// watch wakes tails when something happens in their directories. A notification comes
// once: a container that writes much is read at intervals instead, and costs nothing here.
type watch struct {
	log *slog.Logger

	mu      sync.Mutex // guards all following fields
	inotify *os.File   // nil where there are no notifications
	fd      int        // of inotify: File.Fd would make its reads block
	tails   map[int32]*tail
	watched map[*tail]int32
	warned  bool
}

const watchMask = unix.IN_MODIFY | unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_ONESHOT | unix.IN_ONLYDIR

// open begins to take notifications; an error means that there are none.
func (w *watch) open() error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("inotify: %w", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.inotify, w.fd = os.NewFile(uintptr(fd), "inotify"), fd
	return nil
}

// run delivers notifications until close.
func (w *watch) run() {
	w.mu.Lock()
	inotify := w.inotify
	w.mu.Unlock()
	if inotify == nil {
		return
	}
	events := make([]byte, 16<<10)
	for {
		n, err := inotify.Read(events)
		if err != nil {
			if !errors.Is(err, os.ErrClosed) {
				w.log.Warn("container logs are polled, as they can't be watched", "error", err)
				w.close()
			}
			return
		}
		w.deliver(events[:n])
	}
}

func (w *watch) deliver(events []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(events) >= unix.SizeofInotifyEvent {
		wd, mask := int32(binary.NativeEndian.Uint32(events)), binary.NativeEndian.Uint32(events[4:])
		length := binary.NativeEndian.Uint32(events[12:])
		events = events[unix.SizeofInotifyEvent+length:]
		if mask&unix.IN_Q_OVERFLOW != 0 { // some were lost, and their watches with them
			for t, wd := range w.watched {
				_, _ = unix.InotifyRmWatch(w.fd, uint32(wd)) // it may be gone
				w.wake(t, wd)
			}
		} else if t, ok := w.tails[wd]; ok {
			w.wake(t, wd)
		}
	}
}

// wake lets t look, which is watched no more; w.mu must be held.
func (w *watch) wake(t *tail, wd int32) {
	delete(w.tails, wd)
	delete(w.watched, t)
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// add asks for one notification of t's directory. What came before may go unnoticed.
func (w *watch) add(t *tail) {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-t.wake: // an old one
	default:
	}
	if _, ok := w.watched[t]; ok || w.inotify == nil {
		return
	}
	wd, err := w.addNearest(t.files.directory)
	if err != nil {
		if !errors.Is(err, unix.ENOENT) && !w.warned {
			w.warned = true
			w.log.Warn("some container logs are polled, as they can't be watched", "file", t.files.directory, "error", err)
		}
		return
	}
	w.tails[int32(wd)], w.watched[t] = t, int32(wd)
}

// addNearest watches directory or, before the container's first start makes it, the one
// that it will be in.
func (w *watch) addNearest(directory string) (int, error) {
	wd, err := unix.InotifyAddWatch(w.fd, directory, watchMask)
	if !errors.Is(err, unix.ENOENT) {
		return wd, err
	}
	parent, err := unix.InotifyAddWatch(w.fd, filepath.Dir(directory), watchMask)
	if err != nil {
		return 0, err
	}
	if wd, err := unix.InotifyAddWatch(w.fd, directory, watchMask); err == nil { // it came just now
		_, _ = unix.InotifyRmWatch(w.fd, uint32(parent)) // may have had its notification
		return wd, nil
	}
	return parent, nil
}

func (w *watch) remove(t *tail) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if wd, ok := w.watched[t]; ok {
		delete(w.watched, t)
		delete(w.tails, wd)
		// It fails where the directory is gone, and the watch with it.
		_, _ = unix.InotifyRmWatch(w.fd, uint32(wd))
	}
}

// interval is how often t is to look by itself.
func (w *watch) interval(t *tail) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.watched[t]; ok {
		return lookAnyway
	}
	return lookUnwarned
}

func (w *watch) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.inotify != nil {
		_ = w.inotify.Close()
		w.inotify = nil
		clear(w.tails)
		clear(w.watched)
	}
}
