package logs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mascri/mascri/internal/engine/enginetest"
)

// What a container writes before, during and after a restart of the engine arrives.
func TestRestartOfTheEngine(t *testing.T) {
	onBothEngines(t, func(t *testing.T, version enginetest.Version) {
		e := startEngine(t, version, "--live-restore")
		n := newNode(t)
		control := t.TempDir()
		id, directory := e.create(`i=0; while [ ! -e /control/end ]; do
			if [ -e /control/go ]; then for j in 1 2 3 4 5 6 7 8 9 10; do echo line $i; i=$((i+1)); done; busybox rm /control/go; fi
			busybox usleep 1000; done`, "--volume", control+":/control")
		n.source.Directory = directory
		f, end := n.follow()
		defer end()
		e.docker("start", id)
		want := 0
		write := func() {
			n.engine.must(os.WriteFile(filepath.Join(control, "go"), nil, 0o644))
			for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
				if _, err := os.Stat(filepath.Join(control, "go")); errors.Is(err, os.ErrNotExist) {
					break
				}
				if time.Now().After(deadline) {
					t.Fatal("the container does not write")
				}
			}
			want += 10
		}
		arrived := func() {
			for deadline := time.Now().Add(10 * time.Second); strings.Count(text(t, n.path), "\n") < want; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("%d lines arrived of %d", strings.Count(text(t, n.path), "\n"), want)
				}
			}
		}
		write()
		arrived()
		e.Stop(t)
		write()
		e.Start(t)
		write()
		arrived()
		n.engine.must(os.WriteFile(filepath.Join(control, "end"), nil, 0o644))
		e.docker("wait", id)
		n.drain(f)
		for i, r := range logOf(t, n.path) {
			if r.text != fmt.Sprint("line ", i) || r.tag != "F" {
				t.Fatalf("line %d is %q", i, r)
			}
		}
	})
}

// The engine loses what it has in its memory when it ends while a container writes as
// fast as it can. The log file has all that the engine has, each line once.
func TestRestartOfTheEngineUnderLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("restarts engines under load")
	}
	onBothEngines(t, func(t *testing.T, version enginetest.Version) {
		e := startEngine(t, version, "--live-restore")
		n := newNode(t)
		control := t.TempDir()
		id, directory := e.create(`i=0; while [ ! -e /control/end ]; do echo line $i; i=$((i+1)); done`, "--volume", control+":/control:ro")
		n.source.Directory = directory
		f, end := n.follow()
		defer end()
		e.docker("start", id)
		time.Sleep(300 * time.Millisecond)
		e.Stop(t)
		e.Start(t)
		n.engine.must(os.WriteFile(filepath.Join(control, "end"), nil, 0o644))
		e.docker("wait", id)
		n.drain(f)
		records := logOf(t, n.path)
		if len(records) < 1000 {
			t.Errorf("only %d lines", len(records))
		}
		stats := f.Stats()
		if stats.Gaps == 0 && stats.DamagedBytes == 0 {
			same(t, string(outputOf(records, "stdout")), string(e.docker("logs", id)))
			return
		}
		// The engine ended in the middle of an entry. Of what follows that in its file,
		// "docker logs" makes nothing; the log file has all of it.
		if stats.Gaps != 1 || stats.DamagedBytes > maxEntry {
			t.Errorf("stats %+v", stats)
		}
		wantRising(t, string(outputOf(records, "stdout")))
	})
}

// wantRising checks that each line has a higher number than the one before.
func wantRising(t *testing.T, text string) {
	t.Helper()
	last := -1
	for line := range strings.Lines(text) {
		var number int
		if n, err := fmt.Sscanf(line, "line %d\n", &number); n != 1 || err != nil || number <= last {
			t.Fatalf("%q after line %d", line, last)
		}
		last = number
	}
}
