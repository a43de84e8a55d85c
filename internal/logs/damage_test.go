package logs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func discard() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// The engine is killed in the middle of a write, or its disk is full.
func TestTornEntryIsSkippedAndSaid(t *testing.T) {
	whole := frame("stdout", strings.Repeat("z", 3000), 1753700000000000000, 0)
	for _, length := range []int{1, 3, 4, 5, 24, 500, len(whole) - 4, len(whole) - 1} {
		t.Run(fmt.Sprint(length, " bytes"), func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			n.engine.start()
			n.engine.log("stdout", "before", 0)
			n.engine.write(whole[:length])
			n.engine.log("stdout", "after", 0)
			n.engine.log("stdout", "later", 0)
			f, stop := n.follow()
			defer stop()
			deadline := time.Now().Add(15 * time.Second)
			for !strings.HasSuffix(text(t, n.path), n.engine.lines[2]) && time.Now().Before(deadline) {
				time.Sleep(5 * time.Millisecond) // of its own accord, not for Drain alone
			}
			got := text(t, n.path)
			found := gap.FindStringSubmatch(got)
			if found == nil || !strings.HasPrefix(found[1], "between "+n.engine.lines[0][:30]) || !strings.Contains(found[2], fmt.Sprint(length, " bytes were skipped")) {
				t.Fatalf("log %q", got)
			}
			same(t, gap.ReplaceAllString(got, ""), n.engine.want())
			if got := f.Stats(); got.Gaps != 1 || got.DamagedBytes != uint64(length) {
				t.Errorf("stats %+v", got)
			}
		})
	}
}

func TestTornEntryAtTheEnd(t *testing.T) {
	for _, where := range []string{"of a rotated file", "of a container"} {
		t.Run(where, func(t *testing.T) {
			n := newNode(t)
			n.engine.start()
			n.engine.log("stdout", "before", 0)
			n.engine.write(frame("stdout", "torn", 1, 0)[:17])
			if where == "of a rotated file" {
				n.engine.rotate()
				n.engine.log("stdout", "after", 0)
			}
			f, stop := n.follow()
			defer stop()
			n.drain(f)
			got := text(t, n.path)
			if len(gap.FindAllString(got, -1)) != 1 {
				t.Fatalf("log %q", got)
			}
			same(t, gap.ReplaceAllString(got, ""), n.engine.want())
		})
	}
}

// A write that is seen half done is no damage.
func TestEntryComesInPieces(t *testing.T) {
	n := newNode(t)
	n.engine.start()
	n.engine.log("stdout", "before", 0)
	f, stop := n.follow()
	defer stop()
	await(t, n.path, n.engine.want())
	line := strings.Repeat("w", 5000)
	whole := n.engine.next("stdout", line, 0)
	n.engine.write(whole[:100])
	time.Sleep(4 * pause)
	n.engine.write(whole[100:4000])
	time.Sleep(4 * pause)
	n.engine.write(whole[4000:])
	n.engine.lines = append(n.engine.lines, n.engine.now()+" stdout F "+line+"\n")
	n.drain(f)
	same(t, text(t, n.path), n.engine.want())
}

func TestLongDamage(t *testing.T) {
	n := newNode(t)
	n.engine.start()
	n.engine.log("stdout", "before", 0)
	n.engine.write(bytes.Repeat([]byte{0xff}, 3*readSize+5))
	n.engine.log("stdout", "after", 0)
	f, stop := n.follow()
	defer stop()
	n.drain(f)
	same(t, gap.ReplaceAllString(text(t, n.path), ""), n.engine.want())
	if got := f.Stats(); got.DamagedBytes != 3*readSize+5 || got.Gaps != 1 {
		t.Errorf("stats %+v", got)
	}
}

// More was written while no daemon ran than the engine keeps.
func TestRotatedAwayUnread(t *testing.T) {
	n := newNode(t)
	n.engine.maxSize, n.engine.maxFiles = 10<<10, 3
	n.engine.start()
	n.engine.log("stdout", "seen", 0)
	_, stop := n.follow()
	await(t, n.path, n.engine.want())
	stop()
	for i := range 3000 {
		n.engine.log("stdout", fmt.Sprint("unseen ", i), 0)
	}
	f, stop := n.follow()
	defer stop()
	n.drain(f)
	got := text(t, n.path)
	if all := gap.FindAllStringIndex(got, -1); len(all) != 1 || all[0][0] != len(n.engine.lines[0]) {
		t.Fatalf("gaps at %v", all)
	}
	rest := strings.TrimPrefix(gap.ReplaceAllString(got, ""), n.engine.lines[0])
	if !strings.HasSuffix(n.engine.want(), rest) || len(rest) < 20<<10 {
		t.Fatalf("%d bytes after the gap are not what the engine has", len(rest))
	}
	said := gap.FindStringSubmatch(got)[1]
	if want := fmt.Sprintf("between %s and %s", strings.Fields(n.engine.lines[0])[0], strings.Fields(rest)[0]); said != want {
		t.Errorf("gap is said to be %s, want %s", said, want)
	}
	if got := f.Stats(); got.Gaps != 1 {
		t.Errorf("stats %+v", got)
	}
}

