// Package netgraph draws a node's pod network: as SVG, and for Mermaid. Both are pure
// functions of what netview has seen.
package netgraph

import (
	"fmt"
	"slices"
	"strings"

	"github.com/mascri/mascri/internal/netview"
	"github.com/mascri/mascri/internal/table"
)

// graph is what is drawn, from the left to the right: the ways out of the node, what
// connects pods, and pods.
type graph struct {
	uplinks []box
	hubs    []hub
	lost    []box // pods that are connected to nothing
}

// hub is an interface of the node, or its routing, with the pods that it connects.
type hub struct {
	box
	wires []wire
}

// wire connects a pod.
type wire struct {
	pod     box
	label   string // such as the name of the veth
	traffic string
	bytes   uint64
}

// box is a thing with a name.
type box struct {
	title string
	lines []string
	alarm bool
}

// routed is the hub of pods that no bridge connects.
const routed = "routed by the node"

// plan decides what is drawn.
func plan(node netview.Node) graph {
	var g graph
	for _, link := range node.Uplinks {
		g.uplinks = append(g.uplinks, linkBox(link))
	}
	for _, network := range node.Networks {
		for _, link := range network.Links {
			if link.Kind != "" && g.hub(link.Name) == nil {
				g.hubs = append(g.hubs, hub{box: linkBox(link)})
			}
		}
	}
	for _, pod := range node.Pods {
		name := hubName(pod)
		if name == "" {
			g.lost = append(g.lost, podBox(pod))
			continue
		}
		if g.hub(name) == nil {
			g.hubs = append(g.hubs, hub{box: box{title: name}})
		}
		h := g.hub(name)
		label := pod.Host.Link
		if pod.Kind != "veth" {
			label = pod.Kind
		}
		h.wires = append(h.wires, wire{
			pod: podBox(pod), label: label, bytes: pod.Received.Bytes + pod.Sent.Bytes,
			traffic: fmt.Sprintf("in %s, out %s", table.Bytes(pod.Received.Bytes), table.Bytes(pod.Sent.Bytes)),
		})
	}
	return g
}

func (g *graph) hub(name string) *hub {
	i := slices.IndexFunc(g.hubs, func(h hub) bool { return h.title == name })
	if i < 0 {
		return nil
	}
	return &g.hubs[i]
}

// hubName is what connects a pod; "": nothing that is known.
func hubName(pod netview.Pod) string {
	switch {
	case pod.Host.Link == "":
		return ""
	case pod.Host.Bridge != "":
		return pod.Host.Bridge
	case pod.Kind == "veth":
		return routed
	}
	return pod.Host.Link
}

func linkBox(link netview.Link) box {
	b := box{title: link.Name, alarm: !link.Up}
	kind := fmt.Sprintf("%s, mtu %d", link.Kind, link.MTU)
	if link.Kind == "bridge" {
		kind = fmt.Sprintf("bridge, %d ports, mtu %d", link.Ports, link.MTU)
	}
	if !link.Up {
		kind += ", DOWN"
	}
	b.lines = append(b.lines, kind)
	for _, a := range link.Addresses {
		if !a.Addr().IsLinkLocalUnicast() {
			b.lines = append(b.lines, a.String())
		}
	}
	return b
}

func podBox(pod netview.Pod) box {
	b := box{title: pod.Pod}
	var ips []string
	for _, ip := range pod.IPs {
		ips = append(ips, ip.String())
	}
	if len(ips) > 0 {
		b.lines = append(b.lines, strings.Join(ips, "  "))
	}
	for _, port := range pod.Ports {
		b.lines = append(b.lines, "port "+netview.PortText(port))
	}
	if pod.Phase != "attached" {
		b.alarm = true
		b.lines = append(b.lines, string(pod.Phase))
	}
	if pod.Problem != "" {
		b.alarm = true
		b.lines = append(b.lines, pod.Problem)
	}
	return b
}
