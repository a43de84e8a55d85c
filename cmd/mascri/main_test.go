package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestCommandLines(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(file, []byte("log_level = 'warn'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		args   string
		code   int
		stdout string // contained
		stderr string // the whole of it
	}{
		{"no command prints the help", "", exitOK, "Available Commands:", ""},
		{"a group alone prints its help", "config", exitOK, "mascri config [command]", ""},
		{"unknown command", "vrsion", exitUsage, "", "mascri: unknown command \"vrsion\" for \"mascri\": did you mean version?\n"},
		{"unknown command like no other", "xyzzy", exitUsage, "", "mascri: unknown command \"xyzzy\" for \"mascri\": see \"mascri --help\"\n"},
		{"unknown command of a group", "config shw", exitUsage, "", "mascri: unknown command \"shw\" for \"mascri config\": did you mean show?\n"},
		{"unknown flag", "version --loud", exitUsage, "", "mascri: unknown flag: --loud\nmascri: see \"mascri version --help\"\n"},
		{"argument too many", "config show all", exitUsage, "", "mascri: \"mascri config show\" takes no argument, got \"all\"\n"},
		{
			"unknown output format", "version --output yaml", exitUsage, "",
			"mascri: invalid argument \"yaml\" for \"-o, --output\" flag: must be text or json\nmascri: see \"mascri version --help\"\n",
		},
		{"a misspelt view", "net statsu", exitUsage, "", "mascri: unknown command \"statsu\" for \"mascri net\": did you mean status?\n"},
		{"no pod named", "net inspect", exitUsage, "", "mascri: \"mascri net inspect\" takes one POD: an id, the beginning of one, or namespace/name\n"},
		{"no such pod", "net inspect default/none --state-dir " + t.TempDir(), exitFailure, "", "mascri: no pod \"default/none\" is on a network; see mascri net ls: not found\n"},
		{"shell completion", "completion bash", exitOK, "bash completion", ""},
		{"version", "version", exitOK, "platform  " + runtime.GOOS + "/" + runtime.GOARCH + "\n", ""},
		{"default settings", "config default", exitOK, "\nsocket = '/run/mascri/mascri.sock'\n", ""},
		{"settings in force", "config show --config " + file, exitOK, "# " + file + ":1:1\nlog_level = 'warn'\n", ""},
		{"a flag over the file", "config show --log-level error --config " + file, exitOK, "# --log-level\nlog_level = 'error'\n", ""},
		{"valid settings", "config check --config " + file, exitOK, "ok\n", ""},
		{
			"wrong settings, each on a line", "config check --socket a --log-level b --config " + file, exitFailure, "",
			"mascri: --socket: socket: \"a\" is not an absolute path: begin it with /\n" +
				"mascri: --log-level: log_level: \"b\" is no log level: write debug, info, warn or error\n",
		},
		{"missing file that was named", "config check --config /nowhere/x.toml", exitFailure, "", "mascri: config file: stat /nowhere/x.toml: no such file or directory\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			code := run(t.Context(), strings.Fields(tt.args), &stdout, &stderr)
			if code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			if !strings.Contains(stdout.String(), tt.stdout) || (tt.stdout == "" && stdout.Len() > 0) {
				t.Errorf("stdout:\n%s\nwant it to contain:\n%s", stdout.String(), tt.stdout)
			}
			if stderr.String() != tt.stderr {
				t.Errorf("stderr:\n%s\nwant:\n%s", stderr.String(), tt.stderr)
			}
		})
	}
}

func TestVersionAsJSON(t *testing.T) {
	for _, args := range [][]string{{"version", "-o", "json"}, {"version", "--json"}} {
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), args, &stdout, &stderr); code != exitOK {
			t.Fatalf("%q: exit code %d: %s", args, code, stderr.String())
		}
		var got map[string]string
		if err := json.Unmarshal(stdout.Bytes(), &got); err != nil {
			t.Fatalf("%q: %v", args, err)
		}
		for _, key := range []string{"version", "commit", "go", "criVersion", "platform"} {
			if got[key] == "" {
				t.Errorf("%s is missing in %s", key, stdout.String())
			}
		}
	}
}
