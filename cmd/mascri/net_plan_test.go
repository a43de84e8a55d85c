package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mascri/mascri/internal/network"
)

func TestPlanOfTheExample(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", filepath.Join(dir, "tmp"))
	for _, sub := range []string{"tmp", "bin"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, plugin := range []string{"bridge", "host-local"} {
		if err := os.WriteFile(filepath.Join(dir, "bin", plugin), []byte("#!/bin/false"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	examples, err := filepath.Abs("../../examples")
	if err != nil {
		t.Fatal(err)
	}
	plan := func(file string, more ...string) (stdout, stderr string) {
		t.Helper()
		args := append([]string{"net", "plan", file, "--engine-host", "unix://" + dir + "/docker.sock", "--state-dir", dir + "/state",
			"--cni-conf-dir", examples, "--cni-bin-dir", dir + "/bin"}, more...)
		var out, err bytes.Buffer
		code := run(t.Context(), args, &out, &err)
		if (code == exitOK) != (err.Len() == 0) {
			t.Errorf("exit code %d: %s", code, err.String())
		}
		return out.String(), err.String()
	}

	// The examples are sandbox configs beside the CNI config, which are passed over.
	stdout, _ := plan("../../examples/sandbox.json", "-o", "json")
	wantSchema(t, "net plan", stdout)
	var got network.Plan
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Calls) != 1 || got.Calls[0].Path != dir+"/bin/bridge" || !slices.Contains(got.Calls[0].Env, "CNI_CONTAINERID="+plannedID) {
		t.Errorf("plan %s", stdout)
	}
	stdout, _ = plan("../../examples/sandbox.json")
	if !strings.Contains(stdout, "K8S_POD_NAME=web") || !strings.Contains(stdout, `"subnet": "10.88.0.0/16"`) {
		t.Errorf("plan %s", stdout)
	}

	for text, want := range map[string]string{
		`{"metadata": {"name": "a"}, "hostnme": "b"}`: "hostnme",
		`{}`: "metadata.name is missing",
		`{"metadata": {"name": "a"}, "linux": {"security_context": {"namespace_options": {"network": 2}}}}`:       "host network",
		`{"metadata": {"name": "a", "namespace": "b"}, "port_mappings": [{"host_port": 1, "container_port": 2}]}`: "portMappings",
	} {
		file := filepath.Join(dir, "sandbox.json")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, stderr := plan(file); !strings.Contains(stderr, want) {
			t.Errorf("%s: error %q", text, stderr)
		}
	}
	if entries, err := os.ReadDir(filepath.Join(dir, "tmp")); err != nil || len(entries) > 0 {
		t.Errorf("left %v, error %v", entries, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "state")); err == nil {
		t.Error("a state directory was made")
	}
}
