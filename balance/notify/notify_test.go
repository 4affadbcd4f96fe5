package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/tollgate/tollgate/balance/ledger"
	"github.com/tollgate/tollgate/balance/posting"
	"github.com/tollgate/tollgate/rater/entry"
	"github.com/tollgate/tollgate/rater/money"
	"github.com/tollgate/tollgate/rater/stream"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write the golden files anew")

const (
	unit    = money.Amount(money.UnitsPerMinor)
	startMs = 1_790_000_000_000
)

var topicID = stream.TopicID{1, 2}

// kafka is the logs and the group's memory, by hand.
type kafka struct {
	now       time.Time
	postings  map[int32][][]byte
	cut       map[int32]int64 // where a log begins
	committed map[int32]stream.CommitOffset
	commits   int
	fenced    error
	results   []stream.Fetched
	gathered  []message
	events    []message
	failures  int // sends that fail before one succeeds
	arriving  bool
	full      int
	unknown   map[uint32]bool // accounts that the book does not know
}

type message struct {
	partition  int32
	key, value string
}

func newKafka() *kafka {
	return &kafka{now: time.UnixMilli(startMs), postings: map[int32][][]byte{}, cut: map[int32]int64{},
		committed: map[int32]stream.CommitOffset{}, full: 1000, unknown: map[uint32]bool{}}
}

func (k *kafka) Now() time.Time { return k.now }

func (k *kafka) Sleep(_ context.Context, d time.Duration) { k.now = k.now.Add(d) }

func (k *kafka) TopicID(context.Context, string) (stream.TopicID, error) { return topicID, nil }

func (k *kafka) ListOffsets(context.Context, string, []int32) ([]stream.Offsets, error) {
	return nil, nil
}

func (k *kafka) Commit(_ context.Context, _ string, _ stream.GenerationRef, offsets map[string][]stream.CommitOffset) error {
	if k.fenced != nil {
		return k.fenced
	}
	k.commits++
	for _, o := range offsets["postings"] {
		k.committed[o.Partition] = o
	}
	return nil
}

func (k *kafka) Committed(_ context.Context, _, _ string, partitions []int32) (list []stream.CommitOffset, err error) {
	for _, p := range partitions {
		if o, ok := k.committed[p]; ok {
			list = append(list, o)
		} else {
			list = append(list, stream.CommitOffset{Partition: p, Offset: -1})
		}
	}
	return list, nil
}

func (k *kafka) Fetch(_ context.Context, positions []stream.Position, _ time.Duration) error {
	k.results = make([]stream.Fetched, len(positions))
	for i, p := range positions {
		f, log := &k.results[i], k.postings[p.Partition]
		if p.Offset < k.cut[p.Partition] {
			f.Open(p, nil)
			f.Err, f.LogStart = stream.ErrOffsetOutOfRange, k.cut[p.Partition]
			continue
		}
		var wire []byte
		for o := p.Offset; o < min(p.Offset+3, int64(len(log))); o++ {
			var b stream.Batch
			b.Reset()
			b.Append(nil, log[o])
			sealed, err := b.Seal(stream.CodecNone, 0)
			if err != nil {
				return err
			}
			stream.Stamp(sealed, o, startMs)
			wire = append(wire, sealed...)
		}
		f.Open(p, wire)
		f.HighWatermark = int64(len(log))
	}
	return nil
}

func (k *kafka) Result(i int) *stream.Fetched { return &k.results[i] }

// writer is the other half of kafka: Result means something else for it.
type writer struct{ *kafka }

func (w writer) Reset() { w.gathered = nil }

func (w writer) Append(_ string, partition int32, key, value []byte) error {
	if len(w.gathered) == w.full {
		return stream.ErrBatchFull
	}
	w.gathered = append(w.gathered, message{partition, string(key), string(value)})
	return nil
}

func (w writer) Send(context.Context) error {
	if w.failures > 0 {
		if w.failures--; w.arriving {
			w.events = append(w.events, w.gathered...)
		}
		return stream.ErrUnknownOutcome
	}
	w.events = append(w.events, w.gathered...)
	w.gathered = nil
	return nil
}

func (w writer) Result(int) stream.Produced { return stream.Produced{} }

// Currency keeps account 2 in yen.
func (k *kafka) Currency(account uint32) money.Currency {
	if k.unknown[account] {
		return money.Currency{}
	}
	c, _ := money.ParseCurrency(map[bool]string{true: "JPY", false: "USD"}[account == 2])
	return c
}

func (k *kafka) loop(shards ...int32) *Loop {
	cfg := DefaultConfig()
	cfg.Installation = "acme"
	return NewLoop(Deps{Reader: k, Writer: writer{k}, Topics: k, Commits: k, Currencies: k, Clock: k,
		Metrics: NewMetrics(prometheus.NewRegistry()), Logger: slog.New(slog.DiscardHandler)}, cfg, stream.GenerationRef{}, shards)
}

