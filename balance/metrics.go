package balance

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tollgate/tollgate/balance/lua"
	"github.com/tollgate/tollgate/balance/posting"
)

// Metrics are those of the debit stage, shared by its loops.
type Metrics struct {
	// Retries counts rounds that failed and were tried again, Rewinds shards that had lost what they had applied,
	// Loads shards that were loaded from an image.
	Retries, Rewinds, Loads prometheus.Counter

	results   [posting.Unmatched + 1]prometheus.Counter
	recharges prometheus.Counter
	suspended prometheus.Counter
	restored  prometheus.Counter
	lagging   *prometheus.GaugeVec
	halted    *prometheus.GaugeVec
}

// NewMetrics registers the metrics of the debit stage.
func NewMetrics(registerer prometheus.Registerer) *Metrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "tollgate", Subsystem: "debit", Name: name, Help: help})
		registerer.MustRegister(c)
		return c
	}
	m := &Metrics{
		Retries:   counter("retries_total", "Rounds that failed and were tried again."),
		Rewinds:   counter("rewinds_total", "Times that a shard had lost what it had applied, and was rewound."),
		Loads:     counter("loads_total", "Times that a shard was loaded from an image."),
		recharges: counter("recharges_wanted_total", "Recharges decided."),
		suspended: counter("suspensions_total", "Accounts suspended."),
		restored:  counter("restorations_total", "Accounts restored."),
		lagging: prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "tollgate", Subsystem: "debit", Name: "lag_blocks",
			Help: "Blocks of entries that a shard has not applied yet."}, []string{"shard"}),
		halted: prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "tollgate", Subsystem: "debit", Name: "halted",
			Help: "1 while a shard stands still because it sees what cannot be, or needs a newer build."}, []string{"shard"}),
	}
	entries := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "tollgate", Subsystem: "debit", Name: "entries_total",
		Help: "Entries applied, by result."}, []string{"result"})
	registerer.MustRegister(entries, m.lagging, m.halted)
	for r := posting.Repeated; r <= posting.Unmatched; r++ {
		m.results[r] = entries.WithLabelValues(r.String())
	}
	return m
}

func (m *Metrics) lag(shard int32) prometheus.Gauge {
	return m.lagging.WithLabelValues(strconv.Itoa(int(shard)))
}

// halt tells whether a shard stands still for a reason that is no operator's.
func (m *Metrics) halt(shard int32, halted bool) {
	value := 0.0
	if halted {
		value = 1
	}
	m.halted.WithLabelValues(strconv.Itoa(int(shard))).Set(value)
}

// count adds up the outcomes of one call.
func (m *Metrics) count(blocks []lua.BlockOutcomes) {
	var results [posting.Unmatched + 1]int
	var recharges, suspended, restored int
	for _, b := range blocks {
		for i := range b.Count {
			result, flags := posting.Peek(b.Bytes, i)
			if result <= posting.Unmatched {
				results[result]++
			}
			recharges += int(flags / posting.OpenedIntent & 1)
			suspended += int(flags / posting.BecameSuspended & 1)
			restored += int(flags / posting.BecameRestored & 1)
		}
	}
	for r, n := range results {
		if n > 0 {
			m.results[r].Add(float64(n))
		}
	}
	m.recharges.Add(float64(recharges))
	m.suspended.Add(float64(suspended))
	m.restored.Add(float64(restored))
}

// Forget ends the series of the loops that have ended: what was theirs is told by whoever has it now.
func (m *Metrics) Forget() {
	m.lagging.Reset()
	m.halted.Reset()
}
