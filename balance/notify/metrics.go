package notify

import (
	"slices"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are those of the act stage's events, shared by its loops.
type Metrics struct {
	// Retries counts rounds that failed and were tried again, Skipped blocks of postings that the log holds again.
	Retries, Skipped prometheus.Counter

	events  map[string]prometheus.Counter
	lagging *prometheus.GaugeVec
	halted  *prometheus.GaugeVec
}

// NewMetrics registers the metrics.
func NewMetrics(registerer prometheus.Registerer) *Metrics {
	const namespace, subsystem = "tollgate", "notify"
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help})
		registerer.MustRegister(c)
		return c
	}
	m := &Metrics{
		Retries: counter("retries_total", "Rounds that failed and were tried again."),
		Skipped: counter("skipped_total", "Blocks of postings that the log holds again, and that were skipped."),
		events:  map[string]prometheus.Counter{},
		lagging: prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Subsystem: subsystem, Name: "lag_blocks",
			Help: "Blocks of postings of a shard that are not looked at yet."}, []string{"shard"}),
		halted: prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Subsystem: subsystem, Name: "halted",
			Help: "1 while a shard is not read because its postings are missing or damaged."}, []string{"shard"}),
	}
	events := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: "events_total",
		Help: "Events appended, by type; one that is sent again counts again."}, []string{"type"})
	registerer.MustRegister(events, m.lagging, m.halted)
	for _, name := range append(slices.Clone(Types), RecordRejected) {
		m.events[name] = events.WithLabelValues(name)
	}
	return m
}

func (m *Metrics) lag(shard int32) prometheus.Gauge {
	return m.lagging.WithLabelValues(strconv.Itoa(int(shard)))
}

func (m *Metrics) halt(shard int32) { m.halted.WithLabelValues(strconv.Itoa(int(shard))).Set(1) }

// Forget ends the series of the loops that have ended: what was theirs is told by whoever has it now.
func (m *Metrics) Forget() {
	m.lagging.Reset()
	m.halted.Reset()
}
