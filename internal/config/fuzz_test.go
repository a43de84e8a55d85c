package config

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FuzzLoad: a file is either taken, and then what is shown of it loads to the same
// settings, or refused with a position for each thing that is wrong.
func FuzzLoad(f *testing.F) {
	f.Add([]byte("socket = '/a'\n[engine]\nhost = 'unix:///b'\n[network]\nbin_dirs = ['/c', '/d']\n"))
	f.Add([]byte("network = {config_dir = '/a', default_network = false}\nengine.host = \"unix:///\\u00e9\"\n"))
	f.Add([]byte("sockt = ''\n[[network]]\n[engine.host]\n"))
	f.Add([]byte("network.bin_dirs = [1, [2], {a = 3}]\nlog_level = 2020-01-01\n"))
	f.Add([]byte("Socket = '/a'\nsocket = '/b'\n\"net\\u0077ork\".config_dir = '''/x\n'''\n"))
	f.Add([]byte("\xef\xbb\xbfsocket = \"\"\"\n\\\n/a\"\"\"\r\n"))
	f.Fuzz(func(t *testing.T, doc []byte) {
		file := filepath.Join(t.TempDir(), "config.toml")
		if err := os.WriteFile(file, doc, 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := load(file, nil)
		if err != nil {
			position := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(file) + `:[1-9]\d*:[1-9]\d*: .`)
			if lines := strings.Count(err.Error(), file+":"); lines == 0 || len(position.FindAllString(err.Error(), -1)) != lines {
				t.Errorf("an error without a position: %v", err)
			}
			return
		}
		var shown bytes.Buffer
		if err := l.WriteTOML(&shown); err != nil {
			t.Fatal(err)
		}
		var again Config
		if _, err := parse(shown.Bytes(), &again); err != nil {
			t.Fatalf("what is shown can't be read: %v\n%s", err, shown.Bytes())
		}
		if diff := cmp.Diff(l.Config, again); diff != "" {
			t.Errorf("what is shown differs (-loaded +shown):\n%s", diff)
		}
	})
}
