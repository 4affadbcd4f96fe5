package ledger_test

import (
	"errors"
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"github.com/tollgate/tollgate/balance/ledger"
	"github.com/tollgate/tollgate/balance/posting"
	"github.com/tollgate/tollgate/rater/entry"
	"github.com/tollgate/tollgate/rater/money"
)

const (
	start  = 1_790_000_000_000
	minute = int64(60_000)
	hour   = 60 * minute
	day    = 24 * hour
)

// log folds entries one after another and keeps what it knows apart from the fold, in big numbers and without limits
// on memory.
type log struct {
	checker
	state     *ledger.Shard
	nowMs     int64
	total     map[uint32]*big.Int // sum of the amounts of all outcomes, by account
	charged   map[uint64]bool     // every id that was ever charged
	recharges *recharges
	seen      *tally // nil where nobody counts
}

// checker is what a test and a property have in common.
type checker interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

func newLog(t checker) *log {
	return &log{checker: t, state: ledger.New(), nowMs: start, total: map[uint32]*big.Int{}, charged: map[uint64]bool{}, recharges: newRecharges()}
}

// fold appends entries as one block without a source and gives their outcomes.
func (l *log) fold(entries ...entry.Entry) []posting.Outcome {
	l.Helper()
	return l.foldFrom(entry.Source{}, entry.None, entries...)
}

func (l *log) foldFrom(source entry.Source, prev entry.Position, entries ...entry.Entry) []posting.Outcome {
	l.Helper()
	var b entry.Block
	b.Reset(source, prev)
	for i := range entries {
		b.Add(&entries[i])
	}
	if err := l.state.Check(&b); err != nil {
		l.Fatal(err)
	}
	outcomes := l.state.Fold(l.state.WM+1, l.nowMs, &b, nil)
	for i, o := range outcomes {
		l.account(&entries[i], o)
		l.recharges.follow(l, &entries[i], o, l.state.WM, i)
		if l.seen != nil {
			l.seen.add(entries[i].Kind, o)
		}
	}
	return outcomes
}

// account holds guarantee 3 and the levels, after every entry.
func (l *log) account(e *entry.Entry, o posting.Outcome) {
	l.Helper()
	total := l.total[e.Account]
	if total == nil {
		total = new(big.Int)
		l.total[e.Account] = total
	}
	total.Add(total, big.NewInt(int64(o.AmountUnits)))
	if total.Cmp(big.NewInt(int64(o.BalanceUnits))) != 0 {
		l.Fatalf("%s of account %d: balance %d, sum of amounts %s", e.Kind, e.Account, o.BalanceUnits, total)
	}
	if limit := big.NewInt(int64(money.Limit)); new(big.Int).Abs(total).Cmp(limit) > 0 {
		l.Fatalf("balance %s passes the limit", total)
	}
	if o.Result != posting.Charged && o.Result != posting.Applied && o.AmountUnits != 0 {
		l.Fatalf("%s moved %d", o.Result, o.AmountUnits)
	}
	if o.Result == posting.Charged && e.IDHash != 0 {
		if l.charged[e.IDHash] {
			l.Fatalf("id %d was charged twice", e.IDHash)
		}
		l.charged[e.IDHash] = true
	}
}

// TestNoRecordIsChargedTwice holds rule 9 against an oracle that never forgets: whenever copies of a record come, once
// is charged; a record whose id was not seen is never called a duplicate; one within the window is never late.
func TestNoRecordIsChargedTwice(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		l := newLog(rt)
		window := rapid.Int64Range(10, 100).Draw(rt, "window") * minute
		l.fold(entry.Entry{Kind: entry.Param, Args: [4]int64{int64(ledger.WindowMs), window}})
		eventMs := map[uint64]int64{}
		for range rapid.IntRange(1, 120).Draw(rt, "steps") {
			l.nowMs += rapid.SampledFrom([]int64{-1000, minute / 2, window / 3, window - minute/2, window}).Draw(rt, "pause")
			if rapid.IntRange(0, 19).Draw(rt, "change the window") == 0 {
				window = rapid.SampledFrom([]int64{10, 30, 100}).Draw(rt, "window") * minute
				l.fold(entry.Entry{Kind: entry.Param, Args: [4]int64{int64(ledger.WindowMs), window}})
			}
			id := uint64(len(eventMs) + 1 - min(len(eventMs), rapid.IntRange(0, 3).Draw(rt, "id"))) // one of the last three, or a new one
			if _, known := eventMs[id]; !known {
				eventMs[id] = l.nowMs + minute - rapid.SampledFrom([]int64{0, 0, minute, window / 2, 2 * window}).Draw(rt, "age")
			}
			before := l.charged[id]
			o := l.fold(entry.Entry{Kind: entry.Usage, Account: 1, IDHash: id, EventMs: eventMs[id], AmountUnits: -3})[0]
			sinceTurn := l.state.CoveredSinceMs + ledger.LateMarginMs
			switch {
			case o.Result == posting.Duplicate && !before:
				rt.Fatalf("id %d is called a duplicate", id)
			case o.Result == posting.Late && eventMs[id] >= max(l.state.NowMs-window+ledger.LateMarginMs, sinceTurn):
				rt.Fatalf("id %d is called late", id)
			}
		}
	})
}

