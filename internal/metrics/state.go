package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// State is what is asked of the parts when somebody reads.
type State struct {
	EngineUp, NetworkReady bool
	Sandboxes, Containers  int  // in the index
	IndexComplete          bool // none is missing there
	Drift                  uint64
	Dirty                  int
	DirtySince             time.Time // of the oldest; zero: there is none
	Leaks                  map[string]int
	LogLines, LogBytes     uint64
	LogGaps, LogErrors     uint64
	LogDamagedBytes        uint64
	LogsBehind             int
	LogLag                 time.Duration
}

var (
	engineUp      = plain("mascri_engine_up", "Whether Docker Engine answers.")
	networkReady  = plain("mascri_network_ready", "Whether pods can be given a network: the condition NetworkReady.")
	indexObjects  = plain("mascri_index_objects", "Sandboxes and containers in the index, by kind.", "kind")
	indexComplete = plain("mascri_index_complete", "Whether the engine could inspect all containers that it told of.")
	indexDrift    = plain("mascri_index_drift_total", "Containers that a resync found to differ from what events had told.")
	dirty         = plain("mascri_cni_dirty_attachments", "Attachments on the dirty queue: CNI DEL keeps failing for them.")
	dirtyAge      = plain("mascri_cni_dirty_oldest_seconds", "For how long the oldest attachment has been on the dirty queue; 0: none is.")
	leaksLeft     = plain("mascri_leaks", "Leftovers of former pods that could not be mended, by kind.", "kind")
	logLines      = plain("mascri_log_lines_total", "Lines written to CRI log files; each part of a long one counts.")
	logBytes      = plain("mascri_log_written_bytes_total", "Bytes written to CRI log files.")
	logGaps       = plain("mascri_log_gaps_total", "Places in CRI log files where lines were lost, which a line there tells.")
	logErrors     = plain("mascri_log_errors_total", "Failures to read or write logs; each is tried again.")
	logDamaged    = plain("mascri_log_damaged_bytes_total", "Bytes of the engine's log files that were damaged and skipped.")
	logsBehind    = plain("mascri_log_containers_behind", "Containers whose log is held up or has more to be copied.")
	logLag        = plain("mascri_log_lag_seconds", "For how long the log that is behind for longest has been so.")
)

func plain(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

// stateCollector tells a state.
type stateCollector struct{ read func() State }

// Describe implements prometheus.Collector.
func (stateCollector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		engineUp, networkReady, indexObjects, indexComplete, indexDrift, dirty, dirtyAge, leaksLeft,
		logLines, logBytes, logGaps, logErrors, logDamaged, logsBehind, logLag,
	} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (c stateCollector) Collect(to chan<- prometheus.Metric) {
	s := c.read()
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	count := func(d *prometheus.Desc, value uint64) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value))
	}
	gauge(engineUp, truth(s.EngineUp))
	gauge(networkReady, truth(s.NetworkReady))
	gauge(indexObjects, float64(s.Sandboxes), "sandbox")
	gauge(indexObjects, float64(s.Containers), "container")
	gauge(indexComplete, truth(s.IndexComplete))
	count(indexDrift, s.Drift)
	gauge(dirty, float64(s.Dirty))
	age := time.Duration(0)
	if !s.DirtySince.IsZero() {
		age = time.Since(s.DirtySince)
	}
	gauge(dirtyAge, age.Seconds())
	for kind, n := range s.Leaks {
		gauge(leaksLeft, float64(n), kind)
	}
	count(logLines, s.LogLines)
	count(logBytes, s.LogBytes)
	count(logGaps, s.LogGaps)
	count(logErrors, s.LogErrors)
	count(logDamaged, s.LogDamagedBytes)
	gauge(logsBehind, float64(s.LogsBehind))
	gauge(logLag, s.LogLag.Seconds())
}

func truth(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
