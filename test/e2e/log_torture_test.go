package e2e

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine/enginetest"
)

// tortured is a container whose output is known.
type tortured struct {
	container
	input string // a directory: the last part is written once "end" is in there
	out   []byte
	errs  []byte
	logs  []string // rotated ones
	path  string
}

// Four containers write 50,000 lines each, of random lengths and all bytes, while the
// daemon is killed ten times and the logs are rotated ten times, also both at once: the
// output is the input.
func TestLogTorture(t *testing.T) {
	bothEngines(t, func(t *testing.T, version enginetest.Version) {
		const kills, rotations = 10, 10
		n := newNode(t, version, userConf())
		b := newBench(t, n)
		var containers []*tortured
		for i := range 4 {
			containers = append(containers, b.torture(t, i))
		}
		killed, rotated := 0, 0
		for killed < kills || rotated < rotations {
			time.Sleep(time.Duration(rand.IntN(300)) * time.Millisecond)
			c := containers[rand.IntN(len(containers))]
			switch what := rand.IntN(3); {
			case what == 0 && killed < kills:
				n.kill(t)
				n.start(t)
				killed++
			case what == 1 && killed < kills && rotated < rotations:
				daemon := n.daemon.Process
				time.AfterFunc(time.Duration(rand.IntN(4000))*time.Microsecond, func() { _ = daemon.Kill() })
				if c.rotate(t) == nil {
					rotated++
				}
				n.kill(t)
				n.start(t)
				killed++
			case what == 2 && rotated < rotations:
				if err := c.rotate(t); err != nil {
					t.Fatal(err)
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
			c.ended(t) // its log must be complete then
			c.check(t)
		}
		b.removePod(t, b.pod.id)
		b.wantWhole(t, 0)
	})
}

// torture starts a container that writes its input in parts that end anywhere.
func (b *bench) torture(t *testing.T, number int) *tortured {
	t.Helper()
	const parts = 100
	c := &tortured{input: shortDir(t), out: randomLines(uint64(number), 40000), errs: randomLines(uint64(number+100), 10000)}
	for i := range parts {
		for name, text := range map[string][]byte{"out": c.out, "err": c.errs} {
			part := text[len(text)*i/parts : len(text)*(i+1)/parts]
			if err := os.WriteFile(filepath.Join(c.input, fmt.Sprintf("%s.%03d", name, i)), part, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	req := b.request(fmt.Sprint("torture", number), fmt.Sprintf(`for i in /input/out.*; do
		while [ $i = /input/out.%03d ] && [ ! -e /input/end ]; do sleep 0.05; done
		cat $i; cat /input/err.${i#/input/out.} >&2; sleep 0.1; done`, parts-1))
	req.Config.Mounts = []*cri.Mount{{HostPath: c.input, ContainerPath: "/input", Readonly: true}}
	c.path = filepath.Join(b.config.GetLogDirectory(), req.GetConfig().GetLogPath())
	c.container = b.runContainer(t, req)
	return c
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

// rotate does what the kubelet does.
func (c *tortured) rotate(t *testing.T) error {
	t.Helper()
	name := fmt.Sprintf("%s.%d", c.path, len(c.logs))
	if err := os.Rename(c.path, name); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := c.node.cri.ReopenContainerLog(ctx, &cri.ReopenContainerLogRequest{ContainerId: c.id}); err != nil {
		if err := os.Rename(name, c.path); err != nil {
			t.Fatal(err)
		}
		return err
	}
	c.logs = append(c.logs, name)
	return nil
}

// check compares the log files and docker logs with the input.
func (c *tortured) check(t *testing.T) {
	t.Helper()
	got := map[string][]byte{}
	for _, path := range append(c.logs, c.path) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if len(text) > 0 && text[len(text)-1] != '\n' {
			t.Errorf("%s ends within a line", path)
		}
		for line := range strings.Lines(string(text)) {
			fields := strings.SplitN(line, " ", 4)
			if len(fields) != 4 || fields[2] != "P" && fields[2] != "F" {
				t.Fatalf("%s has the line %.100q", path, line)
			}
			if _, err := time.Parse(time.RFC3339Nano, fields[0]); err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			if fields[2] == "P" {
				fields[3] = strings.TrimSuffix(fields[3], "\n")
			}
			got[fields[1]] = append(got[fields[1]], fields[3]...)
		}
	}
	var stdout, stderr bytes.Buffer
	logs := exec.Command("docker", "-H", c.node.host, "logs", c.id)
	logs.Stdout, logs.Stderr = &stdout, &stderr
	if err := logs.Run(); err != nil {
		t.Fatal(err)
	}
	for stream, want := range map[string][]byte{"stdout": c.out, "stderr": c.errs} {
		if !bytes.Equal(got[stream], want) {
			t.Errorf("%s of %s has %d bytes, want %d; they part at %d", stream, c.path, len(got[stream]), len(want), common(got[stream], want))
		}
	}
	for stream, pair := range map[string][2][]byte{"stdout": {stdout.Bytes(), c.out}, "stderr": {stderr.Bytes(), c.errs}} {
		// Engine 20.10 forgets the newline of lines that it took apart.
		told, want := bytes.ReplaceAll(pair[0], []byte("\n"), nil), bytes.ReplaceAll(pair[1], []byte("\n"), nil)
		if !bytes.Equal(told, want) {
			t.Errorf("docker logs has %d bytes of %s, want %d", len(told), stream, len(want))
		}
	}
}

// common is how many bytes a and b have in common at their beginning.
func common(a, b []byte) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}
