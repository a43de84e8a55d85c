package config

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mascri/mascri/internal/golden"
)

func TestDefaultFile(t *testing.T) {
	var b bytes.Buffer
	if err := WriteDefault(&b); err != nil {
		t.Fatal(err)
	}
	golden.Compare(t, "default.toml", b.Bytes())

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
	golden.Compare(t, "show.toml", b.Bytes())
}
