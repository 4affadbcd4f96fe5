package sink

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are those of the store stage, shared by its loops.
type Metrics struct {
	// Retries counts rounds that failed and were tried again, Skipped blocks that had been taken before.
	Retries, Skipped prometheus.Counter

	rows    [tableCount]prometheus.Counter
	seconds prometheus.Histogram
	blocks  *prometheus.GaugeVec
	offset  *prometheus.GaugeVec
	delay   *prometheus.GaugeVec
	halted  *prometheus.GaugeVec
}

// NewMetrics registers the metrics of the store stage.
func NewMetrics(registerer prometheus.Registerer) *Metrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "tollgate", Subsystem: "store", Name: name, Help: help})
		registerer.MustRegister(c)
		return c
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "tollgate", Subsystem: "store", Name: name, Help: help}, []string{"shard"})
		registerer.MustRegister(g)
		return g
	}
	m := &Metrics{
		Retries: counter("retries_total", "Rounds that failed and were tried again."),
		Skipped: counter("skipped_blocks_total", "Blocks of postings that were there before and were skipped."),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "tollgate", Subsystem: "store", Name: "insert_seconds",
			Help: "Time that inserts took.", Buckets: prometheus.ExponentialBuckets(0.005, 2, 13)}),
		blocks: gauge("lag_blocks", "Blocks of postings that a shard has not read yet."),
		offset: gauge("stored_offset", "Offset in entries up to which a shard is stored."),
		delay:  gauge("delay_seconds", "Time from the append of a shard's newest stored entry until it was stored."),
		halted: gauge("halted", "1 while a shard is not read because its postings are missing or damaged."),
	}
	rows := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "tollgate", Subsystem: "store", Name: "rows_total",
		Help: "Rows inserted, by table."}, []string{"table"})
	registerer.MustRegister(rows, m.seconds)
	for i, name := range tableNames {
		m.rows[i] = rows.WithLabelValues(name)
	}
	return m
}

func (m *Metrics) inserted(rows *Rows, took time.Duration) {
	for i := range rows.tables {
		m.rows[i].Add(float64(rows.tables[i].len()))
	}
	m.seconds.Observe(took.Seconds())
}

func (m *Metrics) lag(shard int32, blocks int64) {
	m.blocks.WithLabelValues(strconv.Itoa(int(shard))).Set(float64(max(0, blocks)))
}

func (m *Metrics) stored(shard int32, last int64, delay time.Duration) {
	label := strconv.Itoa(int(shard))
	m.offset.WithLabelValues(label).Set(float64(last))
	m.delay.WithLabelValues(label).Set(delay.Seconds())
}

func (m *Metrics) halt(shard int32) { m.halted.WithLabelValues(strconv.Itoa(int(shard))).Set(1) }

// Forget ends the series of the loops that have ended: what was theirs is told by whoever has it now.
func (m *Metrics) Forget() {
	m.blocks.Reset()
	m.offset.Reset()
	m.delay.Reset()
	m.halted.Reset()
}
