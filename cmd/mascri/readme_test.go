package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

func TestReadmeShowsTheOptionsThatThereAre(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"config", "default"}, &stdout, &stderr); code != exitOK {
		t.Fatalf("exit code %d: %s", code, stderr.String())
	}
	if !strings.Contains(string(readme), "```toml\n"+stdout.String()+"```\n") {
		t.Error("README.md does not show what \"mascri config default\" prints")
	}
}
