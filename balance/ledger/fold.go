package ledger

import (
	"errors"
	"fmt"
	"math"

	"github.com/tollgate/tollgate/balance/posting"
	"github.com/tollgate/tollgate/rater/entry"
	"github.com/tollgate/tollgate/rater/money"
)

// ErrMissing says that a block follows a position of its source that the shard has not seen: data was lost, or a
// writer is wrong. The shard must stop.
var ErrMissing = errors.New("BUG: a block of entries is missing")

// ErrVersion says that a block needs a newer build: an unknown fold version, parameter or kind.
var ErrVersion = errors.New("the entries need a newer build of tollgate")

// Check tells whether the shard may fold the block: ErrVersion, ErrMissing or nil. Nothing is changed.
func (s *Shard) Check(b *entry.Block) error { return s.CheckFor(FoldVersion, b) }

// CheckFor is Check in a build whose newest fold version is the given one.
func (s *Shard) CheckFor(newest int64, b *entry.Block) error {
	if s.Version > newest {
		return fmt.Errorf("%w: the shard is at fold version %d", ErrVersion, s.Version)
	}
	if b.Source != (entry.Source{}) {
		if seen := s.position(b.Source); seen.Less(b.Prev) {
			return fmt.Errorf("%w: it follows %v, the last one seen is %v", ErrMissing, b.Prev, seen)
		}
	}
	for i, k := range b.Kind {
		args := b.Args(i)
		switch {
		case k < entry.Usage || k > entry.Settings:
			return fmt.Errorf("%w: kind %d", ErrVersion, k)
		case k == entry.FoldVersion && args[0] > newest:
			return fmt.Errorf("%w: fold version %d", ErrVersion, args[0])
		case k == entry.Param && (args[entry.ArgParam] < 0 || args[entry.ArgParam] >= int64(ParamCount)):
			return fmt.Errorf("%w: parameter %d", ErrVersion, args[entry.ArgParam])
		}
	}
	return nil
}

func (s *Shard) position(source entry.Source) entry.Position {
	if p, ok := s.Sources[source]; ok {
		return p
	}
	return entry.None
}

// Fold applies the block of entries at the given offset with the given append time, and refills outcomes with what
// became of each. The block must have passed Check; its offset must be above WM.
func (s *Shard) Fold(offset, appendMs int64, b *entry.Block, outcomes []posting.Outcome) []posting.Outcome {
	outcomes = outcomes[:0]
	s.NowMs = max(s.NowMs, appendMs)
	s.turnGeneration()
	fed := b.Source != (entry.Source{})
	seen := s.position(b.Source)
	for i := range b.Kind {
		if position := (entry.Position{Offset: b.Offset[i], Ix: b.Ix[i]}); fed {
			if !seen.Less(position) {
				outcomes = append(outcomes, s.passive(s.Accounts[b.Account[i]], posting.Repeated))
				continue
			}
			seen = position
		}
		outcomes = append(outcomes, s.apply(offset, b, i))
	}
	if fed {
		s.Sources[b.Source] = seen
	}
	s.WM = offset
	return outcomes
}

// turnGeneration begins a new generation of ids when the current one has lasted a window.
func (s *Shard) turnGeneration() {
	if s.NowMs-s.GenerationStartMs < s.Params[WindowMs] {
		return
	}
	s.CoveredSinceMs, s.GenerationStartMs = s.GenerationStartMs, s.NowMs
	s.Generation++
	s.Previous, s.Current = s.Current, IDs{}
}

// known tells whether the shard applied the id since CoveredSinceMs.
func (s *Shard) known(id uint64) bool { return s.Current.Has(id) || s.Previous.Has(id) }

// passive is the outcome of an entry that changes nothing; a is nil for an account without entries. No statement shows
// it; it is dated by the shard's time.
func (s *Shard) passive(a *Account, result posting.Result) posting.Outcome {
	o := posting.Outcome{Result: result, StatementDay: int32(s.NowMs / msPerDay)}
	if a != nil {
		o.BalanceUnits, o.Flags = a.BalanceUnits, a.level()
	}
	return o
}

func (a *Account) level() (f posting.Flags) {
	if a.Suspended {
		f |= posting.Suspended
	}
	if a.Low {
		f |= posting.Low
	}
	return f
}

