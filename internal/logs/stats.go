package logs

import "time"

// Stats are counted from the start of the daemon.
type Stats struct {
	Lines  uint64 // parts of long lines count each
	Bytes  uint64 // as formatted
	Gaps   uint64 // lines that tell of lost ones
	Errors uint64 // each is tried again
	// DamagedBytes were skipped in the engine's files.
	DamagedBytes uint64
	Behind       int // containers whose log is held up or has more to come right now
	// Lag is for how long the log that is behind for longest has been so.
	Lag time.Duration
}

// Stats does no I/O.
func (f *Follower) Stats() Stats {
	stats := Stats{
		Lines: f.lines.Load(), Bytes: f.bytes.Load(), Gaps: f.gaps.Load(),
		Errors: f.errors.Load(), DamagedBytes: f.damaged.Load(),
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, t := range f.tails {
		if since := t.behind.Load(); since != 0 {
			stats.Behind++
			stats.Lag = max(stats.Lag, time.Since(time.Unix(0, since)))
		}
	}
	return stats
}