// usageEntries draws charges of three accounts with ids of their own.
func usageEntries(rt *rapid.T) []entry.Entry {
	entries := []entry.Entry{}
	for i := range rapid.IntRange(1, 30).Draw(rt, "entries") {
		entries = append(entries, entry.Entry{
			Kind: entry.Usage, Account: rapid.Uint32Range(1, 3).Draw(rt, "account"), IDHash: uint64(i + 1), EventMs: start,
			AmountUnits: -money.Amount(rapid.Int64Range(0, 300).Draw(rt, "charge")), Position: entry.Position{Offset: int64(i / 2), Ix: uint32(i % 2)},
		})
	}
	return entries
}

func openThree(l *log) {
	for account := uint32(1); account <= 3; account++ {
		l.fold(entry.Entry{Kind: entry.Account, Account: account, AmountUnits: 1000, Args: [4]int64{0, 500, 2_000_000}})
	}
}

// TestRepeatsChangeNothing holds rule 4: a block that comes again, whole or in part, is only Repeated.
func TestRepeatsChangeNothing(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		l, entries, source := newLog(rt), usageEntries(rt), entry.Source{Partition: 3}
		openThree(l)
		l.foldFrom(source, entry.None, entries...)
		for _, o := range l.foldFrom(source, entry.None, entries[rapid.IntRange(0, len(entries)-1).Draw(rt, "from"):]...) {
			if o.Result != posting.Repeated {
				rt.Fatalf("a repeat is %s", o.Result)
			}
		}
	})
}

// TestBatchingIsIrrelevant holds that where blocks are cut shows in nothing but the offsets of intents.
func TestBatchingIsIrrelevant(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		whole, parts, entries, source := newLog(rt), newLog(rt), usageEntries(rt), entry.Source{Partition: 3}
		openThree(whole)
		openThree(parts)
		want := whole.foldFrom(source, entry.None, entries...)
		var got []posting.Outcome
		for prev := entry.None; len(entries) > 0; {
			n := rapid.IntRange(1, len(entries)).Draw(rt, "cut")
			got = append(got, parts.foldFrom(source, prev, entries[:n]...)...)
			prev, entries = entries[n-1].Position, entries[n:]
		}
		for i := range want {
			if got[i] != want[i] {
				rt.Fatalf("entry %d: %+v in parts, %+v at once", i, got[i], want[i])
			}
		}
	})
}

