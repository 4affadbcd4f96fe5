package verify

import (
	"math/big"
	"slices"

	"github.com/tollgate/tollgate/balance/posting"
	"github.com/tollgate/tollgate/rater/entry"
)

// decide does what the row says to everything but the balance, and tells whether the row's amount is added to it.
func (r *recount) decide(a *account, o *posting.Outcome) (moved bool) {
	e := &r.row
	switch e.Kind {
	case entry.Usage, entry.Release:
		o.Result = posting.Charged
		return true
	case entry.Account:
		return r.openAccount(a, o)
	case entry.Zone:
		if r.orRefused(isZone(e.Args[entry.ArgZone]), o) {
			r.move(a)
		}
	case entry.Number:
		return r.orRefused(r.within(a, balanceLimit), o)
	case entry.Payment:
		return r.payment(a, o)
	case entry.PaymentFailed:
		r.paymentFailed(a, o)
	case entry.Credit, entry.Adjustment:
		if r.orRefused(r.within(a, creditLimit), o) {
			a.failures = 0
			return true
		}
	case entry.Settings:
		if r.orRefused(r.settings(a), o) {
			a.failures = 0
		}
	}
	return false
}

func (r *recount) orRefused(fine bool, o *posting.Outcome) bool {
	if !fine {
		o.Result = posting.Refused
	}
	return fine
}

func (r *recount) openAccount(a *account, o *posting.Outcome) bool {
	if !r.orRefused(!a.opened && isZone(r.row.Args[entry.ArgZone]) && r.within(a, creditLimit) && r.settings(a), o) {
		return false
	}
	a.opened = true
	r.move(a)
	return true
}

// move takes the account to the row's zone. Its statements go on after what is closed of the old one.
func (r *recount) move(a *account) {
	a.firstDay = max(a.firstDay, r.openFrom(a.zone))
	a.zone = uint32(r.row.Args[entry.ArgZone])
}

// settings takes over the row's threshold and target, if they are within bounds and the target is not below the threshold.
func (r *recount) settings(a *account) bool {
	threshold, target := big.NewInt(r.row.Args[entry.ArgThreshold]), big.NewInt(r.row.Args[entry.ArgRechargeTo])
	if threshold.CmpAbs(settingsLimit) > 0 || target.CmpAbs(settingsLimit) > 0 || target.Sign() < 0 {
		return false
	}
	if target.Sign() != 0 && target.Cmp(threshold) < 0 {
		return false
	}
	a.threshold, a.target = threshold, target
	return true
}

// named is the attempt that a card result is about.
func (r *recount) named() attempt {
	args := r.row.Args
	if args[entry.ArgIntentIx] < 0 || args[entry.ArgIntentIx] > 1<<32-1 {
		return attempt{offset: -1, number: -1} // no entry has such an index
	}
	return attempt{args[entry.ArgIntentOffset], uint32(args[entry.ArgIntentIx]), args[entry.ArgAttempt]}
}

// payment credits a captured charge once.
func (r *recount) payment(a *account, o *posting.Outcome) bool {
	named := r.named()
	at := slices.Index(a.captures, named)
	if at < 0 {
		o.Result = posting.Unmatched
		return false
	}
	if !r.orRefused(r.within(a, balanceLimit), o) {
		return false
	}
	a.captures = slices.Delete(a.captures, at, at+1)
	if a.waiting && a.intent.offset == named.offset && a.intent.ix == named.ix {
		a.waiting, a.gaveUpMs = false, 0
	}
	a.failures = 0
	return true
}

// paymentFailed counts a failure of the attempt under way; the last one gives up.
func (r *recount) paymentFailed(a *account, o *posting.Outcome) {
	if !a.waiting || a.intent != r.named() {
		o.Result = posting.Unmatched
		return
	}
	a.intent.number++
	if a.intent.number < r.params[paramAttempts] {
		a.mayCapture()
		return
	}
	a.waiting = false
	a.gaveUpMs = max(1, r.nowMs)
	a.failures = min(a.failures+1, maxFailures)
	o.Flags |= posting.GaveUp
}

// mayCapture keeps the attempt under way among those that may be captured.
func (a *account) mayCapture() {
	a.captures = append(a.captures, a.intent)
	if len(a.captures) > tokensKept {
		a.captures = slices.Delete(a.captures, 0, len(a.captures)-tokensKept)
	}
}

// level draws the consequences of how the account stands now: low, a recharge, suspended.
func (r *recount) level(a, before *account, offset int64, ix uint32, o *posting.Outcome) {
	below := a.balance.Cmp(a.threshold) < 0
	a.low = a.opened && below
	pausing := a.gaveUpMs > 0 && r.nowMs-a.gaveUpMs <= r.params[paramBackOff]
	if a.opened && !a.waiting && a.target.Sign() > 0 && below && a.failures < r.params[paramGiveUpAfter] && !pausing {
		a.waiting, a.decidedMs = true, r.nowMs
		a.intent = attempt{offset: offset, ix: ix}
		a.mayCapture()
		a.intentUnits = rechargeUnits(a)
		o.Flags |= posting.OpenedIntent
		o.IntentUnits = units(a.intentUnits)
	}
	undecided := a.waiting && a.intent.number == 0 && r.nowMs-a.decidedMs <= r.params[paramGrace]
	if a.balance.Sign() >= 0 {
		a.suspended = false
	} else if a.opened && !undecided {
		a.suspended = true
	}
	o.Flags |= a.levels()
	o.Flags |= turned(before.suspended, a.suspended, posting.BecameSuspended, posting.BecameRestored)
	o.Flags |= turned(before.low, a.low, posting.BecameLow, posting.BecameFunded)
}

func turned(was, is bool, on, off posting.Flags) posting.Flags {
	if was == is {
		return 0
	}
	if is {
		return on
	}
	return off
}

// rechargeUnits is what lifts the balance to the target, in whole minor units, rounded up; bounded.
func rechargeUnits(a *account) *big.Int {
	from := new(big.Int).Neg(settingsLimit)
	if a.balance.Cmp(from) > 0 {
		from = a.balance
	}
	need := new(big.Int).Sub(a.target, from)
	if need.Cmp(settingsLimit) > 0 {
		need.Set(settingsLimit)
	}
	whole, rest := new(big.Int).QuoRem(need, minorUnit, new(big.Int))
	if rest.Cmp(zero) > 0 {
		whole.Add(whole, big.NewInt(1))
	}
	return whole.Mul(whole, minorUnit)
}
