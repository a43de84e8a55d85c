package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/spf13/cobra"

	"github.com/mascri/mascri/internal/capture"
)

// A capture that can't begin leaves the file of an earlier one.
func TestCaptureKeepsTheFileUntilThereIsAnother(t *testing.T) {
	path := filepath.Join(t.TempDir(), "web.pcapng")
	if err := os.WriteFile(path, []byte("earlier"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := &cobra.Command{}
	cmd.SetContext(t.Context())
	if err := capturePod(cmd, capture.Options{Filter: "tcp prot 80"}, captured{File: path}, outputText); err == nil {
		t.Error("the filter is taken")
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "earlier" {
		t.Errorf("%q, %v", text, err)
	}
}
