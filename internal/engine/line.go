package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"

	"github.com/mascri/mascri/internal/pod"
)

// line carries a process's input and output over one connection to the engine.
type line struct {
	conn    client.HijackedResponse
	streams pod.Streams
	// halfClose is whether the end of stdin is passed on.
	halfClose bool
	size      pod.TerminalSize // to begin with; zero: none
	resize    func(context.Context, pod.TerminalSize) error
	// first is asked before output is written, whether it takes it instead; nil: it
	// never does.
	first func(output []byte) (taken bool, err error)
	// abandon is called before the connection is closed while output may still come; nil:
	// nothing is to be done.
	abandon func()
}

// errNobodyReads tells of output that could not be written: its reader is gone.
var errNobodyReads = errors.New("nobody takes the output any more")

// writeLimit is how long a write of output may take to return once its context ended.
const writeLimit = 2 * time.Second

// carry returns when the output ended, nil, or when it can't go on: ctx ended, or nobody
// takes the output. The connection is closed then.
func (l *line) carry(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var outputErr error
	output := make(chan struct{})
	go func() { defer close(output); outputErr = l.copyOutput() }()
	if l.streams.Stdin != nil {
		go l.copyInput()
	}
	if l.streams.TTY && l.streams.Resize != nil {
		go l.follow(ctx)
	}
	select {
	case <-output:
		if outputErr != nil {
			l.leave()
		}
		l.conn.Close()
		return outputErr
	case <-ctx.Done():
		l.leave()
		l.conn.Close()
		select {
		case <-output: // writes nothing any more
		case <-time.After(writeLimit): // whoever is stuck there is not to hold up all else
		}
		return ctx.Err()
	}
}

func (l *line) leave() {
	if l.abandon != nil {
		l.abandon()
	}
}

func (l *line) copyOutput() error {
	stdout, stderr := &sink{line: l, w: l.streams.Stdout}, &sink{line: l, w: l.streams.Stderr}
	var err error
	if l.streams.TTY {
		_, err = io.Copy(stdout, l.conn.Reader)
	} else {
		_, err = stdcopy.StdCopy(stdout, stderr, l.conn.Reader)
	}
	return err
}

// copyInput ends when the input does, or by its next read after the connection was closed.
// What goes wrong here shows in the output.
func (l *line) copyInput() {
	_, _ = io.Copy(l.conn.Conn, l.streams.Stdin)
	if l.halfClose {
		_ = l.conn.CloseWrite()
	}
}

// follow gives the terminal each size. The engine itself waits for the terminal's start;
// where it refuses a size, the terminal has ended.
func (l *line) follow(ctx context.Context) {
	if l.size != (pod.TerminalSize{}) {
		_ = l.resize(ctx, l.size)
	}
	for {
		select {
		case size, ok := <-l.streams.Resize:
			if !ok {
				return
			}
			_ = l.resize(ctx, size)
		case <-ctx.Done():
			return
		}
	}
}

// sink is one output.
type sink struct {
	line *line
	w    io.Writer // nil: thrown away
}

func (s *sink) Write(p []byte) (int, error) {
	if s.line.first != nil {
		if taken, err := s.line.first(p); taken || err != nil {
			return len(p), err
		}
	}
	if s.w == nil {
		return len(p), nil
	}
	if n, err := s.w.Write(p); err != nil {
		return n, fmt.Errorf("%w: %v", errNobodyReads, err)
	}
	return len(p), nil
}
