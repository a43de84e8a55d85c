package support

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mascri/mascri/internal/support/supporttest"
)

func TestABundleHoldsAllPartsAndWhatFailed(t *testing.T) {
	dir := t.TempDir()
	large := strings.Repeat("old line\n", largest/9) + "password=cut-through the last line\nend\n"
	for name, text := range map[string]string{"a/b.json": `{"token": "pl4nted"}`, "c.txt": "c", "large": large} {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc/shadow", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	parts, err := Files("state", dir, "*")
	if err != nil {
		t.Fatal(err)
	}
	none, err := Files("none", filepath.Join(dir, "none"), "*")
	if err != nil || len(none) > 0 {
		t.Errorf("of no directory: %v, %v", none, err)
	}
	parts = append(parts, File("gone", filepath.Join(dir, "gone")), Part{Name: "half", Write: func(_ context.Context, w io.Writer) error {
		_, _ = io.WriteString(w, "half of it")
		return errors.New("password=pl4nted is wrong")
	}})
	var b bytes.Buffer
	if err := Bundle(t.Context(), &b, "top", time.Unix(0, 0), parts); err != nil {
		t.Fatal(err)
	}
	files := supporttest.Unpack(t, &b)
	if len(files) != 6 || files["top/state/c.txt"] != "c" || files["top/half"] != "half of it" {
		t.Errorf("files %v", len(files))
	}
	if text := files["top/state/large"]; !strings.HasSuffix(text, "\nend\n") || len(text) > largest || !strings.HasPrefix(text, "old line\n") {
		t.Errorf("of the large file: %d bytes", len(text))
	}
	if text := files["top/errors.txt"]; !strings.Contains(text, "gone: open ") || !strings.Contains(text, "half: password=(removed)") {
		t.Errorf("errors %s", text)
	}
	for name, text := range files {
		if strings.Contains(text, planted) {
			t.Errorf("%s: %s", name, text)
		}
	}
}
