package logs

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/mascri/mascri/internal/pod"
)

// engineLog writes as the engine's driver "local" does.
type engineLog struct {
	t         testing.TB
	directory string
	maxSize   int64
	maxFiles  int
	file      *os.File
	clock     int64
	lines     []string // as the CRI log must have them
}

func newEngineLog(t testing.TB) *engineLog {
	t.Helper()
	l := &engineLog{t: t, directory: filepath.Join(t.TempDir(), "containers", "c1"), maxSize: 20 << 20, maxFiles: 5, clock: 1753700000000000000}
	l.must(os.MkdirAll(l.directory, 0o710))
	return l
}

func (l *engineLog) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *engineLog) path(name string) string { return filepath.Join(l.directory, logsDirectory, name) }

// start is what the engine does when it starts the container.
func (l *engineLog) start() {
	l.t.Helper()
	l.must(os.MkdirAll(l.path(""), 0o700))
	file, err := os.OpenFile(l.path(newestName), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
	l.must(err)
	l.file = file
	l.t.Cleanup(func() { file.Close() })
}

// frame encodes an entry. part is 0 for a whole line, 1 for a part, 2 for the last part.
func frame(source, line string, nano int64, part int) []byte {
	var m []byte
	m = protowire.AppendTag(m, fieldSource, protowire.BytesType)
	m = protowire.AppendString(m, source)
	m = protowire.AppendTag(m, fieldTime, protowire.VarintType)
	m = protowire.AppendVarint(m, uint64(nano))
	if line != "" {
		m = protowire.AppendTag(m, fieldLine, protowire.BytesType)
		m = protowire.AppendString(m, line)
	}
	if part > 0 {
		var meta []byte
		if part == 2 {
			meta = protowire.AppendTag(meta, fieldLast, protowire.VarintType)
			meta = protowire.AppendVarint(meta, 1)
		}
		meta = protowire.AppendTag(meta, 2, protowire.BytesType)
		meta = protowire.AppendString(meta, "f5a3")
		meta = protowire.AppendTag(meta, 3, protowire.VarintType)
		meta = protowire.AppendVarint(meta, 7)
		m = protowire.AppendTag(m, fieldPartial, protowire.VarintType)
		m = protowire.AppendVarint(m, 1)
		m = protowire.AppendTag(m, fieldMetadata, protowire.BytesType)
		m = protowire.AppendBytes(m, meta)
	}
	out := binary.BigEndian.AppendUint32(nil, uint32(len(m)))
	out = append(out, m...)
	return binary.BigEndian.AppendUint32(out, uint32(len(m)))
}

// log writes an entry and notes what must become of it.
func (l *engineLog) log(source, line string, part int) {
	l.t.Helper()
	l.write(l.next(source, line, part))
	tag := "F"
	if part == 1 {
		tag = "P"
	}
	l.lines = append(l.lines, fmt.Sprintf("%s %s %s %s\n", l.now(), source, tag, line))
}

func (l *engineLog) next(source, line string, part int) []byte {
	l.clock += 1234567
	return frame(source, line, l.clock, part)
}

func (l *engineLog) now() string { return time.Unix(0, l.clock).UTC().Format(time.RFC3339Nano) }

// write rotates as the engine does, before an entry.
func (l *engineLog) write(text []byte) {
	l.t.Helper()
	stat, err := l.file.Stat()
	l.must(err)
	if stat.Size() >= l.maxSize {
		l.rotate()
	}
	_, err = l.file.Write(text)
	l.must(err)
}

func (l *engineLog) rotate() {
	l.t.Helper()
	l.must(l.file.Close())
	name := l.path(newestName)
	os.Remove(fmt.Sprintf("%s.%d", name, l.maxFiles-1))
	for i := l.maxFiles - 1; i > 1; i-- {
		os.Rename(fmt.Sprintf("%s.%d", name, i-1), fmt.Sprintf("%s.%d", name, i))
	}
	l.must(os.Rename(name, name+".1"))
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_TRUNC|os.O_CREATE, 0o640)
	l.must(err)
	l.file = file
	l.t.Cleanup(func() { file.Close() })
}

func (l *engineLog) want() string { return strings.Join(l.lines, "") }

// node is where a follower's files are.
type node struct {
	t      testing.TB
	state  string
	path   string // of the CRI log
	source pod.LogSource
	engine *engineLog
	step   func(string)
}

func newNode(t testing.TB) *node {
	t.Helper()
	l := newEngineLog(t)
	n := &node{t: t, state: filepath.Join(t.TempDir(), "logs"), path: filepath.Join(t.TempDir(), "pod", "app", "0.log"), engine: l}
	n.source = pod.LogSource{ID: "c1", Directory: l.directory, Path: n.path, Root: filepath.Dir(filepath.Dir(n.path))}
	return n
}

// follow runs a follower until the returned function is called.
func (n *node) follow() (*Follower, func()) {
	n.t.Helper()
	f := New(Options{StateDir: n.state, Logger: slog.New(slog.NewTextHandler(n.t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})), Step: n.step})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	stop := func() {
		cancel()
		if err := <-ended; err != nil {
			n.t.Errorf("Run: %v", err)
		}
	}
	if err := f.Follow(patience(n.t), n.source); err != nil {
		stop()
		n.t.Fatal(err)
	}
	return f, stop
}

func patience(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func (n *node) drain(f *Follower) {
	n.t.Helper()
	if err := f.Drain(patience(n.t), "c1"); err != nil {
		n.t.Fatal(err)
	}
}

// tail is the container's, which is followed.
func (n *node) tail(f *Follower) *tail {
	n.t.Helper()
	followed, err := f.tail(patience(n.t), "c1")
	n.engine.must(err)
	return followed
}

// text is the log at path.
func text(t testing.TB, path string) string {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(got)
}

// await waits until the log at path has this text.
func await(t testing.TB, path, want string) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		got, err := os.ReadFile(path)
		if err == nil && string(got) == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(difference(string(got), want))
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func same(t testing.TB, got, want string) {
	t.Helper()
	if got != want {
		t.Fatal(difference(got, want))
	}
}

// difference shows where two logs part.
func difference(got, want string) string {
	a, b := strings.SplitAfter(got, "\n"), strings.SplitAfter(want, "\n")
	for i := 0; i < min(len(a), len(b)); i++ {
		if a[i] != b[i] {
			return fmt.Sprintf("line %d of %d is %.120q, want %.120q (of %d)", i+1, len(a), a[i], b[i], len(b))
		}
	}
	return fmt.Sprintf("%d lines, want %d; last %.120q, want %.120q", len(a), len(b), a[max(0, len(a)-2)], b[max(0, len(b)-2)])
}

var gap = regexp.MustCompile(`(?m)^\S+ stderr F mascri: log lines (.*) were lost: (.*)\n`)
