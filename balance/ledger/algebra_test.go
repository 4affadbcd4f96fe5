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

// TestSplitAndMerge holds that entries of every kind have the same outcomes and lead to the same state in blocks as long as
// can be and in any others, but for the offsets by which intents and results are named.
func TestSplitAndMerge(t *testing.T) {
	var seen tally
	rapid.Check(t, func(rt *rapid.T) {
		seen.checks++
		whole, parts, acts := newPlayer(rt, nil), newPlayer(rt, &seen), anyActs(rt)
		play := func(p *player, cut func(most int) int) (outcomes []posting.Outcome) {
			prev := entry.None
			for rest := acts; len(rest) > 0; {
				n := cut(together(rest))
				outcomes = append(outcomes, p.play(prev, rest[:n]...)...)
				prev, rest = rest[n-1].Position, rest[n:]
			}
			return outcomes
		}
		want := play(whole, func(most int) int { return most })
		got := play(parts, func(most int) int { return rapid.IntRange(1, most).Draw(rt, "cut") })
		if !slices.Equal(got, want) {
			rt.Fatalf("in parts %+v\nat once  %+v", got, want)
		}
		if d := ledger.Equal(offsetless(parts.state), offsetless(whole.state)); d != "" {
			rt.Fatalf("in parts and at once: %s", d)
		}
	})
	seen.demandCards(t)
}

// round is what happens to accounts at one time, and before it what happens to all of them.
type round struct {
	pauseMs int64
	all     []act
	turns   []uint32 // whose act is next
}

// rounds sorts acts by account, without the positions by which some would be repeats, and with ids that accounts do not share.
func rounds(acts []act) (rounds []round, byAccount map[uint32][]act) {
	byAccount = map[uint32][]act{}
	for _, a := range acts {
		if a.IDHash != 0 {
			a.IDHash = a.IDHash<<8 | uint64(a.Account)
		}
		a.Position = entry.Position{}
		if len(rounds) == 0 || a.apart || a.Account == 0 {
			rounds = append(rounds, round{pauseMs: a.pauseMs})
		}
		a.pauseMs = 0
		last := &rounds[len(rounds)-1]
		switch {
		case a.Kind == entry.Param && a.Args[entry.ArgParam] == int64(ledger.ResultsKept): // by order over all accounts
		case a.Account == 0:
			last.all = append(last.all, a)
		default:
			byAccount[a.Account], last.turns = append(byAccount[a.Account], a), append(last.turns, a.Account)
		}
	}
	return rounds, byAccount
}

// TestOrderAcrossAccountsIsIrrelevant shuffles the entries of several accounts into each other. Whatever happens to the
// others, each account has the same outcomes in the same order, and the same state.
func TestOrderAcrossAccountsIsIrrelevant(t *testing.T) {
	var seen tally
	rapid.Check(t, func(rt *rapid.T) {
		seen.checks++
		rounds, byAccount := rounds(anyActs(rt))
		play := func(p *player, order func([]uint32) []uint32) map[uint32][]posting.Outcome {
			next, outcomes := map[uint32]int{}, map[uint32][]posting.Outcome{}
			p.source = entry.Source{}
			for _, r := range rounds {
				p.nowMs += r.pauseMs
				for _, a := range r.all {
					p.play(entry.None, a)
				}
				for _, account := range order(r.turns) {
					o := p.play(entry.None, byAccount[account][next[account]])[0]
					next[account]++
					outcomes[account] = append(outcomes[account], o)
				}
			}
			return outcomes
		}
		a, b := newPlayer(rt, nil), newPlayer(rt, &seen)
		want := play(a, func(turns []uint32) []uint32 { return turns })
		got := play(b, func(turns []uint32) []uint32 {
			if len(turns) == 0 {
				return nil
			}
			return rapid.Permutation(turns).Draw(rt, "turns")
		})
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
	seen.demandCards(t)
}

// TestRedeliveryLeavesTheState sends blocks again, as a writer does that does not know whether they arrived, each as often as
// it likes: the repeats are answered, and the state is that of a log in which each came once.
func TestRedeliveryLeavesTheState(t *testing.T) {
	var seen tally
	rapid.Check(t, func(rt *rapid.T) {
		seen.checks++
		once, again := newPlayer(rt, nil), newPlayer(rt, &seen)
		var sent [][]entry.Entry
		prev := entry.None
		for rest := anyActs(rt); len(rest) > 0; {
			n := rapid.IntRange(1, together(rest)).Draw(rt, "cut")
			want := once.play(prev, rest[:n]...)
			if got := again.play(prev, rest[:n]...); !slices.Equal(got, want) {
				rt.Fatalf("after repeats %+v\nwithout %+v", got, want)
			}
			sent, prev, rest = append(sent, entriesOf(rest[:n])), rest[n-1].Position, rest[n:]
			for range rapid.IntRange(0, 3).Draw(rt, "repeats") {
				if last := sent[len(sent)-1]; isWindow(&last[len(last)-1]) {
					break // the next block, repeat or not, turns the generation of ids
				}
				for _, o := range again.foldFrom(again.source, entry.None, rapid.SampledFrom(sent).Draw(rt, "repeat")...) {
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
	seen.demandCards(t)
}

func entriesOf(acts []act) []entry.Entry {
	entries := make([]entry.Entry, len(acts))
	for i := range acts {
		entries[i] = acts[i].Entry
	}
	return entries
}

// TestConservation adds up, by kind and in big numbers, what was asked for, and demands opening + credits − debits =
// balance: what is applied moves the balance by all that it says, what is not moves nothing.
func TestConservation(t *testing.T) {
	var seen tally
	rapid.Check(t, func(rt *rapid.T) {
		seen.checks++
		p, asked := newPlayer(rt, &seen), map[uint32]*big.Int{}
		p.source = entry.Source{} // no position is a repeat
		for _, e := range anyActs(rt) {
			o := p.play(entry.None, e)[0]
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
		for id, a := range maps.All(p.state.Accounts) {
			if asked[id].Cmp(big.NewInt(int64(a.BalanceUnits))) != 0 {
				rt.Fatalf("account %d has %d units, %s were moved", id, a.BalanceUnits, asked[id])
			}
		}
	})
	seen.demandCards(t)
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
