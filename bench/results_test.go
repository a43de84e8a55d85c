package main

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestQuantileInterpolates(t *testing.T) {
	for _, c := range []struct{ q, want float64 }{{0, 1}, {.5, 2.5}, {.99, 3.97}, {1, 4}} {
		if got := quantile([]float64{1, 2, 3, 4}, c.q); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("quantile %v is %v, want %v", c.q, got, c.want)
		}
	}
	if got := quantile(nil, .5); !math.IsNaN(got) {
		t.Errorf("quantile of nothing is %v", got)
	}
}

// testResults are three rounds in which all gets slower, and the subject takes twice as long.
func testResults() *results {
	r := &results{Contestants: []about{{Name: reference, Title: "a < b", Pods: true}, {Name: subject, Title: "the subject", Pods: true}}}
	for round, value := range []float64{1, 10, 100} {
		for _, mode := range []string{serial, parallel(8)} {
			r.Samples = append(r.Samples, sample{reference, podStart, mode, round, value}, sample{subject, podStart, mode, round, 2 * value})
		}
	}
	for _, mode := range []string{withPods(0), withPods(10), withPods(100)} {
		r.Samples = append(r.Samples, sample{reference, pollCPU, mode, 0, 4}, sample{subject, pollCPU, mode, 0, 1})
	}
	r.compare()
	return r
}

func TestRatiosAreOfOneAtATimeAndOfTheMostPods(t *testing.T) {
	r := testResults()
	if got, want := r.Ratios[podStart], (ratio{Mode: serial, P50: 2, P99: 2, Low: 2, High: 2}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got, want := r.Ratios[pollCPU], (ratio{Mode: "100 pods", P50: .25, P99: .25, Low: .25, High: .25}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := len(r.All[subject][podStart]); got != 2 {
		t.Errorf("%d modes, want 2", got)
	}
}

// Of the lists a slow contestant has fewer samples in a round.
func TestNeighboursAreOfOneRound(t *testing.T) {
	var cell, base []sample
	for round, value := range []float64{1, 10, 100} {
		base = append(base, sample{Round: round, Value: value})
		for range 3 {
			cell = append(cell, sample{Round: round, Value: 2 * value})
		}
	}
	got, ok := compare(serial, cell, base)
	if want := (ratio{Mode: serial, P50: 2, P99: got.P99, Low: 2, High: 2}); !ok || got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestPlotIsXMLWithALineForEachContestant(t *testing.T) {
	text := string(testResults().plot(plots[1]))
	for d := xml.NewDecoder(strings.NewReader(text)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
	}
	if got := strings.Count(text, "<polyline "); got != 2 {
		t.Errorf("%d lines, want 2:\n%s", got, text)
	}
}

// A phase that fails loses neither what it had measured nor what others do, and is told of.
func TestPhaseThatFailsLosesNothing(t *testing.T) {
	r := testResults()
	dir, tidied, wrong := t.TempDir(), 0, errors.New("no route")
	read := func() (written results) {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(dir, "latest.json"))
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(data, &written); err != nil {
			t.Fatal(err)
		}
		return written
	}
	before := len(r.Samples)
	take := func(measure string) []sample {
		return []sample{{subject, measure, stream, 0, 1}, {reference, measure, stream, 0, 0}}
	}
	err := r.collect(t.Context(), dir, []phase{
		{"one", func() ([]sample, []process, error) { return take(logRate), nil, wrong }},
		{"two", func() ([]sample, []process, error) {
			if got := read().Missing; len(got) != 2 || got[0] != "one: no route" || got[1] != "two: not done yet" {
				t.Errorf("in between %q are missing", got)
			}
			return take(logCPU), []process{{Contestant: subject, Name: "mascri"}}, nil
		}},
	}, func() error { tidied++; return nil })
	if !errors.Is(err, wrong) || tidied != 1 {
		t.Errorf("%v; tidied %d times", err, tidied)
	}
	got := read()
	if len(got.Samples) != before+4 || len(got.Processes) != 1 || len(got.Missing) != 1 {
		t.Errorf("%d samples, %d processes, %q missing", len(got.Samples), len(got.Processes), got.Missing)
	}
	if _, ok := got.All[subject][logCPU]; ok {
		t.Error("a ratio to 0")
	}
}

func TestOutsideEndpointHasNoMeasuresOfProcesses(t *testing.T) {
	r := testResults()
	r.Contestants = append(r.Contestants, about{Name: "outside", Title: "outside", Pods: true, NotMeasured: outsideNever})
	r.Samples = append(r.Samples, sample{"outside", podStart, serial, 0, 3})
	r.compare()
	var text strings.Builder
	r.markdown(&text)
	for _, want := range []string{"| poll_cpu, CPU s/min | 100 pods | outside | n/a | n/a | n/a | n/a |\n", "| pod_start, ms | serial | outside | 1 | 3.00 | 3.00–3.00 | 3.00 |\n", " n/a | n/a |\n"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, &text)
		}
	}
}

func TestEndpoints(t *testing.T) {
	for _, text := range []string{"crio=/run/crio.sock", "crio=unix:///run/crio.sock"} {
		if e, err := parseEndpoint(text); err != nil || e != (endpoint{"crio", "/run/crio.sock"}) {
			t.Errorf("%s: %v, %v", text, e, err)
		}
	}
	for _, text := range []string{"", "crio", "=/run/x", "crio=run/x", "a/b=/run/x", "crio="} {
		if e, err := parseEndpoint(text); err == nil {
			t.Errorf("%q is taken for %v", text, e)
		}
	}
}
