package network

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// settleGrace is how long a plugin of an earlier life of the daemon may go on:
	// ended in the middle, it would leave what no DEL finds.
	settleGrace = 10 * time.Second
	settlePoll  = 50 * time.Millisecond
)

// settle waits until no plugin works on a sandbox any more. Plugins outlive the
// daemon when it is killed, and the spec forbids DEL beside a running ADD: what
// that makes would be left. Those that don't end within grace are killed.
func settle(ctx context.Context, sandboxID string, grace time.Duration) error {
	deadline := time.Now().Add(grace)
	for {
		pids := pluginsOf(sandboxID)
		if len(pids) == 0 {
			return nil
		}
		if time.Now().After(deadline.Add(killDelay)) {
			return fmt.Errorf("plugins of an earlier ADD or DEL still run: processes %v", pids)
		}
		if time.Now().After(deadline) {
			for _, pid := range pids {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(settlePoll):
		}
	}
}

// pluginsOf returns the processes whose environment says that they work for a
// sandbox: plugins, and what they started.
func pluginsOf(sandboxID string) []int {
	paths, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		return nil // the pattern is good
	}
	var pids []int
	for _, path := range paths {
		environ, err := os.ReadFile(path)
		if err != nil {
			continue // ended meanwhile
		}
		if !bytes.Contains(append([]byte{0}, environ...), []byte("\x00CNI_CONTAINERID="+sandboxID+"\x00")) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}
