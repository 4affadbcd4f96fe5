package verify

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"time"

	"github.com/tollgate/tollgate/balance/ledger"
	"github.com/tollgate/tollgate/balance/posting"
	"github.com/tollgate/tollgate/rater/entry"
	"github.com/tollgate/tollgate/rater/money"
	"github.com/tollgate/tollgate/rater/price"
)

const (
	startDay = 20_760 // in 2026
	hourMs   = 3_600_000
)

// world is a small installation: carriers' records and other entries over a few shards, applied by the fold of the debit
// stage. It plays the logs, Redis, the store's progress and the carriers' topics for verify.
type world struct {
	r        *rand.Rand
	shards   []*worldShard
	sources  []entry.Source
	next     []entry.Position // by source
	recordID int
	nowMs    int64
	first    int64 // offset at which the logs begin
	behind   int64 // blocks that the store has not stored
	holes    map[int64]bool
	bookDice *rand.Rand
	bookNext int64
	yields   []yielded
}

// yielded is a record of the book that became entries.
type yielded struct {
	offset int64
	shards Shards
}

var bookSource = entry.Source{TopicID: [16]byte{1, 1}}

type worldShard struct {
	state    *ledger.Shard
	entries  [][]byte
	times    []int64
	postings [][]byte
	recent   []entry.Entry // of usage, for copies
	intents  []entry.Entry // payments that may be made
}

func newWorld(seed uint64, shards, sources int) *world {
	w := &world{r: rand.New(rand.NewPCG(seed, 7)), nowMs: startDay * 24 * hourMs, holes: map[int64]bool{},
		bookDice: rand.New(rand.NewPCG(seed, 8))}
	for range shards {
		w.shards = append(w.shards, &worldShard{state: ledger.New()})
	}
	for i := range sources {
		w.sources = append(w.sources, entry.Source{TopicID: [16]byte{9, 8, 7, byte(i)}, Partition: int32(i)})
		w.next = append(w.next, entry.Position{})
	}
	for _, s := range w.shards { // a short window, so that generations turn, and few attempts, so that recharges are given up
		w.append(s, w.block(entry.Source{}, entry.Entry{Kind: entry.Param, Args: [4]int64{int64(ledger.WindowMs), 20 * hourMs}},
			entry.Entry{Kind: entry.Param, Args: [4]int64{int64(ledger.Attempts), 2}}))
	}
	return w
}

func (w *world) account() uint32 { return 1 + uint32(w.r.IntN(20*len(w.shards))) }

func (w *world) shardOf(account uint32) int { return int(account) % len(w.shards) }

func (w *world) block(source entry.Source, entries ...entry.Entry) *entry.Block {
	b := &entry.Block{}
	b.Reset(source, entry.None)
	for i := range entries {
		b.Add(&entries[i])
	}
	return b
}

// append gives the block to the shard's log and lets the fold apply it.
func (w *world) append(s *worldShard, b *entry.Block) {
	w.nowMs += w.r.Int64N(hourMs / 4)
	offset := int64(len(s.entries))
	wire := b.AppendTo(nil)
	outcomes := s.state.Fold(offset, w.nowMs, b, nil)
	s.entries, s.times = append(s.entries, wire), append(s.times, w.nowMs)
	s.postings = append(s.postings, posting.AppendTo(nil, offset, w.nowMs, b.Len(), posting.AppendOutcomes(nil, outcomes), wire))
	for i, o := range outcomes {
		if o.Flags&posting.OpenedIntent != 0 {
			for attempt := range int64(3) {
				s.intents = append(s.intents, entry.Entry{Kind: entry.Payment, Account: b.Account[i], AmountUnits: o.IntentUnits, Args: [4]int64{offset, int64(i), attempt}})
			}
		}
	}
}

