package netgraph

import (
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/mascri/mascri/internal/netview"
	"github.com/mascri/mascri/internal/table"
)

// Places and sizes in the picture, in its own units.
const (
	margin     = 24
	uplinkWide = 200
	hubLeft    = 310
	hubWide    = 230
	podLeft    = 800
	podWide    = 330
	wide       = podLeft + podWide + margin
	head       = 64 // of the picture, above its columns

	padding    = 10
	titleLine  = 20
	line       = 17
	rowGap     = 16
	groupGap   = 24
	charWide   = 7.6 // of the text in boxes, on average
	titleWide  = 9.4
	emptyText  = "no pod is on a network"
	labelRight = podLeft - 14
)

// style is chosen to be read on white, printed as well.
const style = `
text { font: 13px "DejaVu Sans", Verdana, sans-serif; fill: #212121 }
.name { font-weight: bold; font-size: 14px }
.note { fill: #616161; font-size: 12px }
.head { fill: #616161; font-size: 12px; letter-spacing: .08em }
.veth { fill: #37474f; font: 12px "DejaVu Sans Mono", monospace }
.uplink rect { fill: #eceff1; stroke: #607d8b }
.hub rect { fill: #e3f2fd; stroke: #1e88e5 }
.pod rect { fill: #f1f8e9; stroke: #7cb342 }
.alarm rect { fill: #ffebee; stroke: #c62828; stroke-dasharray: 5 3 }
path { fill: none; stroke: #90a4ae }
.halo { stroke: #ffffff; stroke-width: 5px; stroke-linejoin: round; paint-order: stroke }
`

// placed is a box with its place.
type placed struct {
	box
	x, y, wide, high float64
	class            string
}

func (p placed) middle() float64 { return p.y + p.high/2 }

