package verify

import (
	"context"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tollgate/tollgate/balance/posting"
	"github.com/tollgate/tollgate/rater/entry"
)

func TestRecountEqualsTheFold(t *testing.T) {
	results := map[posting.Result]int{}
	flags := posting.Flags(0)
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(rapid.Uint64().Draw(t, "seed"), 2, 2).live(60, 12)
		for shard, s := range w.shards {
			r := newRecount()
			var b entry.Block
			var p posting.Block
			for offset, wire := range s.entries {
				if err := b.Decode(wire); err != nil {
					t.Fatal(err)
				}
				if err := p.Decode(s.postings[offset]); err != nil {
					t.Fatal(err)
				}
				got, err := r.apply(int64(offset), s.times[offset], &b, nil)
				if err != nil {
					t.Fatal(err)
				}
				for i, o := range got {
					if o != p.Outcomes[i] {
						t.Fatalf("%s (%s): recounted %+v, folded %+v", place(int32(shard), int64(offset), uint32(i)), b.Kind[i], o, p.Outcomes[i])
					}
					results[o.Result]++
					flags |= o.Flags
				}
			}
			if len(r.accounts) != len(s.state.Accounts) {
				t.Fatalf("%d accounts recounted, %d folded", len(r.accounts), len(s.state.Accounts))
			}
		}
	})
	for result := posting.Repeated; result <= posting.Unmatched; result++ {
		if results[result] == 0 {
			t.Errorf("no entry was %s: the worlds are too tame", result)
		}
	}
	if flags != 255 {
		t.Errorf("flags seen: %08b", flags)
	}
}

// memory plays ClickHouse: the rows that the world's postings make, to be tampered with.
type memory struct {
	blocks map[[2]int64][]Row
}

func (w *world) stored() *memory {
	m := &memory{blocks: map[[2]int64][]Row{}}
	for shard, s := range w.shards {
		for offset, wire := range s.postings {
			p := &posting.Block{}
			if err := p.Decode(wire); err != nil {
				panic(err)
			}
			rows := make([]Row, p.Entries.Len())
			for i := range rows {
				rows[i].fill(&p.Entries, i, p.AppendMs, &p.Outcomes[i])
			}
			m.blocks[[2]int64{int64(shard), int64(offset)}] = rows
		}
	}
	return m
}

func (m *memory) Digests(_ context.Context, ranges []Range, yield func(shard int32, offset int64, d Digest)) error {
	for at, rows := range m.blocks {
		in := slices.ContainsFunc(ranges, func(r Range) bool { return int64(r.Shard) == at[0] && r.From <= at[1] && at[1] <= r.To })
		for i := range rows {
			var d Digest
			if d.add(&rows[i], nil); in {
				yield(int32(at[0]), at[1], d)
			}
		}
	}
	return nil
}

func (m *memory) Rows(_ context.Context, shard int32, offset int64) ([]Row, error) {
	return m.blocks[[2]int64{int64(shard), offset}], nil
}

func (m *memory) Sums(_ context.Context, shard int32, before int64) (map[uint32]*big.Int, error) {
	sums := map[uint32]*big.Int{}
	for at, rows := range m.blocks {
		for i := range rows {
			if at[0] == int64(shard) && at[1] < before && rows[i].Table != DeadLetters {
				if sums[rows[i].Account] == nil {
					sums[rows[i].Account] = new(big.Int)
				}
				sums[rows[i].Account].Add(sums[rows[i].Account], big.NewInt(rows[i].AmountUnits))
			}
		}
	}
	return sums, nil
}

