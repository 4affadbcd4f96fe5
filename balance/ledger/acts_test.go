package ledger_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tollgate/tollgate/balance/ledger"
	"github.com/tollgate/tollgate/balance/posting"
	"github.com/tollgate/tollgate/rater/entry"
	"github.com/tollgate/tollgate/rater/money"
)

// act is one entry of a generated life of some accounts, and how much later than the one before it was appended.
type act struct {
	entry.Entry
	// index is the act's place among all. By it a card result names the act that decided its recharge: the offset is known
	// only where the acts are folded.
	index   int64
	pauseMs int64
	// apart says that the act begins a block however blocks are cut, since a block has one append time, and since
	// generations of ids turn at the beginning of a block.
	apart bool
}

// anyActs draws entries of every kind but new fold versions: of few accounts and few ids, so that they meet, at positions
// that ascend and sometimes repeat, while time passes. They are folded as they are drawn, so that card results can name
// attempts that are open.
func anyActs(rt *rapid.T) []act {
	drawn := newPlayer(rt, nil)
	acts := make([]act, rapid.IntRange(1, 150).Draw(rt, "acts"))
	at := entry.Position{}
	for i := range acts {
		a := &acts[i]
		a.index, a.apart = int64(i), i > 0 && isWindow(&acts[i-1].Entry)
		if rapid.IntRange(0, 7).Draw(rt, "time passes") == 0 {
			a.pauseMs, a.apart = rapid.SampledFrom([]int64{11 * minute, 25 * hour, 73 * hour, minute, -minute}).Draw(rt, "pause"), true
		}
		a.Entry = anyEntry(rt, drawn.state, drawn.nowMs+a.pauseMs)
		a.IDHash = anyID(rt, drawn.state.Generation, a.apart)
		if a.Kind == entry.Param || rapid.IntRange(0, 9).Draw(rt, "repeats") > 0 {
			at.Offset++
		}
		a.Position = at
		drawn.play(entry.None, *a)
	}
	return acts
}

// isWindow tells whether the entry changes how long ids are remembered.
func isWindow(e *entry.Entry) bool {
	return e.Kind == entry.Param && e.Args[entry.ArgParam] == int64(ledger.WindowMs)
}

var anyKind = rapid.SampledFrom([]entry.Kind{entry.Usage, entry.Usage, entry.Usage, entry.Rejected, entry.Account, entry.Number, entry.Zone,
	entry.Payment, entry.Payment, entry.PaymentFailed, entry.PaymentFailed, entry.PaymentFailed, entry.Wake, entry.Wake, entry.Release, entry.Credit,
	entry.Adjustment, entry.Settings, entry.Close, entry.Param})

// anyEntry draws an entry that comes at a time to a shard of which the offsets are indexes of acts. An account that is not
// open is often opened first.
func anyEntry(rt *rapid.T, state *ledger.Shard, nowMs int64) entry.Entry {
	e := entry.Entry{Kind: anyKind.Draw(rt, "kind"), Account: rapid.Uint32Range(1, 4).Draw(rt, "account")}
	a := state.Accounts[e.Account]
	if (a == nil || !a.Open) && rapid.Bool().Draw(rt, "opens") {
		e.Kind = entry.Account
	}
	e.AmountUnits = money.Amount(rapid.SampledFrom([]int64{0, -1, -300, -700, 900, -2_000_000, 2_000_000, int64(money.Limit)}).Draw(rt, "amount"))
	e.EventMs = nowMs - rapid.SampledFrom([]int64{0, 0, minute, 71 * hour, 100 * hour}).Draw(rt, "age")
	e.LocalDay = rapid.Int32Range(100, 103).Draw(rt, "day")
	zone := rapid.Int64Range(-1, 6)
	switch e.Kind {
	case entry.Account:
		e.Args = [entry.ArgCount]int64{zone.Draw(rt, "zone"), anyThreshold.Draw(rt, "threshold"), anyTarget.Draw(rt, "target")}
	case entry.Settings:
		e.Args = [entry.ArgCount]int64{rapid.Int64().Draw(rt, "body"), anyThreshold.Draw(rt, "threshold"), anyTarget.Draw(rt, "target")}
	case entry.Zone:
		e.Args[entry.ArgZone] = zone.Draw(rt, "zone")
	case entry.Close:
		e.Account, e.Args = 0, [entry.ArgCount]int64{zone.Draw(rt, "zone"), rapid.Int64Range(99, 102).Draw(rt, "closed")}
	case entry.Param:
		e.Account, e.Args = 0, anyParam(rt)
	case entry.Release:
		e.Args[entry.ArgSeenMs] = nowMs - rapid.Int64Range(0, 80).Draw(rt, "seen")*hour
	case entry.Payment, entry.PaymentFailed:
		e.Args = anyCardResult(rt, a)
	}
	return e
}

