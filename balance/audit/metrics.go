package audit

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tollgate/tollgate/balance/ledger"
)

// Metrics are those of the audit stage, shared by its loops.
type Metrics struct {
	// Audited counts entries compared, Differences postings that are not what the fold says: an alert fires on
	// anything but 0. Images counts images written, Retries rounds that failed and were tried again.
	Audited, Differences, Images, Retries prometheus.Counter

	age *prometheus.GaugeVec
}

// NewMetrics registers the metrics of the audit stage.
func NewMetrics(registerer prometheus.Registerer) *Metrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "tollgate", Subsystem: "audit", Name: name, Help: help})
		registerer.MustRegister(c)
		return c
	}
	m := &Metrics{
		Audited:     counter("entries_total", "Entries folded again and compared."),
		Differences: counter("difference_total", "Postings that are not what the fold says. Anything but 0 is an emergency."),
		Images:      counter("images_total", "Images of shards written."),
		Retries:     counter("retries_total", "Rounds that failed and were tried again."),
		age: prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "tollgate", Subsystem: "audit", Name: "newest_age_seconds",
			Help: "Age of the newest audited entry of a shard."}, []string{"shard"}),
	}
	registerer.MustRegister(m.age)
	return m
}

// of sets the age of a shard's newest audited entry.
func (m *Metrics) of(shard int32, state *ledger.Shard, now time.Time) {
	if state.NowMs > 0 {
		m.age.WithLabelValues(strconv.Itoa(int(shard))).Set(now.Sub(time.UnixMilli(state.NowMs)).Seconds())
	}
}

// Forget ends the series of the loops that have ended: what was theirs is told by whoever has it now.
func (m *Metrics) Forget() {
	m.age.Reset()
}
