package network

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// source is a JSON text whose errors are told by file, line and column, both
// counted from 1, columns in bytes.
type source struct {
	file string
	data []byte
}

// field is a value in a source.
type field struct {
	raw    json.RawMessage
	offset int // of raw in the source
}

// at makes an error about what is at offset.
func (src source) at(offset int, problem string) error {
	return fmt.Errorf("%s: %s", src.position(offset), problem)
}

func (src source) position(offset int) string {
	before := src.data[:min(max(offset, 0), len(src.data))]
	line := 1 + bytes.Count(before, []byte("\n"))
	column := len(before) - bytes.LastIndexByte(before, '\n')
	return fmt.Sprintf("%s:%d:%d", src.file, line, column)
}

func (src source) wrap(err error) error { return src.wrapAt(0, err) }

// wrapAt places an error of encoding/json about a value that begins at offset.
func (src source) wrapAt(offset int, err error) error {
	var syntax *json.SyntaxError
	var mismatch *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		offset += int(syntax.Offset) - 1 // it counts the bytes with the offending one
	case errors.As(err, &mismatch):
		offset += int(mismatch.Offset) - 1
	case errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF):
		offset, err = len(src.data), errors.New("unexpected end of file")
	}
	return fmt.Errorf("%s: %w", src.position(offset), err)
}

// object takes raw, which begins at offset, apart. It must be one JSON object.
func (src source) object(offset int, raw []byte) (map[string]field, error) {
	if err := src.valid(offset, raw); err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return nil, src.at(offset+leading(raw), "not a JSON object")
	}
	fields := map[string]field{}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, src.wrapAt(offset, err)
		}
		value, err := next(dec, offset)
		if err != nil {
			return nil, src.wrapAt(offset, err)
		}
		if name, ok := key.(string); ok {
			fields[name] = value
		}
	}
	return fields, nil
}

// array takes value apart. It must be a JSON array.
func (src source) array(value field) ([]field, error) {
	dec := json.NewDecoder(bytes.NewReader(value.raw))
	if open, err := dec.Token(); err != nil || open != json.Delim('[') {
		return nil, src.at(value.offset, "not a JSON array")
	}
	var entries []field
	for dec.More() {
		entry, err := next(dec, value.offset)
		if err != nil {
			return nil, src.wrapAt(value.offset, err)
		}
		entries = append(entries, entry)
	}
	return entries, nil
}

// valid checks the syntax of raw. It is done ahead, as the errors of a Decoder
// give no useful offset.
func (src source) valid(offset int, raw []byte) error {
	var value json.RawMessage
	if err := json.Unmarshal(raw, &value); err != nil {
		return src.wrapAt(offset, err)
	}
	return nil
}

// next reads the next value of a decoder whose input begins at offset.
func next(dec *json.Decoder, offset int) (field, error) {
	var raw json.RawMessage
	if err := dec.Decode(&raw); err != nil {
		return field{}, err
	}
	return field{raw: raw, offset: offset + int(dec.InputOffset()) - len(raw)}, nil
}

// text returns the string called name of the source's outermost object.
func (src source) text(fields map[string]field, name string) (string, error) {
	return src.textAt(0, fields, name)
}

// textAt returns the string called name of the object at offset.
func (src source) textAt(offset int, fields map[string]field, name string) (string, error) {
	value, ok := fields[name]
	if !ok {
		return "", src.at(offset+leading(src.data[offset:]), fmt.Sprintf("%q is missing", name))
	}
	var text *string
	if err := json.Unmarshal(value.raw, &text); err != nil || text == nil {
		return "", src.at(value.offset, fmt.Sprintf("%q is not a string", name))
	}
	return *text, nil
}

// leading counts the white space that data begins with.
func leading(data []byte) int {
	return len(data) - len(bytes.TrimLeft(data, " \t\r\n"))
}
