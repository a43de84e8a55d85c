package logs

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

func TestLinesAreAsTheKubeletReadsThem(t *testing.T) {
	n := newNode(t)
	f, stop := n.follow()
	defer stop()
	await(t, n.path, "") // it is there before the container starts
	n.engine.start()
	n.engine.log("stdout", "hello", 0)
	await(t, n.path, n.engine.want())
	n.engine.log("stderr", "", 0)
	n.engine.log("stdout", strings.Repeat("x", 16384), 1)
	n.engine.log("stderr", "between\r", 0)
	n.engine.log("stdout", "the end", 2)
	n.engine.log("stdout", "\x00\xff\x1b binary \xe4", 0)
	n.engine.log("stdout", "no newline", 1)
	await(t, n.path, n.engine.want())
	n.drain(f)
	if stat, err := os.Stat(n.path); err != nil || stat.Mode().Perm() != 0o640 {
		t.Errorf("mode of the log: %v, %v", stat.Mode(), err)
	}
	if got := f.Stats(); got.Lines != 7 || got.Gaps+got.Errors != 0 || got.Bytes != uint64(len(n.engine.want())) {
		t.Errorf("stats: %+v", got)
	}
}

func TestLinesOfTheTimeWithoutDaemonArrive(t *testing.T) {
	n := newNode(t)
	n.engine.start()
	for round := range 5 {
		_, stop := n.follow()
		n.engine.log("stdout", fmt.Sprint("while it runs ", round), 0)
		if round%2 == 0 {
			await(t, n.path, n.engine.want())
		}
		stop()
		n.engine.log("stdout", fmt.Sprint("while it does not run ", round), 0)
	}
	f, stop := n.follow()
	defer stop()
	n.drain(f)
	same(t, text(t, n.path), n.engine.want())
}

func TestEngineRotatesUnderneath(t *testing.T) {
	n := newNode(t)
	n.engine.maxSize, n.engine.maxFiles = 64<<10, 50
	n.engine.start()
	f, stop := n.follow()
	for i := range 20000 {
		n.engine.log("stdout", strings.Repeat("y", i%200), 0)
		switch i {
		case 5000:
			stop()
		case 10000: // ten rotations later
			f, stop = n.follow()
		}
	}
	defer func() { stop() }()
	n.drain(f)
	same(t, text(t, n.path), n.engine.want())
}

func TestKubeletRotates(t *testing.T) {
	n := newNode(t)
	n.engine.start()
	f, stop := n.follow()
	defer stop()
	var rotated []string
	for i := range 10 {
		for range 1000 {
			n.engine.log("stdout", fmt.Sprint("line of round ", i), 0)
		}
		rotated = append(rotated, fmt.Sprintf("%s.%d", n.path, i))
		n.engine.must(os.Rename(n.path, rotated[i]))
		if err := f.Reopen(patience(t), "c1"); err != nil {
			t.Fatal(err)
		}
		before := text(t, rotated[i])
		n.engine.log("stdout", "after", 0)
		if i == 9 {
			n.drain(f)
		}
		same(t, text(t, rotated[i]), before)
	}
	var got string
	for _, path := range append(rotated, n.path) {
		part := text(t, path)
		if part != "" && !strings.HasSuffix(part, "\n") {
			t.Errorf("%s ends within a line", path)
		}
		got += part
	}
	same(t, got, n.engine.want())
}

func TestReopenWithoutRename(t *testing.T) {
	n := newNode(t)
	n.engine.start()
	f, stop := n.follow()
	defer stop()
	n.engine.log("stdout", "one", 0)
	if err := f.Reopen(patience(t), "c1"); err != nil {
		t.Fatal(err)
	}
	n.engine.log("stdout", "two", 0)
	n.drain(f)
	same(t, text(t, n.path), n.engine.want())
}

