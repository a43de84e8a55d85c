//go:build failpoint

package main

import (
	"log/slog"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// crashSteps ends the process as SIGKILL does when it comes to the step that the
// file named by MASCRI_CRASH_AT holds; a file, so that a test can arm the next crash
// of a running daemon. The file is removed first: one crash per arming.
func crashSteps(log *slog.Logger) func(string) {
	path := os.Getenv("MASCRI_CRASH_AT")
	if path == "" {
		return nil
	}
	return func(step string) {
		text, err := os.ReadFile(path)
		if err != nil || strings.TrimSpace(string(text)) != step {
			return
		}
		log.Warn("crashing as told", "step", step)
		if err := os.Remove(path); err != nil {
			panic(err)
		}
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
		select {}
	}
}
