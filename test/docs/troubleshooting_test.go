package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	firstCell  = regexp.MustCompile(`(?m)^\| ([^|]+) \|`)
	quoted     = regexp.MustCompile("`([^`]+)`")
	doctorLine = regexp.MustCompile(`(?:const check = |Result\{)"([^"]+)"`)
)

// source is the text of the program, without its tests, as it prints it.
func source(t *testing.T, dirs ...string) string {
	t.Helper()
	var b strings.Builder
	for _, dir := range dirs {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			b.Write(text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return strings.ReplaceAll(b.String(), `\"`, `"`)
}

func TestTroubleshootingHasTheMessagesThatThereAre(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "docs/troubleshooting.md"))
	if err != nil {
		t.Fatal(err)
	}
	symptoms, lines, ok := strings.Cut(string(page), "## What mascri doctor looks at")
	if !ok {
		t.Fatal("the page does not say what mascri doctor looks at")
	}
	program := source(t, "internal", "cmd")
	messages := 0
	for _, cell := range firstCell.FindAllStringSubmatch(symptoms, -1) {
		for _, message := range quoted.FindAllStringSubmatch(cell[1], -1) {
			messages++
			for part := range strings.SplitSeq(message[1], "…") {
				if !strings.Contains(program, strings.TrimSpace(part)) && !strings.HasPrefix(message[1], "kubectl ") && !strings.HasPrefix(message[1], "mascri ") {
					t.Errorf("the program never says %q of %q", part, message[1])
				}
			}
		}
	}
	if messages < 30 {
		t.Errorf("only %d messages were found: is the page read as it is meant?", messages)
	}
	for _, check := range doctorLine.FindAllStringSubmatch(source(t, "internal/doctor"), -1) {
		if !strings.Contains(lines, "| `"+check[1]+"` |") {
			t.Errorf("mascri doctor has a line %q, which the page does not tell of", check[1])
		}
	}
}
