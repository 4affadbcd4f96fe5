package verify

import (
	"errors"
	"fmt"
	"math"
	"math/big"

	"github.com/tollgate/tollgate/balance/posting"
	"github.com/tollgate/tollgate/rater/entry"
	"github.com/tollgate/tollgate/rater/money"
)

// The bounds of the rules, in units and milliseconds, written down here once more from protocol.md.
var (
	balanceLimit  = big.NewInt(9_000_000_000_000_000) // of every balance and amount, in either sign
	creditLimit   = big.NewInt(4_000_000_000_000_000) // that a credit may lead to: room stays for captured charges
	settingsLimit = big.NewInt(1_000_000_000_000_000) // of thresholds, targets and one recharge
	minorUnit     = big.NewInt(1_000_000)             // a card is charged whole minor units
	zero          = big.NewInt(0)
)

const (
	paramWindow = iota
	paramGrace
	paramBackOff
	paramAttempts
	paramGiveUpAfter
	paramResultsKept
	paramCount
)

const (
	newestFoldVersion = 1
	lateMarginMs      = 120_000
	tokensKept        = 64
	maxFailures       = 254
	millisPerDay      = 86_400_000
	beforeAllDays     = math.MinInt32
	lastDay           = math.MaxInt32 - 1
)

// highestParams bound the parameters.
var highestParams = [paramCount]int64{paramWindow: 1 << 52, paramGrace: 1 << 52, paramBackOff: 1 << 52,
	paramAttempts: 255, paramGiveUpAfter: 255, paramResultsKept: 100_000}

// errNewer says that the log holds what this build does not know.
var errNewer = errors.New("the entries need a newer build of tollgate")

// attempt names one attempt of a recharge by the entry that decided it.
type attempt struct {
	offset int64
	ix     uint32
	number int64
}

// account is what is known of one account. Amounts are of any size: whether they fit is asked, never assumed.
type account struct {
	opened, suspended, low     bool
	balance, threshold, target *big.Int
	zone                       uint32
	firstDay                   int32 // no statement day before it
	failures                   int64
	gaveUpMs                   int64
	waiting                    bool // for the result of intent
	intent                     attempt
	intentUnits                *big.Int
	decidedMs                  int64
	captures                   []attempt // those that may still turn out captured, oldest first
}

// recount applies the entries of one shard by the rules of protocol.md, in the plainest way: amounts by math/big, every
// id remembered for ever. It shares no code with the fold of the debit stage or its script.
type recount struct {
	nowMs           int64
	params          [paramCount]int64
	ids             map[uint64]int64 // in which generation an id was applied last
	generation      int64
	generationMs    int64 // when the generation began
	rememberedSince int64 // when the one before began
	seen            map[entry.Source]entry.Position
	closed          map[uint32]int32
	accounts        map[uint32]*account
	row             entry.Entry
	amount, sum     big.Int
}

func newRecount() *recount {
	return &recount{
		params: [paramCount]int64{paramWindow: 72 * 3_600_000, paramGrace: 600_000, paramBackOff: 24 * 3_600_000,
			paramAttempts: 3, paramGiveUpAfter: 5, paramResultsKept: 1000},
		ids: map[uint64]int64{}, seen: map[entry.Source]entry.Position{},
		closed: map[uint32]int32{}, accounts: map[uint32]*account{},
	}
}

// apply gives what must have become of each entry of the block.
func (r *recount) apply(offset, appendMs int64, b *entry.Block, outcomes []posting.Outcome) ([]posting.Outcome, error) {
	outcomes = outcomes[:0]
	r.nowMs = max(r.nowMs, appendMs)
	if r.nowMs-r.generationMs >= r.params[paramWindow] {
		r.rememberedSince, r.generationMs = r.generationMs, r.nowMs
		r.generation++
	}
	for i := range b.Len() {
		b.Get(i, &r.row)
		if r.repeated(b.Source) {
			outcomes = append(outcomes, r.nothing(posting.Repeated))
			continue
		}
		o, err := r.one(offset, uint32(i))
		if err != nil {
			return outcomes, fmt.Errorf("entry %d of the block at offset %d: %w", i, offset, err)
		}
		outcomes = append(outcomes, o)
	}
	return outcomes, nil
}

// repeated tells whether the row's place in the source was passed before, and passes it.
func (r *recount) repeated(source entry.Source) bool {
	if source == (entry.Source{}) {
		return false
	}
	if last, ok := r.seen[source]; ok && !last.Less(r.row.Position) {
		return true
	}
	r.seen[source] = r.row.Position
	return false
}

// nothing is the outcome of an entry that changes no account.
func (r *recount) nothing(result posting.Result) posting.Outcome {
	o := posting.Outcome{Result: result, StatementDay: int32(r.nowMs / millisPerDay)}
	if a := r.accounts[r.row.Account]; a != nil {
		o.BalanceUnits, o.Flags = units(a.balance), a.levels()
	}
	return o
}

