package balance

import (
	"log/slog"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tollgate/tollgate/balance/lua"
	"github.com/tollgate/tollgate/rater/stream"
)

// A shard that stands still is shown as halted for as long as it does: also while it is asked again and refuses once more,
// and no longer than that. One that an operator halted is not.
func TestHaltedIsShown(t *testing.T) {
	registry := prometheus.NewRegistry()
	l := NewLoop(Deps{Metrics: NewMetrics(registry), Logger: slog.New(slog.DiscardHandler)}, DefaultConfig(), []int32{3})
	s := l.shards[0]
	head := lua.Head{Initialized: true, WM: 4, Base: 4}
	asked := func() {
		t.Helper()
		if err := l.hear(t.Context(), s, &head, stream.Offsets{End: 10}); err != nil {
			t.Fatal(err)
		}
	}
	refuse := func(status lua.Status, detail string) func() {
		return func() {
			s.call.Reply = lua.Reply{Status: status, Detail: detail}
			l.answer(s)
		}
	}
	newer, halt, byHand := refuse(lua.Version, "fold 9"), refuse(lua.Halt, "what cannot be"), refuse(lua.Halt, lua.ByHand+"a look")
	for i, step := range []struct {
		round []func()
		shown float64
	}{
		{[]func(){asked}, 0},
		{[]func(){asked, newer}, 1},
		{nil, 1},
		{[]func(){asked, newer}, 1},
		{[]func(){asked}, 0},
		{[]func(){halt}, 1},
		{[]func(){asked, halt}, 1},
		{[]func(){asked, byHand}, 0},
	} {
		for _, do := range step.round {
			do()
		}
		l.show()
		if shown := gauge(t, registry, "tollgate_debit_halted"); shown != step.shown {
			t.Fatalf("round %d: shown as %v, not %v", i, shown, step.shown)
		}
	}
}

// gauge reads the only series of a gauge, 0 where there is none.
func gauge(t *testing.T, registry *prometheus.Registry, name string) (value float64) {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			value = f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	return value
}
