package logs

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mascri/mascri/internal/engine/enginetest"
	"github.com/mascri/mascri/internal/pod"
)

// childVariable marks a test process that only follows logs, until it is killed.
const childVariable = "MASCRI_TEST_FOLLOW"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		followUntilKilled()
		return
	}
	enginetest.InNamespaces(m)
}

// followUntilKilled follows what it is told on standard input and answers each request
// there with a line: "follow ID DIRECTORY PATH", "reopen ID", "drain ID".
func followUntilKilled() {
	f := New(Options{StateDir: os.Getenv(childVariable), Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	go func() { _ = f.Run(context.Background()) }()
	requests := bufio.NewScanner(os.Stdin)
	for requests.Scan() {
		words := strings.Fields(requests.Text())
		err := fmt.Errorf("request %q", words)
		switch words[0] {
		case "follow":
			err = f.Follow(pod.LogSource{ID: words[1], Directory: words[2], Path: words[3], Running: true})
		case "reopen":
			err = f.Reopen(context.Background(), words[1])
		case "drain":
			err = f.Drain(context.Background(), words[1])
		}
		fmt.Printf("%v\n", err)
	}
}

// realEngine is an engine with an image that has a shell.
type realEngine struct {
	*enginetest.Daemon
	t    *testing.T
	root string
}

const shellImage = "localhost/mascri-test/shell:1"

func startEngine(t *testing.T, version enginetest.Version, flags ...string) *realEngine {
	t.Helper()
	d := enginetest.StartDaemon(t, version, flags...)
	e := &realEngine{Daemon: d, t: t}
	e.root = strings.TrimSpace(string(e.docker("info", "--format", "{{.DockerRootDir}}")))
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	binary, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatalf("%v: install busybox-static", err)
	}
	if err := w.WriteHeader(&tar.Header{Name: "bin/busybox", Mode: 0o755, Size: int64(len(binary)), Typeflag: tar.TypeReg}); err != nil {
		t.Fatal(err)
	}
	w.Write(binary)
	w.WriteHeader(&tar.Header{Name: "bin/sh", Typeflag: tar.TypeSymlink, Linkname: "busybox"})
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	load := e.command("import", "-", shellImage)
	load.Stdin = &archive
	if out, err := load.CombinedOutput(); err != nil {
		t.Fatalf("import: %v\n%s", err, out)
	}
	return e
}

func (e *realEngine) command(args ...string) *exec.Cmd {
	return exec.Command("docker", append([]string{"-H", e.Host()}, args...)...)
}

// docker returns what the command prints to standard output.
func (e *realEngine) docker(args ...string) []byte {
	e.t.Helper()
	var stderr bytes.Buffer
	command := e.command(args...)
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		e.t.Fatalf("docker %q: %v\n%s", args, err, stderr.Bytes())
	}
	return out
}

// create makes a container with the log options that MasCRI sets, whose shell runs script.
func (e *realEngine) create(script string, flags ...string) (id, directory string) {
	e.t.Helper()
	args := append([]string{"create", "--network", "none", "--log-driver", "local",
		"--log-opt", "max-size=20m", "--log-opt", "max-file=5", "--log-opt", "compress=false"}, flags...)
	id = strings.TrimSpace(string(e.docker(append(args, shellImage, "/bin/sh", "-c", script)...)))
	return id, filepath.Join(e.root, "containers", id)
}

func onBothEngines(t *testing.T, test func(t *testing.T, version enginetest.Version)) {
	for _, version := range []enginetest.Version{enginetest.Engine20, enginetest.Engine28} {
		t.Run("engine "+string(version), func(t *testing.T) { test(t, version) })
	}
}

// The engine's files have the form that this package reads.
func TestRealEngineWritesThisForm(t *testing.T) {
	onBothEngines(t, func(t *testing.T, version enginetest.Version) {
		e := startEngine(t, version)
		n := newNode(t)
		id, directory := e.create(`echo one; echo two >&2; busybox sleep 0.1; busybox printf '\n\377\000x\r\n'
			busybox yes abcdefg | busybox tr -d '\n' | busybox head -c 40000; echo end; busybox printf 'no newline'`)
		n.source = pod.LogSource{ID: "c1", Directory: directory, Path: n.path}
		f, stop := n.follow()
		defer stop()
		e.docker("start", id)
		e.docker("wait", id)
		n.drain(f)
		got := logOf(t, n.path)
		long := strings.Repeat("abcdefg", 40000)[:40000]
		want := []record{
			{"stdout", "F", "one"}, {"stdout", "F", ""}, {"stdout", "F", "\xff\x00x\r"},
			{"stdout", "P", long[:16384]}, {"stdout", "P", long[16384:32768]}, {"stdout", "F", long[32768:] + "end"},
			{"stdout", "P", "no newline"},
		}
		var out, errs []record
		for _, r := range got {
			if r.stream == "stderr" {
				errs = append(errs, r)
			} else {
				out = append(out, r)
			}
		}
		if fmt.Sprint(out) != fmt.Sprint(want) || fmt.Sprint(errs) != fmt.Sprint([]record{{"stderr", "F", "two"}}) {
			t.Errorf("log is %.200q and %q", out, errs)
		}
		if got := string(e.docker("logs", id)); got != "one\n\n\xff\x00x\r\n"+long+"end\nno newline" {
			t.Errorf("docker logs: %.200q", got)
		}
		if stats := f.Stats(); stats.Gaps+stats.Errors+stats.DamagedBytes != 0 {
			t.Errorf("stats %+v", stats)
		}
	})
}