// usage makes the next records of one carrier and spreads them over the shards.
func (w *world) usage(records int) {
	which := w.r.IntN(len(w.sources))
	byShard := make([][]entry.Entry, len(w.shards))
	for range records {
		position := w.next[which]
		if w.r.IntN(4) == 0 { // several records in one message
			w.next[which].Ix++
		} else {
			w.next[which] = entry.Position{Offset: position.Offset + 1}
		}
		w.recordID++
		e := entry.Entry{
			Kind: entry.Usage, Service: price.Service(1 + w.r.IntN(4)), Account: w.account(), Number: 15_550_000_000 + uint64(w.r.IntN(100)),
			AmountUnits: money.Amount(-w.r.Int64N(80_000_000)), EventMs: w.nowMs - w.r.Int64N(2*hourMs), DurationSeconds: uint32(w.r.IntN(900)),
			Billed: uint32(w.r.IntN(900)), Tariff: 1, Row: uint32(w.r.IntN(50_000)), IDHash: uint64(w.recordID), ID: fmt.Appendf(nil, "CA%08d", w.recordID), Peer: []byte("+14165550199"),
		}
		s := w.shards[w.shardOf(e.Account)]
		switch w.r.IntN(30) {
		case 0: // a copy
			if len(s.recent) > 0 {
				e = s.recent[w.r.IntN(len(s.recent))]
			}
		case 1: // a late one
			e.EventMs -= 40 * hourMs
		case 2:
			e.Kind, e.Reason, e.Account, e.AmountUnits, e.Extra = entry.Rejected, entry.UnknownNumber, 0, 0, []byte(`{"raw":1}`)
		case 3:
			e.Kind, e.Args = entry.Release, [4]int64{w.nowMs - w.r.Int64N(20*hourMs)}
		case 4:
			e.AmountUnits = -money.Limit + 5
		}
		e.LocalDay, e.Position = int32(e.EventMs/(24*hourMs)), position
		shard := w.shardOf(e.Account)
		if e.Kind == entry.Usage {
			w.shards[shard].recent = append(w.shards[shard].recent, e)
		}
		byShard[shard] = append(byShard[shard], e)
	}
	for i, entries := range byShard {
		if len(entries) > 0 {
			b := w.block(w.sources[which], entries...)
			w.append(w.shards[i], b)
			if w.r.IntN(6) == 0 { // an append that is repeated
				w.append(w.shards[i], b)
			}
		}
	}
}

// other makes an entry that is not usage.
func (w *world) other() {
	account := w.account()
	s := w.shards[w.shardOf(account)]
	e := entry.Entry{Account: account, EventMs: w.nowMs, LocalDay: int32(w.nowMs / (24 * hourMs)), IDHash: w.r.Uint64N(3000) << 32, ID: []byte("key")}
	switch w.r.IntN(12) {
	case 0, 1, 2:
		e.Kind, e.AmountUnits, e.Args = entry.Account, money.Amount(w.r.Int64N(2_000_000_000)), [4]int64{w.r.Int64N(3), 500_000_000, 2_000_000_000 * w.r.Int64N(2)}
	case 3:
		e.Kind, e.AmountUnits = entry.Number, -150_000_000
	case 4:
		e.Kind, e.Args = entry.Zone, [4]int64{w.r.Int64N(4) - 1}
	case 5:
		for _, each := range w.shards {
			w.append(each, w.block(entry.Source{}, entry.Entry{Kind: entry.Close, Args: [4]int64{w.r.Int64N(4) - 1, w.nowMs/(24*hourMs) - w.r.Int64N(3)}}))
		}
		return
	case 6, 7:
		if len(s.intents) == 0 {
			return
		}
		e = s.intents[len(s.intents)-1-w.r.IntN(min(6, len(s.intents)))]
		if w.r.IntN(4) > 0 {
			e.Kind, e.AmountUnits = entry.PaymentFailed, 0
		}
	case 8:
		e.Kind = entry.Wake
	case 9:
		e.Kind, e.AmountUnits, e.Extra = entry.Credit, money.Amount(w.r.Int64N(3_000_000_000)), []byte("bank transfer")
		if w.r.IntN(5) == 0 {
			e.AmountUnits, e.EventMs = 5_000_000_000_000_000, w.nowMs-w.r.Int64N(20*hourMs)
		}
	case 10:
		e.Kind, e.AmountUnits = entry.Adjustment, money.Amount(w.r.Int64N(2_000_000_000)-1_000_000_000)
	case 11:
		e.Kind, e.Args = entry.Settings, [4]int64{1, w.r.Int64N(1_000_000_000), w.r.Int64N(2_000_000_000)}
	}
	w.append(s, w.block(entry.Source{}, e))
}