// The disk of the log files is full for a while: nothing is lost, doubled or torn.
func TestFullDisk(t *testing.T) {
	disk := t.TempDir()
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=256k"); err != nil {
		t.Skip(err)
	}
	defer unix.Unmount(disk, unix.MNT_DETACH)
	n := newNode(t)
	n.source.Path, n.source.Root = filepath.Join(disk, "pod", "0.log"), disk
	n.engine.start()
	f, stop := n.follow()
	for i := range 10000 {
		n.engine.log("stdout", fmt.Sprint("line number ", i), 0)
	}
	for f.Stats().Errors < 2 {
		time.Sleep(time.Millisecond)
	}
	if got := f.Stats(); got.Behind != 1 || got.Lag <= 0 {
		t.Errorf("stats %+v", got)
	}
	if err := f.Reopen(patience(t), "c1"); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("reopen on a full disk: %v", err)
	}
	stop() // and it is still full when the daemon is back
	f, stop = n.follow()
	defer func() { stop() }()
	for f.Stats().Errors < 2 {
		time.Sleep(time.Millisecond)
	}
	if err := unix.Mount("tmpfs", disk, "tmpfs", unix.MS_REMOUNT, "size=16m"); err != nil {
		t.Fatal(err)
	}
	n.drain(f)
	same(t, text(t, n.source.Path), n.engine.want())
	for end := time.Now().Add(20 * time.Second); f.Stats().Lag != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("all is written, and stats are %+v", f.Stats())
		}
	}
}

// The state directory's disk is full: nothing is appended that could not be told after a
// crash.
func TestFullStateDisk(t *testing.T) {
	n := newNode(t)
	if err := os.MkdirAll(n.state, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", n.state, "tmpfs", 0, "size=8k"); err != nil {
		t.Skip(err)
	}
	defer unix.Unmount(n.state, unix.MNT_DETACH)
	n.engine.must(os.WriteFile(filepath.Join(n.state, "filler"), make([]byte, 4096), 0o600))
	n.engine.start()
	n.engine.log("stdout", "one", 0)
	f, stop := n.follow() // takes the last page
	defer stop()
	n.drain(f)
	same(t, text(t, n.path), n.engine.want())
	n.source.ID = "c2"
	if err := f.Follow(patience(t), n.source); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("follow without room for a state: %v", err)
	}
}

// At each step the daemon is killed; what it leaves must do for the next life.
func TestKilledAtEachStep(t *testing.T) {
	const kills = 150
	n := newNode(t)
	n.engine.maxSize, n.engine.maxFiles = 100<<10, 50
	n.engine.start()
	// A follower is abandoned at a random step: nothing of it goes on.
	var countdown atomic.Int64
	var once sync.Once
	died := make(chan struct{})
	n.step = func(string) {
		if countdown.Add(-1) < 0 {
			once.Do(func() { close(died) })
			runtime.Goexit()
		}
	}
	rotations := 0
	var rotated []string
	torn := 0
	for life := range kills {
		countdown.Store(1 << 30)
		f, stop := n.follow()
		once, died = sync.Once{}, make(chan struct{})
		countdown.Store(rand.Int64N(5))
		for i := range 200 {
			n.engine.log("stdout", fmt.Sprint(life, " ", i, strings.Repeat("v", rand.IntN(100))), 0)
			if rand.IntN(5000) == 0 {
				n.engine.write(frame("stdout", strings.Repeat("torn", 20), n.engine.clock, 0)[:rand.IntN(90)+1])
				torn++
			}
			if rand.IntN(400) == 0 {
				// As the kubelet does it.
				name := fmt.Sprintf("%s.%d", n.path, rotations)
				n.engine.must(os.Rename(n.path, name))
				if err := f.Reopen(patience(t), "c1"); err != nil {
					n.engine.must(os.Rename(name, n.path))
				} else {
					rotations++
					rotated = append(rotated, name)
				}
			}
		}
		select {
		case <-died:
		case <-time.After(200 * time.Millisecond):
			countdown.Store(0)
			n.engine.log("stdout", "the last straw", 0)
			<-died
		}
		stop()
	}
	n.step = nil
	f, stop := n.follow()
	defer stop()
	n.drain(f)
	var got string
	for _, path := range append(rotated, n.path) {
		got += text(t, path)
	}
	same(t, gap.ReplaceAllString(got, ""), n.engine.want())
	if gaps := len(gap.FindAllString(got, -1)); gaps > torn || torn > 0 && gaps == 0 {
		t.Errorf("%d gaps of %d torn entries", gaps, torn)
	}
	t.Logf("%d kills, %d rotations, %d torn entries", kills, rotations, torn)
}

func TestKilledWithinAnAppend(t *testing.T) {
	for range 50 {
		n := newNode(t)
		n.engine.start()
		n.engine.log("stdout", "before", 0)
		_, stop := n.follow()
		await(t, n.path, n.engine.want())
		stop()
		for i := range 1000 {
			n.engine.log("stderr", fmt.Sprint("line ", i), 0)
		}
		n.step = func(name string) {
			if name == "log-append" {
				// The state is written, and a part of the batch.
				file, err := os.OpenFile(n.path, os.O_WRONLY|os.O_APPEND, 0)
				n.engine.must(err)
				rest := n.engine.want()[len(n.engine.lines[0]):]
				_, err = file.WriteString(rest[:rand.IntN(len(rest))])
				n.engine.must(errors.Join(err, file.Close()))
				runtime.Goexit()
			}
		}
		f, stop := n.follow()
		<-n.tail(f).ended
		stop()
		n.step = nil
		f, stop = n.follow()
		n.drain(f)
		stop()
		same(t, text(t, n.path), n.engine.want())
	}
}
