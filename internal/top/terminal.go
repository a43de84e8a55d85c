package top

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mascri/mascri/internal/table"
)

// Escape sequences: the terminal's other screen, without a cursor and without wrapping
// lines, so that what was on it before comes back.
const (
	enter = "\x1b[?1049h\x1b[?25l\x1b[?7l"
	leave = "\x1b[?7h\x1b[?25h\x1b[?1049l"
)

// lookAgain is how often it is seen whether a reader of keys is wanted any more.
const lookAgain = 100 * time.Millisecond

// take makes a terminal send each key at once, and shows its other screen. give undoes it.
func take(in, out *os.File) (give func(), err error) {
	before, err := unix.IoctlGetTermios(int(in.Fd()), unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("ask for the terminal's settings: %w", err)
	}
	raw := *before
	raw.Iflag &^= unix.ICRNL | unix.INLCR | unix.IGNCR | unix.IXON
	// Ctrl-C is a key as others are.
	raw.Lflag &^= unix.ECHO | unix.ICANON | unix.ISIG | unix.IEXTEN
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(int(in.Fd()), unix.TCSETS, &raw); err != nil {
		return nil, fmt.Errorf("set up the terminal: %w", err)
	}
	fmt.Fprint(out, enter)
	return func() {
		fmt.Fprint(out, leave)
		// What was typed and not read is not for the shell.
		_ = unix.IoctlSetTermios(int(in.Fd()), unix.TCSETSF, before)
	}, nil
}

// draw shows lines, by one write, so that nothing flickers.
func draw(out *os.File, lines []string) error {
	var b strings.Builder
	b.WriteString("\x1b[H")
	for i, line := range lines {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(line + "\x1b[K")
	}
	b.WriteString("\x1b[J")
	_, err := out.WriteString(b.String())
	return err
}

// size is that of a terminal, in columns and lines.
func size(out *os.File) (width, height int) {
	got, err := unix.IoctlGetWinsize(int(out.Fd()), unix.TIOCGWINSZ)
	if err != nil || got.Col == 0 || got.Row == 0 {
		return table.Width, 24
	}
	return int(got.Col), int(got.Row)
}

// readKeys sends the keys that are typed until ctx ends or the terminal is gone. It closes
// found then.
func readKeys(ctx context.Context, in *os.File, found chan<- key) {
	defer close(found)
	buffer, rest := make([]byte, 256), ""
	for ctx.Err() == nil {
		polled := []unix.PollFd{{Fd: int32(in.Fd()), Events: unix.POLLIN}}
		if n, err := unix.Poll(polled, int(lookAgain.Milliseconds())); errors.Is(err, unix.EINTR) || err == nil && n == 0 {
			continue
		}
		n, err := unix.Read(int(in.Fd()), buffer)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) {
			continue
		}
		if err != nil || n == 0 {
			return
		}
		var typed []key
		typed, rest = parseKeys(rest + string(buffer[:n]))
		for _, k := range typed {
			select {
			case found <- k:
			case <-ctx.Done():
				return
			}
		}
	}
}
