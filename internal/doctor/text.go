package doctor

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Columns of the text form.
const (
	width  = 80
	indent = 23 // of messages, after level and check
)

// WriteText writes the report for people, 80 columns wide, in colour if asked.
func (r Report) WriteText(w io.Writer, colour bool) error {
	var b strings.Builder
	count := map[Level]int{}
	for _, result := range r.Results {
		count[result.Level]++
		level := fmt.Sprintf("%-4s", result.Level)
		if colour {
			level = paint(result.Level, level)
		}
		fmt.Fprintf(&b, "%s  %-15s  %s\n", level, result.Check, wrap(result.Message))
		if result.Fix != "" {
			fmt.Fprintf(&b, "%*s%s\n", indent, "", wrap("fix: "+result.Fix))
		}
	}
	fmt.Fprintf(&b, "\n%d ok, %d to be aware of, %d to mend\n", count[OK], count[Warn], count[Fail])
	_, err := io.WriteString(w, b.String())
	return err
}

func paint(level Level, text string) string {
	codes := map[Level]string{OK: "32", Warn: "33", Fail: "31;1"}
	return "\x1b[" + codes[level] + "m" + text + "\x1b[0m"
}

// wrap breaks text between words so that it fits right of the indent. A word that is
// too long, such as a path, stays whole.
func wrap(text string) string {
	var b strings.Builder
	column := 0
	for i, word := range strings.Fields(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case column+1+n > width-indent:
			fmt.Fprintf(&b, "\n%*s", indent, "")
			column = 0
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += n
	}
	return b.String()
}
