package rater

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tollgate/tollgate/rater/book"
	"github.com/tollgate/tollgate/rater/stream"
)

// standing is a clock that stands still until it is moved.
type standing struct{ now time.Time }

func (c *standing) Now() time.Time { return c.now }

func (c *standing) Sleep(context.Context, time.Duration) {}

// hindered is a Kafka whose partitions hold nothing, and fail as they are told to.
type hindered struct {
	failures map[int32]error
	results  []*stream.Fetched
}

func (h *hindered) Fetch(_ context.Context, positions []stream.Position, _ time.Duration) error {
	h.results = nil
	for _, p := range positions {
		h.results = append(h.results, &stream.Fetched{Position: p, Err: h.failures[p.Partition], HighWatermark: 9, LogStart: 7, NextOffset: p.Offset})
	}
	return nil
}

func (h *hindered) Result(i int) *stream.Fetched { return h.results[i] }

// bench is a loop over partitions 0 and 1 of a topic, with what is around it.
type bench struct {
	*testing.T
	kafka    *hindered
	clock    *standing
	registry *prometheus.Registry
	loop     *Loop
	book     *book.Book
}

func newBench(t *testing.T) *bench {
	b := &bench{t, &hindered{failures: map[int32]error{}}, &standing{now: time.UnixMilli(1_790_000_000_000)}, prometheus.NewRegistry(), nil, book.NewBuilder().Book()}
	deps := Deps{Reader: b.kafka, Clock: b.clock, Metrics: NewMetrics(b.registry), Logger: slog.New(slog.DiscardHandler)}
	b.loop = NewLoop(deps, DefaultConfig(), stream.GenerationRef{}, map[string][]int32{"carrier": {0, 1}})
	for _, s := range b.loop.sources {
		s.Offset, s.waitFor, s.gauges = 3, b.book.FrontierMs(), deps.Metrics.of(s.Topic, s.Partition)
	}
	return b
}

// round reads once after so long, and gives the partitions that were read.
func (b *bench) round(after time.Duration) (partitions []int32) {
	b.Helper()
	b.clock.now = b.clock.now.Add(after)
	if err := b.loop.read(b.Context(), b.book); err != nil {
		b.Fatal(err)
	}
	for i, s := range b.loop.fetching {
		partitions = append(partitions, s.Partition)
		b.loop.rate(b.book, s, b.kafka.Result(i), 100)
	}
	return partitions
}

// halted gives the partitions that are shown as halted.
func (b *bench) halted() (partitions []string) {
	b.Helper()
	families, err := b.registry.Gather()
	if err != nil {
		b.Fatal(err)
	}
	for _, f := range families {
		for _, series := range f.GetMetric() {
			if f.GetName() == "tollgate_rate_halted" && series.GetGauge().GetValue() == 1 {
				partitions = append(partitions, series.GetLabel()[0].GetValue())
			}
		}
	}
	return partitions
}

// A source whose log was cut before it was rated is not read any more, and shown; the other goes on.
func TestCutSourceHalts(t *testing.T) {
	b := newBench(t)
	b.kafka.failures[1] = stream.ErrOffsetOutOfRange
	if read := b.round(0); !slices.Equal(read, []int32{0, 1}) || !slices.Equal(b.halted(), []string{"1"}) {
		t.Errorf("read %v, halted %v", read, b.halted())
	}
	b.kafka.failures[1] = nil // the log grows, and holds no such offset all the same
	if read := b.round(time.Hour); !slices.Equal(read, []int32{0}) || !slices.Equal(b.halted(), []string{"1"}) {
		t.Errorf("an hour later: read %v, halted %v", read, b.halted())
	}
}

// A batch that cannot be read is tried again, later and later, is never skipped, and shown as what halts its source once it is
// clear that it stays so. The other source goes on at its own pace. When the batch can be read, all is as it was.
func TestUnreadableBatchIsShown(t *testing.T) {
	b := newBench(t)
	b.kafka.failures[1] = fmt.Errorf("offset 3: %w", stream.ErrCorrupt)
	tried := 0
	for range 100 {
		read := b.round(b.loop.cfg.RetryMin)
		if !slices.Contains(read, 0) {
			t.Fatalf("the other source is not read: %v", read)
		}
		if slices.Contains(read, 1) {
			tried++
		}
		if want := tried >= damagedAfter; want != (len(b.halted()) == 1) {
			t.Fatalf("halted %v after %d tries", b.halted(), tried)
		}
	}
	if s := b.loop.sources[1]; tried < damagedAfter || tried > 9 || s.Offset != 3 {
		t.Errorf("tried %d times in 2 s, at offset %d", tried, s.Offset)
	}
	b.kafka.failures[1] = nil
	if b.round(time.Minute); len(b.halted()) != 0 || b.loop.sources[1].hindrance.Failures != 0 {
		t.Errorf("halted %v though all can be read", b.halted())
	}

	b.kafka.failures[1] = stream.ErrUnknownTopic // as while a leader moves: that is not the source's fault
	for range 100 {
		b.round(b.loop.cfg.RetryMax)
	}
	if len(b.halted()) != 0 {
		t.Errorf("halted %v though only its leader is away", b.halted())
	}
}
