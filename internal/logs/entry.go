package logs

import (
	"bytes"
	"encoding/binary"
	"errors"

	"google.golang.org/protobuf/encoding/protowire"
)

// The driver "local" frames each entry by its length, 32 bits big-endian, on both sides
// (moby daemon/logger/local). An entry is the protobuf message LogEntry of the engine's
// log plugins.
const (
	lengthSize = 4
	// maxEntry is more than the longest entry: the engine cuts lines at 16 KiB.
	maxEntry = 64 << 10
)

// Numbers of LogEntry's fields.
const (
	fieldSource   = 1
	fieldTime     = 2
	fieldLine     = 3
	fieldPartial  = 4
	fieldMetadata = 5
	// fieldLast is of PartialLogEntryMetadata.
	fieldLast = 1
)

var (
	// errIncomplete: the text ends before the entry does.
	errIncomplete = errors.New("incomplete entry")
	errDamaged    = errors.New("damaged entry")

	stdout = []byte("stdout")
	stderr = []byte("stderr")
)

// entry is one log entry. Its slices are parts of the text it was parsed from.
type entry struct {
	source  []byte // stdout or stderr
	time    int64  // nanoseconds since 1970
	line    []byte // without its newline
	partial bool   // the line goes on in the next entry of this source, or has no end
}

// parse reads the entry that text begins with, and returns the length of its frame.
func parse(text []byte) (entry, int, error) {
	if len(text) < lengthSize {
		return entry{}, 0, errIncomplete
	}
	length := binary.BigEndian.Uint32(text)
	if length == 0 || length > maxEntry {
		return entry{}, 0, errDamaged
	}
	end := lengthSize + int(length)
	if len(text) < end+lengthSize {
		return entry{}, 0, errIncomplete
	}
	if binary.BigEndian.Uint32(text[end:]) != length {
		return entry{}, 0, errDamaged
	}
	e, ok := parseMessage(text[lengthSize:end])
	if !ok {
		return entry{}, 0, errDamaged
	}
	return e, end + lengthSize, nil
}

func parseMessage(message []byte) (entry, bool) {
	var e entry
	var partial, last bool
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return entry{}, false
		}
		message = message[n:]
		var value []byte
		var varint uint64
		switch kind {
		case protowire.BytesType:
			value, n = protowire.ConsumeBytes(message)
		case protowire.VarintType:
			varint, n = protowire.ConsumeVarint(message)
		default:
			n = protowire.ConsumeFieldValue(number, kind, message)
		}
		if n < 0 {
			return entry{}, false
		}
		message = message[n:]
		switch {
		case number == fieldSource && kind == protowire.BytesType:
			e.source = value
		case number == fieldTime && kind == protowire.VarintType:
			e.time = int64(varint)
		case number == fieldLine && kind == protowire.BytesType:
			e.line = value
		case number == fieldPartial && kind == protowire.VarintType:
			partial = varint != 0
		case number == fieldMetadata && kind == protowire.BytesType:
			last = isLast(value)
		}
	}
	e.partial = partial && !last
	return e, bytes.Equal(e.source, stdout) || bytes.Equal(e.source, stderr)
}

// isLast reads the field last of PartialLogEntryMetadata.
func isLast(metadata []byte) bool {
	for len(metadata) > 0 {
		number, kind, n := protowire.ConsumeTag(metadata)
		if n < 0 {
			return false
		}
		metadata = metadata[n:]
		if number == fieldLast && kind == protowire.VarintType {
			value, n := protowire.ConsumeVarint(metadata)
			return n > 0 && value != 0
		}
		if n = protowire.ConsumeFieldValue(number, kind, metadata); n < 0 {
			return false
		}
		metadata = metadata[n:]
	}
	return false
}

// find returns the offset of the first whole entry in text, or -1.
func find(text []byte) int {
	for i := range text {
		if _, _, err := parse(text[i:]); err == nil {
			return i
		}
	}
	return -1
}
