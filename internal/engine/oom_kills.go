package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// On cgroup v2, Docker misses some kills for want of memory: containerd's shim reads the
// cgroup's memory.events after the kernel told it of a change, and systemd removes the
// cgroup with the last process. The kernel's log names each of them, before the process dies.

const (
	kernelLog = "/dev/kmsg"
	// A record is smaller than this; a read of one that is not fails with EINVAL (kernel's
	// CONSOLE_EXT_LOG_MAX, PRINTKRB_RECORD_MAX).
	maxRecord = 16 << 10
	// oomKillsKept bounds how many containers are remembered. The kernel's log holds fewer.
	oomKillsKept = 4096
)

// oomKills are the containers that the kernel's log named.
type oomKills struct {
	new chan string // each once; Hints takes them

	mu  sync.Mutex
	ids []string // guarded by mu; the latest last
}

func newOOMKills() *oomKills { return &oomKills{new: make(chan string)} }

func (o *oomKills) has(id string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Contains(o.ids, id)
}

// add is false for one that is known.
func (o *oomKills) add(id string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if slices.Contains(o.ids, id) {
		return false
	}
	if len(o.ids) == oomKillsKept {
		o.ids = slices.Delete(o.ids, 0, 1)
	}
	o.ids = append(o.ids, id)
	return true
}

// WatchOOMKills reads the kernel's log, from the oldest record that it has, until ctx ends or
// the log can't be read. From then on, a container of which the kernel killed a process for
// want of memory is told as such, also where Docker missed it. It must run once at a time.
func (e *Engine) WatchOOMKills(ctx context.Context) error { return e.watchOOMKills(ctx, kernelLog) }

func (e *Engine) watchOOMKills(ctx context.Context, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("read the kernel's log: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { f.Close() })
	defer func() {
		if stop() {
			f.Close()
		}
	}()
	record := make([]byte, maxRecord)
	for {
		n, err := f.Read(record) // one record at a time
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, unix.EPIPE): // records were overwritten before they were read
			continue
		case err != nil:
			return fmt.Errorf("read the kernel's log: %w", err)
		}
		if id, ok := oomKilled(string(record[:n])); ok && e.oomKills.add(id) {
			select {
			case e.oomKills.new <- id:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

// containerCgroup finds the last container's id in the path of a cgroup: Docker's cgroupfs
// driver names its directory so, the systemd driver docker-ID.scope.
var containerCgroup = regexp.MustCompile(`.*\b([0-9a-f]{64})\b`)

// oomKilled returns the container that a record of the kernel's log tells the end of a process of.
// Such a record is, in one line (kernel's Documentation/ABI/testing/dev-kmsg, mm/oom_kill.c):
//
//	6,1234,5678,-;oom-kill:constraint=CONSTRAINT_MEMCG,...,task_memcg=/docker/ID,task=dd,pid=1,uid=0
func oomKilled(record string) (id string, ok bool) {
	prefix, message, _ := strings.Cut(record, ";")
	priority, _, _ := strings.Cut(prefix, ",")
	// Whoever writes into the log from outside the kernel has another facility than 0.
	if number, err := strconv.Atoi(priority); err != nil || number>>3 != 0 {
		return "", false
	}
	message, _, _ = strings.Cut(message, "\n")
	if !strings.HasPrefix(message, "oom-kill:") {
		return "", false
	}
	_, path, _ := strings.Cut(message, ",task_memcg=")
	path, _, _ = strings.Cut(path, ",task=")
	if match := containerCgroup.FindStringSubmatch(path); match != nil {
		return match[1], true
	}
	return "", false
}
