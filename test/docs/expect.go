package main

import (
	"fmt"
	"regexp"
	"strings"
)

// What differs from run to run is compared by its kind: ids, MAC addresses, durations, numbers.
var kinds = []struct {
	pattern *regexp.Regexp
	name    string
}{
	{regexp.MustCompile(`\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b`), "MAC"},
	{regexp.MustCompile(`\bsha256:[0-9a-f]+\b|\b(?:veth)?[0-9a-f]{8,64}\b`), "ID"},
	{regexp.MustCompile(`\b\d+(?:\.\d+)?(?:ns|µs|ms|s|m|h|d)\b`), "TIME"},
	{regexp.MustCompile(`\b\d+(?:\.\d+)?\b`), "N"},
	{regexp.MustCompile(`\s+`), " "},
}

// differ tells which line of the output that a document shows is not what came. "..." stands for
// anything in a line, and alone for any number of lines. IP addresses are numbers like others.
func differ(shown, got string) error {
	lines := split(got)
	anywhere := false
	for _, want := range split(shown) {
		if strings.TrimSpace(want) == "..." {
			anywhere = true
			continue
		}
		found := -1
		for i, line := range lines {
			if match(want, line) {
				found = i
				break
			}
			if !anywhere {
				break
			}
		}
		if found < 0 {
			return fmt.Errorf("the line %q is not there", want)
		}
		lines, anywhere = lines[found+1:], false
	}
	if len(lines) > 0 && !anywhere {
		return fmt.Errorf("the line %q is not shown", lines[0])
	}
	return nil
}

func split(text string) []string {
	text = strings.TrimSpace(text)
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

func match(want, line string) bool {
	parts := strings.Split(kind(want), "...")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	return regexp.MustCompile("^" + strings.Join(parts, ".*") + "$").MatchString(kind(line))
}

func kind(line string) string {
	for _, k := range kinds {
		line = k.pattern.ReplaceAllString(line, k.name)
	}
	return strings.TrimSpace(line)
}