// decide makes the next records of the book: some yield nothing, some an entry of one shard, some one of every shard.
func (w *world) decide() {
	w.bookNext += w.bookDice.Int64N(5)
	account := w.account()
	e := entry.Entry{Kind: entry.Number, Account: account, Position: entry.Position{Offset: w.bookNext}}
	from := int32(w.shardOf(account))
	y := yielded{w.bookNext, Shards{from, from + 1}}
	if w.bookDice.IntN(10) == 0 {
		e.Kind, e.Account, e.Args = entry.Close, 0, [4]int64{1, startDay - 5}
		y.shards = Shards{0, int32(len(w.shards))}
	}
	for shard := y.shards.From; shard < y.shards.Until; shard++ {
		for range 1 + w.bookDice.IntN(2) { // some appends are repeated
			w.append(w.shards[shard], w.block(bookSource, e))
		}
	}
	w.yields, w.bookNext = append(w.yields, y), w.bookNext+1
}

func (w *world) live(steps, records int) *world {
	for range steps {
		w.decide()
		w.usage(1 + w.r.IntN(records))
		w.other()
		if w.r.IntN(40) == 0 {
			w.nowMs += 15 * hourMs
		}
	}
	return w
}

// The world as verify sees it.

func (w *world) Bounds(_ context.Context, shard int32) (start, end int64, err error) {
	return w.first, int64(len(w.shards[shard].entries)), nil
}

func (w *world) Entries(_ context.Context, shard int32, from, to int64, yield func(offset, appendMs int64, block []byte) error) error {
	s := w.shards[shard]
	for offset := from; offset <= to; offset++ {
		if err := yield(offset, s.times[offset], s.entries[offset]); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) Postings(_ context.Context, shard int32, from, to int64, yield func(block []byte) error) error {
	for offset := from; offset <= to; offset++ {
		if err := yield(w.shards[shard].postings[offset]); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) Stored(_ context.Context, shards []int32) ([]int64, error) {
	stored := make([]int64, len(shards))
	for i, shard := range shards {
		stored[i] = int64(len(w.shards[shard].entries)) - 1 - w.behind
	}
	return stored, nil
}

func (w *world) Applied(_ context.Context, shards []int32) ([]int64, error) {
	applied := make([]int64, len(shards))
	for i, shard := range shards {
		applied[i] = w.shards[shard].state.WM
	}
	return applied, nil
}

func (w *world) Shard(_ context.Context, shard int32) (int64, map[uint32]Balance, error) {
	state := w.shards[shard].state
	accounts := map[uint32]Balance{}
	for id, a := range state.Accounts {
		accounts[id] = Balance{Units: int64(a.BalanceUnits), Suspended: a.Suspended, IntentUnits: int64(a.Intent.AmountUnits)}
	}
	return state.WM, accounts, nil
}

func (w *world) Committed(context.Context) ([]Rated, error) {
	var rated []Rated
	for i, source := range w.sources {
		rated = append(rated, Rated{Name: fmt.Sprintf("carrier[%d]", i), Source: source, First: 0, Next: w.next[i].Offset})
	}
	return rated, nil
}

func (w *world) Entered(context.Context) (Rated, error) {
	return Rated{Name: "book[0]", Source: bookSource, Next: w.bookNext}, nil
}

func (w *world) Yields(before int64) iter.Seq2[int64, Shards] {
	return func(yield func(int64, Shards) bool) {
		for _, y := range w.yields {
			if y.offset >= before || !yield(y.offset, y.shards) {
				return
			}
		}
	}
}

func (w *world) Messages(_ context.Context, _ entry.Source, from, to int64) (int64, error) {
	n := int64(0)
	for ; from <= to; from++ {
		if !w.holes[from] {
			n++
		}
	}
	return n, nil
}

func (w *world) Now() time.Time { return time.UnixMilli(w.nowMs) }

func (w *world) Sleep(_ context.Context, d time.Duration) { w.nowMs += d.Milliseconds() }
