package config

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// A place is where in a file a value stands, both counted from 1; the column
// counts bytes.
type place struct{ line, column int }

// A fault is something wrong at a place. It prints as line:column: message.
type fault struct {
	place
	message string
}

func (f fault) Error() string { return fmt.Sprintf("%d:%d: %s", f.line, f.column, f.message) }

// parse decodes doc over c and returns the place of every key that doc sets. The
// error is a fault or joins several; c is then to be thrown away.
func parse(doc []byte, c *Config) (map[string]place, error) {
	// A first pass without a target: whatever it finds is about TOML itself, so
	// that what the second finds is about MasCRI's keys and their types.
	var syntax *toml.DecodeError
	if err := toml.Unmarshal(doc, &map[string]any{}); errors.As(err, &syntax) {
		return nil, faultAt(syntax, strings.TrimPrefix(syntax.Error(), "toml: "))
	} else if err != nil {
		return nil, fault{place{1, 1}, err.Error()}
	}
	var unknown *toml.StrictMissingError
	var mismatch *toml.DecodeError
	err := toml.NewDecoder(bytes.NewReader(doc)).DisallowUnknownFields().Decode(c)
	switch {
	case errors.As(err, &unknown):
		var errs []error
		for i := range unknown.Errors {
			e := &unknown.Errors[i]
			errs = append(errs, faultAt(e, unknownKey(strings.Join(e.Key(), "."))))
		}
		return nil, errors.Join(errs...)
	case errors.As(err, &mismatch):
		return nil, faultAt(mismatch, wrongType(strings.ToLower(strings.Join(mismatch.Key(), "."))))
	case err != nil:
		return nil, fault{place{1, 1}, err.Error()}
	}
	return places(doc), nil
}

func faultAt(e *toml.DecodeError, message string) fault {
	line, column := e.Position()
	return fault{place{line, column}, message}
}

func wrongType(key string) string {
	o, ok := lookup(key)
	if !ok {
		return fmt.Sprintf("%q is a section: write [%s] on a line of its own, and its keys below", key, key)
	}
	def := Default()
	want := ""
	switch o.field(&def).(type) {
	case *string:
		want = "a string in quotes"
	case *bool:
		want = "true or false"
	case *int:
		want = "a whole number"
	case *[]string:
		want = `a list of strings, such as ["/a", "/b"]`
	}
	return fmt.Sprintf("%s must be %s", key, want)
}

// places returns where each key of doc stands. doc was decoded before, so that it
// is valid and its last key of a name is the one that counts; the decoder does
// not tell keys apart by case.
func places(doc []byte) map[string]place {
	found := map[string]place{}
	var p unstable.Parser
	p.Reset(doc)
	section := ""
	for p.NextExpression() {
		e := p.Expression()
		if e.Kind == unstable.KeyValue {
			addPlaces(&p, section, e, found)
			continue
		}
		section, _ = keyOf(&p, e)
	}
	return found
}

func addPlaces(p *unstable.Parser, section string, e *unstable.Node, found map[string]place) {
	key, at := keyOf(p, e)
	if section != "" {
		key = section + "." + key
	}
	if e.Value().Kind != unstable.InlineTable {
		found[key] = at
		return
	}
	for it := e.Value().Children(); it.Next(); {
		addPlaces(p, key, it.Node(), found)
	}
}

// keyOf returns the dotted key of a table or of a key with its value, and where
// its first part stands.
func keyOf(p *unstable.Parser, e *unstable.Node) (string, place) {
	var parts []string
	var at place
	for it := e.Key(); it.Next(); {
		if parts == nil {
			start := p.Shape(it.Node().Raw).Start
			at = place{start.Line, start.Column}
		}
		parts = append(parts, strings.ToLower(string(it.Node().Data)))
	}
	return strings.Join(parts, "."), at
}
