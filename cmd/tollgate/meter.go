package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/term"
)

// meter shows the progress of a running service from its own metrics: one line that is written over on a terminal, a
// line a second off it.
type meter struct {
	registry *prometheus.Registry
	out      io.Writer
	live     bool
	began    time.Time
	lastLine time.Time
	last     meterState
}

// meterState is what the metrics said.
type meterState struct {
	rated, rejected, debited, recharges, suspensions float64
	lag                                              float64 // messages, blocks and rows that are not through yet
	settled                                          int     // how many times in a row nothing moved
}

func newMeter(registry *prometheus.Registry, out io.Writer) *meter {
	file, isFile := out.(*os.File)
	return &meter{registry: registry, out: out, live: isFile && term.IsTerminal(int(file.Fd())), began: time.Now()}
}

// read adds up the metrics that matter here.
func (m *meter) read() meterState {
	var s meterState
	families, err := m.registry.Gather()
	if err != nil {
		return s
	}
	sums := map[string]*float64{
		"tollgate_rate_records_total": &s.rated, "tollgate_rate_rejected_total": &s.rejected, "tollgate_debit_entries_total": &s.debited,
		"tollgate_debit_recharges_wanted_total": &s.recharges, "tollgate_debit_suspensions_total": &s.suspensions,
		"tollgate_rate_lag_messages": &s.lag, "tollgate_debit_lag_blocks": &s.lag, "tollgate_store_lag_blocks": &s.lag,
	}
	for _, family := range families {
		sum, wanted := sums[family.GetName()]
		if !wanted {
			continue
		}
		for _, metric := range family.GetMetric() {
			*sum += metric.GetCounter().GetValue() + metric.GetGauge().GetValue()
		}
	}
	return s
}

// show reads the metrics, prints the line if it is time, and gives what it read.
func (m *meter) show() meterState {
	s := m.read()
	if s.rated == m.last.rated && s.debited == m.last.debited {
		s.settled = m.last.settled + 1
	}
	m.last = s
	if !m.live && time.Since(m.lastLine) < time.Second {
		return s
	}
	m.lastLine = time.Now()
	line := fmt.Sprintf("  %5.1f s  %8.0f rated  %7.0f/s  lag %6.0f  %5.0f rejected  %5.0f recharges wanted  %5.0f suspensions",
		time.Since(m.began).Seconds(), s.rated, s.rated/time.Since(m.began).Seconds(), s.lag, s.rejected, s.recharges, s.suspensions)
	if m.live {
		fmt.Fprintf(m.out, "\r%s\x1b[K", line)
	} else {
		fmt.Fprintln(m.out, line)
	}
	return s
}

// end leaves the line behind.
func (m *meter) end() {
	if m.live {
		fmt.Fprintln(m.out)
	}
}
