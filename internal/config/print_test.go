package config

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func golden(t *testing.T, name string, got []byte) {
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
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

func TestDefaultFile(t *testing.T) {
	var b bytes.Buffer
	if err := WriteDefault(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, "default.toml", b.Bytes())

	var c Config
	if _, err := parse(b.Bytes(), &c); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Default(), c); diff != "" {
		t.Errorf("the default file does not set the defaults (-want +got):\n%s", diff)
	}
}

func TestShownSettings(t *testing.T) {
	l := Loaded{Config: Default(), origins: map[string]string{
		"socket":           "--socket",
		"network.bin_dirs": "/etc/mascri/config.toml:4:1",
	}}
	l.Socket = `/run/it's "odd"/sock`
	l.Network.BinDirs = []string{"/cni"}
	var b bytes.Buffer
	if err := l.WriteTOML(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, "show.toml", b.Bytes())
}
