package sink

import (
	"fmt"
	"math/rand/v2"

	"github.com/tollgate/tollgate/balance/posting"
	"github.com/tollgate/tollgate/rater/entry"
	"github.com/tollgate/tollgate/rater/money"
	"github.com/tollgate/tollgate/rater/price"
)

const dayMs = 24 * 3600 * 1000

// firstDay is a day of 2026, from which the tests' times count.
const firstDay = 20_760

var testSource = entry.Source{TopicID: [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, Partition: 3}

// randomBlock makes postings that agree with themselves in no other way than that each is a possible row.
func randomBlock(r *rand.Rand, entryOffset int64, n int) *posting.Block {
	b := &posting.Block{EntryOffset: entryOffset, AppendMs: firstDay*dayMs + entryOffset*1000}
	b.Entries.Reset(testSource, entry.None)
	for i := range n {
		kind := entry.Usage
		if r.IntN(4) == 0 {
			kind = entry.Kind(1 + r.IntN(15))
		}
		e := entry.Entry{
			Kind: kind, Account: 1 + uint32(r.IntN(50)), Number: 15_550_000_000 + uint64(r.IntN(1000)),
			AmountUnits: money.Amount(-r.Int64N(1_000_000)), Position: entry.Position{Offset: entryOffset, Ix: uint32(i)},
			EventMs: firstDay*dayMs + r.Int64N(2*dayMs), LocalDay: firstDay + int32(r.IntN(2)), IDHash: r.Uint64(),
			ID: fmt.Appendf(nil, "CA%016x", r.Uint64()), Peer: fmt.Appendf(nil, "+1%010d", r.IntN(1e9)),
			Service: price.Service(1 + r.IntN(4)), DurationSeconds: uint32(r.IntN(4000)), Billed: uint32(r.IntN(4000)),
			Tariff: uint32(r.IntN(9)), Row: uint32(r.IntN(50_000)),
		}
		o := posting.Outcome{
			Result: posting.Charged, Flags: posting.Flags(r.IntN(256)) &^ posting.OpenedIntent, StatementDay: e.LocalDay + int32(r.IntN(2)),
			AmountUnits: e.AmountUnits, BalanceUnits: money.Amount(r.Int64N(1e15)),
		}
		switch {
		case r.IntN(20) == 0:
			o.Result, o.AmountUnits = posting.Repeated, 0
		case kind == entry.Rejected:
			e.Reason, e.Extra, o.Result, o.AmountUnits = entry.Reason(1+r.IntN(6)), []byte("raw \x00\xff record"), posting.Rejected, 0
		case kind != entry.Usage && kind != entry.Release:
			o.Result, e.Args, e.Extra = posting.Applied, [entry.ArgCount]int64{r.Int64(), -r.Int64(), 3, 4}, []byte("note")
		case r.IntN(5) == 0:
			o.Result, o.AmountUnits = posting.Late, 0
		case r.IntN(100) == 0:
			o.Flags, o.IntentUnits = o.Flags|posting.OpenedIntent, 1_000_000
		}
		b.Entries.Add(&e)
		b.Outcomes = append(b.Outcomes, o)
	}
	return b
}
