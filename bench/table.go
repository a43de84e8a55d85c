package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// notThere is for what was not measured.
const notThere = "n/a"

// markdown writes the tables.
func (r *results) markdown(w io.Writer) {
	ref := r.title(reference)
	fmt.Fprintf(w, "# Beside containerd\n\nWritten by `make bench`. %s\n", r.Machine)
	fmt.Fprintf(w, "\nEach contestant has its own namespaces, engine and bridge; the machine's runc, overlayfs, cgroupfs, the CNI\n"+
		"plugins of `bin/cni` and `examples/10-bridge.conf` (bridge, host-local, ipMasq) are the same for all. They take\n"+
		"turns, in another order each round; all have their pods at the same time. Where the time goes is in [profile.md](profile.md).\n")
	for _, missing := range r.Missing {
		fmt.Fprintf(w, "\n**Incomplete**: %s\n", missing)
	}
	if few := r.few(); few > 0 {
		fmt.Fprintf(w, "\n%d cells have fewer than %d samples.\n", few, enough)
	}
	for _, c := range r.Contestants {
		if len(c.NotMeasured) > 0 {
			fmt.Fprintf(w, "\n%s was not started here, so that its processes are not known: what needs them is n/a.\n", c.Title)
		}
	}
	r.ratioTable(w, ref)
	for _, p := range plots {
		fmt.Fprintf(w, "\n![%s](%s.svg)\n", p.title, p.measure)
	}
	fmt.Fprintf(w, "\n## Processes while a client polls\n\n"+
		"| pods | | process | number | CPU s/min | RSS MB | PSS MB |\n|--:|---|---|--:|--:|--:|--:|\n")
	for _, p := range r.Processes {
		fmt.Fprintf(w, "| %d | %s | %s | %d | %.2f | %.0f | %.0f |\n", p.Pods, r.title(p.Contestant), p.Name, p.Count, p.CPUPerMinute, p.RSS, p.PSS)
	}
	fmt.Fprintf(w, "\nA client polls as the kubelet does: the lists every second, the statuses of each pod once a minute, ListContainerStats\n"+
		"every ten seconds. The rest is of processes that began and ended meanwhile, and of rounding to 10 ms a process.\n")
	r.valueTable(w)
	fmt.Fprint(w, "\n## What is measured\n\n")
	for _, m := range measures {
		fmt.Fprintf(w, "- `%s` (%s): %s\n", m.Name, m.Unit, m.Means)
	}
}

// ratioTable is what a reader wants to know first.
func (r *results) ratioTable(w io.Writer, ref string) {
	fmt.Fprintf(w, "\n## Ratios\n\nThese count more than the times: below 1 is less than %s. The first is that of the p50s, in brackets the middle half of\n"+
		"the ratios of neighbouring samples; the second is that of the p99s, which for fewer than 100 samples are little else than\n"+
		"the worst. For lists, a client asks %d times in each turn, or for %v; its garbage collector rests meanwhile.\n\n", ref, listAsks, listLong)
	head, rule := fmt.Sprintf("| | | n | %s p50 | p99 |", ref), "|---|---|--:|--:|--:|"
	for _, c := range r.Contestants {
		if c.Pods && c.Name != reference {
			head += fmt.Sprintf(" %s p50 | p99 |", c.Title)
			rule += "--:|--:|"
		}
	}
	fmt.Fprintf(w, "%s\n%s\n", head, rule)
	for _, m := range measures {
		if m.Name == part {
			continue
		}
		for _, mode := range r.modes(m.Name) {
			base := sorted(r.values(reference, m.Name, mode))
			row := fmt.Sprintf("| %s | %s | %d | %s %s | %s |", m.Name, mode, len(base), number(quantile(base, .5)), m.Unit, number(quantile(base, .99)))
			for _, c := range r.Contestants {
				if c.Pods && c.Name != reference {
					found, ok := r.All[c.Name][m.Name][mode]
					if !ok {
						row += " " + notThere + " | " + notThere + " |"
						continue
					}
					row += fmt.Sprintf(" %.2f (%.2f–%.2f) | %.2f |", found.P50, found.Low, found.High, found.P99)
				}
			}
			fmt.Fprintln(w, row)
		}
	}
}

// valueTable has each cell.
func (r *results) valueTable(w io.Writer) {
	fmt.Fprintf(w, "\n## Values\n\n| | | | n | p50 | middle half | p99 |\n|---|---|---|--:|--:|--:|--:|\n")
	for _, m := range measures {
		for _, mode := range r.modes(m.Name) {
			for _, c := range r.Contestants {
				values := sorted(r.values(c.Name, m.Name, mode))
				if len(values) > 0 {
					fmt.Fprintf(w, "| %s, %s | %s | %s | %d | %s | %s–%s | %s |\n", m.Name, m.Unit, mode, c.Title, len(values), number(quantile(values, .5)),
						number(quantile(values, .25)), number(quantile(values, .75)), number(quantile(values, .99)))
				} else if slices.Contains(c.NotMeasured, m.Name) {
					fmt.Fprintf(w, "| %s, %s | %s | %s | %[5]s | %[5]s | %[5]s | %[5]s |\n", m.Name, m.Unit, mode, c.Title, notThere)
				}
			}
		}
	}
}

// number has three digits that count.
func number(value float64) string {
	switch {
	case value >= 100:
		return strconv.FormatFloat(value, 'f', 0, 64)
	case value >= 10:
		return strconv.FormatFloat(value, 'f', 1, 64)
	case value >= 1:
		return strconv.FormatFloat(value, 'f', 2, 64)
	}
	return strings.TrimSuffix(strconv.FormatFloat(value, 'f', 3, 64), ".000")
}

func (r *results) title(name string) string {
	for _, c := range r.Contestants {
		if c.Name == name {
			return c.Title
		}
	}
	return name
}