// anyID draws an id, one in use since the generation before at most: what has been forgotten is late by the record's own
// time, but times are drawn afresh. Where an entry begins a block, one more generation may be forgotten.
func anyID(rt *rapid.T, generation int64, apart bool) uint64 {
	id := rapid.Uint64Range(0, 20).Draw(rt, "id")
	if !apart && generation > 0 {
		generation -= rapid.SampledFrom([]int64{0, 0, 0, 1}).Draw(rt, "generations ago")
	}
	if id == 0 {
		return 0
	}
	return id + 100*uint64(generation)
}

// Some targets are below some thresholds, which is refused.
var (
	anyThreshold = rapid.SampledFrom([]int64{500, 900, 3_000_000})
	anyTarget    = rapid.SampledFrom([]int64{4_000_000, 4_000_000, 600, 4_000_000, 0})
)

// anyParam draws a parameter and its value, which may be out of bounds.
func anyParam(rt *rapid.T) [entry.ArgCount]int64 {
	values := [ledger.ParamCount][]int64{
		ledger.WindowMs:    {24 * hour, 72 * hour, 200 * hour},
		ledger.GraceMs:     {0, 10 * minute, hour},
		ledger.BackOffMs:   {0, minute, 24 * hour},
		ledger.Attempts:    {1, 2, 3, 256},
		ledger.GiveUpAfter: {1, 2, 5, -1},
		ledger.ResultsKept: {1, 2, 1000},
	}
	p := rapid.IntRange(0, len(values)-1).Draw(rt, "param")
	return [entry.ArgCount]int64{int64(p), rapid.SampledFrom(values[p]).Draw(rt, "value")}
}

// anyCardResult draws which attempt a card result is of: one in the account's open list, the one under way, or any at all.
// The account is nil where it has no entries.
func anyCardResult(rt *rapid.T, a *ledger.Account) [entry.ArgCount]int64 {
	args := [entry.ArgCount]int64{rapid.Int64Range(0, 150).Draw(rt, "intent"), 0, rapid.Int64Range(0, 3).Draw(rt, "attempt"), entry.FailureDeclined}
	of := rapid.IntRange(0, 4).Draw(rt, "of")
	switch {
	case a == nil:
	case of == 1 && a.HasIntent:
		args[entry.ArgIntentOffset], args[entry.ArgIntentIx] = a.Intent.Offset, int64(a.Intent.Ix)
	case of == 2 && len(a.Tokens) > 0:
		t := rapid.SampledFrom(a.Tokens).Draw(rt, "token")
		args[entry.ArgIntentOffset], args[entry.ArgIntentIx], args[entry.ArgAttempt] = t.Offset, int64(t.Ix), int64(t.Attempt)
	case of > 2 && a.HasIntent:
		args[entry.ArgIntentOffset], args[entry.ArgIntentIx], args[entry.ArgAttempt] = a.Intent.Offset, int64(a.Intent.Ix), int64(a.Intent.Attempt)
	}
	return args
}

// player folds acts into a log of its own, in any blocks.
type player struct {
	*log
	source entry.Source
	places map[int64]entry.Position // offset and index in its block of each act, by the act's index
}

func newPlayer(t checker, seen *tally) *player {
	p := &player{log: newLog(t), source: entry.Source{Partition: 3}, places: map[int64]entry.Position{}}
	p.seen = seen
	return p
}

// nowhere is an offset that no test reaches.
const nowhere = 1 << 40

