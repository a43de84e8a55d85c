package durable

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// ErrNewer is of a file that a later version of MasCRI wrote, which must not be taken for
// a damaged one: to that version it is whole.
var ErrNewer = errors.New("written by a newer mascri: start that one")

// Unmarshal reads a file's JSON of the form that build knows. The form is the number in
// its key "version", and 1 where it has none. The error is ErrNewer for a later form,
// whatever else is in it.
func Unmarshal(text []byte, build int, into any) error {
	version, err := versionOf(text)
	switch {
	case err != nil:
		return err
	case version > build:
		return fmt.Errorf("version %d, this build knows version %d: %w", version, build, ErrNewer)
	case version != build:
		return fmt.Errorf("version %d, this build knows version %d", version, build)
	}
	return json.Unmarshal(text, into)
}

func versionOf(text []byte) (int, error) {
	form := struct {
		Version int `json:"version"`
	}{1}
	err := json.Unmarshal(text, &form)
	return form.Version, err
}

// RefuseNewer returns ErrNewer where a file whose path matches pattern is of a later form
// than build knows: it would be written over. Damaged files are no error.
func RefuseNewer(pattern string, build int) error {
	paths, err := filepath.Glob(pattern)
	if err != nil {
		return err
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // as a damaged one
		}
		if err := Unmarshal(text, build, &struct{}{}); errors.Is(err, ErrNewer) {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}
