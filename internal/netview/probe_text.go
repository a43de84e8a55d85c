package netview

import (
	"fmt"
	"io"
	"strings"
)

// probeIndent is that of messages, after verdict and step.
const probeIndent = 15

// WriteText writes the outcome for people.
func (p Probing) WriteText(w io.Writer, colour bool) error {
	var b strings.Builder
	for _, s := range p.Steps {
		verdict := fmt.Sprintf("%-4s", s.Verdict)
		if colour {
			verdict = map[Verdict]string{Passed: green, Failed: red}[s.Verdict] + verdict + plain
		}
		fmt.Fprintf(&b, "%s  %-7s  %s\n", verdict, s.Step, wrap(s.Message, probeIndent, probeIndent))
		if s.Hop != "" {
			fmt.Fprintf(&b, "%*s%s\n", probeIndent, "", wrap("fails at: "+s.Hop, probeIndent, probeIndent))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