// The engine has closed its log when it says that the container ended.
func TestRealLogIsCompleteAtTheEnd(t *testing.T) {
	onBothEngines(t, func(t *testing.T, version enginetest.Version) {
		e := startEngine(t, version)
		for range 5 {
			n := newNode(t)
			id, directory := e.create(`busybox seq 1 50000`)
			n.source = pod.LogSource{ID: "c1", Directory: directory, Path: n.path}
			f, stop := n.follow()
			e.docker("start", id)
			for strings.TrimSpace(string(e.docker("inspect", "--format", "{{.State.Running}}", id))) == "true" {
			}
			began := time.Now()
			n.drain(f)
			t.Logf("complete after %v", time.Since(began))
			if got := len(logOf(t, n.path)); got != 50000 {
				t.Errorf("%d lines", got)
			}
			stop()
		}
	})
}

// record is a line of a CRI log.
type record struct{ stream, tag, text string }

// logOf reads CRI logs, the oldest first, and checks their form.
func logOf(t testing.TB, paths ...string) []record {
	t.Helper()
	var records []record
	for _, path := range paths {
		whole := text(t, path)
		if whole != "" && !strings.HasSuffix(whole, "\n") {
			t.Errorf("%s ends within a line", path)
		}
		for line := range strings.SplitSeq(strings.TrimSuffix(whole, "\n"), "\n") {
			if whole == "" {
				break
			}
			fields := strings.SplitN(line, " ", 4)
			if len(fields) != 4 {
				t.Fatalf("%s: line %.100q", path, line)
			}
			if _, err := time.Parse(time.RFC3339Nano, fields[0]); err != nil || fields[2] != "P" && fields[2] != "F" {
				t.Fatalf("%s: line %.100q: %v", path, line, err)
			}
			records = append(records, record{fields[1], fields[2], fields[3]})
		}
	}
	return records
}

// outputOf is what the container wrote to a stream, by its CRI log.
func outputOf(records []record, stream string) []byte {
	var out []byte
	for _, r := range records {
		if r.stream == stream {
			out = append(out, r.text...)
			if r.tag == "F" {
				out = append(out, '\n')
			}
		}
	}
	return out
}

// randomLines are count lines of random lengths, some longer than the engine keeps
// together, of all bytes; the last has no newline.
func randomLines(seed uint64, count int) []byte {
	r := rand.New(rand.NewPCG(seed, 0))
	var out []byte
	for i := range count {
		length := r.IntN(150)
		if r.IntN(1000) == 0 {
			length = r.IntN(40000)
		}
		out = fmt.Appendf(out, "%d ", i)
		for range length {
			b := byte(r.Uint32())
			if b == '\n' {
				b = '\r'
			}
			out = append(out, b)
		}
		out = append(out, '\n')
	}
	return out[:len(out)-1]
}

// chunks writes the input of a container in parts that end anywhere.
func chunks(t *testing.T, directory, name string, input []byte, count int) {
	t.Helper()
	for i := range count {
		part := input[len(input)*i/count : len(input)*(i+1)/count]
		if err := os.WriteFile(filepath.Join(directory, fmt.Sprintf("%s.%03d", name, i)), part, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// child is a process that follows, and is killed now and then.
type child struct {
	t       *testing.T
	state   string
	command *exec.Cmd
	in      io.WriteCloser
	answers *bufio.Scanner
	log     bytes.Buffer
}

func (c *child) start() {
	c.t.Helper()
	c.command = exec.Command("/proc/self/exe")
	c.command.Env = append(os.Environ(), childVariable+"="+c.state)
	c.command.Stderr = &c.log
	in, err := c.command.StdinPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	out, err := c.command.StdoutPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	c.in, c.answers = in, bufio.NewScanner(out)
	if err := c.command.Start(); err != nil {
		c.t.Fatal(err)
	}
}

// ask tells whether the request succeeded; it does not where the child was killed.
func (c *child) ask(format string, args ...any) bool {
	if _, err := fmt.Fprintf(c.in, format+"\n", args...); err != nil {
		return false
	}
	return c.answers.Scan() && c.answers.Text() == "<nil>"
}

func (c *child) kill() {
	c.command.Process.Kill()
	c.command.Wait()
}
