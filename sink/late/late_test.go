package late

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tollgate/tollgate/balance/posting"
	"github.com/tollgate/tollgate/rater/entry"
)

const (
	seeds    = 40
	troubled = 1000 // steps until the troubles end
)

// history plays a seed: troubled times first, then peace until everything is read.
func history(t testing.TB, seed uint64, mutate func(*world)) (*world, error) {
	w := newWorld(t, seed, 1+int(seed%3))
	w.carriers, w.faulty = true, true
	mutate(w)
	cfg := DefaultConfig()
	cfg.MaxLate, cfg.RecordsPerQuery, cfg.EntriesPerBlock = 1+w.r.IntN(8), 1+w.r.IntN(4), 1+w.r.IntN(4)
	w.run(cfg, func() bool {
		if w.steps >= troubled {
			w.carriers, w.faulty, w.down, w.storeHeld, w.maxStepMs = false, false, false, false, 60_000
		}
		if w.steps > 20*troubled {
			t.Fatalf("seed %d: the logs are not read to their ends after %d steps", seed, w.steps)
		}
		return w.steps > troubled && w.settled()
	})
	return w, w.check()
}

func TestEveryRecordIsChargedOnce(t *testing.T) {
	var late, bounced, records int
	for seed := range uint64(seeds) {
		w, err := history(t, seed, func(*world) {})
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		late, bounced, records = late+w.lateUsage, bounced+w.bounced, records+len(w.copies)
	}
	t.Logf("%d records, %d late postings, %d releases that were late again", records, late, bounced)
	if late == 0 || bounced == 0 {
		t.Error("the seeds do not try what they should")
	}
}

func TestMutantsAreSeen(t *testing.T) {
	mutants := map[string]func(*world){
		"not waiting for store":           func(w *world) { w.storeLies = true },
		"seen now":                        func(w *world) { w.seenNow = true },
		"release without looking up":      func(w *world) { w.ledgerBlind = true },
		"late is charged, without asking": func(w *world) { w.ledgerGuess = true },
	}
	for name, mutate := range mutants {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(seeds) {
				if _, err := history(t, seed, mutate); err != nil {
					t.Logf("seed %d: %v", seed, err)
					return
				}
			}
			t.Error("no seed sees the mutant")
		})
	}
}

// appendLate appends n late records to the entries of a shard, perBlock in a block.
func appendLate(w *world, shard, n, perBlock int) {
	p := w.partitions[shard]
	var b entry.Block
	for n > 0 {
		b.Reset(carrier, p.carrierAt)
		for range min(n, perBlock) {
			p.carrierAt = entry.Position{Offset: p.carrierAt.Offset + 1}
			id := uint64(shard) + uint64(len(w.partitions)*(1+len(w.copies)))
			w.copies[id]++
			b.Add(&entry.Entry{Kind: entry.Usage, Service: 2, Account: 4, Number: 1555, AmountUnits: -7, Position: p.carrierAt, Tariff: 8, Row: 9,
				DurationSeconds: 61, Billed: 66, LocalDay: 19_000, EventMs: w.nowMs - 2*windowMs, IDHash: id, ID: fmt.Append(nil, id), Peer: []byte("+1555")})
		}
		n -= b.Len()
		w.append(shard, b.AppendTo(nil))
	}
}

// closing is a block that concerns no record.
func closing() []byte {
	var b entry.Block
	b.Reset(entry.Source{}, entry.None)
	b.Add(&entry.Entry{Kind: entry.Close})
	return b.AppendTo(nil)
}

func TestBacklogIsDecidedInBulk(t *testing.T) {
	w := newWorld(t, 1, 2)
	w.maxStepMs = 1000
	for shard, n := range []int{10_000, 100} {
		appendLate(w, shard, n, 50)
		for p := w.partitions[shard]; p.next < int64(len(p.entries)); {
			w.debit(p)
		}
	}
	cfg := DefaultConfig()
	w.run(cfg, w.settled)
	if err := w.check(); err != nil {
		t.Fatal(err)
	}
	if most := 6; w.lookUps > most {
		t.Errorf("%d look-ups for 10,100 late records, want at most %d", w.lookUps, most)
	}
	releases := map[int]int{}
	for _, p := range w.partitions {
		for _, m := range p.entries {
			var b entry.Block
			if err := b.Decode(m.value); err != nil {
				t.Fatal(err)
			}
			if b.Kind[0] == entry.Release {
				releases[b.Len()]++
			}
		}
	}
	if releases[cfg.EntriesPerBlock] < 4 {
		t.Errorf("blocks of releases by length: %v", releases)
	}
}

func TestReleaseIsTheRecord(t *testing.T) {
	w := newWorld(t, 2, 1)
	w.maxStepMs = 1000
	appendLate(w, 0, 1, 1)
	p := w.partitions[0]
	w.debit(p)
	p.postings = append(p.postings, p.postings[0], p.postings[0]) // repeats are skipped
	w.run(DefaultConfig(), w.settled)
	if len(p.entries) != 2 {
		t.Fatalf("%d blocks of entries, want the record's and one release", len(p.entries))
	}
	var usage, release entry.Entry
	var from, to entry.Block
	if err := from.Decode(p.entries[0].value); err != nil {
		t.Fatal(err)
	}
	if err := to.Decode(p.entries[len(p.entries)-1].value); err != nil {
		t.Fatal(err)
	}
	if to.Source != (entry.Source{}) || to.Prev != entry.None || to.Len() != 1 {
		t.Errorf("%d releases of source %v", to.Len(), to.Source)
	}
	from.Get(0, &usage)
	to.Get(0, &release)
	usage.Kind, usage.Position, usage.Args = entry.Release, entry.Position{}, [entry.ArgCount]int64{entry.ArgSeenMs: p.entries[0].timeMs}
	if fmt.Sprint(usage) != fmt.Sprint(release) {
		t.Errorf("\n got %v\nwant %v", release, usage)
	}
}

