package ledger_test

import (
	"github.com/tollgate/tollgate/balance/ledger"
	"github.com/tollgate/tollgate/balance/posting"
	"github.com/tollgate/tollgate/rater/entry"
)

// recharge is one decided recharge as it is known to those who read outcomes alone.
type recharge struct {
	undecided bool           // neither paid nor given up
	attempts  int64          // how many attempts were begun
	captured  map[int64]bool // attempts that were credited
}

// recharges holds protocol rule 13 against the outcomes: an attempt that was begun is credited once, however late; a failure
// counts for the attempt under way alone; the last one gives up; an account has one undecided recharge at a time. It does
// not look at the state, and supposes fewer attempts than an account's open list keeps.
type recharges struct {
	byPlace  map[place]*recharge
	underWay map[uint32]*recharge // by account
	allowed  int64                // attempts of a recharge
}

// place names the entry that decided a recharge.
type place struct {
	account    uint32
	offset, ix int64
}

func newRecharges() *recharges {
	return &recharges{byPlace: map[place]*recharge{}, underWay: map[uint32]*recharge{}, allowed: ledger.Defaults[ledger.Attempts]}
}

// follow takes the outcome of the entry that stands at an offset and index.
func (r *recharges) follow(t checker, e *entry.Entry, o posting.Outcome, offset int64, ix int) {
	t.Helper()
	if o.Result == posting.Repeated {
		return
	}
	known := r.byPlace[place{e.Account, e.Args[entry.ArgIntentOffset], e.Args[entry.ArgIntentIx]}]
	attempt := e.Args[entry.ArgAttempt]
	switch e.Kind {
	case entry.Param:
		if o.Result == posting.Applied && e.Args[entry.ArgParam] == int64(ledger.Attempts) {
			r.allowed = e.Args[entry.ArgValue]
		}
	case entry.Payment:
		open := known != nil && attempt >= 0 && attempt < known.attempts && !known.captured[attempt]
		if open == (o.Result == posting.Unmatched) {
			t.Fatalf("a payment is %s: %v of account %d, of %+v", o.Result, e.Args, e.Account, known)
		}
		if o.Result == posting.Applied {
			known.captured[attempt], known.undecided = true, false
		}
	case entry.PaymentFailed:
		matches := known != nil && known.undecided && attempt == known.attempts-1
		if matches != (o.Result == posting.Applied) {
			t.Fatalf("a failed payment is %s: %v of account %d, of %+v", o.Result, e.Args, e.Account, known)
		}
		last := matches && known.attempts >= r.allowed
		if last != (o.Flags&posting.GaveUp != 0) {
			t.Fatalf("failure %d of %d: flags %08b", attempt+1, r.allowed, o.Flags)
		}
		if matches && !last {
			known.attempts++
		}
		if last {
			known.undecided = false
		}
	}
	if o.Flags&posting.OpenedIntent == 0 {
		return
	}
	if other := r.underWay[e.Account]; other != nil && other.undecided {
		t.Fatalf("account %d has a second recharge beside %+v", e.Account, other)
	}
	opened := &recharge{undecided: true, attempts: 1, captured: map[int64]bool{}}
	r.byPlace[place{e.Account, offset, int64(ix)}], r.underWay[e.Account] = opened, opened
}
