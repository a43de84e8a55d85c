package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
)

// results are all that a run found.
type results struct {
	Machine     machine  `json:"machine"`
	Contestants []about  `json:"contestants"`
	Samples     []sample `json:"samples"`
}

// write leaves latest.json and latest.md in dir and prints the latter.
func (r results) write(dir string) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	data = bytes.ReplaceAll(data, []byte(`{"contestant"`), []byte("\n"+`{"contestant"`)) // a line per sample
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "latest.json"), append(data, '\n'), 0o644); err != nil {
		return err
	}
	var text bytes.Buffer
	r.markdown(&text)
	if err := os.WriteFile(filepath.Join(dir, "latest.md"), text.Bytes(), 0o644); err != nil {
		return err
	}
	_, err = os.Stdout.Write(text.Bytes())
	return err
}

// markdown writes the tables.
func (r results) markdown(w io.Writer) {
	ref := r.title(reference)
	fmt.Fprintf(w, "# Pods beside containerd's\n\nWritten by `make bench`. %s\n", r.Machine)
	fmt.Fprintf(w, "\nEach contestant has its own namespaces, engine and bridge; the machine's runc, overlayfs, cgroupfs, the CNI\n"+
		"plugins of `bin/cni` and `examples/10-bridge.conf` (bridge, host-local, ipMasq) are the same for all, and the\n"+
		"samples alternate. Trust the ratios, not the times: below 1 is faster than %s. A p99 of fewer than 100\n"+
		"samples is little else than the slowest of them.\n", ref)
	for _, mode := range []struct{ name, title string }{
		{serial, "One pod at a time"},
		{parallel, fmt.Sprintf("Each of %d pods at once", together)},
		{batch, fmt.Sprintf("Until the last of %d pods at once", together)},
	} {
		fmt.Fprintf(w, "\n## %s\n\n%s", mode.title, tableHead(ref))
		for _, op := range []string{opRun, opStop, opRemove} {
			base := r.sorted(reference, op, mode.name)
			for _, c := range r.Contestants {
				if c.Pods {
					fmt.Fprintln(w, row(op, c.Title, r.sorted(c.Name, op, mode.name), base))
				}
			}
		}
	}
	fmt.Fprintf(w, "\n## Parts of a pod, beside RunPodSandbox of %s\n\n%s", ref, tableHead(ref))
	for _, c := range r.Contestants {
		if !c.Pods {
			fmt.Fprintln(w, row("alone", c.Title, r.sorted(c.Name, opRun, serial), r.sorted(reference, opRun, serial)))
		}
	}
}

func tableHead(ref string) string {
	return fmt.Sprintf("| | | n | p50 ms | middle half ms | p99 ms | p50 / %s | p99 / %[1]s |\n|---|---|--:|--:|--:|--:|--:|--:|\n", ref)
}

func row(op, title string, times, base []float64) string {
	return fmt.Sprintf("| %s | %s | %d | %.0f | %.0f–%.0f | %.0f | %.2f | %.2f |", op, title, len(times),
		quantile(times, .5), quantile(times, .25), quantile(times, .75), quantile(times, .99),
		quantile(times, .5)/quantile(base, .5), quantile(times, .99)/quantile(base, .99))
}

func (r results) title(name string) string {
	for _, c := range r.Contestants {
		if c.Name == name {
			return c.Title
		}
	}
	return name
}

// sorted returns the times of one cell.
func (r results) sorted(contestant, op, mode string) []float64 {
	var times []float64
	for _, s := range r.Samples {
		if s.Contestant == contestant && s.Op == op && s.Mode == mode {
			times = append(times, s.Ms)
		}
	}
	slices.Sort(times)
	return times
}

// quantile interpolates between the nearest of sorted; it is NaN for none.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	at := q * float64(len(sorted)-1)
	low := int(at)
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (at-float64(low))*(sorted[high]-sorted[low])
}