func TestDaemonRestartsBetweenRenameAndReopen(t *testing.T) {
	n := newNode(t)
	n.engine.start()
	n.engine.log("stdout", "one", 0)
	_, stop := n.follow()
	await(t, n.path, n.engine.want())
	rotated := n.path + ".20260101"
	n.engine.must(os.Rename(n.path, rotated))
	stop()
	n.engine.log("stdout", "two", 0)
	f, stop := n.follow()
	defer stop()
	// Had it made a new file, the kubelet, whose request failed, would rename the old one
	// over it.
	await(t, rotated, n.engine.want())
	if _, err := os.Stat(n.path); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("a new file before ReopenContainerLog: %v", err)
	}
	if err := f.Reopen(patience(t), "c1"); err != nil {
		t.Fatal(err)
	}
	n.engine.log("stdout", "three", 0)
	n.drain(f)
	same(t, text(t, rotated)+text(t, n.path), n.engine.want())
	same(t, text(t, n.path), n.engine.lines[2])
}

// The kubelet renames the old file back where it got no answer to its request.
func TestRenamedBackOverTheNewFile(t *testing.T) {
	for _, running := range []bool{true, false} {
		t.Run(fmt.Sprint("daemon runs: ", running), func(t *testing.T) {
			n := newNode(t)
			n.engine.start()
			n.engine.log("stdout", "one", 0)
			f, stop := n.follow()
			await(t, n.path, n.engine.want())
			n.engine.must(os.Rename(n.path, n.path+".1"))
			if err := f.Reopen(patience(t), "c1"); err != nil {
				t.Fatal(err)
			}
			n.engine.log("stdout", "two", 0)
			await(t, n.path, n.engine.lines[1])
			if !running {
				stop()
			}
			n.engine.must(os.Rename(n.path+".1", n.path))
			if running { // without a new line
				await(t, n.path, n.engine.want())
			}
			n.engine.log("stdout", "three", 0)
			if !running {
				f, stop = n.follow()
			}
			defer stop()
			n.drain(f)
			same(t, text(t, n.path), n.engine.want())
		})
	}
}

// Where the tail meets damage first, it finds the other file while it writes of that.
func TestRenamedBackBeforeDamage(t *testing.T) {
	for range 20 {
		n := newNode(t)
		n.engine.start()
		n.engine.log("stdout", "one", 0)
		f, stop := n.follow()
		await(t, n.path, n.engine.want())
		n.engine.must(os.Rename(n.path, n.path+".1"))
		if err := f.Reopen(patience(t), "c1"); err != nil {
			t.Fatal(err)
		}
		n.engine.log("stdout", "two", 0)
		await(t, n.path, n.engine.lines[1])
		torn := n.engine.next("stdout", "torn", 0)
		whole := n.engine.next("stdout", "three", 0)
		n.engine.lines = append(n.engine.lines, fmt.Sprintf("%s stdout F three\n", n.engine.now()))
		n.engine.must(os.Rename(n.path+".1", n.path))
		n.engine.write(append(torn[:10:10], whole...))
		n.drain(f)
		stop()
		got := text(t, n.path)
		if gap.FindString(got) == "" {
			t.Errorf("no line tells of the damage: %q", got)
		}
		same(t, gap.ReplaceAllString(got, ""), n.engine.want())
	}
}

// A container that ended while no daemon ran, and of whose output nothing is left to append,
// is not behind.
func TestEndedMeanwhileIsNotBehind(t *testing.T) {
	n := newNode(t)
	n.engine.start()
	n.engine.log("stdout", "one", 0)
	n.source.Running = true
	_, stop := n.follow()
	await(t, n.path, n.engine.want())
	stop()
	n.source.Running = false
	f, stop := n.follow()
	defer stop()
	n.drain(f)
	if got := f.Stats(); got.Behind != 0 || got.Lag != 0 {
		t.Errorf("stats %+v", got)
	}
	same(t, text(t, n.path), n.engine.want())
}

