package netview

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/mascri/mascri/internal/network"
	"github.com/mascri/mascri/internal/table"
)

// indent is that of what is below a head.
const indent = 2

// WriteText writes the detail for people.
func (d Detail) WriteText(w io.Writer, colour bool) error {
	s := sheet{colour: colour}
	s.fact("pod", d.Pod)
	s.fact("sandbox", d.ID)
	s.fact("network", fmt.Sprintf("%s, from %s", d.Network, Network{File: d.ConfigFile}.origin()))
	s.fact("phase", fmt.Sprintf("%s, since %s", d.Phase, d.CreatedAt.Local().Format(time.DateTime)))
	s.fact("netns", fmt.Sprintf("%s, inode %d", d.NetnsPath, d.NetnsInode))
	if d.Problem != "" {
		s.line(alarm(d.Problem, colour))
	}
	s.interfaces(d.Interfaces)
	s.routes(d.Routes)
	if d.ResolvConf != "" {
		s.head("DNS, from " + d.ResolvConf)
		for _, line := range d.Resolv {
			s.line("  " + wrap(line, indent, 2*indent))
		}
	}
	if len(d.Ports) > 0 {
		s.head("HOST PORTS")
		for _, p := range d.Ports {
			s.line("  " + PortText(p))
		}
	}
	s.runs(d)
	if d.Result != nil {
		s.head("RESULT")
		var pretty bytes.Buffer
		if json.Indent(&pretty, d.Result, "  ", "  ") == nil {
			s.line("  " + pretty.String())
		}
	}
	_, err := io.WriteString(w, s.b.String())
	return err
}

// PortText is a host port for people.
func PortText(p network.Port) string {
	ip := p.HostIP
	switch {
	case ip == "":
		ip = "*"
	case strings.Contains(ip, ":"):
		ip = "[" + ip + "]"
	}
	return fmt.Sprintf("%s:%d -> %d/%s", ip, p.HostPort, p.ContainerPort, p.Protocol)
}

// sheet is facts under heads.
type sheet struct {
	b      strings.Builder
	colour bool
}

func (s *sheet) line(text string) {
	for line := range strings.Lines(text + "\n") {
		s.b.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
}

// facts are indented alike.
const factIndent = 9

func (s *sheet) fact(name, text string) {
	s.line(fmt.Sprintf("%-*s%s", factIndent, name, wrap(text, factIndent, factIndent)))
}

func (s *sheet) head(text string) {
	if s.colour {
		text = table.Bold + text + table.Plain
	}
	s.b.WriteString("\n" + text + "\n")
}

func (s *sheet) interfaces(list []Interface) {
	if len(list) == 0 {
		return
	}
	s.head("INTERFACES")
	for _, i := range list {
		words := []string{i.Name + ":", i.Kind, fmt.Sprintf("mtu %d", i.MTU)}
		if i.MAC != "" {
			words = append(words, i.MAC)
		}
		if !i.Up {
			words = append(words, "DOWN")
		}
		if i.Host.Link != "" {
			words = append(words, "<-> "+i.Host.text())
		}
		s.line("  " + wrap(strings.Join(words, " "), indent, 2*indent))
		for _, a := range i.Addresses {
			s.line("    " + a.String())
		}
		s.line(fmt.Sprintf("    received %s", i.Received.text()))
		s.line(fmt.Sprintf("    sent     %s", i.Sent.text()))
	}
}

func (h HostSide) text() string {
	if h.Bridge == "" {
		return h.Link + " of the node"
	}
	return fmt.Sprintf("%s on %s", h.Link, h.Bridge)
}

func (t Traffic) text() string {
	text := fmt.Sprintf("%d packets, %s", t.Packets, table.Bytes(t.Bytes))
	if t.Errors > 0 || t.Dropped > 0 {
		text += fmt.Sprintf(", %d errors, %d dropped", t.Errors, t.Dropped)
	}
	return text
}

func (s *sheet) routes(routes []Route) {
	if len(routes) == 0 {
		return
	}
	s.head("ROUTES")
	for _, r := range routes {
		text := r.Destination.String()
		if r.Destination.Bits() == 0 {
			text = "default"
			if r.Destination.Addr().Is6() {
				text = "default (IPv6)"
			}
		}
		if r.Gateway.IsValid() {
			text += " via " + r.Gateway.String()
		}
		if r.Link != "" {
			text += " dev " + r.Link
		}
		if r.Source.IsValid() {
			text += " src " + r.Source.String()
		}
		s.line("  " + text)
	}
}

// runs tells how long each plugin took. Records of an earlier build do not.
func (s *sheet) runs(d Detail) {
	s.head("PLUGINS")
	if len(d.Runs) == 0 {
		s.line("  " + strings.Join(d.Plugins, ", "))
		return
	}
	total := 0.0
	for _, run := range d.Runs {
		s.line(fmt.Sprintf("  %-12s %8.1f ms", run.Plugin, run.Milliseconds))
		total += run.Milliseconds
	}
	s.line(fmt.Sprintf("  %-12s %8.1f ms", "ADD", total))
}
