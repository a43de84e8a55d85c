package netview

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/mascri/mascri/internal/network"
)

// WritePlan writes a plan for people.
func WritePlan(w io.Writer, p network.Plan, colour bool) error {
	s := sheet{colour: colour}
	s.line(wrap(fmt.Sprintf("network %s, from %s", p.Network, Network{File: p.ConfigFile}.origin()), 0, indent))
	for i, call := range p.Calls {
		s.head(fmt.Sprintf("%d. %s", i+1, call.Path))
		if call.IPAM != "" {
			s.line("  it runs " + call.IPAM + " with the same environment and stdin")
		}
		for _, entry := range call.Env {
			s.line("  " + entry)
		}
		var pretty bytes.Buffer
		if err := json.Indent(&pretty, call.Stdin, "  ", "  "); err != nil {
			return fmt.Errorf("stdin of %s: %w", call.Plugin, err)
		}
		s.line("  stdin: " + pretty.String())
	}
	_, err := io.WriteString(w, s.b.String())
	return err
}
