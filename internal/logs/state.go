package logs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/mascri/mascri/internal/durable"
)

const (
	// StateVersion is the form of state files that this build writes and reads.
	StateVersion = 1
	// stateSize is the length of a state file: always the same, so that it is written in
	// place, within one page: SIGKILL can't stop that half way, and a full disk has room.
	stateSize = 2048
)

// state is what is known of a container's log before the next batch is appended. It
// is in the page cache, and so outlives the process; nothing is synced, as a loss of
// power takes both files back to some earlier time, and an earlier state fits any later
// log file.
type state struct {
	Version int    `json:"version"`
	BootID  string `json:"bootId"`
	// Place is where the next entry is. Literal is to be appended before it.
	Place   place  `json:"place"`
	Literal string `json:"literal,omitempty"`
	// Time is that of the last entry before Place, 0 for none.
	Time int64 `json:"time,omitempty"`
	// Target is the log file, and Size how long it was when all before Place had been
	// appended.
	Target fileID `json:"target"`
	Size   int64  `json:"size"`
	// Began is Place when Target was begun, with BeganSize bytes in it; Before is the log
	// file before it, which the kubelet puts back in its place where it has no answer.
	Began     place  `json:"began"`
	BeganSize int64  `json:"beganSize"`
	Before    fileID `json:"before,omitzero"`
	// Finished is set when the container had ended and all of it was appended.
	Finished bool `json:"finished,omitempty"`
}

// fileID names a file whatever its path.
type fileID struct {
	Dev uint64 `json:"dev"`
	Ino uint64 `json:"ino"`
}

// readState returns false where there is none that this build can use: nothing was
// appended yet then, as the state comes first.
func readState(f *os.File) (state, bool, error) {
	text := make([]byte, stateSize)
	n, err := f.ReadAt(text, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return state{}, false, fmt.Errorf("read log state: %w", err)
	}
	var s state
	err = durable.Unmarshal(text[:n], StateVersion, &s)
	if errors.Is(err, durable.ErrNewer) { // to go on would be to write over it
		return state{}, false, fmt.Errorf("read log state %s: %w", f.Name(), err)
	}
	return s, err == nil, nil
}

func writeState(f *os.File, s state) error {
	s.Version = StateVersion
	text, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode log state: %w", err)
	}
	if len(text) > stateSize-1 {
		return fmt.Errorf("log state of %d bytes: at most %d fit", len(text), stateSize-1)
	}
	text = append(text, bytes.Repeat([]byte{' '}, stateSize-1-len(text))...)
	if _, err := f.WriteAt(append(text, '\n'), 0); err != nil {
		return fmt.Errorf("write log state: %w", err)
	}
	return nil
}
