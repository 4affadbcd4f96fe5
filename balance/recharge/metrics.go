package recharge

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are those of recharging, shared by its workers and reconcilers.
type Metrics struct {
	// Retries counts rounds that failed and were tried again, Failures gateway calls without an answer.
	Retries, Failures prometheus.Counter
	// Lookups counts look-ups of attempts, Held charges that were due and not sent for the kill switch, the velocity
	// limit or the rest.
	Lookups, Held prometheus.Counter
	// Payments counts Payment entries appended, Reconciled those of them that the reconciler found, Wakes Wake entries.
	Payments, Reconciled, Wakes prometheus.Counter

	charges                   [NeedsAuthentication + 1]prometheus.Counter
	declined, unauthenticated prometheus.Counter
	open, oldest              *prometheus.GaugeVec
}

// NewMetrics registers the metrics.
func NewMetrics(registerer prometheus.Registerer) *Metrics {
	const namespace, subsystem = "tollgate", "recharge"
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help})
		registerer.MustRegister(c)
		return c
	}
	vector := func(name, help, label string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help}, []string{label})
		registerer.MustRegister(c)
		return c
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help}, []string{"shard"})
		registerer.MustRegister(g)
		return g
	}
	m := &Metrics{
		Retries:    counter("retries_total", "Rounds that failed and were tried again."),
		Failures:   counter("gateway_failures_total", "Calls to the gateway that gave no answer."),
		Lookups:    counter("lookups_total", "Look-ups of the attempts of an intent."),
		Held:       counter("charges_held_total", "Charges that were due and held back: kill switch, velocity limit, gateway at rest."),
		Payments:   counter("payments_total", "Payment entries appended; one that is appended again counts again."),
		Reconciled: counter("reconciled_total", "Payment entries appended because the gateway's report has a capture that no account was credited for."),
		Wakes:      counter("wakes_total", "Wake entries appended."),
		open:       gauge("open_intents", "Recharges of a shard that are decided and not settled."),
		oldest:     gauge("oldest_intent_seconds", "Age of the oldest recharge of a shard that is not settled."),
	}
	charges := vector("charges_total", "Charges answered, by status.", "status")
	failed := vector("payments_failed_total", "PaymentFailed entries appended, by status.", "status")
	for s := Unknown; s <= NeedsAuthentication; s++ {
		m.charges[s] = charges.WithLabelValues(s.String())
	}
	m.declined, m.unauthenticated = failed.WithLabelValues(Declined.String()), failed.WithLabelValues(NeedsAuthentication.String())
	return m
}

// stated counts an entry by the status that it states.
func (m *Metrics) stated(s Status) {
	switch s {
	case Succeeded:
		m.Payments.Inc()
	case NeedsAuthentication:
		m.unauthenticated.Inc()
	default:
		m.declined.Inc()
	}
}

func (m *Metrics) openIntents(shard int32, n int, oldestSeconds float64) {
	label := strconv.Itoa(int(shard))
	m.open.WithLabelValues(label).Set(float64(n))
	m.oldest.WithLabelValues(label).Set(oldestSeconds)
}

// Forget ends the series of the loops that have ended: what was theirs is told by whoever has it now.
func (m *Metrics) Forget() {
	m.open.Reset()
	m.oldest.Reset()
}