// play folds acts as one block that follows prev. What a card result names by an index is named by its place in this log.
func (p *player) play(prev entry.Position, acts ...act) []posting.Outcome {
	p.Helper()
	p.nowMs += acts[0].pauseMs
	entries := make([]entry.Entry, len(acts))
	for i, a := range acts {
		p.places[a.index] = entry.Position{Offset: p.state.WM + 1, Ix: uint32(i)}
		entries[i] = a.Entry
		if args := &entries[i].Args; a.Kind == entry.Payment || a.Kind == entry.PaymentFailed {
			place, ok := p.places[args[entry.ArgIntentOffset]]
			if !ok {
				place.Offset = nowhere
			}
			args[entry.ArgIntentOffset], args[entry.ArgIntentIx] = place.Offset, int64(place.Ix)
		}
	}
	return p.foldFrom(p.source, prev, entries...)
}

// together is how many acts from the first on may stand in one block.
func together(acts []act) int {
	for i := range acts {
		if i > 0 && acts[i].apart {
			return i
		}
	}
	return len(acts)
}

// tally counts what became of which kinds and which levels changed, so that a generator that goes blind is noticed.
type tally struct {
	checks  int
	results [entry.Settings + 1][posting.Unmatched + 1]int
	flags   [8]int
	woken   int // entries that state nothing but changed a level
}

func (c *tally) add(kind entry.Kind, o posting.Outcome) {
	c.results[kind][o.Result]++
	for bit := range c.flags {
		c.flags[bit] += int(o.Flags >> bit & 1)
	}
	if kind == entry.Wake && o.Flags&^(posting.Low|posting.Suspended) != 0 {
		c.woken++
	}
}

// demand fails the test unless the kinds had all of the results.
func (c *tally) demand(t *testing.T, lively map[entry.Kind][]posting.Result) {
	t.Helper()
	for kind, results := range lively {
		for _, result := range results {
			if c.results[kind][result] == 0 {
				t.Errorf("in %d checks no %s was %s", c.checks, kind, result)
			}
		}
	}
}

// demandCards demands that card results met recharges, and missed some, unless the run was told to be a short one.
func (c *tally) demandCards(t *testing.T) {
	t.Helper()
	if c.checks >= 100 {
		c.demand(t, map[entry.Kind][]posting.Result{
			entry.Payment: {posting.Applied, posting.Unmatched}, entry.PaymentFailed: {posting.Applied, posting.Unmatched},
		})
	}
}

// TestActsAreLively holds the generator of the properties to what they suppose, with draws that are always the same: every
// kind has every result that it can have, every flag rises, and levels change with nothing but the time.
func TestActsAreLively(t *testing.T) {
	var seen tally
	for ; seen.checks < 500; seen.checks++ {
		p := newPlayer(t, &seen)
		for _, a := range rapid.Custom(anyActs).Example(seen.checks) {
			p.play(entry.None, a)
		}
	}
	seen.demand(t, map[entry.Kind][]posting.Result{
		entry.Usage:         {posting.Repeated, posting.Charged, posting.Duplicate, posting.Late, posting.Refused},
		entry.Release:       {posting.Repeated, posting.Charged, posting.Duplicate, posting.Late, posting.Refused},
		entry.Rejected:      {posting.Repeated, posting.Rejected},
		entry.Account:       {posting.Repeated, posting.Applied, posting.Refused},
		entry.Number:        {posting.Repeated, posting.Applied, posting.Refused},
		entry.Zone:          {posting.Repeated, posting.Applied, posting.Refused},
		entry.Close:         {posting.Repeated, posting.Applied, posting.Refused},
		entry.Param:         {posting.Applied, posting.Refused},
		entry.Payment:       {posting.Repeated, posting.Applied, posting.Refused, posting.Unmatched},
		entry.PaymentFailed: {posting.Repeated, posting.Applied, posting.Unmatched},
		entry.Wake:          {posting.Repeated, posting.Applied},
		entry.Credit:        {posting.Repeated, posting.Applied, posting.Duplicate, posting.Expired, posting.Refused},
		entry.Adjustment:    {posting.Repeated, posting.Applied, posting.Duplicate, posting.Expired, posting.Refused},
		entry.Settings:      {posting.Repeated, posting.Applied, posting.Duplicate, posting.Expired, posting.Refused},
	})
	t.Logf("outcomes by kind and result %v, by flag %v, %d levels changed with the time", seen.results, seen.flags, seen.woken)
	if slices.Contains(seen.flags[:], 0) || seen.woken == 0 {
		t.Error("the generated acts left a flag out")
	}
}
