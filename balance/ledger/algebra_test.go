package ledger_test

import (
	"maps"
	"math/big"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tollgate/tollgate/balance/ledger"
	"github.com/tollgate/tollgate/balance/posting"
	"github.com/tollgate/tollgate/rater/entry"
	"github.com/tollgate/tollgate/rater/money"
)

// anyEntries draws entries of every kind but those that change the rules: of few accounts and few ids, so that they meet,
// at positions that ascend and sometimes repeat, with payments for offsets where intents may be.
func anyEntries(rt *rapid.T) []entry.Entry {
	kinds := []entry.Kind{entry.Usage, entry.Usage, entry.Usage, entry.Rejected, entry.Account, entry.Number, entry.Zone, entry.Payment,
		entry.PaymentFailed, entry.Wake, entry.Release, entry.Credit, entry.Adjustment, entry.Settings, entry.Close}
	entries := make([]entry.Entry, rapid.IntRange(1, 40).Draw(rt, "entries"))
	at := entry.Position{}
	for i := range entries {
		e := &entries[i]
		e.Kind = rapid.SampledFrom(kinds).Draw(rt, "kind")
		e.Account, e.IDHash = rapid.Uint32Range(1, 4).Draw(rt, "account"), rapid.Uint64Range(0, 60).Draw(rt, "id")
		e.AmountUnits = money.Amount(rapid.SampledFrom([]int64{0, -1, -300, -700, 900, 2_000_000, int64(money.Limit)}).Draw(rt, "amount"))
		e.EventMs = start - rapid.SampledFrom([]int64{0, minute, 71 * hour, 100 * hour}).Draw(rt, "age")
		e.LocalDay = rapid.Int32Range(100, 103).Draw(rt, "day")
		e.Args = [entry.ArgCount]int64{rapid.Int64Range(0, 6).Draw(rt, "arg0"), rapid.Int64Range(0, 900).Draw(rt, "arg1"), 2_000_000}
		if e.Kind == entry.Close {
			e.Account, e.Args[entry.ArgDay] = 0, rapid.Int64Range(99, 102).Draw(rt, "closed")
		}
		if e.Kind == entry.Release {
			e.Args[entry.ArgSeenMs] = start - rapid.Int64Range(0, 80).Draw(rt, "seen")*hour
		}
		if rapid.IntRange(0, 9).Draw(rt, "repeats") > 0 {
			at.Offset++
		}
		e.Position = at
	}
	return entries
}

// offsetless is a state as it is wherever blocks are cut: without the offsets that name intents, attempts and kept results.
func offsetless(s *ledger.Shard) *ledger.Shard {
	plain := *s
	plain.WM, plain.Accounts, plain.Results = 0, map[uint32]*ledger.Account{}, map[uint64]ledger.APIResult{}
	for id, a := range s.Accounts {
		b := *a
		b.Intent.Offset, b.Intent.Ix, b.Tokens = 0, 0, slices.Clone(a.Tokens)
		for i := range b.Tokens {
			b.Tokens[i].Offset, b.Tokens[i].Ix = 0, 0
		}
		plain.Accounts[id] = &b
	}
	for id, r := range s.Results {
		r.Offset = 0
		plain.Results[id] = r
	}
	return &plain
}

// unaddressed makes payments that no intent waits for: what names an intent by its offset depends on where blocks are cut.
func unaddressed(entries []entry.Entry) []entry.Entry {
	for i := range entries {
		if k := entries[i].Kind; k == entry.Payment || k == entry.PaymentFailed {
			entries[i].Args[0] = 1 << 40
		}
	}
	return entries
}

// TestSplitAndMerge holds that entries of every kind have the same outcomes and lead to the same state in one block and in
// any others, but for the offsets by which intents and results are named.
func TestSplitAndMerge(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		whole, parts, entries, source := newLog(rt), newLog(rt), unaddressed(anyEntries(rt)), entry.Source{Partition: 3}
		want := whole.foldFrom(source, entry.None, entries...)
		var got []posting.Outcome
		prev := entry.None
		for rest := entries; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(rt, "cut")
			got = append(got, parts.foldFrom(source, prev, rest[:n]...)...)
			prev, rest = rest[n-1].Position, rest[n:]
		}
		if !slices.Equal(got, want) {
			rt.Fatalf("in parts %+v\nat once  %+v", got, want)
		}
		if d := ledger.Equal(offsetless(parts.state), offsetless(whole.state)); d != "" {
			rt.Fatalf("in parts and at once: %s", d)
		}
	})
}

