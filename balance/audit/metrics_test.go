package audit

import (
	"context"
	"log/slog"
	"maps"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tollgate/tollgate/balance/ledger"
)

// standing is a clock that stands still until it is moved.
type standing struct{ now time.Time }

func (c *standing) Now() time.Time { return c.now }

func (c *standing) Sleep(context.Context, time.Duration) {}

// A loop that does nothing any more shows it: the age of its newest audited entries grows while nobody sets it. What a loop
// of this process does not have any more is not shown.
func TestAgeGrowsByItself(t *testing.T) {
	registry, clock := prometheus.NewRegistry(), &standing{now: time.UnixMilli(1_790_000_005_000)}
	m := NewMetrics(registry, clock)
	shown := func() map[string]float64 {
		t.Helper()
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		values := map[string]float64{}
		for _, f := range families {
			for _, series := range f.GetMetric() {
				if len(series.GetLabel()) == 1 {
					values[f.GetName()+"/"+series.GetLabel()[0].GetValue()] = series.GetGauge().GetValue()
				}
			}
		}
		return values
	}
	expect := func(when string, want map[string]float64) {
		t.Helper()
		if got := shown(); !maps.Equal(got, want) {
			t.Errorf("%s: %v, not %v", when, got, want)
		}
	}

	m.of(3, &ledger.Shard{WM: 41, NowMs: 1_790_000_000_000})
	m.of(4, &ledger.Shard{WM: -1})
	expect("audited", map[string]float64{"tollgate_audit_newest_age_seconds/3": 5, "tollgate_audit_newest_offset/3": 41})
	clock.now = clock.now.Add(time.Hour)
	expect("an hour later", map[string]float64{"tollgate_audit_newest_age_seconds/3": 3605, "tollgate_audit_newest_offset/3": 41})

	l := NewLoop(Deps{Clock: clock, Metrics: m, Logger: slog.New(slog.DiscardHandler)}, DefaultConfig(), []int32{3})
	l.stop(l.shards[0], "what cannot be")
	expect("halted", map[string]float64{"tollgate_audit_newest_age_seconds/3": 3605, "tollgate_audit_newest_offset/3": 41, "tollgate_audit_halted/3": 1})
	m.Forget()
	expect("given away", map[string]float64{})
}
