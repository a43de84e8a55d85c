package logs

import (
	"fmt"
	"time"
)

// appendEntry appends e as a line of a CRI log file (KEP "CRI log format"): time, stream,
// P for a part of a line or F for the rest of it, and the text.
func appendEntry(out []byte, e entry) []byte {
	out = time.Unix(0, e.time).UTC().AppendFormat(out, time.RFC3339Nano)
	out = append(out, ' ')
	out = append(out, e.source...)
	if e.partial {
		out = append(out, " P "...)
	} else {
		out = append(out, " F "...)
	}
	out = append(out, e.line...)
	return append(out, '\n')
}

// gapLine is what a log says in place of entries that are no more. before and after are
// the times of the entries around, 0 where there is none.
func gapLine(before, after int64, reason string) []byte {
	stamp := after
	between := "after " + rfc3339(before)
	switch {
	case before == 0 && after == 0:
		between = "of this container"
	case before == 0:
		between = "before " + rfc3339(after)
	case after == 0:
		stamp = before
	default:
		between = "between " + rfc3339(before) + " and " + rfc3339(after)
	}
	return appendEntry(nil, entry{source: stderr, time: stamp, line: fmt.Appendf(nil, "mascri: log lines %s were lost: %s", between, reason)})
}

func rfc3339(nano int64) string { return time.Unix(0, nano).UTC().Format(time.RFC3339Nano) }
