package network

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"
)

// script makes an executable shell script.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "plugin")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestExecPlugin(t *testing.T) {
	for name, tc := range map[string]struct {
		text, verb string
		output     string
		err        string
	}{
		"stdin and environment": {`cat; printf '"%s"}' $CNI_COMMAND`, "CHECK", `{"in": "CHECK"}`, ""},
		"result":                {`echo '{}'`, "ADD", "{}\n", ""},
		"stderr is no failure":  {`echo '{}'; echo careful >&2`, "ADD", "{}\n", ""},
		"garbage":               {`echo hello; echo why >&2`, "ADD", "", `plugin "plugin" ADD: exit status 0, printed "hello\n" instead of a result: invalid character 'h' looking for beginning of value, stderr: "why"`},
		"garbage at DEL":        {`echo hello`, "DEL", "hello\n", ""},
		"a signal":              {`kill -9 $$`, "ADD", "", `plugin "plugin" ADD: signal: killed`},
		"CNI error":             {`echo '{"code":7,"msg":"bad","details":"more"}'; exit 1`, "ADD", "", `plugin "plugin" ADD: exit status 1, CNI code 7: bad; more`},
		"CNI error, exit 0":     {`echo '{"code":7,"msg":"bad"}'`, "ADD", "{\"code\":7,\"msg\":\"bad\"}\n", ""}, // podAddresses refuses it
		"gone at DEL":           {`echo '{"code":3,"msg":"unknown"}'; exit 1`, "DEL", "", ""},
		"the end of stderr":     {`i=0; while [ $i -lt 500 ]; do echo line $i >&2; i=$((i+1)); done; exit 1`, "ADD", "", `line 499"`},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := new(pluginExec).ExecPlugin(t.Context(), script(t, tc.text), []byte(`{"in": `), []string{"CNI_COMMAND=" + tc.verb, "PATH=" + os.Getenv("PATH")})
			if string(out) != tc.output {
				t.Errorf("output is %q, want %q", out, tc.output)
			}
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.HasSuffix(err.Error(), tc.err)) {
				t.Errorf("error is %v, want %s", err, tc.err)
			}
		})
	}
}

func TestExecPluginTellsTheCNICode(t *testing.T) {
	_, err := new(pluginExec).ExecPlugin(t.Context(), script(t, `echo '{"code":7,"msg":"bad"}'; exit 1`), nil, nil)
	var cni *types.Error
	if !errors.As(err, &cni) || cni.Code != 7 {
		t.Errorf("error is %v", err)
	}
}

func TestExecPluginThatDoesNotStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "plugin")
	if err := os.WriteFile(path, []byte("no program"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := new(pluginExec).ExecPlugin(t.Context(), path, nil, nil); err == nil || !strings.Contains(err.Error(), "exec format error") {
		t.Errorf("error is %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := new(pluginExec).ExecPlugin(ctx, path, nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
}

// A plugin that is being replaced is open for writing for a moment.
func TestExecPluginWaitsForABusyFile(t *testing.T) {
	path := script(t, "echo '{}'")
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer time.AfterFunc(250*time.Millisecond, func() { file.Close() }).Stop()
	if _, err := new(pluginExec).ExecPlugin(t.Context(), path, nil, []string{"CNI_COMMAND=ADD", "PATH=" + os.Getenv("PATH")}); err != nil {
		t.Error(err)
	}
}

func TestRunsOfPluginsAreToldWithTheKindOfTheirFailure(t *testing.T) {
	for _, tc := range []struct{ text, verb, failure string }{
		{`echo '{}'`, "ADD", ""},
		{`echo '{"code":3,"msg":"unknown"}'; exit 1`, "DEL", ""},
		{`echo '{"code":7,"msg":"bad"}'; exit 1`, "ADD", "cni"},
		{`kill -9 $$`, "STATUS", "crash"},
		{`echo hello`, "ADD", "crash"},
		{"", "ADD", "start"},
		{`sleep 60`, "ADD", "deadline"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		if tc.failure == "deadline" {
			ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
		}
		path := script(t, tc.text)
		if tc.text == "" {
			path += "-that-is-missing"
		}
		var told []string
		e := pluginExec{ran: func(plugin, verb string, took time.Duration, failure string) {
			if took <= 0 {
				t.Errorf("%s took %v", plugin, took)
			}
			told = append(told, strings.TrimSuffix(plugin, "-that-is-missing"), verb, failure)
		}}
		_, _ = e.ExecPlugin(ctx, path, nil, []string{"CNI_COMMAND=" + tc.verb})
		cancel()
		if diff := cmp.Diff([]string{"plugin", tc.verb, tc.failure}, told); diff != "" {
			t.Errorf("%s of %q (-want +got):\n%s", tc.verb, tc.text, diff)
		}
	}
}
