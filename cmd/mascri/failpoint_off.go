//go:build !failpoint

package main

import "log/slog"

// crashSteps is nil: only the crash tests' build stops at steps.
func crashSteps(*slog.Logger) func(string) { return nil }