// one applies the row.
func (r *recount) one(offset int64, ix uint32) (posting.Outcome, error) {
	e := &r.row
	r.amount.SetInt64(int64(e.AmountUnits))
	switch {
	case e.Kind == entry.Rejected:
		return r.nothing(posting.Rejected), nil
	case e.Kind == entry.Close || e.Kind == entry.Param || e.Kind == entry.FoldVersion:
		e.Account = 0
		result, err := r.wholeShard()
		return r.nothing(result), err
	case e.Kind < entry.Usage || e.Kind > entry.Settings:
		return posting.Outcome{}, fmt.Errorf("%w: kind %d", errNewer, e.Kind)
	case e.Kind == entry.Usage || e.Kind == entry.Release || e.Kind >= entry.Credit:
		if result := r.turnedAway(); result != 0 {
			return r.nothing(result), nil
		}
	}
	a := r.find(e.Account)
	before := *a
	o := posting.Outcome{Result: posting.Applied}
	moved := r.decide(a, &o)
	o.StatementDay = max(e.LocalDay, a.firstDay, r.openFrom(a.zone))
	if moved {
		a.balance.Add(a.balance, &r.amount)
		o.AmountUnits = e.AmountUnits
	}
	o.BalanceUnits = units(a.balance)
	r.level(a, &before, offset, ix, &o)
	return o, nil
}

// wholeShard applies what is said to every shard.
func (r *recount) wholeShard() (posting.Result, error) {
	args := r.row.Args
	switch r.row.Kind {
	case entry.Close:
		zone, day := args[entry.ArgZone], args[entry.ArgDay]
		if !isZone(zone) || day < 0 || day > lastDay {
			return posting.Refused, nil
		}
		if last, ok := r.closed[uint32(zone)]; !ok || int64(last) < day {
			r.closed[uint32(zone)] = int32(day)
		}
	case entry.Param:
		param, value := args[entry.ArgParam], args[entry.ArgValue]
		if param < 0 || param >= paramCount {
			return 0, fmt.Errorf("%w: parameter %d", errNewer, param)
		}
		if value < 0 || value > highestParams[param] {
			return posting.Refused, nil
		}
		r.params[param] = value
	case entry.FoldVersion:
		if args[0] > newestFoldVersion {
			return 0, fmt.Errorf("%w: fold version %d", errNewer, args[0])
		}
	}
	return posting.Applied, nil
}

func isZone(zone int64) bool { return zone >= 0 && zone < 1<<32 }

// turnedAway gives the result of an entry that its id, its age or its amount keeps from being applied; 0 for none.
func (r *recount) turnedAway() posting.Result {
	e, window := &r.row, r.params[paramWindow]
	fromAPI := e.Kind >= entry.Credit
	tooOld := max(r.nowMs-window/2, r.rememberedSince)
	if e.Kind == entry.Release && e.Args[entry.ArgSeenMs] < tooOld {
		return posting.Late
	}
	if applied, ok := r.ids[e.IDHash]; ok && applied >= r.generation-1 {
		return posting.Duplicate
	}
	oldest := max(r.nowMs-window, r.rememberedSince)
	switch {
	case fromAPI && e.EventMs < max(tooOld, r.nowMs-(r.nowMs-r.rememberedSince)/2):
		return posting.Expired
	case e.Kind == entry.Usage && e.EventMs < oldest+lateMarginMs:
		return posting.Late
	case !fromAPI && !r.within(r.accounts[e.Account], balanceLimit):
		return posting.Refused
	}
	if e.IDHash != 0 {
		r.ids[e.IDHash] = r.generation
	}
	return 0
}

func (r *recount) find(id uint32) *account {
	a := r.accounts[id]
	if a == nil {
		a = &account{balance: new(big.Int), threshold: new(big.Int), target: new(big.Int), intentUnits: new(big.Int), firstDay: beforeAllDays}
		r.accounts[id] = a
	}
	return a
}

// within tells whether the row's amount can be added: it and the balance keep within the limit on balances, and an amount
// above zero does not lift the balance above the ceiling.
func (r *recount) within(a *account, ceiling *big.Int) bool {
	r.sum.Set(&r.amount)
	if a != nil {
		r.sum.Add(&r.sum, a.balance)
	}
	return r.amount.CmpAbs(balanceLimit) <= 0 && r.sum.CmpAbs(balanceLimit) <= 0 && (r.amount.Sign() <= 0 || r.sum.Cmp(ceiling) <= 0)
}

// openFrom is the first day of a zone that is not closed.
func (r *recount) openFrom(zone uint32) int32 {
	if last, ok := r.closed[zone]; ok {
		return last + 1
	}
	return beforeAllDays
}

func (a *account) levels() (f posting.Flags) {
	if a.suspended {
		f |= posting.Suspended
	}
	if a.low {
		f |= posting.Low
	}
	return f
}

// units is a balance as a row holds it. A balance that does not fit was let through by mistake: it is shown as the
// smallest number there is, which no row has.
func units(balance *big.Int) money.Amount {
	if !balance.IsInt64() {
		return math.MinInt64
	}
	return money.Amount(balance.Int64())
}
