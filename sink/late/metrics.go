package late

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are those of the late worker, shared by its loops. What is done again after a crash counts again.
type Metrics struct {
	// Found counts late records that were read. Each is decided once: Released counts those that were sent to their
	// shard again, AlreadyCharged those that ClickHouse knew as charged.
	Found, Released, AlreadyCharged prometheus.Counter
	// Retries counts rounds that failed and were tried again, Skipped blocks of postings that the log holds again.
	Retries, Skipped prometheus.Counter
	// Waiting is how many late records wait for store or for ClickHouse.
	Waiting prometheus.Gauge

	blocks *prometheus.GaugeVec
	halted *prometheus.GaugeVec
}

// NewMetrics registers the metrics.
func NewMetrics(registerer prometheus.Registerer) *Metrics {
	const namespace, subsystem = "tollgate", "late"
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help})
		registerer.MustRegister(c)
		return c
	}
	m := &Metrics{
		Found:          counter("found_total", "Late records that were read."),
		Released:       counter("released_total", "Late records that were never charged, and were sent to their shard again."),
		AlreadyCharged: counter("already_charged_total", "Late records that were charged before: duplicates."),
		Retries:        counter("retries_total", "Rounds that failed and were tried again."),
		Skipped:        counter("skipped_blocks_total", "Blocks of postings that were there before and were skipped."),
		Waiting: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Subsystem: subsystem, Name: "waiting_records",
			Help: "Late records that wait until they are stored and ClickHouse answers."}),
		blocks: prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Subsystem: subsystem, Name: "lag_blocks",
			Help: "Blocks of postings that a shard has not read yet."}, []string{"shard"}),
		halted: prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Subsystem: subsystem, Name: "halted",
			Help: "1 while a shard is not read because its postings are missing or damaged."}, []string{"shard"}),
	}
	registerer.MustRegister(m.Waiting, m.blocks, m.halted)
	return m
}

func (m *Metrics) lag(shard int32, blocks int64) {
	m.blocks.WithLabelValues(strconv.Itoa(int(shard))).Set(float64(max(0, blocks)))
}

func (m *Metrics) halt(shard int32) { m.halted.WithLabelValues(strconv.Itoa(int(shard))).Set(1) }

// Forget ends the series of the loops that have ended: what was theirs is told by whoever has it now.
func (m *Metrics) Forget() {
	m.blocks.Reset()
	m.halted.Reset()
}
