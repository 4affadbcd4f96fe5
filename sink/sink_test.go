package sink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"

	"github.com/tollgate/tollgate/balance/posting"
	"github.com/tollgate/tollgate/rater/entry"
	"github.com/tollgate/tollgate/rater/stream"
)

// house plays Kafka, ClickHouse and the clock for a loop. Every call may fail, by the seed; a failed insert may have
// written any part of its rows, a failed commit may have been made.
type house struct {
	t        rapid.TB
	r        *rand.Rand
	trouble  int // of 100 calls so many fail
	logs     [][][]byte
	commits  map[int32]stream.CommitOffset
	results  []stream.Fetched
	tables   map[string]string // key to content
	inserts  int
	perFetch int
	now      time.Time
	stop     context.CancelFunc
	steps    int
}

var errTrouble = errors.New("trouble")

func (h *house) fails() bool {
	h.steps--
	if h.steps <= 0 {
		h.stop()
	}
	return h.r.IntN(100) < h.trouble
}

func (h *house) Fetch(_ context.Context, positions []stream.Position, maxWait time.Duration) error {
	h.now = h.now.Add(time.Duration(h.r.Int64N(int64(maxWait) + 1)))
	if h.fails() {
		return errTrouble
	}
	h.results = make([]stream.Fetched, len(positions))
	for i, p := range positions {
		log := h.logs[p.Partition]
		var wire []byte
		for n := 0; n < h.r.IntN(h.perFetch+1) && p.Offset+int64(n) < int64(len(log)); n++ {
			var batch stream.Batch
			batch.Reset()
			batch.Append(nil, log[p.Offset+int64(n)])
			sealed, err := batch.Seal(stream.CodecNone, 0)
			if err != nil {
				h.t.Fatal(err)
			}
			stream.Stamp(sealed, p.Offset+int64(n), h.now.UnixMilli())
			wire = append(wire, sealed...)
		}
		h.results[i].Open(p, wire)
	}
	return nil
}

func (h *house) Result(i int) *stream.Fetched { return &h.results[i] }

func (h *house) TopicID(context.Context, string) (stream.TopicID, error) {
	if h.fails() {
		return stream.TopicID{}, errTrouble
	}
	return stream.TopicID{7}, nil
}

func (h *house) ListOffsets(context.Context, string, []int32) ([]stream.Offsets, error) {
	return nil, errTrouble
}

func (h *house) Commit(_ context.Context, _ string, _ stream.GenerationRef, offsets map[string][]stream.CommitOffset) error {
	lost := h.fails()
	if lost && h.r.IntN(2) == 0 {
		return errTrouble
	}
	for _, o := range offsets["postings"] {
		h.commits[o.Partition] = o
	}
	if lost {
		return errTrouble
	}
	return nil
}

func (h *house) Committed(_ context.Context, _, _ string, partitions []int32) ([]stream.CommitOffset, error) {
	if h.fails() {
		return nil, errTrouble
	}
	var committed []stream.CommitOffset
	for _, p := range partitions {
		c, ok := h.commits[p]
		if !ok {
			c = stream.CommitOffset{Partition: p, Offset: -1}
		}
		committed = append(committed, c)
	}
	return committed, nil
}

func (h *house) Insert(_ context.Context, rows *Rows) error {
	lost := h.fails()
	h.inserts++
	for i := range rows.tables {
		c := &rows.tables[i]
		for k := range c.account {
			if lost && h.r.IntN(2) == 0 {
				continue
			}
			key := fmt.Sprint(c.shard[k], c.entryOffset[k], c.ix[k])
			content := fmt.Sprint(i, c.account[k], c.number[k], c.id[k], c.amountUnits[k], c.balanceUnits[k], c.result[k], c.appendMs[k])
			if before, ok := h.tables[key]; ok && before != content {
				h.t.Fatalf("row %s was %s and is now %s", key, before, content)
			}
			h.tables[key] = content
		}
	}
	if lost {
		return errTrouble
	}
	return nil
}