// apply folds entry i of the block, whose position is new.
func (s *Shard) apply(offset int64, b *entry.Block, i int) posting.Outcome {
	account := b.Account[i]
	a := s.Accounts[account]
	switch kind := b.Kind[i]; {
	case kind == entry.Rejected:
		return s.passive(a, posting.Rejected)
	case kind == entry.Close, kind == entry.Param, kind == entry.FoldVersion:
		return s.passive(a, s.setShardWide(kind, b.Args(i)))
	case kind == entry.Usage, kind == entry.Release, kind.FromAPI():
		if refusal := s.admit(a, b, i); refusal != 0 {
			return s.passive(a, refusal)
		}
	}
	if a == nil { // an account begins with its first entry, of whatever kind
		a = &Account{Floor: NoDay}
		s.Accounts[account] = a
	}
	o := posting.Outcome{Result: posting.Applied}
	s.change(a, b, i, &o)
	o.StatementDay = s.statementDay(a, b.LocalDay[i])
	a.BalanceUnits += o.AmountUnits
	o.BalanceUnits = a.BalanceUnits
	s.evaluate(a, offset, uint32(i), &o)
	if b.Kind[i].FromAPI() {
		s.keepResult(b.IDHash[i], APIResult{Offset: offset, BodyHash: b.Args(i)[entry.ArgBody], Outcome: o})
	}
	return o
}

// setShardWide folds the kinds that concern no account.
func (s *Shard) setShardWide(kind entry.Kind, args [entry.ArgCount]int64) posting.Result {
	switch kind {
	case entry.Close:
		zone, day := args[entry.ArgZone], args[entry.ArgDay]
		if !validZone(zone) || day < 0 || day > maxDay {
			return posting.Refused
		}
		if closed, ok := s.Closed[uint32(zone)]; !ok || int32(day) > closed {
			s.Closed[uint32(zone)] = int32(day)
		}
	case entry.Param:
		param, value := args[entry.ArgParam], args[entry.ArgValue]
		if value < 0 || value > maxParams[param] {
			return posting.Refused
		}
		s.Params[param] = value
	case entry.FoldVersion:
		s.Version = max(s.Version, args[0])
	}
	return posting.Applied
}

// validZone tells whether the argument is the number of a zone.
func validZone(zone int64) bool { return zone >= 0 && zone <= math.MaxUint32 }

// admit decides by its id and age whether an entry is to be applied, and remembers the id if so. It gives 0, or
// the result of an entry that is not applied.
func (s *Shard) admit(a *Account, b *entry.Block, i int) posting.Result {
	kind, id, window := b.Kind[i], b.IDHash[i], s.Params[WindowMs]
	// What an id was applied since must still be known: half a window back, and never what was forgotten before the window
	// was raised. Times of entries may be absurd: they are compared, never subtracted.
	oldestMs := max(s.NowMs-window/2, s.CoveredSinceMs)
	if kind == entry.Release && b.Args(i)[entry.ArgSeenMs] < oldestMs {
		return posting.Late
	}
	if s.known(id) {
		return posting.Duplicate
	}
	switch {
	case kind.FromAPI() && b.EventMs[i] < max(oldestMs, s.NowMs-(s.NowMs-s.CoveredSinceMs)/2):
		return posting.Expired // it may have been made before, by as much as half of what is remembered
	case kind == entry.Usage && b.EventMs[i] < max(s.NowMs-window, s.CoveredSinceMs)+LateMarginMs:
		return posting.Late
	case !kind.FromAPI() && !a.fits(b.AmountUnits[i]):
		return posting.Refused
	}
	s.Current.Add(id) // 0 is no id: an entry without one is nobody's duplicate
	return 0
}

// fits tells whether the balance may change by the amount without passing the limit; a is nil for an account without
// entries.
func (a *Account) fits(amount money.Amount) bool {
	if amount < -money.Limit || amount > money.Limit {
		return false
	}
	if a != nil {
		amount += a.BalanceUnits
	}
	return amount >= -money.Limit && amount <= money.Limit
}

// statementDay is the first day, from the entry's own on, that no closing has reached yet.
func (s *Shard) statementDay(a *Account, localDay int32) int32 {
	return max(localDay, a.Floor, s.firstOpen(a.Zone))
}