// WriteSVG writes a picture.
func WriteSVG(w io.Writer, node netview.Node) error {
	g := plan(node)
	var p picture
	y := p.pods(g)
	p.uplinks(g, head, y)
	high := math.Ceil(y) + margin
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %.0f" width="%d" height="%.0f" role="img">`+"\n", wide, high, wide, high)
	fmt.Fprintf(&b, "<title>The pod network of this node</title>\n<style>%s</style>\n", style)
	fmt.Fprintf(&b, `<rect width="%d" height="%.0f" fill="#ffffff"/>`+"\n", wide, high)
	for _, column := range []struct {
		x    int
		text string
	}{{margin, "UPLINK"}, {hubLeft, "BRIDGE OR PARENT"}, {podLeft, "POD"}} {
		if column.x == margin && len(g.uplinks) == 0 {
			continue
		}
		fmt.Fprintf(&b, `<text class="head" x="%d" y="38">%s</text>`+"\n", column.x, column.text)
	}
	// Lines first, so that they end behind the boxes.
	for _, part := range append(p.lines, p.labels...) {
		b.WriteString(part + "\n")
	}
	for _, box := range p.boxes {
		box.write(&b)
	}
	b.WriteString("</svg>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// picture collects what is drawn.
type picture struct {
	boxes  []placed
	hubs   []placed
	lines  []string
	labels []string
}

// pods places the pods one below the other, and each hub in the middle of its own. It
// returns where the picture ends.
func (p *picture) pods(g graph) float64 {
	y := float64(head)
	for i, h := range g.hubs {
		if i > 0 {
			y += groupGap
		}
		top := y
		hub := place(h.box, hubLeft, 0, hubWide, "hub")
		var pods []placed
		for _, wire := range h.wires {
			pod := place(wire.pod, podLeft, y, podWide, "pod")
			pods = append(pods, pod)
			y += pod.high + rowGap
		}
		if len(h.wires) > 0 {
			y -= rowGap
		}
		hub.y = top + max(0, (y-top-hub.high)/2)
		y = max(y, hub.y+hub.high)
		for i, pod := range pods {
			p.wire(hub, pod, h.wires[i], float64(i+1)/float64(len(pods)+1))
		}
		p.boxes = append(p.boxes, pods...)
		p.boxes = append(p.boxes, hub)
		p.hubs = append(p.hubs, hub)
	}
	for i, b := range g.lost {
		if i > 0 || len(g.hubs) > 0 {
			y += groupGap
		}
		pod := place(b, podLeft, y, podWide, "pod")
		y += pod.high
		p.boxes = append(p.boxes, pod)
	}
	if len(g.hubs)+len(g.lost) == 0 {
		p.labels = append(p.labels, fmt.Sprintf(`<text class="note" x="%d" y="%.0f">%s</text>`, podLeft, y+line, emptyText))
		y += 2 * line
	}
	return y
}

// wire draws a line from the hub's edge to the pod, with its labels at the pod's end.
func (p *picture) wire(hub, pod placed, w wire, share float64) {
	x1, y1 := hub.x+hub.wide, hub.y+hub.high*share
	x2, y2 := pod.x, pod.middle()
	// The more traffic, the thicker: from 1 for none to 6 for a terabyte.
	thick := 1 + min(5, 5*math.Log10(1+float64(w.bytes)/1e3)/9)
	bend := x1 + 90
	p.lines = append(p.lines, fmt.Sprintf(`<path stroke-width="%.1f" d="M %.0f %.0f C %.0f %.0f %.0f %.0f %.0f %.0f L %.0f %.0f"/>`,
		thick, x1, y1, x1+50, y1, x1+40, y2, bend, y2, x2, y2))
	p.labels = append(p.labels,
		fmt.Sprintf(`<text class="veth halo" text-anchor="end" x="%d" y="%.0f">%s</text>`, labelRight, y2-7, escape(w.label)),
		fmt.Sprintf(`<text class="note halo" text-anchor="end" x="%d" y="%.0f">%s</text>`, labelRight, y2+17, escape(w.traffic)))
}

// uplinks places the ways out between top and bottom, each connected with each hub.
func (p *picture) uplinks(g graph, top, bottom float64) {
	high := 0.0
	var boxes []placed
	for _, b := range g.uplinks {
		box := place(b, margin, 0, uplinkWide, "uplink")
		boxes = append(boxes, box)
		high += box.high + rowGap
	}
	y := top + max(0, (bottom-top-high+rowGap)/2)
	for i := range boxes {
		boxes[i].y = y
		y += boxes[i].high + rowGap
		for _, hub := range p.hubs {
			x1, y1, x2, y2 := boxes[i].x+boxes[i].wide, boxes[i].middle(), hub.x, hub.middle()
			p.lines = append(p.lines, fmt.Sprintf(`<path stroke-width="1.5" stroke-dasharray="2 4" d="M %.0f %.0f C %.0f %.0f %.0f %.0f %.0f %.0f"/>`,
				x1, y1, x1+45, y1, x2-45, y2, x2, y2))
		}
	}
	p.boxes = append(p.boxes, boxes...)
}

// place breaks the box's lines so that they fit, and gives it its height.
func place(b box, x, y, width float64, class string) placed {
	most := int((width - 2*padding) / charWide)
	var lines []string
	for _, text := range b.lines {
		lines = append(lines, netview.Wrap(text, most)...)
	}
	b.lines = lines
	if b.alarm {
		class += " alarm"
	}
	return placed{box: b, x: x, y: y, wide: width, high: 2*padding + titleLine + float64(len(lines)*line), class: class}
}

func (p placed) write(b *strings.Builder) {
	fmt.Fprintf(b, `<g class="%s"><title>%s</title><rect x="%.0f" y="%.0f" width="%.0f" height="%.0f" rx="6"/>`+"\n",
		p.class, escape(p.title), p.x, p.y, p.wide, p.high)
	title := table.Shorten(p.title, int((p.wide-2*padding)/titleWide))
	fmt.Fprintf(b, `<text class="name" x="%.0f" y="%.0f">%s</text>`+"\n", p.x+padding, p.y+padding+15, escape(title))
	for i, text := range p.lines {
		fmt.Fprintf(b, `<text x="%.0f" y="%.0f">%s</text>`+"\n", p.x+padding, p.y+padding+titleLine+float64(i*line)+14, escape(text))
	}
	b.WriteString("</g>\n")
}

func escape(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a Builder takes all
	return b.String()
}
