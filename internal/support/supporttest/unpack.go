// Package supporttest reads bundles in tests.
package supporttest

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"testing"
)

// Unpack returns the contents of each file of an archive, by its name in it.
func Unpack(t *testing.T, archive io.Reader) map[string]string {
	t.Helper()
	plain, err := gzip.NewReader(archive)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for files := tar.NewReader(plain); ; {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(files)
		if err != nil {
			t.Fatal(err)
		}
		found[header.Name] = string(text)
	}
}
