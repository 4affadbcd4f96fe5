package audit

import (
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tollgate/tollgate/balance/ledger"
	"github.com/tollgate/tollgate/rater/stream"
)

// Metrics are those of the audit stage, shared by its loops.
type Metrics struct {
	// Audited counts entries compared, Differences postings that are not what the fold says: an alert fires on
	// anything but 0. Images counts images written, Retries rounds that failed and were tried again.
	Audited, Differences, Images, Retries prometheus.Counter

	halted *prometheus.GaugeVec
	newest newest
}

// NewMetrics registers the metrics of the audit stage. The clock says how old the newest audited entries are.
func NewMetrics(registerer prometheus.Registerer, clock stream.Clock) *Metrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "tollgate", Subsystem: "audit", Name: name, Help: help})
		registerer.MustRegister(c)
		return c
	}
	gauge := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName("tollgate", "audit", name), help, []string{"shard"}, nil)
	}
	m := &Metrics{
		Audited:     counter("entries_total", "Entries folded again and compared."),
		Differences: counter("difference_total", "Postings that are not what the fold says. Anything but 0 is an emergency."),
		Images:      counter("images_total", "Images of shards written."),
		Retries:     counter("retries_total", "Rounds that failed and were tried again."),
		halted: prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "tollgate", Subsystem: "audit", Name: "halted",
			Help: "1 while a shard is not audited, because its logs hold what cannot be or need a newer build."}, []string{"shard"}),
		newest: newest{clock: clock, shards: map[int32]audited{},
			age:    gauge("newest_age_seconds", "Age of the newest audited entry of a shard."),
			offset: gauge("newest_offset", "Offset in entries of the newest audited block of a shard.")},
	}
	registerer.MustRegister(m.halted, &m.newest)
	return m
}

// of notes the newest audited entry of a shard.
func (m *Metrics) of(shard int32, state *ledger.Shard) {
	if state.NowMs > 0 {
		m.newest.mu.Lock()
		defer m.newest.mu.Unlock()
		m.newest.shards[shard] = audited{state.WM, state.NowMs}
	}
}

// halt shows a shard as one that is not audited.
func (m *Metrics) halt(shard int32) { m.halted.WithLabelValues(strconv.Itoa(int(shard))).Set(1) }

// Forget ends the series of the loops that have ended: what was theirs is told by whoever has it now.
func (m *Metrics) Forget() {
	m.halted.Reset()
	m.newest.mu.Lock()
	defer m.newest.mu.Unlock()
	clear(m.newest.shards)
}

// newest tells, whenever it is asked, how old the newest audited entry of each shard is by then: a gauge that the loop set
// would stand still when the loop does.
type newest struct {
	clock       stream.Clock
	age, offset *prometheus.Desc

	mu     sync.Mutex
	shards map[int32]audited
}

// audited is a block of entries: where it is, and when it was appended.
type audited struct{ offset, appendMs int64 }

// Describe names the two series of a shard.
func (n *newest) Describe(descs chan<- *prometheus.Desc) {
	descs <- n.age
	descs <- n.offset
}

// Collect gives them for all shards.
func (n *newest) Collect(metrics chan<- prometheus.Metric) {
	now := n.clock.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	for shard, at := range n.shards {
		name := strconv.Itoa(int(shard))
		metrics <- prometheus.MustNewConstMetric(n.age, prometheus.GaugeValue, now.Sub(time.UnixMilli(at.appendMs)).Seconds(), name)
		metrics <- prometheus.MustNewConstMetric(n.offset, prometheus.GaugeValue, float64(at.offset), name)
	}
}
