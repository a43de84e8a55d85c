package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestEveryCommandHasAManualPage(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "0")
	dir := filepath.Join(t.TempDir(), "man")
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"man", dir}, &stdout, &stderr); code != exitOK {
		t.Fatalf("exit code %d: %s", code, stderr.String())
	}
	var look func(cmd *cobra.Command)
	look = func(cmd *cobra.Command) {
		text, err := os.ReadFile(filepath.Join(dir, strings.ReplaceAll(cmd.CommandPath(), " ", "-")+".8"))
		if err != nil {
			t.Error(err)
		}
		if page := strings.ReplaceAll(string(text), `\-`, "-"); !strings.Contains(page, cmd.Short) || !strings.Contains(page, ".TH ") {
			t.Errorf("the page of %q does not say %q:\n%s", cmd.CommandPath(), cmd.Short, page)
		}
		for _, sub := range cmd.Commands() {
			if !sub.Hidden {
				look(sub)
			}
		}
	}
	look(newRoot())
}

func TestCompletionsOfEveryShell(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), []string{"completion", shell}, &stdout, &stderr); code != exitOK || stdout.Len() == 0 {
			t.Errorf("%s: exit code %d: %s", shell, code, stderr.String())
		}
	}
	for typed, want := range map[string]string{
		"to":           "top\tShow what pods use, live\n",
		"top --sort c": "cpu\n",
		"ps -o j":      "json\n",
		"net graph -o": "mermaid\n",
	} {
		args := append([]string{"__complete"}, strings.Split(typed, " ")...)
		if strings.HasSuffix(typed, "-o") {
			args = append(args, "")
		}
		var stdout, stderr bytes.Buffer
		if run(t.Context(), args, &stdout, &stderr); !strings.Contains(stdout.String(), want) {
			t.Errorf("%q is completed to %q, want %q", typed, stdout.String(), want)
		}
	}
}
