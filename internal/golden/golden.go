// Package golden compares what a test got with a file of its testdata, which
// `go test -update` rewrites.
package golden

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// Compare fails the test if got is not what testdata/name holds.
func Compare(t *testing.T, name string, got []byte) {
	t.Helper()
	CompareBy(t, name, got, func(want, got string) string { return cmp.Diff(want, got) })
}

// CompareBy is Compare for what has a diff of its own, which is "" for equals.
func CompareBy(t *testing.T, name string, got []byte, diff func(want, got string) string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if text := diff(string(want), string(got)); text != "" {
		t.Errorf("%s (-want +got):\n%s", file, text)
	}
}