func run(t testing.TB, w *world, rows Rows, cfg Config) *Report {
	t.Helper()
	cfg.Shards = int32(len(w.shards))
	report, err := Run(t.Context(), Deps{Logs: w, Rows: rows, Progress: w, Balances: w, Sources: w, Book: w, Clock: w}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func TestHonestDataHaveNoDifferences(t *testing.T) {
	w := newWorld(1, 3, 2).live(200, 20)
	rows := w.stored()
	for _, c := range []struct{ first, behind int64 }{{0, 0}, {0, 10}, {0, 100_000}, {40, 0}, {40, 10}, {1, 100_000}} {
		w.first, w.behind = c.first, c.behind
		report := run(t, w, rows, Config{ShardsPerScan: 2})
		if report.Differences != 0 {
			t.Errorf("logs from %d, store behind by %d: %s\n%s", c.first, c.behind, report, strings.Join(report.Examples, "\n"))
		}
		if report.Entries == 0 || report.Accounts == 0 || (report.Rows == 0) != (c.behind > 1000) {
			t.Errorf("too little was compared: %+v", report)
		}
		if c.first == 0 && report.Records < 1000 {
			t.Errorf("only %d records of the sources have rows", report.Records)
		}
	}
}

// rowWhere finds a row to tamper with.
func (m *memory) rowWhere(t testing.TB, fits func(*Row) bool) (at [2]int64, i int) {
	t.Helper()
	for offset := range int64(1000) {
		for shard := range int64(3) {
			at := [2]int64{shard, offset}
			for i := range m.blocks[at] {
				if offset > 50 && fits(&m.blocks[at][i]) {
					return at, i
				}
			}
		}
	}
	t.Fatal("no such row")
	return at, 0
}

func TestEveryTamperingIsFound(t *testing.T) {
	charged := func(r *Row) bool { return r.Result == uint8(posting.Charged) }
	cases := []struct {
		name   string
		tamper func(w *world, m *memory, at [2]int64, i int)
		want   string // in an example
		n      int64  // differences, -1 for any number
	}{
		{"missing row", func(_ *world, m *memory, at [2]int64, i int) { m.blocks[at] = slices.Delete(m.blocks[at], i, i+1) }, "has no row in rated_records", 1},
		{"changed amount", func(_ *world, m *memory, at [2]int64, i int) { m.blocks[at][i].AmountUnits-- }, "AmountUnits is", 1},
		{"changed balance", func(_ *world, m *memory, at [2]int64, i int) { m.blocks[at][i].BalanceUnits++ }, "BalanceUnits is", 1},
		{"changed result", func(_ *world, m *memory, at [2]int64, i int) { m.blocks[at][i].Result = uint8(posting.Duplicate) }, "Result is", 1},
		{"other account", func(_ *world, m *memory, at [2]int64, i int) { m.blocks[at][i].Account += 3 }, "Account is", 1},
		{"other position", func(_ *world, m *memory, at [2]int64, i int) { m.blocks[at][i].SourceOffset++ }, "SourceOffset is", 1},
		{"doubled row under another key", func(_ *world, m *memory, at [2]int64, i int) {
			double := m.blocks[at][i]
			double.StatementDay++
			m.blocks[at] = append(m.blocks[at], double)
		}, "2 rows with different keys", 1},
		{"row of no entry", func(_ *world, m *memory, at [2]int64, i int) {
			more := m.blocks[at][i]
			more.Ix = 999
			m.blocks[at] = append(m.blocks[at], more)
		}, "the block has no such entry", 1},
		{"missing block", func(_ *world, m *memory, at [2]int64, _ int) { delete(m.blocks, at) }, "has no row in", -1},
		{"wrong balance in Redis", func(w *world, m *memory, at [2]int64, i int) {
			w.shards[at[0]].state.Accounts[m.blocks[at][i].Account].BalanceUnits++
		}, "in Redis at block", 1},
		{"wrong status in Redis", func(w *world, m *memory, at [2]int64, i int) {
			a := w.shards[at[0]].state.Accounts[m.blocks[at][i].Account]
			a.Suspended = !a.Suspended
		}, "in Redis at block", 1},
		{"account gone from Redis", func(w *world, m *memory, at [2]int64, i int) {
			delete(w.shards[at[0]].state.Accounts, m.blocks[at][i].Account)
		}, "is not in Redis", 1},
		{"account from nowhere", func(w *world, m *memory, at [2]int64, i int) {
			w.shards[at[0]].state.Accounts[7777] = w.shards[at[0]].state.Accounts[m.blocks[at][i].Account]
		}, "the log does not know it", 1},
		{"record of the book without an entry", func(w *world, _ *memory, _ [2]int64, _ int) {
			w.yields = append(w.yields, yielded{w.bookNext, Shards{1, 2}})
			w.bookNext++
		}, "shard 1 has no row of the record at offset", 1},
		{"record of the book missing in one of all shards", func(w *world, _ *memory, _ [2]int64, _ int) {
			w.yields[len(w.yields)-1].shards = Shards{0, 3}
		}, "has no row of the record at offset", 2},
		{"entry of a record that yields none", func(w *world, _ *memory, _ [2]int64, _ int) {
			w.yields = append(w.yields[:7], w.yields[8:]...)
		}, "of the book, which is none of its own", -1},
		{"record never rated", func(w *world, _ *memory, _ [2]int64, _ int) { w.next[0].Offset += 3 }, "have no row", -1},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(3, 3, 2).live(150, 10)
			m := w.stored()
			at, i := m.rowWhere(t, charged)
			c.tamper(w, m, at, i)
			report := run(t, w, m, Config{})
			if report.Differences == 0 || c.n >= 0 && report.Differences != c.n || !strings.Contains(strings.Join(report.Examples, "\n"), c.want) {
				t.Errorf("%s\n%s", report, strings.Join(report.Examples, "\n"))
			}
		})
	}
}

