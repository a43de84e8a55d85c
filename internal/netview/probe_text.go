package netview

import (
	"fmt"
	"io"
	"strings"

	"github.com/mascri/mascri/internal/table"
)

// probeIndent is that of messages, after verdict and step.
const probeIndent = 15

// WriteText writes the outcome for people.
func (p Probing) WriteText(w io.Writer, colour bool) error {
	var b strings.Builder
	for _, s := range p.Steps {
		verdict := fmt.Sprintf("%-4s", s.Verdict)
		if colour {
			verdict = map[Verdict]string{Passed: table.Green, Failed: table.Red}[s.Verdict] + verdict + table.Plain
		}
		fmt.Fprintf(&b, "%s  %-7s  %s\n", verdict, s.Step, wrap(s.Message, probeIndent, probeIndent))
		if s.Hop != "" {
			fmt.Fprintf(&b, "%*s%s\n", probeIndent, "", wrap("fails at: "+s.Hop, probeIndent, probeIndent))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
