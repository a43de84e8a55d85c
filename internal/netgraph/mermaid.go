package netgraph

import (
	"fmt"
	"io"
	"strings"

	"github.com/mascri/mascri/internal/netview"
)

// WriteMermaid writes a flowchart for Mermaid, which GitHub and many editors show.
func WriteMermaid(w io.Writer, node netview.Node) error {
	g := plan(node)
	var b strings.Builder
	b.WriteString("flowchart LR\n")
	for i, up := range g.uplinks {
		up.mermaid(&b, fmt.Sprintf("up%d", i), "([", "])")
	}
	pods := 0
	for i, h := range g.hubs {
		id := fmt.Sprintf("hub%d", i)
		h.mermaid(&b, id, "[", "]")
		for u := range g.uplinks {
			fmt.Fprintf(&b, "  up%d --- %s\n", u, id)
		}
		for _, wire := range h.wires {
			pod := fmt.Sprintf("pod%d", pods)
			pods++
			wire.pod.mermaid(&b, pod, "(", ")")
			fmt.Fprintf(&b, "  %s -- %s --- %s\n", id, quote(wire.label, wire.traffic), pod)
		}
	}
	for _, pod := range g.lost {
		pod.mermaid(&b, fmt.Sprintf("pod%d", pods), "(", ")")
		pods++
	}
	b.WriteString("  classDef alarm stroke:#c62828,stroke-width:2px,stroke-dasharray:5 3\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func (x box) mermaid(b *strings.Builder, id, left, right string) {
	class := ""
	if x.alarm {
		class = ":::alarm"
	}
	fmt.Fprintf(b, "  %s%s%s%s%s\n", id, left, quote(append([]string{x.title}, x.lines...)...), right, class)
}

// quote makes a label of several lines, in which nothing is markup.
func quote(lines ...string) string {
	escape := strings.NewReplacer("&", "#amp;", `"`, "#quot;", "<", "#lt;", ">", "#gt;", "#", "#35;", "`", "#96;")
	var escaped []string
	for _, line := range lines {
		escaped = append(escaped, escape.Replace(line))
	}
	return `"` + strings.Join(escaped, "<br/>") + `"`
}
