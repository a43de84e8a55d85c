package support

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
)

// removed stands where a secret was.
const removed = "(removed)"

// secretName is part of the name of what is a secret: a key of JSON or TOML, a variable,
// a flag.
const secretName = `passw(?:or)?d|passphrase|passwd|secret|token|credential|api[_-]?key|access[_-]?key|private[_-]?key|authorization|\bauth\b|identity_?token|dockercfg|dockerconfigjson`

var (
	secretKey  = regexp.MustCompile(`(?i)` + secretName)
	secretWord = regexp.MustCompile(`(?i)^[\w.-]*(?:` + secretName + `)[\w.-]*$`)
	// What kubectl and others keep of a whole object, with its environment.
	annotationKeys = regexp.MustCompile(`(?i)^annotations$|last-applied-configuration`)

	// A private key has many lines, and its beginning may have been cut off.
	wholeKey = regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)`)
	endOfKey = regexp.MustCompile(`(?:[A-Za-z0-9+/=]{2,}\s+)+-----END [A-Z ]*PRIVATE KEY-----`)

	// A line with a secret has one of these, in lower case: to look for them is much faster
	// than to try the patterns.
	hints = []string{
		"pass", "secret", "token", "credential", "key", "auth", "://", "bearer", "basic", "negotiate",
		"dockerc", "eyj", "akia", "asia", "gh", "/exec/", "/attach/", "/portforward/",
	}

	patterns = []struct {
		secret *regexp.Regexp
		by     string
	}{
		// The user's part of an address, which ends at its last @.
		{regexp.MustCompile(`(://)[^\s/"'\\?#]+@`), "${1}" + removed + "@"},
		{regexp.MustCompile(`(?i)\b(bearer|basic|negotiate)\s+[A-Za-z0-9+/._~=-]{6,}`), "${1} " + removed},
		{regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*`), removed}, // a JWT
		{regexp.MustCompile(`\b(?:AKIA|ASIA)[A-Z0-9]{16}\b`), removed},
		{regexp.MustCompile(`\bgh[pousr]_[A-Za-z0-9]{20,}`), removed},
		// The token in the address of an exec, attach or port-forward.
		{regexp.MustCompile(`(/(?:exec|attach|portforward)/)[A-Za-z0-9_-]+`), "${1}" + removed},
		// name=value, name: value, "name": "value", with the quotes escaped or not, --name value. A line
		// may have been cut off before the closing quote.
		{regexp.MustCompile(`(?i)((?:` + secretName + `)[\w.-]*\\*["']?\s*[:=]\s*)(\\"(?:[^"\\\n]|\\\\\\"|\\[^"\n])*(?:\\")?|"(?:[^"\\\n]|\\.)*"?|\\+"(?:[^"\\\n]|\\[^"\n])*(?:\\+")?|'[^'\n]*'?|[^\s"'\\]+)`), "${1}" + removed},
		{regexp.MustCompile(`(?i)(--?[\w-]*(?:` + secretName + `)[\w-]*\s+)[^\s-]\S*`), "${1}" + removed},
	}
)

// Redact returns text without secrets. JSON stays JSON, of which the values of secret keys
// and of annotations go whole; other text is searched for what looks like a secret.
func Redact(text []byte) []byte {
	if value, ok := parseJSON(text); ok {
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		if err := enc.Encode(redactValue("", value)); err == nil {
			return b.Bytes()
		}
	}
	return []byte(redactText(string(text)))
}

// parseJSON takes one whole object or list; numbers are kept as they are written.
func parseJSON(text []byte) (any, bool) {
	trimmed := bytes.TrimSpace(text)
	if len(trimmed) == 0 || trimmed[0] != '{' && trimmed[0] != '[' {
		return nil, false
	}
	decoder := json.NewDecoder(bytes.NewReader(trimmed))
	decoder.UseNumber()
	var value any
	if decoder.Decode(&value) != nil || decoder.More() {
		return nil, false
	}
	return value, true
}

func redactValue(key string, value any) any {
	if secretKey.MatchString(key) && value != nil && value != "" {
		if _, flag := value.(bool); !flag {
			return removed
		}
	}
	switch v := value.(type) {
	case map[string]any:
		for k, each := range v {
			v[k] = redactValue(k, each)
			name, named := v["name"].(string)
			if k == "value" && named && secretKey.MatchString(name) {
				v[k] = removed
			}
			if annotationKeys.MatchString(key) || annotationKeys.MatchString(k) && !isObject(each) {
				v[k] = removed
			}
		}
		return v
	case []any:
		for i, each := range v {
			// A pair of name and value, or a flag and what it is set to.
			if name, ok := before(v, i).(string); ok && secretWord.MatchString(name) {
				v[i] = removed
				continue
			}
			v[i] = redactValue("", each)
		}
		return v
	case string:
		return redactString(v)
	}
	return value
}

func before(list []any, i int) any {
	if i == 0 {
		return nil
	}
	return list[i-1]
}

// redactString looks into JSON, such as a CNI config in a record; libcni has it as base64.
func redactString(text string) any {
	if inner, ok := parseJSON([]byte(text)); ok {
		if redacted, err := json.Marshal(redactValue("", inner)); err == nil {
			return string(redacted)
		}
	}
	if raw, err := base64.StdEncoding.DecodeString(text); err == nil {
		if inner, ok := parseJSON(raw); ok {
			return redactValue("", inner)
		}
	}
	return redactText(text)
}

func isObject(value any) bool {
	_, ok := value.(map[string]any)
	return ok
}

func redactText(text string) string {
	if strings.Contains(text, "PRIVATE KEY-----") {
		text = endOfKey.ReplaceAllString(wholeKey.ReplaceAllString(text, removed), removed)
	}
	var b strings.Builder
	values := values{named: -1}
	for line := range strings.Lines(text) {
		lower := strings.ToLower(line)
		suspect := slices.ContainsFunc(hints, func(hint string) bool { return strings.Contains(lower, hint) })
		line = values.line(line, suspect)
		if suspect {
			for _, p := range patterns {
				line = p.secret.ReplaceAllString(line, p.by)
			}
		}
		b.WriteString(line)
	}
	return strings.ToValidUTF8(b.String(), "?")
}