// TestOrderAcrossAccountsIsIrrelevant shuffles the entries of several accounts into each other. Whatever happens to the
// others, each account has the same outcomes in the same order, and the same state.
func TestOrderAcrossAccountsIsIrrelevant(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		byAccount, turns := map[uint32][]entry.Entry{}, []uint32(nil)
		for _, e := range unaddressed(anyEntries(rt)) {
			if e.Account == 0 {
				continue // closes a day for all
			}
			if e.IDHash != 0 {
				e.IDHash = e.IDHash<<8 | uint64(e.Account) // ids of one account
			}
			e.Position = entry.Position{}
			byAccount[e.Account], turns = append(byAccount[e.Account], e), append(turns, e.Account)
		}
		play := func(turns []uint32) (*log, map[uint32][]posting.Outcome) {
			l, next, outcomes := newLog(rt), map[uint32]int{}, map[uint32][]posting.Outcome{}
			for _, account := range turns {
				o := l.fold(byAccount[account][next[account]])[0]
				next[account]++
				outcomes[account] = append(outcomes[account], o)
			}
			return l, outcomes
		}
		a, want := play(turns)
		b, got := play(rapid.Permutation(turns).Draw(rt, "turns"))
		for account, outcomes := range want {
			if !slices.Equal(got[account], outcomes) {
				rt.Fatalf("account %d: %+v\nin another order %+v", account, outcomes, got[account])
			}
		}
		one, other := offsetless(a.state), offsetless(b.state)
		one.ResultOrder, other.ResultOrder = nil, nil // by when they came
		if d := ledger.Equal(one, other); d != "" {
			rt.Fatalf("in another order: %s", d)
		}
	})
}

// TestRedeliveryLeavesTheState sends blocks again, as a writer does that does not know whether they arrived, each as often as
// it likes: the repeats are answered, and the state is that of a log in which each came once.
func TestRedeliveryLeavesTheState(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		once, again, entries, source := newLog(rt), newLog(rt), unaddressed(anyEntries(rt)), entry.Source{Partition: 3}
		var sent [][]entry.Entry
		prev := entry.None
		for rest := entries; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(rt, "cut")
			want := once.foldFrom(source, prev, rest[:n]...)
			if got := again.foldFrom(source, prev, rest[:n]...); !slices.Equal(got, want) {
				rt.Fatalf("after repeats %+v\nwithout %+v", got, want)
			}
			sent, prev, rest = append(sent, rest[:n]), rest[n-1].Position, rest[n:]
			for range rapid.IntRange(0, 3).Draw(rt, "repeats") {
				for _, o := range again.foldFrom(source, entry.None, rapid.SampledFrom(sent).Draw(rt, "repeat")...) {
					if o.Result != posting.Repeated || o.AmountUnits != 0 {
						rt.Fatalf("a repeat is %+v", o)
					}
				}
			}
		}
		if d := ledger.Equal(offsetless(again.state), offsetless(once.state)); d != "" {
			rt.Fatalf("with repeats and without: %s", d)
		}
	})
}

// TestConservation adds up, by kind and in big numbers, what was asked for, and demands opening + credits − debits =
// balance: what is applied moves the balance by all that it says, what is not moves nothing.
func TestConservation(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		l, asked := newLog(rt), map[uint32]*big.Int{}
		for _, e := range anyEntries(rt) {
			e.Position = entry.Position{}
			o := l.fold(e)[0]
			wants := slices.Contains([]entry.Kind{entry.Usage, entry.Release, entry.Account, entry.Number, entry.Payment, entry.Credit, entry.Adjustment}, e.Kind)
			applied := o.Result == posting.Charged || o.Result == posting.Applied
			if applied && wants && o.AmountUnits != e.AmountUnits || o.AmountUnits != 0 && o.AmountUnits != e.AmountUnits {
				rt.Fatalf("%s of %d units: %s moved %d", e.Kind, e.AmountUnits, o.Result, o.AmountUnits)
			}
			if asked[e.Account] == nil {
				asked[e.Account] = new(big.Int)
			}
			if applied && wants {
				asked[e.Account].Add(asked[e.Account], big.NewInt(int64(e.AmountUnits)))
			}
		}
		for id, a := range maps.All(l.state.Accounts) {
			if asked[id].Cmp(big.NewInt(int64(a.BalanceUnits))) != 0 {
				rt.Fatalf("account %d has %d units, %s were moved", id, a.BalanceUnits, asked[id])
			}
		}
	})
}

// TestDearerUsageNeverLeavesMore runs the same life twice, once with one charge that is higher. From there on the balance
// is never higher, and the account is low or suspended at least as soon.
func TestDearerUsageNeverLeavesMore(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		cheap, dear := newLog(rt), newLog(rt)
		both := func(a, b entry.Entry) (x, y posting.Outcome) { return cheap.fold(a)[0], dear.fold(b)[0] }
		opening := entry.Entry{Kind: entry.Account, Account: 1, AmountUnits: 1000, Args: [4]int64{0, 500, 0}} // no recharge
		both(opening, opening)
		more := money.Amount(rapid.Int64Range(0, 800).Draw(rt, "more"))
		for i, charge := range rapid.SliceOfN(rapid.Int64Range(0, 300), 1, 10).Draw(rt, "charges") {
			e := entry.Entry{Kind: entry.Usage, Account: 1, IDHash: uint64(i + 1), EventMs: start, AmountUnits: -money.Amount(charge)}
			d := e
			if i == 0 {
				d.AmountUnits -= more
			}
			x, y := both(e, d)
			levels := posting.Low | posting.Suspended
			if y.BalanceUnits != x.BalanceUnits-more || x.Flags&levels&^y.Flags != 0 {
				rt.Fatalf("%+v, with %d more %+v", x, more, y)
			}
		}
	})
}