// TestAnyEntriesKeepTheBooks holds guarantee 3 and the levels for any entries, with amounts at the limits.
func TestAnyEntriesKeepTheBooks(t *testing.T) {
	var seen tally
	rapid.Check(t, func(rt *rapid.T) {
		l := newLog(rt)
		l.seen = &seen
		seen.checks++
		if rapid.IntRange(0, 3).Draw(rt, "opened") > 0 {
			openThree(l)
		}
		edges := []int64{0, 1, -1, int64(money.Limit), -int64(money.Limit), int64(ledger.CreditLimit), 1<<63 - 1, -1 << 63, 700_000_000}
		for range rapid.IntRange(1, 120).Draw(rt, "entries") {
			l.nowMs += rapid.Int64Range(0, day).Draw(rt, "pause")
			e := entry.Entry{Kind: entry.Kind(rapid.IntRange(1, 15).Draw(rt, "kind")), Account: rapid.Uint32Range(1, 3).Draw(rt, "account"),
				IDHash: rapid.Uint64Range(0, 50).Draw(rt, "id"), EventMs: l.nowMs, AmountUnits: money.Amount(rapid.SampledFrom(edges).Draw(rt, "amount"))}
			for i := range e.Args {
				e.Args[i] = rapid.SampledFrom(edges).Draw(rt, "arg")
			}
			if e.Kind == entry.FoldVersion || e.Kind == entry.Param {
				continue
			}
			if e.Kind == entry.Usage || e.Kind == entry.Release {
				e.IDHash = 0
			}
			if e.Kind == entry.Payment || e.Kind == entry.PaymentFailed {
				e.Args = anyCardResult(rt, l.state.Accounts[e.Account])
			}
			o := l.fold(e)[0]
			a := l.state.Accounts[e.Account]
			if a == nil {
				continue
			}
			low := a.Open && a.BalanceUnits < a.ThresholdUnits
			if low != (o.Flags&posting.Low != 0) && e.Kind != entry.Close || a.BalanceUnits >= 0 && a.Suspended {
				rt.Fatalf("%s: flags %b of %+v", e.Kind, o.Flags, *a)
			}
			if a.Suspended && o.Flags&posting.Suspended == 0 {
				rt.Fatalf("%s: a suspended account without the flag", e.Kind)
			}
		}
	})
	seen.demandCards(t)
}

// one runs a scripted life of account 1, opened with 1000 units, threshold 500, recharge to 2 minor units.
func one(t *testing.T, live func(l *log)) {
	l := newLog(t)
	l.fold(entry.Entry{Kind: entry.Account, Account: 1, AmountUnits: 1000, Args: [4]int64{0, 500, 2_000_000}})
	live(l)
}

func (l *log) charge(amount money.Amount) posting.Outcome {
	l.Helper()
	return l.fold(entry.Entry{Kind: entry.Usage, Account: 1, AmountUnits: -amount, EventMs: l.nowMs})[0]
}

func (l *log) want(o posting.Outcome, result posting.Result, flags posting.Flags) {
	l.Helper()
	if o.Result != result || o.Flags != flags {
		l.Fatalf("%s with flags %08b instead of %s with %08b", o.Result, o.Flags, result, flags)
	}
}

func (l *log) card(kind entry.Kind, intent, attempt int64, amount money.Amount) posting.Outcome {
	l.Helper()
	return l.fold(entry.Entry{Kind: kind, Account: 1, AmountUnits: amount, Args: [4]int64{intent, 0, attempt, entry.FailureDeclined}})[0]
}

// TestRechargeThatIsPaid holds rule 13 on the good way: one intent while one is open, credited once.
func TestRechargeThatIsPaid(t *testing.T) {
	one(t, func(l *log) {
		o := l.charge(600)
		l.want(o, posting.Charged, posting.Low|posting.BecameLow|posting.OpenedIntent)
		if o.IntentUnits != 2_000_000 { // 1,999,600 rounded up to whole minor units
			l.Fatalf("intent of %d units", o.IntentUnits)
		}
		intent := l.state.WM
		l.want(l.charge(500), posting.Charged, posting.Low) // below zero, in grace
		l.want(l.card(entry.Payment, intent, 1, 2_000_000), posting.Unmatched, posting.Low)
		l.want(l.card(entry.Payment, intent, 0, 2_000_000), posting.Applied, posting.BecameFunded)
		l.want(l.card(entry.Payment, intent, 0, 2_000_000), posting.Unmatched, 0)
	})
}

// TestRechargeThatFails holds the other way: retries, giving up, suspension, back-off, and a decline captured late.
func TestRechargeThatFails(t *testing.T) {
	one(t, func(l *log) {
		l.charge(1100)
		intent := l.state.WM
		l.want(l.card(entry.PaymentFailed, intent, 0, 0), posting.Applied, posting.Low|posting.Suspended|posting.BecameSuspended)
		l.want(l.card(entry.PaymentFailed, intent, 0, 0), posting.Unmatched, posting.Low|posting.Suspended)
		l.card(entry.PaymentFailed, intent, 1, 0)
		l.want(l.card(entry.PaymentFailed, intent, 2, 0), posting.Applied, posting.Low|posting.Suspended|posting.GaveUp)
		l.nowMs += ledger.Defaults[ledger.BackOffMs]
		wake := entry.Entry{Kind: entry.Wake, Account: 1}
		l.want(l.fold(wake)[0], posting.Applied, posting.Low|posting.Suspended)
		l.nowMs++
		l.want(l.fold(wake)[0], posting.Applied, posting.Low|posting.Suspended|posting.OpenedIntent)
		l.want(l.card(entry.Payment, intent, 1, 2_000_000), posting.Applied, posting.BecameFunded|posting.BecameRestored)
		if a := l.state.Accounts[1]; !a.HasIntent || len(a.Tokens) != 3 {
			l.Fatalf("the new intent must stay open until it is decided: %+v", *a)
		}
	})
}

