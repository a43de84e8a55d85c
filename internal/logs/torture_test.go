package logs

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mascri/mascri/internal/engine/enginetest"
	"github.com/mascri/mascri/internal/pod"
)

// tortured is a container whose output is known.
type tortured struct {
	id     string
	input  string // a directory; the last part is written once "end" is in there
	source pod.LogSource
	out    []byte
	errs   []byte
	logs   []string // rotated ones
}

// Four containers write 50,000 lines each, of random lengths and all bytes, while the
// process that follows them is killed ten times and their logs are rotated ten times, also
// at once: the output is the input.
func TestTorture(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	onBothEngines(t, func(t *testing.T, version enginetest.Version) {
		const kills, rotations, parts = 10, 10, 100
		e := startEngine(t, version)
		follower := &child{t: t, state: filepath.Join(t.TempDir(), "logs")}
		var containers []*tortured
		for i := range 4 {
			containers = append(containers, newTortured(t, e, uint64(i), parts))
		}
		follower.start()
		defer func() { follower.kill() }()
		followAll(t, follower, containers)
		for _, c := range containers {
			e.docker("start", c.id)
		}
		killed, rotated := 0, 0
		for killed < kills || rotated < rotations {
			time.Sleep(time.Duration(rand.IntN(400)) * time.Millisecond)
			c := containers[rand.IntN(len(containers))]
			switch what := rand.IntN(3); {
			case what == 0 && killed < kills:
				follower.kill()
				time.Sleep(time.Duration(rand.IntN(200)) * time.Millisecond)
				follower.start()
				followAll(t, follower, containers)
				killed++
			case what == 1 && killed < kills && rotated < rotations:
				// Killed in the middle of a rotation.
				process := follower.command.Process
				time.AfterFunc(time.Duration(rand.IntN(2000))*time.Microsecond, func() { process.Kill() })
				if c.rotate(t, follower) {
					rotated++
				}
				follower.kill()
				follower.start()
				followAll(t, follower, containers)
				killed++
			case what == 2 && rotated < rotations:
				if !c.rotate(t, follower) {
					t.Fatalf("rotation failed:\n%s", follower.log.String())
				}
				rotated++
			}
		}
		for _, c := range containers {
			if err := os.WriteFile(filepath.Join(c.input, "end"), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range containers {
			e.docker("wait", c.id)
			if !follower.ask("drain %s", c.id) {
				t.Errorf("drain failed:\n%s", follower.log.String())
			}
			c.check(t, e)
		}
		if log := follower.log.String(); strings.Contains(log, "WARN") {
			t.Errorf("the follower says:\n%s", log)
		}
	})
}

func newTortured(t *testing.T, e *realEngine, seed uint64, parts int) *tortured {
	t.Helper()
	input := t.TempDir()
	c := &tortured{input: input, out: randomLines(seed, 40000), errs: randomLines(seed+100, 10000)}
	chunks(t, input, "out", c.out, parts)
	chunks(t, input, "err", c.errs, parts)
	var directory string
	c.id, directory = e.create(fmt.Sprintf(`for i in /input/out.*; do
		while [ $i = /input/out.%03d ] && [ ! -e /input/end ]; do busybox sleep 0.05; done
		busybox cat $i; busybox cat /input/err.${i#/input/out.} >&2; busybox sleep 0.1; done`, parts-1), "--volume", input+":/input:ro")
	c.source = pod.LogSource{ID: c.id, Directory: directory, Path: filepath.Join(t.TempDir(), "0.log")}
	return c
}

func followAll(t *testing.T, follower *child, containers []*tortured) {
	t.Helper()
	for _, c := range containers {
		if !follower.ask("follow %s %s %s", c.id, c.source.Directory, c.source.Path) {
			t.Fatalf("follow failed:\n%s", follower.log.String())
		}
	}
}

// rotate does what the kubelet does.
func (c *tortured) rotate(t *testing.T, follower *child) bool {
	t.Helper()
	name := fmt.Sprintf("%s.%d", c.source.Path, len(c.logs))
	if err := os.Rename(c.source.Path, name); err != nil {
		t.Fatal(err)
	}
	if !follower.ask("reopen %s", c.id) {
		if err := os.Rename(name, c.source.Path); err != nil {
			t.Fatal(err)
		}
		return false
	}
	c.logs = append(c.logs, name)
	return true
}

func (c *tortured) check(t *testing.T, e *realEngine) {
	t.Helper()
	records := logOf(t, append(c.logs, c.source.Path)...)
	for stream, want := range map[string][]byte{"stdout": c.out, "stderr": c.errs} {
		if got := outputOf(records, stream); !bytes.Equal(got, want) {
			t.Errorf("%s of %s: %s", stream, c.id, difference(string(got), string(want)))
		}
	}
	c.checkDockerLogs(t, e)
}

func (c *tortured) checkDockerLogs(t *testing.T, e *realEngine) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	logs := e.command("logs", c.id)
	logs.Stdout, logs.Stderr = &stdout, &stderr
	if err := logs.Run(); err != nil {
		t.Fatal(err)
	}
	for stream, pair := range map[string][2][]byte{"stdout": {stdout.Bytes(), c.out}, "stderr": {stderr.Bytes(), c.errs}} {
		// Engine 20.10 forgets the newline of lines that it took apart.
		got, want := bytes.ReplaceAll(pair[0], []byte("\n"), nil), bytes.ReplaceAll(pair[1], []byte("\n"), nil)
		if !bytes.Equal(got, want) {
			t.Errorf("docker logs of %s: %d bytes of %s, want %d", c.id, len(got), stream, len(want))
		}
	}
}
