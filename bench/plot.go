package main

import (
	"bytes"
	"fmt"
	"html"
	"math"
	"strings"
)

// plots show cost against pods.
var plots = []struct{ measure, title string }{
	{list, "All lists and the statuses of one pod: p50, ms"},
	{pollCPU, "CPU of daemons and shims while a client polls: seconds a minute"},
	{memory, "Memory of daemons and shims: PSS, MB"},
}

const (
	plotWidth, plotHeight                    = 720, 400
	plotLeft, plotRight, plotTop, plotBottom = 70, 20, 40, 110
)

var plotColours = []string{"#444444", "#0b6bcb", "#c2410c", "#15803d", "#7c3aed", "#a16207"}

// plot draws the p50s of a measure against the number of pods, as SVG.
func (r *results) plot(p struct{ measure, title string }) []byte {
	modes := r.modes(p.measure)
	counts := make([]int, len(modes))
	mostPods, most := 1, 0.0
	for i, mode := range modes {
		if _, err := fmt.Sscanf(mode, withPodsFormat, &counts[i]); err != nil {
			continue // not a number of pods: drawn at 0
		}
		mostPods = max(mostPods, counts[i])
		for _, c := range r.Contestants {
			if values := sorted(r.values(c.Name, p.measure, mode)); len(values) > 0 {
				most = max(most, quantile(values, .5))
			}
		}
	}
	each := stepOf(most)
	top := math.Max(each, math.Ceil(most/each)*each)
	x := func(pods int) float64 {
		return plotLeft + float64(pods)/float64(mostPods)*(plotWidth-plotLeft-plotRight)
	}
	y := func(value float64) float64 {
		return plotHeight - plotBottom - value/top*(plotHeight-plotTop-plotBottom)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="13">`+"\n", plotWidth, plotHeight)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="white"/><text x="%d" y="22" font-size="15">%s</text>`+"\n", plotLeft, html.EscapeString(p.title))
	for value := 0.0; value <= top*1.001; value += each {
		fmt.Fprintf(&b, `<path d="M%d %.1fH%d" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n",
			plotLeft, y(value), plotWidth-plotRight, plotLeft-8, y(value)+4, number(value))
	}
	for _, count := range counts {
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%d</text>`+"\n", x(count), plotHeight-plotBottom+18, count)
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">pods</text>`+"\n", plotWidth/2, plotHeight-plotBottom+34)
	line := 0
	for _, c := range r.Contestants {
		var points []string
		for i, mode := range modes {
			if values := sorted(r.values(c.Name, p.measure, mode)); len(values) > 0 {
				points = append(points, fmt.Sprintf("%.1f,%.1f", x(counts[i]), y(quantile(values, .5))))
			}
		}
		if len(points) == 0 {
			continue
		}
		colour := plotColours[line%len(plotColours)]
		fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", strings.Join(points, " "), colour)
		for _, point := range points {
			cx, cy, _ := strings.Cut(point, ",")
			fmt.Fprintf(&b, `<circle cx="%s" cy="%s" r="3.5" fill="%s"/>`, cx, cy, colour)
		}
		left, at := plotLeft+line%2*320, plotHeight-plotBottom+56+line/2*20
		fmt.Fprintf(&b, `<path d="M%d %dh24" stroke="%s" stroke-width="3"/><text x="%d" y="%d">%s</text>`+"\n", left, at-4, colour, left+32, at, html.EscapeString(c.Title))
		line++
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// stepOf is a round distance of some five lines up to most.
func stepOf(most float64) float64 {
	if most <= 0 {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(most/5)))
	for _, times := range []float64{1, 2, 5} {
		if most/5 <= times*power {
			return times * power
		}
	}
	return 10 * power
}