func (h *house) Now() time.Time { return h.now }

func (h *house) Sleep(_ context.Context, d time.Duration) { h.now = h.now.Add(d) }

func newHouse(t rapid.TB, seed uint64) *house {
	return &house{t: t, r: rand.New(rand.NewPCG(seed, 1)), commits: map[int32]stream.CommitOffset{}, tables: map[string]string{},
		perFetch: 5, now: time.UnixMilli(firstDay * dayMs)}
}

// run runs a loop for so many calls, and then ends it, as a crash would.
func (h *house) run(cfg Config, shards []int32, calls int) *Loop {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	h.steps, h.stop = calls, stop
	loop := NewLoop(Deps{Reader: h, Topics: h, Commits: h, Store: h, Clock: h, Metrics: NewMetrics(prometheus.NewRegistry()),
		Logger: slog.New(slog.DiscardHandler)}, cfg, stream.GenerationRef{}, shards)
	if err := loop.Run(ctx); err != nil {
		h.t.Fatal(err)
	}
	return loop
}

// fill writes postings, some of them more than once, as debit may.
func (h *house) fill(shards, blocks int) (rows int) {
	h.logs = make([][][]byte, shards)
	for shard := range h.logs {
		var log [][]byte
		for offset := range int64(blocks) {
			b := randomBlock(h.r, offset, 1+h.r.IntN(6))
			rows += b.Entries.Len()
			log = append(log, wireOf(b))
			if h.r.IntN(5) == 0 {
				log = append(log, log[h.r.IntN(len(log))])
			}
		}
		h.logs[shard] = log
	}
	return rows
}

func wireOf(b *posting.Block) []byte {
	return posting.AppendTo(nil, b.EntryOffset, b.AppendMs, b.Entries.Len(), posting.AppendOutcomes(nil, b.Outcomes), b.Entries.AppendTo(nil))
}

func TestNothingIsLostOrDoubledWhateverFails(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := newHouse(t, rapid.Uint64().Draw(t, "seed"))
		h.trouble = rapid.IntRange(0, 60).Draw(t, "trouble")
		cfg := DefaultConfig()
		cfg.MaxRows = rapid.IntRange(1, 60).Draw(t, "rows")
		rows := h.fill(3, 15)
		for range 3 { // crashes; the shards move between owners
			h.run(cfg, []int32{0, 1}, h.r.IntN(60))
			h.run(cfg, []int32{2}, h.r.IntN(60))
			h.checkCommits()
		}
		h.trouble = 0
		loop := h.run(cfg, []int32{2, 0, 1}, 250)
		h.checkCommits()
		if len(h.tables) != rows {
			t.Fatalf("%d rows are stored of %d", len(h.tables), rows)
		}
		for _, s := range loop.shards {
			if s.halted != "" || s.stored.Last != 14 || s.stored.Next != int64(len(h.logs[s.id])) {
				t.Fatalf("shard %d: %+v", s.id, s)
			}
		}
	})
}

// checkCommits checks that what is committed is stored.
func (h *house) checkCommits() {
	for shard, c := range h.commits {
		p, err := posting.ParseCursor(c.Offset, c.Metadata, stream.TopicID{7})
		if err != nil {
			h.t.Fatal(err)
		}
		var b posting.Block
		for _, wire := range h.logs[shard][:p.Next] {
			if err := b.Decode(wire); err != nil {
				h.t.Fatal(err)
			}
			for ix := range b.Entries.Len() {
				if _, ok := h.tables[fmt.Sprint(uint16(shard), b.EntryOffset, uint32(ix))]; !ok || b.EntryOffset > p.Last {
					h.t.Fatalf("shard %d has committed %+v, but block %d is not stored", shard, p, b.EntryOffset)
				}
			}
		}
	}
}