func TestHolesThatTheSourceDoesNotHoldAreNoDifferences(t *testing.T) {
	w := newWorld(3, 2, 1).live(50, 5)
	m := w.stored()
	w.next[0].Offset += 2
	w.holes[w.next[0].Offset-1], w.holes[w.next[0].Offset-2] = true, true
	if report := run(t, w, m, Config{}); report.Differences != 0 {
		t.Errorf("%s\n%s", report, strings.Join(report.Examples, "\n"))
	}
}

func TestAllDifferencesAreCountedAndFewDescribed(t *testing.T) {
	w := newWorld(4, 2, 1).live(100, 10)
	m := &memory{}
	report := run(t, w, m, Config{Examples: 3})
	if len(report.Examples) != 3 || report.Differences != report.Entries {
		t.Errorf("%s, %d examples", report, len(report.Examples))
	}
	if report.String() != fmt.Sprintf("verify: %d entries, %d accounts, %d differences", report.Entries, report.Accounts, report.Differences) {
		t.Error(report)
	}
}

func TestALogWithoutABlockIsFound(t *testing.T) {
	w := newWorld(5, 1, 1).live(30, 10)
	m := w.stored()
	w.shards[0].entries[20] = nil // as if it were not there
	cut := skipping{w, 20}
	report, err := Run(t.Context(), Deps{Logs: cut, Rows: m, Progress: w, Balances: w, Sources: w, Book: w, Clock: w}, Config{Shards: 1})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(strings.Join(report.Examples, "\n"), "the log has block 21 after block 19") {
		t.Errorf("%s\n%s", report, strings.Join(report.Examples, "\n"))
	}
}

type skipping struct {
	*world
	offset int64
}

func (s skipping) Entries(ctx context.Context, shard int32, from, to int64, yield func(offset, appendMs int64, block []byte) error) error {
	return s.world.Entries(ctx, shard, from, to, func(offset, appendMs int64, block []byte) error {
		if offset == s.offset {
			return nil
		}
		return yield(offset, appendMs, block)
	})
}

func TestPatienceWaitsForTheStore(t *testing.T) {
	w := newWorld(6, 1, 1).live(10, 10)
	m := w.stored()
	w.behind = 5
	waiting := catching{w}
	report, err := Run(t.Context(), Deps{Logs: w, Rows: m, Progress: w, Balances: w, Sources: w, Book: w, Clock: waiting}, Config{Shards: 1, Patience: 10e9})
	if err != nil || report.Rows != report.Entries || report.Differences != 0 {
		t.Errorf("%v %+v", err, report)
	}
}

// catching lets the store catch up while verify sleeps.
type catching struct{ *world }

func (c catching) Sleep(ctx context.Context, d time.Duration) {
	c.world.Sleep(ctx, d)
	c.world.behind = max(0, c.world.behind-1)
}