func TestLateRequestDoesNotReopen(t *testing.T) {
	n := newNode(t)
	n.engine.start()
	f, stop := n.follow()
	defer stop()
	n.engine.must(os.Rename(n.path, n.path+".1"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.Reopen(ctx, "c1"); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v", err)
	}
	n.engine.must(os.Rename(n.path+".1", n.path))
	n.engine.log("stdout", "one", 0)
	n.drain(f)
	same(t, text(t, n.path), n.engine.want())
}

func TestFinishedLog(t *testing.T) {
	n := newNode(t)
	n.engine.start()
	n.engine.log("stdout", "one", 0)
	f, stop := n.follow()
	n.drain(f)
	n.drain(f)
	if err := f.Reopen(patience(t), "c1"); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("reopen: %v", err)
	}
	if err := f.Follow(patience(t), n.source); err != nil {
		t.Errorf("follow: %v", err)
	}
	stop()
	f, stop = n.follow()
	if !n.tail(f).isFinished() {
		t.Error("a finished log is followed again")
	}

	// docker start
	n.source.Running = true
	if err := f.Follow(patience(t), n.source); err != nil {
		t.Fatal(err)
	}
	n.engine.start()
	n.engine.log("stdout", "second life", 0)
	n.drain(f)
	same(t, text(t, n.path), n.engine.want())
	stop()

	// docker start and the end of it, while no daemon runs
	n.engine.log("stdout", "third life", 0)
	n.source.Running = false
	f, stop = n.follow()
	defer stop()
	n.drain(f)
	same(t, text(t, n.path), n.engine.want())
}

func TestRunsAgainBeforeItsLogIsComplete(t *testing.T) {
	n := newNode(t)
	n.engine.start()
	f, stop := n.follow()
	defer stop()
	n.engine.log("stdout", "one", 0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_ = f.Drain(ctx, "c1") // given up; whether it had begun is open
	n.source.Running = true
	if err := f.Follow(patience(t), n.source); err != nil {
		t.Fatal(err)
	}
	n.engine.log("stdout", "two", 0)
	await(t, n.path, n.engine.want())
}

func TestUnknownContainers(t *testing.T) {
	n := newNode(t)
	f, stop := n.follow()
	defer stop()
	if err := f.Drain(patience(t), "other"); err != nil {
		t.Errorf("drain: %v", err)
	}
	if err := f.Forget(patience(t), "other"); err != nil {
		t.Errorf("forget: %v", err)
	}
	if err := f.Reopen(patience(t), "other"); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("reopen: %v", err)
	}
	for _, id := range []string{"", "..", "a/b"} {
		source := n.source
		source.ID = id
		if err := f.Follow(patience(t), source); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("follow %q: %v", id, err)
		}
	}
}

func TestForget(t *testing.T) {
	n := newNode(t)
	n.engine.start()
	f, stop := n.follow()
	defer stop()
	n.engine.log("stdout", "one", 0)
	n.engine.must(os.RemoveAll(n.engine.directory)) // docker rm -f
	for range 2 {
		if err := f.Forget(patience(t), "c1"); err != nil {
			t.Fatal(err)
		}
	}
	// It may have come too late to see the file at all.
	if got := text(t, n.path); got != "" && got != n.engine.want() {
		t.Errorf("log is %q", got)
	}
	if left, _ := os.ReadDir(n.state); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestSweep(t *testing.T) {
	n := newNode(t)
	f, stop := n.follow()
	defer stop()
	n.engine.must(os.WriteFile(filepath.Join(n.state, "gone"), nil, 0o600))
	if err := f.Sweep(patience(t), func(id string) bool { return id == "c1" }); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(n.state); len(left) != 1 || left[0].Name() != "c1" {
		t.Errorf("left: %v", left)
	}
}

func TestDeletedLogIsMadeAgain(t *testing.T) {
	n := newNode(t)
	n.engine.start()
	f, stop := n.follow()
	defer stop()
	n.engine.log("stdout", "one", 0)
	await(t, n.path, n.engine.want())
	n.engine.must(os.RemoveAll(filepath.Dir(filepath.Dir(n.path))))
	n.engine.log("stdout", "two", 0)
	n.drain(f)
	same(t, text(t, n.path), n.engine.lines[1])
}

func TestNoRegularFileAtThePath(t *testing.T) {
	n := newNode(t)
	n.source.Path, n.source.Root = "/dev/null", "/dev"
	f := New(Options{StateDir: n.state, Logger: discard()})
	if err := f.Follow(patience(t), n.source); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Fatalf("error %v", err)
	}
}

