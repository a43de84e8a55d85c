package netview

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/mascri/mascri/internal/table"
)

const width = table.Width

// wrap breaks text between words. Its first line begins at column start, the others are
// indented. A word that is too long, such as a path, stays whole.
func wrap(text string, start, indent int) string {
	var b strings.Builder
	column := start
	for i, word := range strings.Fields(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case column+1+n > width:
			fmt.Fprintf(&b, "\n%*s", indent, "")
			column = indent
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += n
	}
	return b.String()
}

// Wrap breaks text between words into lines of width columns; longer words are cut.
func Wrap(text string, width int) []string {
	var lines []string
	for _, word := range strings.Fields(text) {
		if n := len(lines) - 1; n >= 0 && utf8.RuneCountInString(lines[n])+1+utf8.RuneCountInString(word) <= width {
			lines[n] += " " + word
			continue
		}
		runes := []rune(word)
		for len(runes) > width {
			lines = append(lines, string(runes[:width]))
			runes = runes[width:]
		}
		lines = append(lines, string(runes))
	}
	return lines
}

// alarm wraps a problem, in red if asked.
func alarm(problem string, colour bool) string {
	problem = wrap(problem, 0, 0)
	if colour {
		problem = table.Red + problem + table.Plain
	}
	return problem
}
