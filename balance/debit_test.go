package balance

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tollgate/tollgate/balance/lua"
	"github.com/tollgate/tollgate/rater/entry"
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

// A shard that stands at or beyond the end of its log may be ahead of it for a moment; one that stays so for ten seconds has
// applied what Kafka lost, and halts. Any look at which it stands before the end begins anew, and so does a shard loaded
// again.
func TestBeyondTheEnd(t *testing.T) {
	clock := &standing{now: time.UnixMilli(1_790_000_000_000)}
	l := NewLoop(Deps{Clock: clock, Metrics: NewMetrics(prometheus.NewRegistry()), Logger: slog.New(slog.DiscardHandler)}, DefaultConfig(), []int32{3})
	s := l.shards[0]
	for i, look := range []struct {
		after   time.Duration
		wm, end int64
		want    phase
	}{
		{0, 9, 10, running}, // at the end, as a shard at rest is
		{time.Hour, 9, 10, running},
		{0, 10, 10, running}, // applied, and not there
		{9999 * time.Millisecond, 10, 10, running},
		{0, 10, 11, running}, // the log has it after all
		{time.Millisecond, 11, 11, running},
		{9999 * time.Millisecond, 12, 11, running},
		{time.Millisecond, 12, 11, halted},
		{time.Hour, 12, 11, halted},
		{0, 8, 11, running}, // loaded again from an image
	} {
		clock.now = clock.now.Add(look.after)
		head := lua.Head{Initialized: true, WM: look.wm, Base: look.wm}
		if err := l.hear(t.Context(), s, &head, stream.Offsets{End: look.end}); err != nil || s.phase != look.want {
			t.Fatalf("look %d: phase %v, not %v; %v", i, s.phase, look.want, err)
		}
	}
}

// How far a shard is behind is shown also where it does not move: an operator halted it, or Redis does not answer.
func TestLagIsShown(t *testing.T) {
	registry, clock, away := prometheus.NewRegistry(), &standing{now: time.UnixMilli(1_790_000_000_000)}, &absent{}
	l := NewLoop(Deps{Clock: clock, Shards: away, Topics: away, Metrics: NewMetrics(registry), Logger: slog.New(slog.DiscardHandler)}, DefaultConfig(), []int32{3})
	expect := func(when string, want float64) {
		t.Helper()
		if shown := gauge(t, registry, "tollgate_debit_lag_blocks"); shown != want {
			t.Errorf("%s: %v blocks behind, not %v", when, shown, want)
		}
	}
	away.end, away.head = 10, lua.Head{Initialized: true, WM: 6, Base: 6}
	if err := l.ask(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect("running", 3)
	clock.now, away.end, away.head.Halted = clock.now.Add(time.Minute), 20, lua.ByHand+"a look"
	if err := l.ask(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect("halted by hand", 13)
	clock.now, away.end, away.failure = clock.now.Add(time.Minute), 30, errors.New("connection refused")
	if err := l.ask(t.Context()); !errors.Is(err, away.failure) {
		t.Fatal(err)
	}
	expect("without Redis", 23)
}

// A shard whose keys are damaged, or whose server of a cluster is away, waits, longer each time, while the others of its loop
// are applied and go on; when it answers again, it begins where it says it stands.
func TestOneShardDoesNotStopOthers(t *testing.T) {
	clock, away := &standing{now: time.UnixMilli(1_790_000_000_000)}, &absent{end: 30}
	l := NewLoop(Deps{Clock: clock, Shards: away, Topics: away, Metrics: NewMetrics(prometheus.NewRegistry()), Logger: slog.New(slog.DiscardHandler)}, DefaultConfig(), []int32{3, 4})
	for _, s := range l.shards {
		s.phase, s.next, s.used, s.heard = running, 7, 1, clock.now
		s.blocks, s.call.Blocks = make([]entry.Block, 1), []lua.BlockRef{{Offset: 7}}
	}
	damaged, other := l.shards[0], l.shards[1]
	away.refused, away.headRefused = map[int32]error{3: errors.New("WRONGTYPE")}, map[int32]error{3: errors.New("CLUSTERDOWN")}
	if err := l.apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	if damaged.phase != asking || damaged.used != 0 || damaged.next != 7 || other.phase != running || other.used != 1 {
		t.Fatalf("damaged %+v, other %+v", damaged, other)
	}
	asked := 0
	for range 1000 {
		clock.now = clock.now.Add(time.Millisecond)
		other.heard = clock.now
		if err := l.ask(t.Context()); err != nil {
			t.Fatal(err)
		}
		asked += len(l.ids)
	}
	if asked < 2 || asked > 8 {
		t.Errorf("asked %d times in a second", asked)
	}
	away.headRefused, away.head = nil, lua.Head{Initialized: true, WM: 6, Base: 6}
	clock.now = clock.now.Add(l.cfg.RetryMax)
	if err := l.ask(t.Context()); err != nil || damaged.phase != running || damaged.next != 7 {
		t.Errorf("%v, %+v", err, damaged)
	}
}

// absent is a Redis that only says where a shard stands, if anything, and a Kafka that only says where its log ends.
type absent struct {
	Shards
	stream.Topics
	head    lua.Head
	failure error
	end     int64
	// refused and headRefused are errors of single shards.
	refused, headRefused map[int32]error
}

func (a *absent) Heads(_ context.Context, shards []int32, heads []lua.Head) error {
	for i, shard := range shards {
		heads[i] = a.head
		if err := a.headRefused[shard]; err != nil {
			heads[i] = lua.Head{Err: err}
		}
	}
	return a.failure
}

func (a *absent) Apply(_ context.Context, calls []*lua.Call) error {
	for _, c := range calls {
		if c.Err = a.refused[c.Shard]; c.Err == nil {
			c.Reply = lua.Reply{Status: lua.OK}
		}
	}
	return a.failure
}

func (a *absent) ListOffsets(_ context.Context, _ string, shards []int32) (edges []stream.Offsets, err error) {
	for range shards {
		edges = append(edges, stream.Offsets{End: a.end})
	}
	return edges, nil
}

// standing is a clock that stands still until it is moved.
type standing struct{ now time.Time }

func (c *standing) Now() time.Time { return c.now }

func (c *standing) Sleep(context.Context, time.Duration) {}

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
