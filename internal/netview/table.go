package netview

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// width is that of a terminal that nobody made larger.
const width = 80

// gap is between two columns.
const gap = 2

// Escape sequences.
const (
	bold  = "\x1b[1m"
	red   = "\x1b[31;1m"
	green = "\x1b[32m"
	plain = "\x1b[0m"
)

// table is rows of text, as wide as a terminal at most.
type table struct {
	heads []string
	right map[int]bool // columns that are flush right
	tight int          // the column that is shortened where the table would be too wide
	none  string       // instead of a table without rows
	rows  [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// write writes the table, its heads in bold if asked.
func (t *table) write(w io.Writer, colour bool) error {
	if len(t.rows) == 0 {
		_, err := fmt.Fprintln(w, t.none)
		return err
	}
	widths := t.widths()
	for i, row := range append([][]string{t.heads}, t.rows...) {
		line := t.line(row, widths)
		if i == 0 && colour {
			line = bold + line + plain
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}

func (t *table) line(row []string, widths []int) string {
	var b strings.Builder
	for i, cell := range row {
		if i == t.tight {
			cell = Shorten(cell, widths[i])
		}
		pad := strings.Repeat(" ", max(0, widths[i]-utf8.RuneCountInString(cell)))
		if t.right[i] {
			cell = pad + cell
		} else {
			cell += pad
		}
		if i > 0 {
			b.WriteString(strings.Repeat(" ", gap))
		}
		b.WriteString(cell)
	}
	return strings.TrimRight(b.String(), " ")
}

func (t *table) widths() []int {
	widths := make([]int, len(t.heads))
	for n, row := range append([][]string{t.heads}, t.rows...) {
		for i, cell := range row {
			if n > 0 && i > 0 && blank(row[:i]) && blank(row[i+1:]) {
				continue // it goes on where the columns right of it are
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	total := gap * (len(widths) - 1)
	for _, w := range widths {
		total += w
	}
	if over := total - width; over > 0 {
		widths[t.tight] = max(widths[t.tight]-over, min(widths[t.tight], 8))
	}
	return widths
}

func blank(cells []string) bool { return strings.Join(cells, "") == "" }

// Shorten cuts from the middle, as both ends of a pod's name tell much.
func Shorten(text string, width int) string {
	runes := []rune(text)
	if len(runes) <= width {
		return text
	}
	tail := (width - 1) / 2
	return string(runes[:width-1-tail]) + "…" + string(runes[len(runes)-tail:])
}

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
		problem = red + problem + plain
	}
	return problem
}
