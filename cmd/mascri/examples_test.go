package main

import (
	"bytes"
	"testing"
)

func TestExampleSettingsAreValid(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"config", "check", "--config", "../../examples/k3s/mascri.toml"}, &stdout, &stderr); code != exitOK {
		t.Errorf("exit code %d: %s", code, stderr.String())
	}
}
