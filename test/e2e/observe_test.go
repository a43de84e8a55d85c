package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	traces "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/mascri/mascri/internal/engine/enginetest"
)

// servedAt finds in the daemon's log where it serves metrics.
var servedAt = regexp.MustCompile(`msg="serving metrics" address=(\S+)`)

// metricsAt returns where the daemon serves metrics.
func (n *node) metricsAt(t *testing.T) (address string) {
	t.Helper()
	waitFor(t, "metrics are served", func() bool {
		log, err := os.ReadFile(n.logFile)
		if err != nil {
			t.Fatal(err)
		}
		all := servedAt.FindAllSubmatch(log, -1)
		if len(all) > 0 {
			address = string(all[len(all)-1][1])
		}
		return address != ""
	})
	return address
}

// metricsText returns all metrics in Prometheus' form.
func (n *node) metricsText(t *testing.T) string {
	t.Helper()
	resp, err := http.Get("http://" + n.metricsAt(t) + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// scrape reads all metrics as Prometheus does: values by name and labels.
func (n *node) scrape(t *testing.T) map[string]float64 {
	t.Helper()
	values := map[string]float64{}
	for line := range strings.Lines(n.metricsText(t)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "} ")
		if ok {
			name += "}"
		} else {
			name, value, _ = strings.Cut(name, " ")
		}
		if f, err := strconv.ParseFloat(value, 64); err == nil && !strings.HasPrefix(line, "#") {
			values[name] = f
		}
	}
	return values
}

// wantMetrics compares those metrics that want names.
func wantMetrics(t *testing.T, want, got map[string]float64) {
	t.Helper()
	of := map[string]float64{}
	for name := range want {
		if value, ok := got[name]; ok {
			of[name] = value
		}
	}
	if diff := cmp.Diff(want, of); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}

// A pod that runs, one whose plugin fails, and one that CNI DEL fails for are all counted,
// and what is counted of now is gone once all is clean.
func TestMetricsTellWhatHappened(t *testing.T) {
	n := newNode(t, enginetest.Engine28, nil, append(chaosDir(t), "--metrics-address=127.0.0.1:0")...)
	n.writeConf(t, "10-chaos.conflist", chaosConf(`{}`))
	id := n.runPod(t, config("web")).id
	wantMetrics(t, map[string]float64{
		`mascri_engine_up`: 1, `mascri_network_ready`: 1, `mascri_index_complete`: 1, `mascri_index_drift_total`: 0,
		`mascri_index_objects{kind="sandbox"}`: 1, `mascri_index_objects{kind="container"}`: 0,
		`mascri_rpcs_total{code="OK",rpc="RunPodSandbox"}`:                          1,
		`mascri_rpc_duration_seconds_count{rpc="RunPodSandbox"}`:                    1,
		`mascri_engine_call_duration_seconds_count{operation="container_create"}`:   1,
		`mascri_engine_call_duration_seconds_count{operation="container_start"}`:    1,
		`mascri_cni_plugin_duration_seconds_count{plugin="bridge",verb="ADD"}`:      1,
		`mascri_cni_plugin_duration_seconds_count{plugin="chaosplugin",verb="ADD"}`: 1,
		`mascri_cni_dirty_attachments`:                                              0,
	}, n.scrape(t))

	n.writeConf(t, "10-chaos.conflist", chaosConf(`{"verbs": ["ADD"], "fault": true, "code": 11, "exit": 1}`))
	if _, err := n.tryPod(t, config("bad"), 30*time.Second); err == nil {
		t.Error("a pod runs whose plugin fails")
	}
	wantMetrics(t, map[string]float64{
		`mascri_cni_plugin_failures_total{kind="cni",plugin="chaosplugin",verb="ADD"}`: 1,
		`mascri_cni_plugin_duration_seconds_count{plugin="chaosplugin",verb="ADD"}`:    2,
		`mascri_cni_plugin_duration_seconds_count{plugin="bridge",verb="DEL"}`:         1,
	}, n.scrape(t))

	mend := n.failDel(t)
	if _, err := n.cri.StopPodSandbox(t.Context(), &cri.StopPodSandboxRequest{PodSandboxId: id}); err != nil {
		t.Fatal(err)
	}
	got := n.scrape(t)
	wantMetrics(t, map[string]float64{`mascri_cni_dirty_attachments`: 1}, got)
	if got[`mascri_cni_dirty_oldest_seconds`] <= 0 || got[`mascri_cni_plugin_failures_total{kind="cni",plugin="chaosplugin",verb="DEL"}`] < 3 {
		t.Errorf("the dirty queue is %v s old, after %v failures of DEL", got[`mascri_cni_dirty_oldest_seconds`], got[`mascri_cni_plugin_failures_total{kind="cni",plugin="chaosplugin",verb="DEL"}`])
	}
	mend()
	waitFor(t, "the dirty queue is clean", func() bool { return n.scrape(t)[`mascri_cni_dirty_attachments`] == 0 })
	n.removePod(t, id)
	n.wantWhole(t, 0)
	for name := range n.scrape(t) {
		if strings.Contains(name, id[:12]) {
			t.Errorf("%s names a sandbox", name)
		}
	}
}

// The kubelet lists every second, whatever the number of pods.
func TestListsMakeNoEngineCall(t *testing.T) {
	bothEngines(t, func(t *testing.T, version enginetest.Version) {
		pods := 20
		if version == enginetest.Engine28 {
			pods = 250
		}
		n := newNode(t, version, userConf(), "--metrics-address=127.0.0.1:0")
		n.importShell(t)
		ids, containers := make([]string, pods), make([]string, pods)
		took(t, "up", pods, func(i int) error {
			config := config(fmt.Sprint("pod-", i))
			resp, err := n.cri.RunPodSandbox(t.Context(), &cri.RunPodSandboxRequest{Config: config})
			if err != nil {
				return err
			}
			ids[i] = resp.GetPodSandboxId()
			if containers[i], err = n.tryShell(t.Context(), ids[i], config, "shell", "sleep 3600 & wait"); err != nil {
				return err
			}
			_, err = n.cri.StartContainer(t.Context(), &cri.StartContainerRequest{ContainerId: containers[i]})
			return err
		})
		// calls are those that the daemon does not make by itself every second.
		calls := func() float64 {
			sum := 0.0
			for name, value := range n.scrape(t) {
				if strings.HasPrefix(name, "mascri_engine_call_duration_seconds_count{") && !strings.Contains(name, `"ping"`) && !strings.Contains(name, `"info"`) {
					sum += value
				}
			}
			return sum
		}
		list := func() {
			if resp, err := n.cri.ListPodSandboxStats(t.Context(), &cri.ListPodSandboxStatsRequest{}); err != nil || len(resp.GetStats()) != pods {
				t.Fatalf("%d pods' stats, %v", len(resp.GetStats()), err)
			}
			if resp, err := n.cri.ListPodSandboxMetrics(t.Context(), &cri.ListPodSandboxMetricsRequest{}); err != nil || len(resp.GetPodMetrics()) != pods {
				t.Fatalf("%d pods' metrics, %v", len(resp.GetPodMetrics()), err)
			}
			for range 5 {
				resp, err := n.cri.ListPodSandbox(t.Context(), &cri.ListPodSandboxRequest{})
				if err != nil || len(resp.GetItems()) != pods {
					t.Fatalf("%d pods, %v", len(resp.GetItems()), err)
				}
				if resp, err := n.cri.ListContainers(t.Context(), &cri.ListContainersRequest{}); err != nil || len(resp.GetContainers()) != pods {
					t.Fatalf("%d containers, %v", len(resp.GetContainers()), err)
				}
				if resp, err := n.cri.ListContainerStats(t.Context(), &cri.ListContainerStatsRequest{}); err != nil || len(resp.GetStats()) != pods || resp.GetStats()[0].GetCpu() == nil {
					t.Fatalf("%d containers' stats, %v", len(resp.GetStats()), err)
				}
				if _, err := n.cri.PodSandboxStatus(t.Context(), &cri.PodSandboxStatusRequest{PodSandboxId: ids[0]}); err != nil {
					t.Fatal(err)
				}
				if _, err := n.cri.ContainerStatus(t.Context(), &cri.ContainerStatusRequest{ContainerId: containers[0]}); err != nil {
					t.Fatal(err)
				}
				if _, err := n.cri.Status(t.Context(), &cri.StatusRequest{}); err != nil {
					t.Fatal(err)
				}
			}
		}
		// Hints of what was done before may still be worked off, and every ten seconds
		// or minutes the daemon looks around: between two of those there is a pause.
		if got := calls(); got < float64(6*pods) {
			t.Fatalf("%v calls were counted for %d pods", got, pods)
		}
		waitFor(t, "lists go without a call", func() bool {
			before := calls()
			list()
			return calls() == before
		})
		if got := n.scrape(t)[`mascri_index_objects{kind="sandbox"}`]; got != float64(pods) {
			t.Errorf("the index holds %v sandboxes, want %d", got, pods)
		}
		took(t, "gone", pods, func(i int) error { return n.tryRemove(t.Context(), ids[i]) })
		n.wantWhole(t, 0)
	})
}

// spans collects what is sent by OTLP.
type spans struct {
	collector.UnimplementedTraceServiceServer
	address string

	mu   sync.Mutex // guards all following fields
	all  []*traces.Span
	from map[string]string // attributes of the resource
}

// collectSpans serves a collector until the test ends.
func collectSpans(t *testing.T) *spans {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, server := &spans{address: listener.Addr().String()}, grpc.NewServer()
	collector.RegisterTraceServiceServer(server, s)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return s
}

// Export implements the collector.
func (s *spans) Export(_ context.Context, req *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range req.GetResourceSpans() {
		s.from = map[string]string{}
		for _, a := range r.GetResource().GetAttributes() {
			s.from[a.GetKey()] = a.GetValue().GetStringValue()
		}
		for _, scope := range r.GetScopeSpans() {
			s.all = append(s.all, scope.GetSpans()...)
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

// tree shows the spans of a trace, each below its parent, in the order of their begin.
func (s *spans) tree(trace string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	var show func(parent, indent string)
	show = func(parent, indent string) {
		var below []*traces.Span
		for _, span := range s.all {
			if fmt.Sprintf("%x", span.GetTraceId()) == trace && fmt.Sprintf("%x", span.GetParentSpanId()) == parent {
				at := 0
				for at < len(below) && below[at].GetStartTimeUnixNano() <= span.GetStartTimeUnixNano() {
					at++
				}
				below = append(below[:at], append([]*traces.Span{span}, below[at:]...)...)
			}
		}
		for _, span := range below {
			failed := ""
			if span.GetStatus().GetCode() == traces.Status_STATUS_CODE_ERROR {
				failed = " failed"
			}
			fmt.Fprintf(&b, "%s%s%s\n", indent, span.GetName(), failed)
			show(fmt.Sprintf("%x", span.GetSpanId()), indent+"  ")
		}
	}
	show("00f067aa0ba902b7", "")
	return b.String()
}

// A trace of the kubelet's goes on in MasCRI: one span for each step, plugin and engine call.
func TestTraceOfAPod(t *testing.T) {
	got := collectSpans(t)
	n := newNode(t, enginetest.Engine28, nil, append(chaosDir(t), "--tracing-endpoint="+got.address, "--tracing-sampling-per-million=0")...)
	n.writeConf(t, "10-chaos.conflist", chaosConf(`{}`))
	within := func(trace string) context.Context {
		return metadata.AppendToOutgoingContext(t.Context(), "traceparent", "00-"+trace+"-00f067aa0ba902b7-01")
	}
	n.removePod(t, n.runPod(t, config("first")).id) // the image is there from now on
	const run, fail = "4bf92f3577b34da6a3ce929d0e0e4736", "4bf92f3577b34da6a3ce929d0e0e4737"
	resp, err := n.cri.RunPodSandbox(within(run), &cri.RunPodSandboxRequest{Config: config("web")})
	if err != nil {
		t.Fatal(err)
	}
	n.writeConf(t, "10-chaos.conflist", chaosConf(`{"verbs": ["ADD"], "fault": true, "code": 11, "exit": 1}`))
	if _, err := n.cri.RunPodSandbox(within(fail), &cri.RunPodSandboxRequest{Config: config("bad")}); err == nil {
		t.Error("a pod runs whose plugin fails")
	}
	n.removePod(t, resp.GetPodSandboxId())
	n.wantWhole(t, 0)
	n.terminate(t) // which sends all
	const first, last = "runtime.v1.RuntimeService/RunPodSandbox\n  files\n  create\n    engine container_create\n  start\n    engine container_start\n", "  hosts\n"
	const plugins, inspect = "    CNI ADD bridge\n    CNI ADD chaosplugin\n", "    engine container_inspect\n"
	// Attaching begins beside the start; where the engine is quicker, it comes afterwards.
	want := first + "  attach\n" + plugins + "  inspect\n" + inspect + last
	for _, late := range []string{"", inspect} {
		if other := first + "  inspect\n" + inspect + "  attach\n" + late + plugins + last; got.tree(run) == other {
			want = other
		}
	}
	if diff := cmp.Diff(want, got.tree(run)); diff != "" {
		t.Errorf("trace of a pod that runs (-want +got):\n%s", diff)
	}
	failed := got.tree(fail)
	for _, want := range []string{"RunPodSandbox failed\n", "  attach failed\n", "    CNI ADD bridge\n", "    CNI ADD chaosplugin failed\n", "    CNI DEL bridge\n", "  undo\n", "    engine container_remove\n"} {
		if !strings.Contains(failed, want) {
			t.Errorf("the trace of a pod whose plugin fails lacks %q:\n%s", want, failed)
		}
	}
	got.mu.Lock()
	defer got.mu.Unlock()
	for _, span := range got.all {
		if trace := fmt.Sprintf("%x", span.GetTraceId()); trace != run && trace != fail {
			t.Errorf("span %s is of trace %s, which nobody asked for", span.GetName(), trace)
		}
	}
	if got.from["service.name"] != "mascri" || got.from["service.instance.id"] == "" {
		t.Errorf("spans are from %v", got.from)
	}
}