// TestGraceEnds holds that an undecided first attempt keeps service only so long.
func TestGraceEnds(t *testing.T) {
	one(t, func(l *log) {
		l.charge(1100)
		l.nowMs += ledger.Defaults[ledger.GraceMs]
		wake := entry.Entry{Kind: entry.Wake, Account: 1}
		l.want(l.fold(wake)[0], posting.Applied, posting.Low)
		l.nowMs++
		l.want(l.fold(wake)[0], posting.Applied, posting.Low|posting.Suspended|posting.BecameSuspended)
	})
}

// TestClosedDaysStayClosed holds I11, over a change of zone as well.
func TestClosedDaysStayClosed(t *testing.T) {
	one(t, func(l *log) {
		usage := entry.Entry{Kind: entry.Usage, Account: 1, EventMs: start, LocalDay: 100}
		l.fold(entry.Entry{Kind: entry.Close, Args: [4]int64{0, 120}}, entry.Entry{Kind: entry.Close, Args: [4]int64{0, 119}})
		if o := l.fold(usage)[0]; o.StatementDay != 121 {
			l.Fatalf("day %d after 120 was closed", o.StatementDay)
		}
		l.fold(entry.Entry{Kind: entry.Zone, Account: 1, Args: [4]int64{5}})
		if o := l.fold(usage)[0]; o.StatementDay != 121 {
			l.Fatalf("day %d in the new zone, where 120 was closed in the old", o.StatementDay)
		}
		usage.LocalDay = 300
		if o := l.fold(usage)[0]; o.StatementDay != 300 {
			l.Fatalf("day %d instead of its own", o.StatementDay)
		}
	})
}

// TestRefusedChangesNothing holds that a refused entry leaves the account as it was.
func TestRefusedChangesNothing(t *testing.T) {
	one(t, func(l *log) {
		l.state.Accounts[1].Failures = 3
		before := *l.state.Accounts[1]
		for i, e := range []entry.Entry{
			{Kind: entry.Credit, AmountUnits: ledger.CreditLimit},
			{Kind: entry.Adjustment, AmountUnits: -money.Limit - 1},
			{Kind: entry.Settings, Args: [4]int64{0, 10, 5}},
			{Kind: entry.Settings, Args: [4]int64{0, int64(ledger.SettingsLimit) + 1, 0}},
			{Kind: entry.Account, Args: [4]int64{0, 10, 20}},
			{Kind: entry.Usage, AmountUnits: -money.Limit - 1},
			{Kind: entry.Usage, AmountUnits: money.Limit},
			{Kind: entry.Zone, Args: [4]int64{-1}},
			{Kind: entry.Close, Args: [4]int64{0, 1 << 40}},
			{Kind: entry.Param, Args: [4]int64{int64(ledger.Attempts), 256}},
		} {
			e.Account, e.EventMs, e.IDHash = 1, start, uint64(1000+i)
			l.want(l.fold(e)[0], posting.Refused, 0)
		}
		if after := *l.state.Accounts[1]; after.Failures != before.Failures || after.BalanceUnits != before.BalanceUnits ||
			after.ThresholdUnits != before.ThresholdUnits || after.Zone != before.Zone {
			l.Fatalf("%+v became %+v", before, after)
		}
	})
}

// TestAPIEntries holds that requests are answered once, expire, and that their outcomes are kept.
func TestAPIEntries(t *testing.T) {
	one(t, func(l *log) {
		credit := entry.Entry{Kind: entry.Credit, Account: 1, AmountUnits: 50, IDHash: 9, EventMs: start, Args: [4]int64{-77}}
		l.state.Accounts[1].Failures = 3
		l.want(l.fold(credit)[0], posting.Applied, 0)
		if l.state.Accounts[1].Failures != 0 {
			l.Fatal("a credit must end the wait after failed recharges")
		}
		l.want(l.fold(credit)[0], posting.Duplicate, 0)
		kept, ok := l.state.Results[9]
		if !ok || kept.BodyHash != -77 || kept.Offset != l.state.WM-1 || kept.Outcome.AmountUnits != 50 {
			l.Fatalf("kept %+v", kept)
		}
		credit.IDHash, credit.EventMs = 10, start-ledger.Defaults[ledger.WindowMs]/2-1
		l.want(l.fold(credit)[0], posting.Expired, 0)
		l.fold(entry.Entry{Kind: entry.Param, Args: [4]int64{int64(ledger.ResultsKept), 2}})
		for id := range uint64(5) {
			credit.IDHash, credit.EventMs = 100+id, start
			l.fold(credit)
		}
		if len(l.state.Results) != 2 || len(l.state.ResultOrder) != 2 || l.state.ResultOrder[1] != 104 {
			l.Fatalf("kept %v", l.state.ResultOrder)
		}
	})
}

