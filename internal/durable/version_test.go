package durable_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mascri/mascri/internal/durable"
)

func TestUnmarshal(t *testing.T) {
	for text, want := range map[string]string{
		`{"version": 2, "name": "x"}`:        "",
		`{"version": 3, "name": "x"}`:        "version 3, this build knows version 2: written by a newer mascri: start that one",
		`{"version": 3, "name": {"as": "?"}`: "unexpected end of JSON input", // damaged, whoever wrote it
		`{"version": 3, "name": {"as": 1}}`:  "version 3, this build knows version 2: written by a newer mascri: start that one",
		`{"version": 1, "name": "x"}`:        "version 1, this build knows version 2",
		`{"version": -1}`:                    "version -1, this build knows version 2",
		`{"name": "x"}`:                      "version 1, this build knows version 2",
		`{"version": "2"}`:                   "cannot unmarshal string",
		``:                                   "unexpected end of JSON input",
	} {
		var into struct{ Name string }
		err := durable.Unmarshal([]byte(text), 2, &into)
		switch {
		case want == "" && (err != nil || into.Name != "x"):
			t.Errorf("%s: %v, %v", text, into, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %q", text, err, want)
		case errors.Is(err, durable.ErrNewer) != strings.Contains(want, "newer"):
			t.Errorf("%s: of another kind: %v", text, err)
		}
	}
}

// Files that were written before there was a version in them are of the first one.
func TestUnmarshalWithoutAVersion(t *testing.T) {
	var into struct{ Name string }
	if err := durable.Unmarshal([]byte(`{"name": "x"}`), 1, &into); err != nil || into.Name != "x" {
		t.Errorf("%v, %v", into, err)
	}
}

func TestRefuseNewer(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("known", `{"version": 1}`)
	write("before", `{}`)
	write("damaged", `{"version": 2`)
	if err := os.Mkdir(filepath.Join(dir, "directory"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"*", "none/*"} {
		if err := durable.RefuseNewer(filepath.Join(dir, pattern), 1); err != nil {
			t.Errorf("%s: %v", pattern, err)
		}
	}
	write("newer", `{"version": 2}   `)
	if err := durable.RefuseNewer(filepath.Join(dir, "*"), 1); !errors.Is(err, durable.ErrNewer) || !strings.Contains(err.Error(), dir+"/newer: version 2") {
		t.Errorf("error is %v", err)
	}
}
