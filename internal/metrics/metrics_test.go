package metrics

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// used are metrics in which everything happened once.
func used() *Metrics {
	m := New("1.2.3", "0123abcd")
	m.RPC("RunPodSandbox", "OK", time.Second, false)
	m.RPC("GetContainerEvents", "Canceled", time.Hour, true)
	m.EngineCall("container_start", time.Millisecond, "")
	m.EngineCall("container_start", time.Millisecond, "not_found")
	m.Plugin("bridge", "ADD", time.Millisecond, "")
	m.Plugin("bridge", "ADD", time.Millisecond, "cni")
	m.Leak("address")
	m.Stream("exec")
	m.Watch(func() State {
		return State{EngineUp: true, Sandboxes: 3, Containers: 2, Drift: 1, Dirty: 1, DirtySince: time.Now().Add(-time.Hour), Leaks: map[string]int{"rules": 2}, LogLines: 5, LogLag: time.Second}
	})
	return m
}

// ours returns the names, types and texts of MasCRI's own metrics.
func ours(t *testing.T) map[string][2]string {
	t.Helper()
	families, err := used().Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][2]string{}
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "mascri_") {
			found[f.GetName()] = [2]string{strings.ToLower(f.GetType().String()), f.GetHelp()}
		}
	}
	return found
}

func TestMetricsKeepToPrometheusConventions(t *testing.T) {
	problems, err := testutil.GatherAndLint(used().Gatherer())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestWhatHappensIsCounted(t *testing.T) {
	m := used()
	ended := m.Stream("exec")
	ended()
	want := `
# HELP mascri_engine_call_failures_total Calls of Docker Engine that failed, by operation and kind: not_found, conflict, refused, engine, unreachable, deadline, canceled.
# TYPE mascri_engine_call_failures_total counter
mascri_engine_call_failures_total{kind="not_found",operation="container_start"} 1
# HELP mascri_index_objects Sandboxes and containers in the index, by kind.
# TYPE mascri_index_objects gauge
mascri_index_objects{kind="container"} 2
mascri_index_objects{kind="sandbox"} 3
# HELP mascri_leaks Leftovers of former pods that could not be mended, by kind.
# TYPE mascri_leaks gauge
mascri_leaks{kind="rules"} 2
# HELP mascri_rpcs_total RPCs that ended, by name and gRPC status code.
# TYPE mascri_rpcs_total counter
mascri_rpcs_total{code="Canceled",rpc="GetContainerEvents"} 1
mascri_rpcs_total{code="OK",rpc="RunPodSandbox"} 1
# HELP mascri_streams_open Streams that are open, by kind: exec, attach, portforward.
# TYPE mascri_streams_open gauge
mascri_streams_open{kind="exec"} 1
# HELP mascri_streams_total Streams that began, by kind: exec, attach, portforward.
# TYPE mascri_streams_total counter
mascri_streams_total{kind="exec"} 2
`
	if err := testutil.GatherAndCompare(m.Gatherer(), strings.NewReader(want), "mascri_engine_call_failures_total", "mascri_index_objects", "mascri_leaks", "mascri_rpcs_total", "mascri_streams_open", "mascri_streams_total"); err != nil {
		t.Error(err)
	}
	if n := testutil.CollectAndCount(m.rpcSeconds); n != 1 {
		t.Errorf("%d RPCs have a duration, want 1: one that lasts until its client leaves has none", n)
	}
}

// series are the names of time series in an expression of PromQL.
var series = regexp.MustCompile(`\b(mascri|process|go)_[a-z0-9_]+`)

// The dashboard and the alerts ask for metrics that there are, and leave none out.
func TestDashboardAndAlertsAskForMetricsThatThereAre(t *testing.T) {
	known := ours(t)
	dashboard, err := os.ReadFile("../../contrib/grafana/mascri.json")
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(dashboard, &d); err != nil {
		t.Fatal(err)
	}
	shown := map[string]bool{}
	check := func(where, expression string) {
		names := series.FindAllString(expression, -1)
		for _, name := range names {
			base := name
			for _, suffix := range []string{"_bucket", "_count", "_sum"} {
				base = strings.TrimSuffix(base, suffix)
			}
			shown[base] = true
			if _, ok := known[base]; !ok && strings.HasPrefix(name, "mascri_") {
				t.Errorf("%s asks for %s, which there is not", where, name)
			}
		}
		if len(names) == 0 && !strings.Contains(expression, `up{job="mascri"}`) {
			t.Errorf("%s asks for no metric: %s", where, expression)
		}
	}
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			check("panel "+p.Title, target.Expr)
		}
	}
	for name := range known {
		if !shown[name] {
			t.Errorf("the dashboard does not show %s", name)
		}
	}
	for _, file := range []string{"mascri.rules.yml", "mascri.rules.test.yml"} {
		for i, line := range lines(t, "../../contrib/prometheus/"+file) {
			if strings.Contains(line, "expr: ") && strings.Contains(line, "mascri") || strings.Contains(line, "series: 'mascri") {
				check(fmt.Sprintf("%s:%d", file, i+1), line)
			}
		}
	}
}

func lines(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(string(text), "\n")
}

// docs/operations.md lists each metric as the registry has it, and each alert.
func TestOperationsTellsOfEachMetricAndAlert(t *testing.T) {
	var want bytes.Buffer
	known := ours(t)
	var names []string
	for name := range known {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		want.WriteString("| `" + name + "` | " + known[name][0] + " | " + known[name][1] + " |\n")
	}
	text := strings.Join(lines(t, "../../docs/operations.md"), "\n")
	var got bytes.Buffer
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "| `mascri_") {
			got.WriteString(line)
		}
	}
	if diff := cmp.Diff(want.String(), got.String()); diff != "" {
		t.Errorf("the table of metrics in docs/operations.md (-want +got):\n%s", diff)
	}
	alerts := 0
	for _, line := range lines(t, "../../contrib/prometheus/mascri.rules.yml") {
		_, name, ok := strings.Cut(line, "- alert: ")
		if !ok {
			continue
		}
		alerts++
		if !strings.Contains(text, "\n### "+name+"\n") {
			t.Errorf("docs/operations.md does not say what to do about the alert %s", name)
		}
	}
	if alerts == 0 {
		t.Error("there are no alerts")
	}
}