func TestAGapHaltsItsShardOnly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := newHouse(t, rapid.Uint64().Draw(t, "seed"))
		h.fill(2, 20)
		var b posting.Block
		var cut [][]byte
		for _, wire := range h.logs[0] {
			if err := b.Decode(wire); err != nil {
				t.Fatal(err)
			}
			if b.EntryOffset != 10 {
				cut = append(cut, wire)
			}
		}
		h.logs[0] = cut
		loop := h.run(DefaultConfig(), []int32{0, 1}, 200)
		for _, s := range loop.shards {
			switch {
			case s.id == 0 && (s.stored.Last != 9 || !strings.Contains(s.halted, "entries 10 to 10 are missing")):
				t.Fatalf("the shard with the gap: %+v", s)
			case s.id == 1 && (s.stored.Last != 19 || s.halted != ""):
				t.Fatalf("the other shard: %+v", s)
			}
		}
		h.checkCommits()
	})
}

func TestACorruptBlockHalts(t *testing.T) {
	h := newHouse(t, 1)
	h.fill(1, 5)
	wire := append([]byte(nil), h.logs[0][len(h.logs[0])-1]...)
	wire[len(wire)-1] ^= 1
	h.logs[0] = [][]byte{wireOf(randomBlock(h.r, 0, 3)), wireOf(randomBlock(h.r, 1, 3)), wire}
	if s := h.run(DefaultConfig(), []int32{0}, 100).shards[0]; s.halted == "" || s.stored.Last > 1 {
		t.Fatalf("%+v", s)
	}
}

func TestRowsAreInsertedInFewLargeBlocks(t *testing.T) {
	h := newHouse(t, 3)
	h.perFetch = 50
	rows := h.fill(4, 100)
	cfg := DefaultConfig()
	cfg.MaxRows = 300
	h.run(cfg, []int32{0, 1, 2, 3}, 100)
	if len(h.tables) != rows || h.inserts > rows/300+20 {
		t.Fatalf("%d inserts for %d rows", h.inserts, rows)
	}
}

func TestIdleLoopsCommitAgain(t *testing.T) {
	h := newHouse(t, 3)
	h.fill(1, 3)
	h.run(DefaultConfig(), []int32{0}, 100)
	delete(h.commits, 0)
	h.run(DefaultConfig(), []int32{0}, 100)
	if p, err := posting.ParseCursor(h.commits[0].Offset, h.commits[0].Metadata, stream.TopicID{7}); err != nil || p.Last != 2 {
		t.Fatalf("%+v %v", p, err)
	}
}

// TestClosingsAreInsertedLast holds the order that readers rely on: who sees that a day is closed sees all that was before.
func TestClosingsAreInsertedLast(t *testing.T) {
	b := &posting.Block{EntryOffset: 5, AppendMs: firstDay * dayMs}
	b.Entries.Reset(testSource, entry.None)
	for _, kind := range []entry.Kind{entry.Close, entry.Credit, entry.Usage, entry.Close, entry.Zone, entry.Rejected, entry.Release} {
		b.Entries.Add(&entry.Entry{Kind: kind, Account: 1})
		b.Outcomes = append(b.Outcomes, posting.Outcome{Result: posting.Applied, StatementDay: firstDay})
	}
	var rows Rows
	rows.Append(4, b)
	var got []string
	for name, columns := range rows.Tables() {
		var kinds, places any
		for column, values := range columns {
			switch column {
			case "kind_code":
				kinds = values
			case "ix":
				places = values
			}
		}
		got = append(got, fmt.Sprintf("%s%v%v", name, kinds, places))
	}
	want := []string{"dead_letters<nil>[5]", "rated_records[1 9][2 6]", "account_entries[13 5][1 4]", "account_entries[6 6][0 3]"}
	if !slices.Equal(got, want) {
		t.Errorf("inserted in the order %q, want %q", got, want)
	}
}
