package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	lineBytes = 100 // with the newline
	// calm is for what is left to do when the log file is complete.
	calm = 300 * time.Millisecond
)

// writes is the workload that writes as many lines as it is told through the gate, and
// then one that says so.
var writes = `while read n < /gate/go; do yes ` + strings.Repeat("x", lineBytes-1) + ` | head -n "$n"; echo end; done`

// writing measures how fast a container's output gets into its log file, and what that
// takes. The container is there all the time. Of an outside endpoint, the latter is not known.
func writing(ctx context.Context, contestants []contestant, rounds, megabytes int) ([]sample, error) {
	writers := map[string]*thing{}
	for _, c := range contestants {
		t := &thing{name: "writer", gate: filepath.Join(c.pods.dir, "gate")}
		if err := errors.Join(os.Mkdir(t.gate, 0o755), syscall.Mkfifo(filepath.Join(t.gate, "go"), 0o600)); err != nil {
			return nil, err
		}
		if _, _, err := c.stages()[0].run(ctx, t); err != nil {
			return nil, fmt.Errorf("%s: %w", c.Name, err)
		}
		writers[c.Name] = t
	}
	samples, err := turns(ctx, "logs", rounds, contestants, func(ctx context.Context, c contestant, round int) ([]sample, error) {
		took, cpu, err := c.pods.write(ctx, writers[c.Name], megabytes*1e6/lineBytes)
		if err != nil {
			return nil, err
		}
		samples := []sample{{c.Name, logRate, stream, round, float64(megabytes) / took.Seconds()}}
		if c.pods.daemon != nil {
			samples = append(samples, sample{c.Name, logCPU, stream, round, milliseconds(cpu) / float64(megabytes)})
		}
		return samples, nil
	})
	for _, c := range contestants {
		t := writers[c.Name]
		if left := errors.Join(c.pods.stopSandbox(ctx, t), c.pods.removeContainer(ctx, t), c.pods.removeSandbox(ctx, t)); left != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", c.Name, left))
		}
	}
	return samples, err
}

// write lets the writer write lines, and returns what it took until all were in the log.
func (r *pods) write(ctx context.Context, t *thing, lines int) (took, cpu time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	log, err := os.Open(filepath.Join(r.logs, t.log()))
	if err != nil {
		return 0, 0, err
	}
	defer log.Close()
	from, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, 0, err
	}
	before, err := r.cpu()
	if err != nil {
		return 0, 0, err
	}
	if err := open(ctx, t.gate, lines); err != nil {
		return 0, 0, err
	}
	began := time.Now()
	if err := complete(ctx, log, from+int64(lines)*lineBytes); err != nil {
		return 0, 0, err
	}
	took = time.Since(began)
	if err := sleep(ctx, calm); err != nil {
		return 0, 0, err
	}
	after, err := r.cpu()
	if err != nil {
		return 0, 0, err
	}
	return took, after - before, count(log, lines+1)
}

// cpu is the time that the node's daemons and shims took so far; 0 where it is not known.
func (r *pods) cpu() (time.Duration, error) {
	if r.daemon == nil {
		return 0, nil
	}
	return r.daemon.node.cpu()
}

// open tells the writer through the gate how much to write, once it waits there.
func open(ctx context.Context, gate string, lines int) error {
	for {
		f, err := os.OpenFile(filepath.Join(gate, "go"), os.O_WRONLY|syscall.O_NONBLOCK, 0)
		if err == nil {
			_, err = fmt.Fprintln(f, lines)
			return errors.Join(err, f.Close())
		}
		if !errors.Is(err, syscall.ENXIO) {
			return err
		}
		if err := sleep(ctx, time.Millisecond); err != nil {
			return fmt.Errorf("the writer does not come to the gate: %w", err)
		}
	}
}

// complete returns once the log has more than least bytes and the writer's last line.
func complete(ctx context.Context, log *os.File, least int64) error {
	last := []byte(" stdout F end\n")
	tail := make([]byte, len(last))
	for {
		stat, err := log.Stat()
		if err != nil {
			return err
		}
		if size := stat.Size(); size > least {
			if _, err := log.ReadAt(tail, size-int64(len(tail))); err != nil {
				return err
			}
			if bytes.Equal(tail, last) {
				return nil
			}
		}
		if err := sleep(ctx, 2*time.Millisecond); err != nil {
			return fmt.Errorf("the log does not become complete: %d bytes, not %d: %w", stat.Size(), least, err)
		}
	}
}

// count says so if the rest of the log is not as many lines.
func count(log io.Reader, want int) error {
	lines, buffer := 0, make([]byte, 1<<20)
	for {
		n, err := log.Read(buffer)
		lines += bytes.Count(buffer[:n], []byte("\n"))
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	if lines != want {
		return fmt.Errorf("the log has %d lines of %d", lines, want)
	}
	return nil
}
