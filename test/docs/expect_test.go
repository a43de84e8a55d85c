package main

import "testing"

func TestDiffer(t *testing.T) {
	for name, tt := range map[string]struct {
		shown, got string
		same       bool
	}{
		"the same":            {"a\nb\n", "a\nb\n", true},
		"ids and times":       {"a1f3027dd1c0  web  10.88.0.2  42s\n", "b2f3027dd1c9 web    10.88.0.17 3m\n", true},
		"another word":        {"web Ready\n", "web NotReady\n", false},
		"a line too many":     {"a\n", "a\nb\n", false},
		"a line too few":      {"a\nb\n", "a\n", false},
		"any lines":           {"a\n...\nd\n", "a\nb\nc\nd\n", true},
		"any lines at last":   {"a\n...\n", "a\nb\n", true},
		"not after any lines": {"a\n...\ne\n", "a\nb\nc\nd\n", false},
		"anything in a line":  {"a ... c\n", "a b b c\n", true},
		"nothing for a line":  {"a\n", "", false},
	} {
		if err := differ(tt.shown, tt.got); (err == nil) != tt.same {
			t.Errorf("%s: %v, same is %v", name, err, tt.same)
		}
	}
}