// life folds the entries, each a block of its own, and appends their postings.
func (k *kafka) life(shard int32, entries ...entry.Entry) {
	s := ledger.New()
	for i := range entries {
		var b entry.Block
		b.Reset(entry.Source{}, entry.None)
		b.Add(&entries[i])
		appendMs := startMs + int64(i)*1000
		outcomes := s.Fold(int64(i), appendMs, &b, nil)
		k.postings[shard] = append(k.postings[shard], posting.AppendTo(nil, int64(i), appendMs, 1, posting.AppendOutcomes(nil, outcomes), b.AppendTo(nil)))
	}
}

func opened(account uint32, balance, threshold, to money.Amount) entry.Entry {
	e := entry.Entry{Kind: entry.Account, Account: account, AmountUnits: balance}
	e.Args[entry.ArgThreshold], e.Args[entry.ArgRechargeTo] = int64(threshold), int64(to)
	return e
}

func usage(account uint32, amount money.Amount, id uint64) entry.Entry {
	return entry.Entry{Kind: entry.Usage, Account: account, AmountUnits: -amount, IDHash: id, EventMs: startMs}
}

func result(kind entry.Kind, account uint32, amount money.Amount, args ...int64) entry.Entry {
	e := entry.Entry{Kind: kind, Account: account, AmountUnits: amount}
	copy(e.Args[:], args)
	return e
}

// wholeLife goes through every event.
func wholeLife(k *kafka) {
	k.life(0,
		opened(1, 1500*unit, 1000*unit, 2500*unit),
		usage(1, 725_000, 11),
		usage(1, 600*unit, 12), // low, recharge wanted
		result(entry.PaymentFailed, 1, 0, 2, 0, 0, entry.FailureDeclined),
		usage(1, 1000*unit, 13), // suspended: the first attempt is over
		result(entry.PaymentFailed, 1, 0, 2, 0, 1, entry.FailureAuthentication),
		result(entry.PaymentFailed, 1, 0, 2, 0, 1, entry.FailureAuthentication), // again: nothing
		result(entry.PaymentFailed, 1, 0, 2, 0, 2, entry.FailureDeclined),       // given up
		result(entry.Payment, 1, 1601*unit, 2, 0, 1),                            // captured after all: restored, funded
		opened(2, 100*unit, 500*unit, 1000*unit),                                // yen, low from the start
		result(entry.Payment, 2, 900*unit, 9, 0, 0),
		result(entry.Payment, 2, 900*unit, 9, 0, 0), // again: nothing
		entry.Entry{Kind: entry.Wake, Account: 1},
	)
}