// TestWaitingHoldsOnlyItsShard has store stand still: late records wait, without many questions; a shard without any
// goes on; and nothing of what waits is committed.
func TestWaitingHoldsOnlyItsShard(t *testing.T) {
	w := newWorld(t, 3, 2)
	w.maxStepMs, w.storeHeld = 1000, true
	appendLate(w, 0, 3, 1)
	for range 50 {
		w.append(1, closing())
	}
	cfg := DefaultConfig()
	w.run(cfg, func() bool { return w.now > time.Minute })
	if w.lookUps > 0 || w.asks < 30 || w.asks > 61 {
		t.Errorf("in a minute, %d look-ups and %d questions how far store has come", w.lookUps, w.asks)
	}
	if waits, goesOn := w.commits[0].Offset, w.commits[1].Offset; waits > 0 || int(goesOn) != len(w.partitions[1].postings) {
		t.Errorf("committed %d of the shard that waits, and %d of the other", waits, goesOn)
	}
	w.storeHeld = false
	w.down = true // ClickHouse is away; store had written everything
	for _, p := range w.partitions {
		p.stored = posting.Cursor{Next: int64(len(p.postings)), Last: p.next - 1}
	}
	w.run(cfg, func() bool { return w.now > 3*time.Minute })
	if w.lookUps == 0 || w.lookUps > 130 {
		t.Errorf("%d look-ups while ClickHouse was away for two minutes", w.lookUps)
	}
	w.down = false
	w.run(cfg, w.settled)
	if err := w.check(); err != nil {
		t.Error(err)
	}
}

func TestFullBatchIsSentFirst(t *testing.T) {
	w := newWorld(t, 4, 1)
	w.maxStepMs, w.batchMessages = 1000, 2
	appendLate(w, 0, 23, 23)
	cfg := DefaultConfig()
	cfg.EntriesPerBlock = 3
	w.run(cfg, w.settled)
	if err := w.check(); err != nil {
		t.Error(err)
	}
}

func TestShardHaltsAtWhatCannotBe(t *testing.T) {
	late := func(kind entry.Kind, id uint64) []byte {
		var b entry.Block
		b.Reset(entry.Source{}, entry.None)
		b.Add(&entry.Entry{Kind: kind, IDHash: id})
		return posting.AppendTo(nil, 0, 1, 1, posting.AppendOutcomes(nil, []posting.Outcome{{Result: posting.Late}}), b.AppendTo(nil))
	}
	damaged := late(entry.Usage, 7)
	damaged[len(damaged)-1] ^= 1
	cases := []struct {
		name, want string
		value      []byte
	}{
		{"gap", "the postings of entries 0 to 3 are missing", posting.AppendTo(nil, 4, 1, 0, nil, (&entry.Block{}).AppendTo(nil))},
		{"garbage", "corrupt postings", []byte("garbage")},
		{"damaged", "checksum does not match", damaged},
		{"without an id", "only records with an id", late(entry.Usage, 0)},
		{"no record", "only records with an id", late(entry.Payment, 7)},
	}
	for _, c := range cases {
		w := newWorld(t, 5, 2)
		w.storeHeld = true
		w.partitions[0].postings = []message{{c.value, 1}}
		w.partitions[1].postings = []message{{late(entry.Usage, 7), 1}}
		l := w.loop(DefaultConfig())
		w.done = func() bool { return false }
		for range 3 {
			if err := l.round(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if got := l.shards[0]; !strings.Contains(got.halted, c.want) || got.taken != posting.Start {
			t.Errorf("%s: halted by %q at %+v", c.name, got.halted, got.taken)
		}
		if other := l.shards[1]; other.halted != "" || other.taken.Last != 0 {
			t.Errorf("%s: the other shard is at %+v, halted by %q", c.name, other.taken, other.halted)
		}
	}
}

func BenchmarkReadPostingsWithoutLate(b *testing.B) {
	var entries entry.Block
	entries.Reset(carrier, entry.None)
	outcomes := make([]posting.Outcome, 1000)
	for i := range outcomes {
		entries.Add(&entry.Entry{Kind: entry.Usage, IDHash: 1, ID: []byte("CA0123456789abcdef0123456789abcdef"), Peer: []byte("+15550100"), Position: entry.Position{Ix: uint32(i)}})
		outcomes[i].Result = posting.Charged
	}
	value := posting.AppendTo(nil, 0, 1, len(outcomes), posting.AppendOutcomes(nil, outcomes), entries.AppendTo(nil))
	for b.Loop() {
		if late, err := posting.Any(value, late); late || err != nil {
			b.Fatal(late, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/posting")
}

func TestReadingPostingsWithoutLateDoesNotAllocate(t *testing.T) {
	value := posting.AppendTo(nil, 0, 1, 1, posting.AppendOutcomes(nil, []posting.Outcome{{Result: posting.Charged}}), nil)
	if n := testing.AllocsPerRun(100, func() { _, _ = posting.Any(value, late) }); n > 0 {
		t.Errorf("%v allocations for a block", n)
	}
}
