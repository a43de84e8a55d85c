package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// kubeletResult is what kubelets were measured to take.
type kubeletResult struct {
	Machine     machine     `json:"machine"`
	Kubelet     string      `json:"kubelet"`
	Pods        int         `json:"pods"`
	Contestants []about     `json:"contestants"`
	Ready       []readiness `json:"ready"`
	Rest        []resting   `json:"rest"`
}

// readiness is how long it took until all pods were ready.
type readiness struct {
	Contestant string  `json:"contestant"`
	Round      int     `json:"round"`
	Seconds    float64 `json:"seconds"`
}

// resting is what was used while nothing happened, by kubelets with some feature gates.
type resting struct {
	Gates     map[string]bool `json:"featureGates"`
	Processes []process       `json:"processes"`
}

func (r *kubeletResult) write(dir string) error {
	raw, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	var text bytes.Buffer
	r.markdown(&text)
	_, err = os.Stdout.Write(text.Bytes())
	return errors.Join(err,
		os.WriteFile(filepath.Join(dir, "kubelet.json"), append(raw, '\n'), 0o644),
		os.WriteFile(filepath.Join(dir, "kubelet.md"), text.Bytes(), 0o644))
}

func (r *kubeletResult) markdown(w io.Writer) {
	fmt.Fprintf(w, "# A kubelet with %d pods\n\nWritten by `make bench-kubelet`. %s\n\n"+
		"%s, standalone, with static pods of one container each, without probes, on a node of its own for each runtime: the\n"+
		"same runc, overlayfs, cgroupfs, CNI plugins, `examples/10-bridge.conf`, images and settings of the kubelet.\n", r.Pods, r.Machine, r.Kubelet)
	fmt.Fprintf(w, "\n## Until all are ready\n\nFrom when the manifests are there until the kubelet holds all pods for ready, in seconds. The runtimes take turns.\n\n|")
	for _, c := range r.Contestants {
		fmt.Fprintf(w, " | %s", c.Title)
	}
	fmt.Fprintf(w, " | ratio |\n|---|--:|--:|--:|\n")
	row := func(name string, of func([]float64) float64) {
		base, own := of(r.seconds(reference)), of(r.seconds(subject))
		fmt.Fprintf(w, "| %s | %.1f | %.1f | %.2f |\n", name, base, own, own/base)
	}
	for round := range r.seconds(reference) {
		row(fmt.Sprintf("round %d", round+1), func(seconds []float64) float64 { return seconds[round] })
	}
	row("median", func(seconds []float64) float64 { return quantile(sorted(seconds), .5) })
	for _, rest := range r.Rest {
		r.restTable(w, rest)
	}
	fmt.Fprintf(w, "\nMemory is PSS. The kubelet is started anew %v and more before. The rest is of processes that began and ended meanwhile,\n"+
		"and of rounding to 10 ms a process.\n", restAfter)
}

func (r *kubeletResult) restTable(w io.Writer, rest resting) {
	gates := "the default feature gates"
	for name := range rest.Gates { // there is one at most
		gates = "`" + name + "`"
	}
	fmt.Fprintf(w, "\n## At rest for %v, with %s\n\n| process", restLength, gates)
	rule := "|---|"
	for _, c := range r.Contestants {
		fmt.Fprintf(w, " | %s: number | CPU s/min | MB", c.Title)
		rule += "--:|--:|--:|"
	}
	fmt.Fprintf(w, " |\n%s\n", rule)
	var names []string
	for _, p := range rest.Processes {
		if !slices.Contains(names, p.Name) {
			names = append(names, p.Name)
		}
	}
	slices.Sort(names)
	totals := map[string]process{}
	for _, name := range names {
		fmt.Fprintf(w, "| %s", name)
		for _, c := range r.Contestants {
			i := slices.IndexFunc(rest.Processes, func(p process) bool { return p.Contestant == c.Name && p.Name == name })
			if i < 0 {
				fmt.Fprint(w, " | | |")
				continue
			}
			p, sum := rest.Processes[i], totals[c.Name]
			totals[c.Name] = process{Count: sum.Count + p.Count, CPUPerMinute: sum.CPUPerMinute + p.CPUPerMinute, PSS: sum.PSS + p.PSS}
			fmt.Fprintf(w, " | %d | %.2f | %.0f", p.Count, p.CPUPerMinute, p.PSS)
		}
		fmt.Fprintln(w, " |")
	}
	fmt.Fprint(w, "| **all**")
	for _, c := range r.Contestants {
		fmt.Fprintf(w, " | %d | %.2f | %.0f", totals[c.Name].Count, totals[c.Name].CPUPerMinute, totals[c.Name].PSS)
	}
	base, own := totals[reference], totals[subject]
	fmt.Fprintf(w, " |\n\nMasCRI's all over containerd's: CPU %.2f, memory %.2f.\n", own.CPUPerMinute/base.CPUPerMinute, own.PSS/base.PSS)
}

// seconds are those of one contestant, by round.
func (r *kubeletResult) seconds(contestant string) (seconds []float64) {
	for _, t := range r.Ready {
		if t.Contestant == contestant {
			seconds = append(seconds, t.Seconds)
		}
	}
	return seconds
}
