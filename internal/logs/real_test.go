package logs

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mascri/mascri/internal/engine/enginetest"
)

func TestMain(m *testing.M) { enginetest.InNamespaces(m) }

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
		n.source.Directory = directory
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
		want20 := "one\n\n\xff\x00x\r\n" + long + "endno newline"
		// Engine 20.10 forgets the newline of lines that it took apart.
		if got := string(e.docker("logs", id)); got != want20 && got != strings.Replace(want20, "endno", "end\nno", 1) {
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
		for range 2 {
			n := newNode(t)
			id, directory := e.create(`busybox seq 1 50000`)
			n.source.Directory = directory
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
