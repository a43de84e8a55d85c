package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
)

// results are all that a run found.
type results struct {
	Machine     machine `json:"machine"`
	Measures    any     `json:"measures"`
	Contestants []about `json:"contestants"`
	// Ratios are those of the subject over the reference, by measure, where it matters
	// most: one at a time, and with the most pods.
	Ratios map[string]ratio `json:"ratios"`
	// All are those of each contestant over the reference, by contestant, measure, mode.
	All map[string]map[string]map[string]ratio `json:"allRatios"`
	// Missing tells what is not in here, phases that failed or have not been done yet.
	Missing   []string  `json:"missing,omitempty"`
	Processes []process `json:"processes"`
	Samples   []sample  `json:"samples"`
}

// enough is how many samples a cell should have.
const enough = 30

// phase is a part of a run that the others don't need.
type phase struct {
	name string
	do   func() ([]sample, []process, error) // what is known before an error, as well
}

// collect does the phases one by one, whether others failed or not, and writes after each what is known by
// then: what was measured is not lost by what comes later. tidy is called where one failed.
// Once ctx has ended, the rest is not done.
func (r *results) collect(ctx context.Context, dir string, phases []phase, tidy func() error) error {
	var errs []error
	for i, p := range phases {
		if ctx.Err() != nil {
			break
		}
		samples, processes, err := p.do()
		r.Samples, r.Processes = append(r.Samples, samples...), append(r.Processes, processes...)
		if err != nil {
			fmt.Fprintf(os.Stderr, "bench: %s: %v\n", p.name, err)
			errs = append(errs, fmt.Errorf("%s: %w", p.name, err))
			if err := tidy(); err != nil && ctx.Err() == nil {
				errs = append(errs, fmt.Errorf("clean up: %w", err))
			}
		}
		r.Missing = nil
		for _, err := range errs {
			r.Missing = append(r.Missing, err.Error())
		}
		for _, later := range phases[i+1:] {
			r.Missing = append(r.Missing, later.name+": not done yet")
		}
		r.Machine.LoadAfter = loadAverage()
		if err := r.write(dir); err != nil {
			return errors.Join(append(errs, err)...)
		}
	}
	r.markdown(os.Stdout)
	return errors.Join(errs...)
}

// ratio compares two cells. Low and High are the middle half of the ratios of samples
// that were taken one after the other, in the same round.
type ratio struct {
	Mode string  `json:"mode"`
	P50  float64 `json:"p50"`
	P99  float64 `json:"p99"`
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

// compare computes the ratios from the samples.
func (r *results) compare() {
	r.Ratios, r.All = map[string]ratio{}, map[string]map[string]map[string]ratio{}
	for _, m := range measures {
		for _, mode := range r.modes(m.Name) {
			base := r.cell(reference, m.Name, mode)
			for _, c := range r.Contestants {
				cell := r.cell(c.Name, m.Name, mode)
				if c.Name == reference || len(base) == 0 || len(cell) == 0 {
					continue
				}
				found, ok := compare(mode, cell, base)
				if !ok {
					continue
				}
				if r.All[c.Name] == nil {
					r.All[c.Name] = map[string]map[string]ratio{}
				}
				if r.All[c.Name][m.Name] == nil {
					r.All[c.Name][m.Name] = map[string]ratio{}
				}
				r.All[c.Name][m.Name][mode] = found
				if c.Name == subject && r.main(m.Name) == mode {
					r.Ratios[m.Name] = found
				}
			}
		}
	}
}

// compare is for cells that have samples; ok is false where the base is 0.
func compare(mode string, cell, reference []sample) (r ratio, ok bool) {
	rounds := map[int][]float64{} // of the reference's samples, what has no neighbour yet
	for _, s := range reference {
		rounds[s.Round] = append(rounds[s.Round], s.Value)
	}
	var pairs []float64
	for _, s := range cell {
		if rest := rounds[s.Round]; len(rest) > 0 {
			if rounds[s.Round] = rest[1:]; rest[0] != 0 {
				pairs = append(pairs, s.Value/rest[0])
			}
		}
	}
	values, base := sorted(valuesOf(cell)), sorted(valuesOf(reference))
	pairs = sorted(pairs)
	if len(pairs) == 0 || quantile(base, .5) == 0 {
		return ratio{}, false
	}
	return ratio{
		Mode: mode,
		P50:  quantile(values, .5) / quantile(base, .5), P99: quantile(values, .99) / quantile(base, .99),
		Low: quantile(pairs, .25), High: quantile(pairs, .75),
	}, true
}

// modes are those of a measure, in the order of their samples.
func (r *results) modes(measure string) []string {
	var modes []string
	for _, s := range r.Samples {
		if s.Measure == measure && !slices.Contains(modes, s.Mode) {
			modes = append(modes, s.Mode)
		}
	}
	return modes
}

// main is the mode that matters most of a measure.
func (r *results) main(measure string) string {
	modes := r.modes(measure)
	if slices.Contains(modes, serial) || len(modes) == 0 {
		return serial
	}
	return modes[len(modes)-1]
}

// cell are the samples of one, in their order.
func (r *results) cell(contestant, measure, mode string) []sample {
	var samples []sample
	for _, s := range r.Samples {
		if s.Contestant == contestant && s.Measure == measure && s.Mode == mode {
			samples = append(samples, s)
		}
	}
	return samples
}

func (r *results) values(contestant, measure, mode string) []float64 {
	return valuesOf(r.cell(contestant, measure, mode))
}

func valuesOf(samples []sample) []float64 {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = s.Value
	}
	return values
}

func sorted(values []float64) []float64 { return slices.Sorted(slices.Values(values)) }

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

// write leaves latest.json, latest.md and the plots in dir.
func (r *results) write(dir string) error {
	r.compare()
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	// A line for each sample and contestant.
	data = bytes.ReplaceAll(data, []byte(`{"contestant"`), []byte("\n"+`{"contestant"`))
	data = bytes.ReplaceAll(data, []byte(`,"ratios"`), []byte(",\n"+`"ratios"`))
	data = bytes.ReplaceAll(data, []byte(`,"allRatios"`), []byte(",\n"+`"allRatios"`))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "latest.json"), append(data, '\n'), 0o644); err != nil {
		return err
	}
	for _, p := range plots {
		if err := os.WriteFile(filepath.Join(dir, p.measure+".svg"), r.plot(p), 0o644); err != nil {
			return err
		}
	}
	var text bytes.Buffer
	r.markdown(&text)
	return os.WriteFile(filepath.Join(dir, "latest.md"), text.Bytes(), 0o644)
}

// few counts the cells with less than enough samples.
func (r *results) few() (n int) {
	for _, m := range measures {
		for _, mode := range r.modes(m.Name) {
			for _, c := range r.Contestants {
				if taken := len(r.values(c.Name, m.Name, mode)); taken > 0 && taken < enough {
					n++
				}
			}
		}
	}
	return n
}