// TestEntriesWithoutIDAreNoDuplicates holds that id 0 means none.
func TestEntriesWithoutIDAreNoDuplicates(t *testing.T) {
	one(t, func(l *log) {
		l.want(l.charge(1), posting.Charged, 0)
		l.want(l.charge(1), posting.Charged, 0)
	})
}

// TestTimeNeverStepsBack holds that the shard's time is the running maximum of append times.
func TestTimeNeverStepsBack(t *testing.T) {
	one(t, func(l *log) {
		l.nowMs -= hour
		l.charge(1)
		if l.state.NowMs != start {
			l.Fatalf("the shard's time is %d after %d", l.state.NowMs, start)
		}
	})
}

// TestReleaseIsOld holds that a late record is released only while the look-up is fresh, and once.
func TestReleaseIsOld(t *testing.T) {
	one(t, func(l *log) {
		window := ledger.Defaults[ledger.WindowMs]
		release := entry.Entry{Kind: entry.Release, Account: 1, AmountUnits: -5, IDHash: 3, Args: [4]int64{start - window/2 - 1}}
		l.want(l.fold(release)[0], posting.Late, 0)
		release.Args[0]++
		l.want(l.fold(release)[0], posting.Charged, 0)
		l.want(l.fold(release)[0], posting.Duplicate, 0)
	})
}

// TestCheckStopsTheShard holds what must not be folded at all.
func TestCheckStopsTheShard(t *testing.T) {
	s := ledger.New()
	var b entry.Block
	b.Reset(entry.Source{Partition: 1}, entry.Position{Offset: 5})
	if err := s.Check(&b); !errors.Is(err, ledger.ErrMissing) {
		t.Errorf("a block after a missing one: %v", err)
	}
	for _, e := range []entry.Entry{
		{Kind: 0}, {Kind: 16}, {Kind: entry.FoldVersion, Args: [4]int64{ledger.FoldVersion + 1}},
		{Kind: entry.Param, Args: [4]int64{int64(ledger.ParamCount)}}, {Kind: entry.Param, Args: [4]int64{-1}},
	} {
		b.Reset(entry.Source{}, entry.None)
		b.Add(&e)
		if err := s.Check(&b); !errors.Is(err, ledger.ErrVersion) {
			t.Errorf("%+v: %v", e, err)
		}
	}
}

// TestFoldDoesNotAllocate guards the audit's hot path: charges of accounts that are open.
func TestFoldDoesNotAllocate(t *testing.T) {
	s := ledger.New()
	var b entry.Block
	b.Reset(entry.Source{}, entry.None)
	for range 1000 {
		b.Add(&entry.Entry{Kind: entry.Usage, Account: 1, AmountUnits: -1, EventMs: start})
	}
	outcomes := s.Fold(0, start, &b, nil)
	if n := testing.AllocsPerRun(10, func() { outcomes = s.Fold(s.WM+1, start, &b, outcomes) }); n > 0 {
		t.Errorf("%.0f allocations", n)
	}
}

// BenchmarkFold measures the fold in Go, charges with new ids of 100,000 accounts.
func BenchmarkFold(b *testing.B) {
	s := ledger.New()
	var block entry.Block
	id := uint64(0)
	var outcomes []posting.Outcome
	for b.Loop() {
		block.Reset(entry.Source{}, entry.None)
		for range 1000 {
			id++
			block.Add(&entry.Entry{Kind: entry.Usage, Account: uint32(id*2654435761) % 100_000, AmountUnits: -1, EventMs: start, IDHash: id})
		}
		outcomes = s.Fold(s.WM+1, start, &block, outcomes)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(id), "ns/rec")
}
