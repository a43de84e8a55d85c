package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// edit changes a source file for one build, and no file on disk. Without old, the file is a
// new one.
type edit struct{ file, old, new string }

// clockEdits make the wall clock of the whole program jump, while its monotonic clock goes
// on as it does when a machine's clock is set: the machine's own is not the tests' to set,
// a time namespace has none, and nothing can be preloaded into a static binary.
// MASCRI_CLOCK_JUMP names a file with the seconds to add.
func clockEdits(t *testing.T) []edit {
	t.Helper()
	src := filepath.Join(run(t, "go", "env", "GOROOT"), "src/time")
	return []edit{
		{filepath.Join(src, "time.go"), "sec, nsec, mono := runtimeNow()\n\tif mono == 0", "sec, nsec, mono := runtimeNow()\n\tsec += clockJump()\n\tif mono == 0"},
		{filepath.Join(src, "clock_jump.go"), "", `package time

import (
	"internal/runtime/atomic"
	"syscall"
)

var jumped int64 // seconds

// clockJump is called on the system stack as well, where nothing can be read.
func clockJump() int64 { return atomic.Loadint64(&jumped) }

func init() {
	readJump()
	go func() {
		for {
			Sleep(5 * Millisecond)
			readJump()
		}
	}()
}

func readJump() {
	path, _ := syscall.Getenv("MASCRI_CLOCK_JUMP")
	fd, err := open(path)
	if err != nil {
		return
	}
	defer closefd(fd)
	var text [20]byte
	n, _ := read(fd, text[:])
	seconds, _ := atoi(string(text[:n]))
	atomic.Storeint64(&jumped, int64(seconds))
}
`},
	}
}

// buildWith builds the daemon with edits, the race detector and the crash steps, and
// returns its path. An edit that does not apply any more fails the test.
func buildWith(t *testing.T, edits ...edit) string {
	t.Helper()
	dir := shortDir(t)
	replace := map[string]string{}
	for _, e := range edits {
		path, text := e.file, e.new
		if e.old != "" {
			if !filepath.IsAbs(path) {
				path = repo(t, path)
			}
			source, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Count(string(source), e.old) != 1 {
				t.Fatalf("%s has not exactly once what is to be changed:\n%s", path, e.old)
			}
			text = strings.Replace(string(source), e.old, e.new, 1)
		}
		replace[path] = filepath.Join(dir, filepath.Base(path))
		if err := os.WriteFile(replace[path], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	file, binary := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "mascri")
	if err := os.WriteFile(file, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "go", "build", "-race", "-tags", "failpoint", "-overlay", file, "-o", binary, "github.com/mascri/mascri/cmd/mascri")
	return binary
}
