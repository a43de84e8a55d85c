// Package metrics owns what Prometheus reads of the daemon: the registry, what is counted as
// it happens, and what is asked of the parts when somebody reads. No label holds an id or
// anything else that a client chooses.
package metrics

import (
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics are those of one daemon. All methods are safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry

	rpcs           *prometheus.CounterVec
	rpcSeconds     *prometheus.HistogramVec
	engineSeconds  *prometheus.HistogramVec
	engineFailures *prometheus.CounterVec
	pluginSeconds  *prometheus.HistogramVec
	pluginFailures *prometheus.CounterVec
	leaksFound     *prometheus.CounterVec
	streams        *prometheus.CounterVec
	streamsOpen    *prometheus.GaugeVec
}

// New returns the metrics of a build.
func New(version, commit string) *Metrics {
	m := &Metrics{
		registry:       prometheus.NewRegistry(),
		rpcs:           counter("mascri_rpcs_total", "RPCs that ended, by name and gRPC status code.", "rpc", "code"),
		rpcSeconds:     histogram("mascri_rpc_duration_seconds", "How long RPCs took, by name; without those that last until their client leaves.", []float64{.001, .005, .025, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120}, "rpc"),
		engineSeconds:  histogram("mascri_engine_call_duration_seconds", "How long Docker Engine took to begin its answer, by operation.", []float64{.001, .005, .025, .1, .25, .5, 1, 2.5, 5, 10, 30}, "operation"),
		engineFailures: counter("mascri_engine_call_failures_total", "Calls of Docker Engine that failed, by operation and kind: not_found, conflict, refused, engine, unreachable, deadline, canceled.", "operation", "kind"),
		pluginSeconds:  histogram("mascri_cni_plugin_duration_seconds", "How long CNI plugins ran, by plugin and verb.", []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}, "plugin", "verb"),
		pluginFailures: counter("mascri_cni_plugin_failures_total", "Runs of CNI plugins that failed, by plugin, verb and kind: cni (it says so itself), crash, start, deadline, canceled.", "plugin", "verb", "kind"),
		leaksFound:     counter("mascri_leaks_found_total", "Leftovers of former pods that were found, by kind.", "kind"),
		streams:        counter("mascri_streams_total", "Streams that began, by kind: exec, attach, portforward.", "kind"),
		streamsOpen:    gauge("mascri_streams_open", "Streams that are open, by kind: exec, attach, portforward.", "kind"),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "mascri_build_info", Help: "1; the labels tell the build.",
		ConstLabels: prometheus.Labels{"version": version, "commit": commit, "go_version": runtime.Version(), "arch": runtime.GOARCH},
	})
	build.Set(1)
	m.registry.MustRegister(m.rpcs, m.rpcSeconds, m.engineSeconds, m.engineFailures, m.pluginSeconds, m.pluginFailures, m.leaksFound,
		m.streams, m.streamsOpen, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

func gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
}

func histogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
}

// RPC counts one that ended. A lasting one, which ends when its client leaves, has no
// duration worth telling.
func (m *Metrics) RPC(name, code string, took time.Duration, lasting bool) {
	m.rpcs.WithLabelValues(name, code).Inc()
	if !lasting {
		m.rpcSeconds.WithLabelValues(name).Observe(took.Seconds())
	}
}

// EngineCall counts a call of the engine; failure is "" for none.
func (m *Metrics) EngineCall(operation string, took time.Duration, failure string) {
	m.engineSeconds.WithLabelValues(operation).Observe(took.Seconds())
	if failure != "" {
		m.engineFailures.WithLabelValues(operation, failure).Inc()
	}
}

// Plugin counts a run of a CNI plugin; failure is "" for none.
func (m *Metrics) Plugin(plugin, verb string, took time.Duration, failure string) {
	m.pluginSeconds.WithLabelValues(plugin, verb).Observe(took.Seconds())
	if failure != "" {
		m.pluginFailures.WithLabelValues(plugin, verb, failure).Inc()
	}
}

// Leak counts a leftover that was found.
func (m *Metrics) Leak(kind string) { m.leaksFound.WithLabelValues(kind).Inc() }

// Stream counts a stream that begins; ended is to be called at its end.
func (m *Metrics) Stream(kind string) (ended func()) {
	m.streams.WithLabelValues(kind).Inc()
	open := m.streamsOpen.WithLabelValues(kind)
	open.Inc()
	return open.Dec
}

// Watch adds what read tells, which is called each time that somebody reads, and answers
// from memory. It must be called at most once.
func (m *Metrics) Watch(read func() State) { m.registry.MustRegister(stateCollector{read}) }

// Gatherer gives all metrics.
func (m *Metrics) Gatherer() prometheus.Gatherer { return m.registry }

func (m *Metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry, MaxRequestsInFlight: 4})
}