func TestStateIsLost(t *testing.T) {
	n := newNode(t)
	n.engine.start()
	n.engine.log("stdout", "one", 0)
	_, stop := n.follow()
	await(t, n.path, n.engine.want())
	stop()
	n.engine.must(os.RemoveAll(n.state))
	n.engine.log("stdout", "two", 0)
	f, stop := n.follow()
	defer stop()
	n.drain(f)
	same(t, text(t, n.path), n.engine.want())
}

// The daemon and the kubelet are killed right after the new file was made.
func TestNewFileThatNobodyKnowsOf(t *testing.T) {
	n := newNode(t)
	n.engine.start()
	n.engine.log("stdout", "one", 0)
	_, stop := n.follow()
	await(t, n.path, n.engine.want())
	stop()
	n.engine.must(os.Rename(n.path, n.path+".1"))
	n.engine.must(os.WriteFile(n.path, nil, 0o640))
	n.engine.log("stdout", "two", 0)
	f, stop := n.follow()
	defer stop()
	await(t, n.path+".1", n.engine.want()) // of the batch that the crash may have torn
	n.engine.log("stdout", "three", 0)
	n.drain(f)
	same(t, text(t, n.path), n.engine.lines[2])
}

// Nobody's lines are taken for those that arrived before a crash.
func TestSomebodyElseWritesToTheLog(t *testing.T) {
	n := newNode(t)
	n.engine.start()
	n.engine.log("stdout", "one", 0)
	_, stop := n.follow()
	await(t, n.path, n.engine.want())
	stop()
	file, err := os.OpenFile(n.path, os.O_WRONLY|os.O_APPEND, 0)
	n.engine.must(err)
	const foreign = "2026-01-01T00:00:00Z stdout F I am somebody else's\n"
	_, err = file.WriteString(foreign)
	n.engine.must(errors.Join(err, file.Close()))
	n.engine.log("stdout", "two", 0)
	f, stop := n.follow()
	defer stop()
	n.drain(f)
	same(t, text(t, n.path), n.engine.lines[0]+foreign+n.engine.lines[1])
}

// After a loss of power the state and the log file may be of any time before it.
func TestLossOfPower(t *testing.T) {
	n := newNode(t)
	n.engine.start()
	var states [][]byte
	for i := range 20 {
		f, stop := n.follow()
		for range 50 {
			n.engine.log("stdout", fmt.Sprint("line ", i), 0)
		}
		await(t, n.path, n.engine.want())
		_ = f
		stop()
		state, err := os.ReadFile(filepath.Join(n.state, "c1"))
		n.engine.must(err)
		states = append(states, state)
	}
	for range 20 {
		n.engine.must(os.WriteFile(filepath.Join(n.state, "c1"), states[rand.IntN(len(states))], 0o600))
		n.engine.must(os.Truncate(n.path, int64(rand.IntN(len(n.engine.want())))))
		f := New(Options{StateDir: n.state, Logger: discard()})
		f.bootID = func() string { return "the next boot" }
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- f.Run(ctx) }()
		n.engine.must(f.Follow(patience(t), n.source))
		await(t, n.path, n.engine.want())
		cancel()
		n.engine.must(<-ended)
		if got := f.Stats(); got.Gaps+got.Errors != 0 {
			t.Errorf("stats %+v", got)
		}
	}
}

func TestManyContainersInLittleMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("250 containers")
	}
	const containers = 250
	f := New(Options{StateDir: filepath.Join(t.TempDir(), "logs"), Logger: discard()})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	var nodes []*node
	for i := range containers {
		n := newNode(t)
		n.source.ID = fmt.Sprint("c", i)
		n.engine.must(f.Follow(patience(t), n.source))
		n.engine.start()
		nodes = append(nodes, n)
	}
	for line := range 40 {
		for _, n := range nodes {
			n.engine.log("stdout", fmt.Sprint("line ", line), 0)
		}
	}
	began := time.Now()
	for _, n := range nodes {
		n.engine.must(f.Drain(patience(t), n.source.ID))
		same(t, text(t, n.path), n.engine.want())
	}
	t.Logf("all complete after %v", time.Since(began))
	made := 0
	for range buffersAtOnce {
		if b := <-f.buffers; b != nil {
			made++
		}
	}
	t.Logf("%d buffers", made)
	for range buffersAtOnce {
		f.buffers <- nil
	}
}