// firstOpen is the day after the last closed one of a zone.
func (s *Shard) firstOpen(zone uint32) int32 {
	if day, ok := s.Closed[zone]; ok {
		return day + 1
	}
	return NoDay
}

// change does what the entry's kind says to everything but the balance, and writes into o the result and the amount
// that the balance changes by.
func (s *Shard) change(a *Account, b *entry.Block, i int, o *posting.Outcome) {
	args, amount := b.Args(i), b.AmountUnits[i]
	switch b.Kind[i] {
	case entry.Usage, entry.Release:
		o.Result, o.AmountUnits = posting.Charged, amount
	case entry.Account:
		s.open(a, args, amount, o)
	case entry.Zone:
		s.move(a, args, o)
	case entry.Number:
		a.add(amount, money.Limit, o)
	case entry.Payment:
		s.pay(a, args, amount, o)
	case entry.PaymentFailed:
		s.payFailed(a, args, o)
	case entry.Credit, entry.Adjustment:
		if a.add(amount, CreditLimit, o); o.Result != posting.Refused {
			a.Failures = 0
		}
	case entry.Settings:
		a.set(args, o)
	}
}

// add changes the balance by the amount, unless that passes the limit on all balances, or raises it above ceiling.
func (a *Account) add(amount, ceiling money.Amount, o *posting.Outcome) {
	if !a.fits(amount) || amount > 0 && a.BalanceUnits+amount > ceiling {
		o.Result = posting.Refused
		return
	}
	o.AmountUnits = amount
}

// move takes the account to another zone, whose statements begin where those of the old one are closed.
func (s *Shard) move(a *Account, args [entry.ArgCount]int64, o *posting.Outcome) {
	if !validZone(args[entry.ArgZone]) {
		o.Result = posting.Refused
		return
	}
	s.raiseFloor(a)
	a.Zone = uint32(args[entry.ArgZone])
}

func (s *Shard) raiseFloor(a *Account) { a.Floor = max(a.Floor, s.firstOpen(a.Zone)) }

// open opens an account. One that is open already stays as it is.
func (s *Shard) open(a *Account, args [entry.ArgCount]int64, amount money.Amount, o *posting.Outcome) {
	if a.Open || !validZone(args[entry.ArgZone]) || !validSettings(args) {
		o.Result = posting.Refused
		return
	}
	if a.add(amount, CreditLimit, o); o.Result == posting.Refused {
		return
	}
	s.raiseFloor(a)
	a.Open, a.Zone = true, uint32(args[entry.ArgZone])
	a.ThresholdUnits, a.RechargeToUnits = money.Amount(args[entry.ArgThreshold]), money.Amount(args[entry.ArgRechargeTo])
}

// validSettings tells whether a threshold and a recharge target are within bounds and fit together.
func validSettings(args [entry.ArgCount]int64) bool {
	threshold, target := money.Amount(args[entry.ArgThreshold]), money.Amount(args[entry.ArgRechargeTo])
	return threshold >= -SettingsLimit && threshold <= SettingsLimit && target >= 0 && target <= SettingsLimit &&
		(target == 0 || target >= threshold)
}

// set changes the thresholds. It ends the wait that follows too many failed recharges: the owner has acted.
func (a *Account) set(args [entry.ArgCount]int64, o *posting.Outcome) {
	if !validSettings(args) {
		o.Result = posting.Refused
		return
	}
	a.ThresholdUnits, a.RechargeToUnits = money.Amount(args[entry.ArgThreshold]), money.Amount(args[entry.ArgRechargeTo])
	a.Failures = 0
}

// pay credits a captured charge iff its attempt is in the open list, from which it goes.
func (s *Shard) pay(a *Account, args [entry.ArgCount]int64, amount money.Amount, o *posting.Outcome) {
	at := a.token(args)
	if at < 0 {
		o.Result = posting.Unmatched
		return
	}
	if a.add(amount, money.Limit, o); o.Result == posting.Refused {
		return
	}
	a.Tokens = append(a.Tokens[:at], a.Tokens[at+1:]...)
	if a.awaits(args) {
		a.HasIntent, a.Intent, a.DeclinedMs = false, Intent{}, 0
	}
	a.Failures = 0
}

// awaits tells whether a card result is one of the open intent's, of whatever attempt.
func (a *Account) awaits(args [entry.ArgCount]int64) bool {
	return a.HasIntent && a.Intent.Offset == args[entry.ArgIntentOffset] && int64(a.Intent.Ix) == args[entry.ArgIntentIx]
}

