package logs

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	// readSize is how much is read at once; the longest entry fits more than once.
	readSize = 2 * maxEntry
	// writeSize is about what becomes of it; more is made where lines are short.
	writeSize = 3 * maxEntry
	// tornAfter is how long an entry may be incomplete before it counts as torn, if whole
	// ones follow: the engine writes an entry by one system call.
	tornAfter = 2 * time.Second
)

var (
	// errGone: the engine removed log files before they were read.
	errGone = errors.New("the engine's log files were rotated away")
	// errMoved: the place in the engine's files is another one now.
	errMoved = errors.New("place moved")
)

// buffers are what one batch needs. There are few, so that memory is bounded.
type buffers struct {
	in, out []byte
}

// outcome is what a batch tells of what comes next.
type outcome int

const (
	more     outcome = iota // there may be more already
	caughtUp                // all was appended, and there was something
	quiet                   // nothing to append
	complete                // the container ended, and all was appended
)

// batch appends what one read of the engine's files gives.
func (t *tail) batch(ctx context.Context) (outcome, error) {
	if nothing, err := t.nothingNew(); nothing || err != nil {
		if errors.Is(err, errMoved) {
			return more, nil
		}
		return quiet, err
	}
	b, err := t.follower.acquire(ctx)
	if err != nil {
		return quiet, err
	}
	defer t.follower.release(b)
	result, err := t.appendNext(b)
	if errors.Is(err, errMoved) {
		return more, nil
	}
	return result, err
}

// nothingNew tells of a container that wrote nothing; most looks find that, and need no
// buffers.
func (t *tail) nothingNew() (bool, error) {
	if t.state.Literal != "" || t.files.file == nil || t.final || t.doubtful {
		return false, nil
	}
	if behind, err := t.files.behind(); err != nil || behind != 0 {
		return false, err
	}
	if closed, err := t.files.closed(); err != nil || closed {
		return false, err
	}
	_, err := t.lookAtTarget() // it may have been deleted with what was in it
	return true, err
}

func (t *tail) appendNext(b *buffers) (outcome, error) {
	if t.state.Literal != "" {
		return more, t.appendLiteral()
	}
	found, err := t.files.open()
	if errors.Is(err, errGone) {
		return more, t.lost(b, "the engine's log files were rotated away before they were read")
	}
	if err != nil {
		return quiet, err
	}
	if !found {
		return t.nothingYet(), nil
	}
	n, err := t.files.read(b.in)
	if err != nil {
		return quiet, err
	}
	text := b.in[:n]
	used, lines, newest, parsed := b.format(text)
	if used == 0 {
		return t.atEnd(b, text, parsed)
	}
	if err := t.append(b.out); err != nil {
		return quiet, err
	}
	t.files.at.Offset += int64(used)
	t.state.Time = newest
	t.stuck = stuck{}
	t.follower.lines.Add(uint64(lines))
	t.follower.bytes.Add(uint64(len(b.out)))
	if n == len(b.in) || errors.Is(parsed, errDamaged) {
		return more, nil
	}
	return caughtUp, nil
}

// format fills b.out with the lines of all whole entries that text begins with, and
// returns their length in text, their number, the time of the last one, and why there are
// no more, nil at the end of text.
func (b *buffers) format(text []byte) (used, lines int, newest int64, err error) {
	b.out = b.out[:0]
	for used < len(text) {
		e, n, err := parse(text[used:])
		if err != nil {
			return used, lines, newest, err
		}
		b.out = appendEntry(b.out, e)
		used += n
		lines++
		newest = e.time
	}
	return used, lines, newest, nil
}

// nothingYet is the outcome where the engine has no file, or none with an entry in it.
func (t *tail) nothingYet() outcome {
	if t.final {
		return complete
	}
	return quiet
}

// stuck is an end of the engine's files that is no whole entry.
type stuck struct {
	at    place
	since time.Time
}

// atEnd goes on where no whole entry is at t.files.at, but text.
func (t *tail) atEnd(b *buffers, text []byte, parsed error) (outcome, error) {
	closed, err := t.files.closed()
	if err != nil {
		return quiet, err
	}
	if closed && !t.files.rotated {
		t.files.rotated = true
		return more, nil // something may have come between the read and the look
	}
	over := closed || t.final
	if len(text) > 0 {
		if !over && errors.Is(parsed, errIncomplete) && !t.isStuck() {
			return quiet, nil
		}
		return t.skipDamage(b, over)
	}
	if !closed {
		return t.nothingYet(), nil
	}
	found, err := t.files.next()
	if errors.Is(err, errGone) {
		return more, t.lost(b, "the engine's log files were rotated away before they were read")
	}
	if err != nil {
		return quiet, err
	}
	if !found {
		return t.nothingYet(), nil
	}
	return more, nil
}

// isStuck tells whether the incomplete entry is so for long.
func (t *tail) isStuck() bool {
	now := time.Now()
	if t.stuck.at != t.files.at {
		t.stuck = stuck{t.files.at, now}
	}
	return now.Sub(t.stuck.since) >= tornAfter
}

// skipDamage goes to the next whole entry of the file, or to its end if it is over, and
// puts a line in place of what is skipped.
func (t *tail) skipDamage(b *buffers, over bool) (outcome, error) {
	from := t.files.at
	for first := 1; ; first = 0 {
		n, err := t.files.read(b.in)
		if err != nil {
			t.files.at = from
			return quiet, err
		}
		text := b.in[min(first, n):n]
		offset, atEOF := find(text), n < len(b.in)
		switch {
		case offset >= 0:
			t.files.at.Offset += int64(min(first, n) + offset)
		case atEOF && !over:
			t.files.at = from
			return quiet, nil
		case atEOF:
			t.files.at.Offset += int64(n)
		default:
			t.files.at.Offset += int64(n - maxEntry - 2*lengthSize) // an entry may begin there
			continue
		}
		skipped := t.files.at.Offset - from.Offset
		t.follower.damaged.Add(uint64(skipped))
		return more, t.lost(b, fmt.Sprintf("the engine did not write them whole, %d bytes were skipped", skipped))
	}
}

// lost puts a line into the log in place of what was before t.files.at.
func (t *tail) lost(b *buffers, reason string) error {
	n, err := t.files.read(b.in)
	if err != nil {
		n = 0
	}
	after := int64(0)
	if e, _, err := parse(b.in[:n]); err == nil {
		after = e.time
	}
	line := gapLine(t.state.Time, after, reason)
	torn, err := t.endsTorn()
	if errors.Is(err, errMoved) {
		return err // what was lost is found again, from the new place on
	}
	if err == nil && torn {
		line = append([]byte{'\n'}, line...)
	}
	t.follower.gaps.Add(1)
	t.log.Warn("log lines were lost", "reason", reason, "file", t.files.file.Name())
	t.state.Literal = string(line)
	return t.appendLiteral()
}

func (t *tail) appendLiteral() error {
	if err := t.append([]byte(t.state.Literal)); err != nil {
		return err
	}
	t.state.Literal = ""
	return nil
}