func rounds(t testing.TB, l *Loop, n int) {
	t.Helper()
	for range n {
		if err := l.round(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestEventsGolden(t *testing.T) {
	k := newKafka()
	wholeLife(k)
	rounds(t, k.loop(0), 6)
	var got bytes.Buffer
	seen := map[string]bool{}
	for _, m := range k.events {
		got.WriteString(m.value + "\n")
		var e Event
		if err := json.Unmarshal([]byte(m.value), &e); err != nil {
			t.Fatal(err)
		}
		if m.key != e.Subject || m.partition != e.Data.Shard {
			t.Errorf("%+v is about account %s of shard %d", m, e.Subject, e.Data.Shard)
		}
		seen[e.Type] = true
	}
	for _, name := range Types {
		if !seen[name] {
			t.Errorf("no %s", name)
		}
	}
	golden := filepath.Join("testdata", "events.jsonl")
	if *update {
		if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("events differ from %s; run with -update if they should:\n%s", golden, got.String())
	}
}

// Whatever fails, and wherever the loop is restarted, each event is in the log, first appearances are in order, and
// repeats are the same bytes.
func TestAtLeastOnceSameBytes(t *testing.T) {
	calm := newKafka()
	wholeLife(calm)
	rounds(t, calm.loop(0), 6)
	rapid.Check(t, func(t *rapid.T) {
		k := newKafka()
		wholeLife(k)
		log := k.postings[0]
		k.postings[0] = nil
		for i := range log { // the log repeats some of its blocks
			k.postings[0] = append(k.postings[0], log[i])
			if rapid.IntRange(0, 3).Draw(t, "repeat") == 0 {
				k.postings[0] = append(k.postings[0], log[rapid.IntRange(0, i).Draw(t, "block")])
			}
		}
		l := k.loop(0)
		for range 100 {
			switch rapid.IntRange(0, 6).Draw(t, "misfortune") {
			case 0:
				l = k.loop(0)
			case 1:
				k.failures, k.arriving = 1, rapid.Bool().Draw(t, "arriving")
			case 2:
				k.unknown[2] = !k.unknown[2]
			case 3:
				k.full = rapid.IntRange(1, 3).Draw(t, "full")
			}
			k.now = k.now.Add(time.Duration(rapid.IntRange(0, 800).Draw(t, "ms")) * time.Millisecond)
			_ = l.round(context.Background())
		}
		k.unknown[2], k.failures = false, 0
		for range 20 {
			if err := l.round(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		var first []message
		for _, m := range k.events {
			if !slices.Contains(first, m) {
				first = append(first, m)
			}
		}
		if !slices.Equal(first, calm.events) {
			t.Fatalf("%d events, %d different, want %d", len(k.events), len(first), len(calm.events))
		}
	})
}

// A shard with a gap, damage or a cut log is halted; the others go on.
func TestHalts(t *testing.T) {
	for name, spoil := range map[string]func(*kafka){
		"gap":    func(k *kafka) { k.postings[1] = append(k.postings[1][:1], k.postings[1][2:]...) },
		"damage": func(k *kafka) { k.postings[1][1][50] ^= 1 },
		"no block": func(k *kafka) {
			k.postings[1][1] = []byte("hello")
		},
		"cut": func(k *kafka) { k.cut[1] = 1 },
	} {
		k := newKafka()
		wholeLife(k)
		k.life(1, opened(5, 100*unit, 200*unit, 300*unit), usage(5, unit, 1), usage(5, unit, 2))
		spoil(k)
		l := k.loop(0, 1)
		rounds(t, l, 6)
		k.now = k.now.Add(time.Minute)
		rounds(t, l, 1)
		if l.shards[1].halted == "" || l.shards[0].halted != "" {
			t.Errorf("%s: halted %q and %q", name, l.shards[0].halted, l.shards[1].halted)
		}
		shown := make(chan prometheus.Metric, len(l.shards))
		if l.Metrics.halted.Collect(shown); len(shown) != 1 {
			t.Errorf("%s: %d shards are shown as halted", name, len(shown))
		}
		if name != "cut" && !strings.HasSuffix(k.committed[1].Metadata, " 0") {
			t.Errorf("%s: committed %+v", name, k.committed[1])
		}
		if last := k.events[len(k.events)-1]; last.partition != 0 {
			t.Errorf("%s: shard 0 did not go on", name)
		}
	}
}

// Positions are committed with the last entry offset and the topic's id, again and again when idle, and never before
// the events are in the log.
func TestCommits(t *testing.T) {
	k := newKafka()
	wholeLife(k)
	l := k.loop(0)
	rounds(t, l, 1)
	if k.commits != 0 {
		t.Fatal("committed within the second")
	}
	k.now = k.now.Add(time.Second)
	rounds(t, l, 5)
	want := posting.Cursor{Next: 3, Last: 2}
	if k.commits != 1 || k.committed[0].Metadata == "" {
		t.Fatalf("%d commits, %+v", k.commits, k.committed[0])
	}
	if want.Next = 6; k.committed[0].Offset != want.Next {
		t.Errorf("committed %+v", k.committed[0])
	}
	for range 3 {
		k.now = k.now.Add(time.Second)
		rounds(t, l, 1)
	}
	if c, err := posting.ParseCursor(k.committed[0].Offset, k.committed[0].Metadata, topicID); err != nil || c != (posting.Cursor{Next: 13, Last: 12}) || k.commits != 4 {
		t.Errorf("%+v, %v, %d commits", c, err, k.commits)
	}
	k.fenced = stream.ErrFenced
	k.now = k.now.Add(time.Second)
	if err := l.Run(context.Background()); err != nil {
		t.Errorf("a member whose generation is over ends with %v", err)
	}
}

// What cannot be appended at all is not committed, and Run ends in time.
func TestNeverSkips(t *testing.T) {
	k := newKafka()
	wholeLife(k)
	k.unknown[1] = true
	l := k.loop(0)
	k.now = k.now.Add(time.Minute)
	for range 5 {
		if err := l.round(context.Background()); err == nil || errors.Is(err, stream.ErrFenced) {
			t.Fatalf("an account without currency: %v", err)
		}
	}
	if c := l.shards[0].told; c != (posting.Cursor{Next: 2, Last: 1}) || len(k.events) != 0 {
		t.Errorf("told %+v, %d events", c, len(k.events))
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := l.Run(ctx); err != nil || k.committed[0].Offset != 2 {
		t.Errorf("%v, committed %+v", err, k.committed[0])
	}
}

func quietBlock(n int) []byte {
	var b entry.Block
	b.Reset(entry.Source{Partition: 1}, entry.None)
	outcomes := make([]posting.Outcome, n)
	for i := range n {
		e := usage(1, unit, uint64(i))
		b.Add(&e)
		outcomes[i] = posting.Outcome{Result: posting.Charged, Flags: posting.Low}
	}
	return posting.AppendTo(nil, 0, startMs, n, posting.AppendOutcomes(nil, outcomes), b.AppendTo(nil))
}

func TestQuietBlocksAllocateNothing(t *testing.T) {
	wire := quietBlock(1000)
	if n := testing.AllocsPerRun(100, func() {
		if speaks, err := posting.Any(wire, speaks); speaks || err != nil {
			t.Fatal(speaks, err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkQuietBlock(b *testing.B) {
	wire := quietBlock(1000)
	for b.Loop() {
		_, _ = posting.Any(wire, speaks)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/entry")
}