// token finds the attempt that a card result names in the open list, -1 if it is not there.
func (a *Account) token(args [entry.ArgCount]int64) int {
	for i, t := range a.Tokens {
		if t.Offset == args[entry.ArgIntentOffset] && int64(t.Ix) == args[entry.ArgIntentIx] && int64(t.Attempt) == args[entry.ArgAttempt] {
			return i
		}
	}
	return -1
}

// payFailed counts a definitive failure of the attempt that is under way. The last one gives up; its tokens stay,
// since a decline that is captured later is still credited.
func (s *Shard) payFailed(a *Account, args [entry.ArgCount]int64, o *posting.Outcome) {
	if !a.awaits(args) || int64(a.Intent.Attempt) != args[entry.ArgAttempt] {
		o.Result = posting.Unmatched
		return
	}
	a.Intent.Attempt++
	if int64(a.Intent.Attempt) < s.Params[Attempts] {
		a.addToken()
		return
	}
	a.HasIntent, a.Intent = false, Intent{}
	a.DeclinedMs = max(1, s.NowMs)
	a.Failures = min(a.Failures+1, 254)
	o.Flags |= posting.GaveUp
}

// addToken puts the intent's current attempt into the open list.
func (a *Account) addToken() {
	if len(a.Tokens) >= TokensKept {
		a.Tokens = append(a.Tokens[:0], a.Tokens[len(a.Tokens)-TokensKept+1:]...)
	}
	a.Tokens = append(a.Tokens, Token{a.Intent.Offset, a.Intent.Ix, a.Intent.Attempt})
}

// evaluate brings the account's levels up to date: the threshold, the recharge, the suspension. They are levels,
// not edges: whatever the entry was, what holds now decides. It writes the flags and the intent into o.
func (s *Shard) evaluate(a *Account, offset int64, ix uint32, o *posting.Outcome) {
	wasLow, wasSuspended := a.Low, a.Suspended
	a.Low = a.Open && a.BalanceUnits < a.ThresholdUnits
	if a.mayRecharge(s.Params[GiveUpAfter]) && !(a.DeclinedMs > 0 && s.NowMs-a.DeclinedMs <= s.Params[BackOffMs]) {
		a.HasIntent = true
		a.Intent = Intent{Offset: offset, Ix: ix, AmountUnits: a.rechargeUnits(), OpenedMs: s.NowMs}
		a.addToken()
		o.Flags |= posting.OpenedIntent
		o.IntentUnits = a.Intent.AmountUnits
	}
	inGrace := a.HasIntent && a.Intent.Attempt == 0 && s.NowMs-a.Intent.OpenedMs <= s.Params[GraceMs]
	switch {
	case a.BalanceUnits >= 0:
		a.Suspended = false
	case a.Open && !inGrace:
		a.Suspended = true
	}
	o.Flags |= a.level() | changes(wasLow, a.Low, posting.BecameLow, posting.BecameFunded) |
		changes(wasSuspended, a.Suspended, posting.BecameSuspended, posting.BecameRestored)
}

// changes gives the flag up if a level rose, down if it fell, and nothing if it stayed.
func changes(was, is bool, up, down posting.Flags) posting.Flags {
	switch {
	case is && !was:
		return up
	case was && !is:
		return down
	}
	return 0
}

// rechargeUnits is the amount that brings the balance to the target, rounded up to the currency's minor unit.
func (a *Account) rechargeUnits() money.Amount {
	need := min(a.RechargeToUnits-max(a.BalanceUnits, -SettingsLimit), SettingsLimit)
	return (need + money.UnitsPerMinor - 1) / money.UnitsPerMinor * money.UnitsPerMinor
}

// keepResult keeps the outcome of an API entry, and forgets the oldest beyond ResultsKept.
func (s *Shard) keepResult(id uint64, result APIResult) {
	if id == 0 {
		return
	}
	if _, again := s.Results[id]; !again {
		s.ResultOrder = append(s.ResultOrder, id)
	}
	s.Results[id] = result
	for int64(len(s.ResultOrder)) > max(1, s.Params[ResultsKept]) {
		delete(s.Results, s.ResultOrder[0])
		s.ResultOrder = s.ResultOrder[1:]
	}
}
