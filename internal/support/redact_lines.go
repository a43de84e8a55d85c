package support

import (
	"regexp"
	"strings"
)

var (
	// A key of YAML: what is before it, the key, the value as far as it is in this line.
	yamlKey = regexp.MustCompile(`(?i)^([\s-]*)(["']?[\w.-]*(?:` + secretName + `)[\w.-]*["']?\s*:)(?:\s+(.*))?$`)
	// A secret's name in a list of names and values, as Kubernetes has the environment.
	yamlName  = regexp.MustCompile(`(?i)^([\s-]*)["']?name["']?\s*:\s*["']?[\w.-]*(?:` + secretName + `)[\w.-]*["']?\s*$`)
	yamlValue = regexp.MustCompile(`(?i)^([\s-]*)(["']?value["']?\s*:)(?:\s+(.*))?$`)
	// A text of several lines in TOML.
	tomlText = regexp.MustCompile(`(?i)^(\s*["']?[\w.-]*(?:` + secretName + `)[\w.-]*["']?\s*=\s*)("""|''')(.*)$`)
)

// values removes from lines the values of secret keys that may go on in the next lines: in
// YAML those that are indented further, in TOML up to the closing quotes.
type values struct {
	in     bool
	indent int    // of the key
	empty  bool   // none of the value was seen yet
	list   bool   // it may be a list at the key's own indentation
	until  string // quotes that end it; "": its indentation does
	named  int    // length of what is before a name whose value comes next; -1: none
}

// line returns what is left of a line; "" where all of it was part of a value. A line that is
// not suspect names no secret.
func (v *values) line(line string, suspect bool) string {
	text := strings.TrimRight(line, "\r\n")
	if v.in && v.goesOn(text) {
		return v.drop()
	}
	v.in = false
	if !suspect && v.named < 0 {
		return line
	}
	if m := tomlText.FindStringSubmatch(text); m != nil {
		*v = values{in: !strings.Contains(m[3], m[2]), until: m[2], named: -1}
		return m[1] + removed + "\n"
	}
	m := yamlKey.FindStringSubmatch(text)
	if m == nil && v.named >= 0 {
		if m = yamlValue.FindStringSubmatch(text); m != nil && len(m[1]) != v.named {
			m = nil
		}
	}
	v.named = -1
	if name := yamlName.FindStringSubmatch(text); name != nil {
		v.named = len(name[1])
	}
	if m == nil {
		return line
	}
	*v = values{in: true, indent: len(m[1]), empty: m[3] == "", list: m[3] == "", named: -1}
	if v.empty {
		return line
	}
	return m[1] + m[2] + " " + removed + "\n"
}

// goesOn tells whether a line is part of the value.
func (v *values) goesOn(text string) bool {
	rest := strings.TrimLeft(text, " \t")
	indent := len(text) - len(rest)
	switch {
	case v.until != "":
		v.in = !strings.Contains(text, v.until)
		return true
	case rest == "":
		return !v.empty
	case v.list && strings.HasPrefix(rest, "-"):
		return indent >= v.indent
	}
	return indent > v.indent
}

// drop stands for a line that is part of a value, of which it is told once that there was one.
func (v *values) drop() string {
	if !v.empty {
		return ""
	}
	v.empty = false
	return strings.Repeat(" ", v.indent+2) + removed + "\n"
}
