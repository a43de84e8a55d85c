package logs

import (
	"errors"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mascri/mascri/internal/durable"
)

// A container that is quiet for long is not polled, and yet its next line comes at once.
func TestQuietContainerIsWoken(t *testing.T) {
	n := newNode(t)
	f, stop := n.follow()
	defer stop()
	n.awaitWatched(f)
	n.engine.start()
	for range 3 {
		began := time.Now()
		n.engine.log("stdout", "a line", 0)
		await(t, n.path, n.engine.want())
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("a line took %v", took)
		}
		n.awaitWatched(f)
	}
}

// awaitWatched returns once the container is not looked at any more without a notification.
func (n *node) awaitWatched(f *Follower) {
	n.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); f.watch.interval(n.tail(f)) != lookAnyway; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			n.t.Fatal("it is not watched")
		}
	}
	time.Sleep(3 * pause) // for the last look after that
}

// Where the kernel has no room for more notifications, it drops them, and says so.
func TestNotificationsAreLost(t *testing.T) {
	limit, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	if err != nil {
		t.Fatal(err)
	}
	room, err := strconv.Atoi(strings.TrimSpace(string(limit)))
	if err != nil {
		t.Fatal(err)
	}
	n := newNode(t)
	f, stop := n.follow()
	defer stop()
	n.engine.start()
	n.engine.log("stdout", "one", 0)
	await(t, n.path, n.engine.want())
	n.awaitWatched(f)

	f.watch.mu.Lock()                             // none is taken out of the queue meanwhile, but for one read's worth
	others := [2]string{t.TempDir(), t.TempDir()} // one after the other: the same twice is told once
	for _, other := range others {
		if _, err := unix.InotifyAddWatch(f.watch.fd, other, unix.IN_ATTRIB); err != nil {
			t.Error(err)
		}
	}
	for i := range 2 * room {
		if err := os.Chmod(others[i%2], 0o700); err != nil {
			t.Error(err)
		}
		if i == room+room/2 {
			n.engine.log("stdout", "two", 0)
		}
	}
	f.watch.mu.Unlock()
	began := time.Now()
	await(t, n.path, n.engine.want())
	if took := time.Since(began); took > lookAnyway/2 {
		t.Errorf("a line whose notification was lost took %v", took)
	}
	n.awaitWatched(f)
	n.engine.log("stdout", "three", 0)
	await(t, n.path, n.engine.want())
}

// The engine may write and rotate between the read that found nothing and the look
// whether the file was rotated.
func TestRotatedBetweenReadAndLook(t *testing.T) {
	n := newNode(t)
	n.engine.start()
	n.engine.log("stdout", "one", 0)
	f := New(Options{StateDir: n.state, Logger: discard()})
	n.engine.must(f.Follow(patience(t), n.source)) // and nothing runs
	tail := n.tail(f)
	defer tail.close()
	if result, err := tail.batch(t.Context()); result != caughtUp || err != nil {
		t.Fatalf("%v, %v", result, err)
	}
	n.engine.log("stdout", "two", 0)
	n.engine.rotate()
	n.engine.log("stdout", "three", 0)
	b, err := f.acquire(t.Context())
	n.engine.must(err)
	if result, err := tail.atEnd(b, nil, nil); result != more || err != nil {
		t.Fatalf("%v, %v", result, err)
	}
	f.release(b)
	for range 3 {
		if _, err := tail.batch(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	same(t, text(t, n.path), n.engine.want())
}

// A file is known by more than its inode number, which is used again at once.
func TestInodeNumberIsUsedAgain(t *testing.T) {
	n := newNode(t)
	n.engine.start()
	n.engine.log("stdout", "one", 0)
	_, stop := n.follow()
	await(t, n.path, n.engine.want())
	stop()
	n.engine.must(n.engine.file.Truncate(0))
	n.engine.log("stdout", "a longer line of a later file", 0)
	f, stop := n.follow()
	defer stop()
	n.drain(f)
	got := text(t, n.path)
	if len(gap.FindAllString(got, -1)) != 1 {
		t.Errorf("log %q", got)
	}
	same(t, gap.ReplaceAllString(got, ""), n.engine.want())
}

// Without notifications containers are polled.
func TestWithoutInotify(t *testing.T) {
	n := newNode(t)
	f, stop := n.follow()
	defer stop()
	for opened := false; !opened; time.Sleep(time.Millisecond) {
		f.watch.mu.Lock()
		opened = f.watch.inotify != nil
		f.watch.mu.Unlock()
	}
	f.watch.close()
	n.engine.start()
	n.engine.log("stdout", "one", 0)
	await(t, n.path, n.engine.want())
}

func TestStateThatIsNone(t *testing.T) {
	for _, damage := range []string{"", "{", `{"version":0}`, "\x00\x00\x00"} {
		n := newNode(t)
		n.engine.must(errors.Join(os.MkdirAll(n.state, 0o700), os.WriteFile(n.state+"/c1", []byte(damage), 0o600)))
		n.engine.start()
		n.engine.log("stdout", "one", 0)
		f, stop := n.follow()
		n.drain(f)
		same(t, text(t, n.path), n.engine.want())
		stop()
	}
}

// To go on with another state would be to write over it, and to append lines once more.
func TestStateOfANewerVersionIsKept(t *testing.T) {
	n := newNode(t)
	const newer = `{"version":99,"place":"elsewhere"}`
	file := n.state + "/c1"
	n.engine.must(errors.Join(os.MkdirAll(n.state, 0o700), os.WriteFile(file, []byte(newer), 0o600)))
	n.engine.start()
	n.engine.log("stdout", "one", 0)
	f := New(Options{StateDir: n.state, Logger: slog.New(slog.DiscardHandler)})
	if err := f.Follow(patience(t), n.source); !errors.Is(err, durable.ErrNewer) || !strings.Contains(err.Error(), file) {
		t.Errorf("error is %v", err)
	}
	if got := text(t, file); got != newer {
		t.Errorf("the state is %q", got)
	}
}
