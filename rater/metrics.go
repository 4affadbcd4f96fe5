package rater

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tollgate/tollgate/rater/entry"
	"github.com/tollgate/tollgate/rater/price"
)

// Metrics are those of the rate stage. Each loop has its own counts of records, added to the shared counters once a
// round.
type Metrics struct {
	// Retries counts rounds that failed and were tried again, Unstamped messages that their broker did not stamp.
	Retries, Unstamped prometheus.Counter

	rated    [price.MessageOut + 1]prometheus.Counter
	rejected [entry.OutOfBounds + 1]prometheus.Counter
	lagging  *prometheus.GaugeVec
	ahead    *prometheus.GaugeVec
	halted   *prometheus.GaugeVec
}

// NewMetrics registers the metrics of the rate stage.
func NewMetrics(registerer prometheus.Registerer) *Metrics {
	const namespace, subsystem = "tollgate", "rate"
	m := &Metrics{
		Retries: prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: "retries_total",
			Help: "Rounds that failed and were tried again."}),
		Unstamped: prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: "unstamped_total",
			Help: "Messages of topics that do not use LogAppendTime, as they must."}),
		lagging: prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Subsystem: subsystem, Name: "lag_messages",
			Help: "Messages of a carrier topic that are not rated yet."}, []string{"topic", "partition"}),
		ahead: prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Subsystem: subsystem, Name: "source_ahead_seconds",
			Help: "How far the newest record of a source was dated ahead of its arrival: the carrier's clock."}, []string{"topic", "partition"}),
		halted: prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Subsystem: subsystem, Name: "halted",
			Help: "1 while a source is not read: its log no longer holds what was not rated yet, or what comes next in it cannot be read."}, []string{"topic", "partition"}),
	}
	rated := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: "records_total",
		Help: "Records rated, by service."}, []string{"service"})
	rejected := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: "rejected_total",
		Help: "Records rejected, by reason."}, []string{"reason"})
	registerer.MustRegister(m.Retries, m.Unstamped, m.lagging, m.ahead, m.halted, rated, rejected)
	for s := price.VoiceIn; s <= price.MessageOut; s++ {
		m.rated[s] = rated.WithLabelValues(s.String())
	}
	for _, r := range entry.Reasons {
		m.rejected[r] = rejected.WithLabelValues(r.String())
	}
	return m
}

// tally counts the entries of one round of one loop.
type tally struct {
	rated    [price.MessageOut + 1]int
	rejected [entry.OutOfBounds + 1]int
}

func (t *tally) note(e *entry.Entry) {
	switch {
	case e.Kind == entry.Usage:
		t.rated[e.Service]++
	case e.Kind == entry.Rejected:
		t.rejected[e.Reason]++
	}
}

// add adds a tally to the counters and empties it.
func (m *Metrics) add(t *tally) {
	for s, n := range t.rated {
		if n > 0 && m.rated[s] != nil {
			m.rated[s].Add(float64(n))
		}
	}
	for r, n := range t.rejected {
		if n > 0 && m.rejected[r] != nil {
			m.rejected[r].Add(float64(n))
		}
	}
	*t = tally{}
}

// gauges are those of one source, resolved once.
type gauges struct{ lag, ahead prometheus.Gauge }

func (m *Metrics) of(topic string, partition int32) gauges {
	p := strconv.Itoa(int(partition))
	return gauges{m.lagging.WithLabelValues(topic, p), m.ahead.WithLabelValues(topic, p)}
}

// halt tells whether a source stands still until somebody does something.
func (m *Metrics) halt(topic string, partition int32, halted bool) {
	value := 0.0
	if halted {
		value = 1
	}
	m.halted.WithLabelValues(topic, strconv.Itoa(int(partition))).Set(value)
}

// Forget ends the series of the loops that have ended: what was theirs is told by whoever has it now.
func (m *Metrics) Forget() {
	m.lagging.Reset()
	m.ahead.Reset()
	m.halted.Reset()
}
