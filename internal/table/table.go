// Package table writes rows of text for people, as wide as a terminal at most.
package table

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Width is that of a terminal that nobody made larger.
const Width = 80

// gap is between two columns.
const gap = 2

// least is what a column is never shortened below, if it was wider. Heads stay whole, too.
const least = 8

// Escape sequences.
const (
	Bold  = "\x1b[1m"
	Red   = "\x1b[31;1m"
	Green = "\x1b[32m"
	Plain = "\x1b[0m"
)

// Table is rows of text.
type Table struct {
	Heads []string
	Right map[int]bool // columns that are flush right
	Tight []int        // the columns that are shortened where the table would be too wide
	None  string       // instead of a table without rows
	Width int          // in columns; 0: Width
	rows  [][]string
}

// Add adds a row.
func (t *Table) Add(cells ...string) { t.rows = append(t.rows, cells) }

// Write writes the table, its heads in bold if asked.
func (t *Table) Write(w io.Writer, colour bool) error {
	if len(t.rows) == 0 {
		_, err := fmt.Fprintln(w, t.None)
		return err
	}
	for i, line := range t.Lines() {
		if i == 0 && colour {
			line = Bold + line + Plain
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}

// Lines are the heads and one for each row.
func (t *Table) Lines() []string {
	widths := t.widths()
	lines := []string{t.line(t.Heads, widths)}
	for _, row := range t.rows {
		lines = append(lines, t.line(row, widths))
	}
	return lines
}

func (t *Table) line(row []string, widths []int) string {
	var b strings.Builder
	for i, cell := range row {
		if t.tight(i) {
			cell = Shorten(cell, widths[i])
		}
		pad := strings.Repeat(" ", max(0, widths[i]-utf8.RuneCountInString(cell)))
		if t.Right[i] {
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

func (t *Table) tight(column int) bool {
	for _, i := range t.Tight {
		if i == column {
			return true
		}
	}
	return false
}

func (t *Table) widths() []int {
	widths := make([]int, len(t.Heads))
	for n, row := range append([][]string{t.Heads}, t.rows...) {
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
	width := t.Width
	if width == 0 {
		width = Width
	}
	for ; total > width; total-- {
		i := t.widest(widths)
		if i < 0 {
			break
		}
		widths[i]--
	}
	return widths
}

// widest is the widest column that can be shortened; -1: none can.
func (t *Table) widest(widths []int) int {
	widest := -1
	for _, i := range t.Tight {
		if widths[i] > max(least, utf8.RuneCountInString(t.Heads[i])) && (widest < 0 || widths[i] > widths[widest]) {
			widest = i
		}
	}
	return widest
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
