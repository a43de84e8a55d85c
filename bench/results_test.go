package main

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
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
	r := &results{Contestants: []about{{reference, "a < b", true}, {subject, "the subject", true}}}
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
