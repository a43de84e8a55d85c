package top

import "strings"

// key is what a key stands for.
type key int

const (
	keyQuit key = iota + 1
	keyCPU
	keyMemory
	keyNetwork
	keyName
	keyUp
	keyDown
	keyPageUp
	keyPageDown
	keyFold
	keyFoldAll
)

// keys are what terminals send. A sequence is never the beginning of another one.
var keys = []struct {
	sent string
	key  key
}{
	{"q", keyQuit}, {"\x03", keyQuit}, // ctrl-C
	{"c", keyCPU}, {"m", keyMemory}, {"n", keyNetwork}, {"a", keyName},
	{"k", keyUp}, {"\x1b[A", keyUp}, {"\x1bOA", keyUp},
	{"j", keyDown}, {"\x1b[B", keyDown}, {"\x1bOB", keyDown},
	{"\x1b[5~", keyPageUp}, {"\x1b[6~", keyPageDown},
	{"\r", keyFold}, {"\n", keyFold}, {" ", keyFold}, {"f", keyFoldAll},
}

// parseKeys returns the keys in what a terminal sent, and the beginning of a sequence
// whose rest is still to come.
func parseKeys(text string) (found []key, rest string) {
next:
	for text != "" {
		for _, k := range keys {
			if after, ok := strings.CutPrefix(text, k.sent); ok {
				found, text = append(found, k.key), after
				continue next
			}
		}
		if text[0] != '\x1b' {
			text = text[1:]
			continue
		}
		n, whole := sequence(text)
		if !whole {
			return found, text
		}
		text = text[n:]
	}
	return found, ""
}

// sequence is the length of the control sequence that text begins with (ECMA-48, 5.4),
// and whether all of it is there. An escape before anything else is a key of its own.
func sequence(text string) (n int, whole bool) {
	if len(text) == 1 {
		return 0, false
	}
	switch text[1] {
	case 'O':
		return 3, len(text) >= 3
	case '[':
		for i := 2; i < len(text); i++ {
			if text[i] >= 0x40 && text[i] <= 0x7e {
				return i + 1, true
			}
		}
		return 0, false
	}
	return 1, true
}
