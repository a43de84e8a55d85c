package install

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// liveRestoreKey is Docker Engine's: containers go on while it is down.
const liveRestoreKey = "live-restore"

// member is one of a JSON object, by where it is in the text.
type member struct {
	start, end int // from its key on, to the end of its value
	value      string
}

// setMember sets a member of the object that text is, and leaves everything else as it
// is written. Text that is empty is taken for an empty object, as Docker does. before is
// the text of the former value, "" for none. The error begins with line and column.
func setMember(text []byte, key, value string) (changed []byte, before string, err error) {
	if len(bytes.TrimSpace(text)) == 0 {
		return fmt.Appendf(nil, "{\n  %q: %s\n}\n", key, value), "", nil
	}
	members, last, err := members(text)
	if err != nil {
		return nil, "", err
	}
	if m, ok := members[key]; ok {
		return splice(text, m.end-len(m.value), m.end, value), m.value, nil
	}
	if last == nil {
		open := bytes.IndexByte(text, '{') + 1
		return splice(text, open, bytes.LastIndexByte(text, '}'), fmt.Sprintf("\n  %q: %s\n", key, value)), "", nil
	}
	return splice(text, last.end, last.end, fmt.Sprintf(",%s%q: %s", gap(text, last.start), key, value)), "", nil
}

// removeMember takes a member away again that setMember added.
func removeMember(text []byte, key string) ([]byte, error) {
	members, _, err := members(text)
	if err != nil {
		return nil, err
	}
	m, ok := members[key]
	if !ok {
		return text, nil
	}
	if len(members) == 1 {
		return splice(text, bytes.IndexByte(text, '{')+1, bytes.LastIndexByte(text, '}'), ""), nil
	}
	start, end := m.start-len(gap(text, m.start)), m.end
	if start > 0 && text[start-1] == ',' {
		return splice(text, start-1, end, ""), nil
	}
	// The first: the comma is behind it.
	comma := end + bytes.IndexByte(text[end:], ',') + 1
	return splice(text, start, comma, ""), nil
}

func splice(text []byte, start, end int, with string) []byte {
	return []byte(string(text[:start]) + with + string(text[end:]))
}

// gap is the space before a member.
func gap(text []byte, start int) string {
	before := string(text[:start])
	return before[len(strings.TrimRight(before, " \t\r\n")):]
}

// members returns the members of the object that text is, by their keys, and the last of
// them, nil for none. Of those with one key, the last counts.
func members(text []byte) (all map[string]member, last *member, err error) {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(text, &object); err != nil {
		return nil, nil, placed(text, err)
	}
	if object == nil {
		return nil, nil, errors.New("1:1: null is no JSON object")
	}
	all = map[string]member{}
	dec := json.NewDecoder(bytes.NewReader(text))
	_, err = dec.Token() // the brace
	for err == nil && dec.More() {
		start := int(dec.InputOffset())
		start += len(text[start:]) - len(bytes.TrimLeft(text[start:], ", \t\r\n"))
		var key json.Token
		var value json.RawMessage
		if key, err = dec.Token(); err == nil {
			err = dec.Decode(&value)
		}
		name, _ := key.(string)
		last = &member{start, int(dec.InputOffset()), string(value)}
		all[name] = *last
	}
	return all, last, err
}

// placed puts line and column before an error of package json.
func placed(text []byte, err error) error {
	offset := 1
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		offset = int(syntax.Offset)
	case errors.As(err, &kind):
		err = fmt.Errorf("%s is no JSON object", kind.Value)
	}
	before := text[:min(max(offset-1, 0), len(text))]
	line := bytes.Count(before, []byte("\n")) + 1
	column := len(before) - bytes.LastIndexByte(before, '\n')
	return fmt.Errorf("%d:%d: %w", line, column, err)
}
