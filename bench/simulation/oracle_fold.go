package simulation

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/tollgate/tollgate/balance/posting"
	"github.com/tollgate/tollgate/balance/recharge"
	"github.com/tollgate/tollgate/rater/entry"
	"github.com/tollgate/tollgate/rater/money"
)

// token is an attempt that may still turn out captured.
type token struct {
	offset, ix, attempt int64
}

// ledgerAccount is an account as the oracle keeps it.
type ledgerAccount struct {
	open, suspended, low                  bool
	balance, threshold, target            int64
	zone                                  int64
	floor                                 int32
	failures, declined                    int64
	intent                                bool
	offset, ix, attempt, amount, openedMs int64
	tokens                                []token
}

// oracleShard folds the log of a shard again, with a memory without bounds.
type oracleShard struct {
	o        *oracle
	shard    int32
	appendMs int64 // of the block that is folded
	now      int64
	accounts map[uint32]*ledgerAccount
	closed   map[int64]int32
	params   [6]int64
	seen     map[place]bool
	top      map[entry.Source]entry.Position
	applied  map[uint64]int64 // ids ever applied, and when
	late     map[lateRecord]bool
	results  []uint64        // ids of the outcomes that are kept for callers, oldest first
	told     map[string]said // events and dead letters that must be there, by id
	grew     bool            // the window has grown: what is late is less certain
	version  int64           // of the fold
	room     int64           // the least number of outcomes that it kept for callers
}

// lateRecord is a record that was found late.
type lateRecord struct {
	id uint64
	facts
}

const noDay = -1 << 31

// unapplied are the results whose outcomes have no flags from version 2 of the fold on.
var unapplied = []posting.Result{posting.Repeated, posting.Duplicate, posting.Rejected, posting.Late, posting.Expired}

func newOracleShard(o *oracle, shard int32) *oracleShard {
	o.kept[shard].expired = map[int64]bool{}
	return &oracleShard{o: o, shard: shard, accounts: map[uint32]*ledgerAccount{}, closed: map[int64]int32{},
		params: [6]int64{72 * hourMs, 10 * minuteMs, 24 * hourMs, 3, 5, 1000}, seen: map[place]bool{},
		top: map[entry.Source]entry.Position{}, applied: map[uint64]int64{}, late: map[lateRecord]bool{},
		told: map[string]said{}, version: 1, room: 1000}
}

// run folds all entries, and compares every outcome, every row, the state in Redis and the events.
func (s *oracleShard) run() {
	w := s.o.w
	l := w.log("entries", s.shard)
	l.decode()
	var block posting.Block
	var e entry.Entry
	for offset := range l.end {
		m := l.messages[offset]
		value := w.posted[s.shard].first[offset]
		if value == nil {
			w.violate("I10", "entry %d of shard %d has no posting", offset, s.shard)
			return
		}
		if err := block.Decode(value); err != nil {
			w.violate("I3", "posting of entry %d of shard %d: %v", offset, s.shard, err)
			return
		}
		_, entries, _, _ := posting.Split(value)
		if string(entries) != string(m.value) || block.AppendMs != m.appendMs {
			w.violate("I2", "the posting of entry %d of shard %d holds other entries", offset, s.shard)
		}
		s.now, s.appendMs = max(s.now, m.appendMs), m.appendMs
		for ix := range block.Outcomes {
			block.Entries.Get(ix, &e)
			s.entry(offset, ix, block.Entries.Source, &e, &block.Outcomes[ix])
			s.o.compareRow(rowKey{uint16(s.shard), offset, uint32(ix)}, block.Entries.Source, &e, m.appendMs, &block.Outcomes[ix])
		}
	}
	s.o.kept[s.shard].room = s.room
	s.compareRedis()
	s.compareEvents()
}

// entry folds one entry, and compares what became of it.
func (s *oracleShard) entry(offset int64, ix int, source entry.Source, e *entry.Entry, got *posting.Outcome) {
	w := s.o.w
	results := s.judge(source, e, got.Result)
	if !slices.Contains(results, got.Result) {
		w.violate("outcome", "entry %d.%d of shard %d (%s, account %d, %s) is %s, the oracle says %v", offset, ix, s.shard, e.Kind, e.Account, s.o.keys[e.IDHash], got.Result, results)
		return
	}
	s.countEntry(source, e, got)
	if got.Result == posting.Late {
		record := factsOf(e)
		record.kind = int(entry.Usage)
		s.late[lateRecord{e.IDHash, record}] = true
	}
	if got.Result == posting.Charged {
		s.applied[e.IDHash] = s.now
		s.o.charges[cmp.Or(s.o.keys[e.IDHash], fmt.Sprintf("of id %x", e.IDHash))]++
	}
	want := posting.Outcome{Result: got.Result, StatementDay: int32(floorDiv(s.now, dayMs))}
	a := s.accounts[e.Account]
	if a == nil {
		a = &ledgerAccount{floor: noDay}
	}
	switch got.Result {
	case posting.Charged, posting.Applied, posting.Unmatched, posting.Refused:
		if passive(e, got.Result) {
			break
		}
		s.accounts[e.Account] = a
		s.apply(offset, int64(ix), a, e, &want)
		if (got.Result == posting.Charged || want.AmountUnits != 0) && got.StatementDay <= s.closedDay(a) {
			w.violate("I11", "entry %d.%d of shard %d is on the statement of day %d, which is closed", offset, ix, s.shard, got.StatementDay)
		}
	}
	if want.Flags == 0 && !(s.version > 1 && slices.Contains(unapplied, got.Result)) {
		want.Flags = a.level()
	}
	want.BalanceUnits = amount(a.balance)
	if e.Kind.FromAPI() {
		s.keep(offset, e, want)
	}
	s.tell(source, offset, ix, e, &want)
	if *got != want {
		w.violate("outcome", "entry %d.%d of shard %d (%s, account %d): %+v, the oracle says %+v", offset, ix, s.shard, e.Kind, e.Account, *got, want)
	}
}

// keep notes what callers may be told of an API entry.
func (s *oracleShard) keep(offset int64, e *entry.Entry, o posting.Outcome) {
	k := &s.o.kept[s.shard]
	switch o.Result {
	case posting.Duplicate:
	case posting.Expired:
		k.expired[offset] = true
	default:
		k.outcomes++
		if _, again := s.o.first[e.IDHash]; !again {
			s.o.first[e.IDHash] = answer{offset: offset, body: e.Args[entry.ArgBody], outcome: o}
			s.results = append(s.results, e.IDHash)
		}
		for int64(len(s.results)) > max(1, s.params[5]) {
			s.results = s.results[1:]
		}
	}
}

// countEntry counts what became of an entry, by kind and result and by what else there is to see.
func (s *oracleShard) countEntry(source entry.Source, e *entry.Entry, got *posting.Outcome) {
	w := s.o.w
	w.count(e.Kind.String() + " " + got.Result.String())
	if e.Kind == entry.Rejected {
		w.count("rejected: " + e.Reason.String())
	}
	if e.Kind == entry.Usage && source.TopicID == w.topics["book"].id {
		w.count("replay " + got.Result.String())
	}
	if got.Result == posting.Charged && got.StatementDay > e.LocalDay {
		w.count("charged on a later statement, its day is closed")
	}
	for i, name := range flagNames {
		if got.Flags&(1<<i) != 0 {
			w.count(name)
		}
	}
}

// flagNames name the flags of outcomes, the first bit first.
var flagNames = []string{"account is suspended", "account is low", "account becomes suspended", "account is restored", "account becomes low",
	"account is funded again", "intent opened", "intent given up"}

// passive tells whether an outcome is of an entry that touches no account.
func passive(e *entry.Entry, result posting.Result) bool {
	return e.Kind == entry.Close || e.Kind == entry.Param || e.Kind == entry.FoldVersion || result == posting.Refused && e.Kind == entry.Usage
}

// judge gives the results that an entry may have, and takes notice of its id.
func (s *oracleShard) judge(source entry.Source, e *entry.Entry, got posting.Result) []posting.Result {
	if source != (entry.Source{}) {
		at := place{source, e.Position}
		s.o.compareEntry(s.shard, at, e)
		if s.seen[at] {
			return []posting.Result{posting.Repeated}
		}
		s.seen[at] = true
		if top, any := s.top[source]; any && !top.Less(e.Position) {
			s.o.w.violate("I4", "first appearance of %v after %v in shard %d", at, top, s.shard)
		}
		s.top[source] = e.Position
		if s.o.rows[at] == nil {
			s.o.rows[at] = map[int32]int{}
		}
		s.o.rows[at][s.shard]++
	}
	window := s.params[0]
	half := s.now - window/2
	_, known := s.applied[e.IDHash]
	switch e.Kind {
	case entry.Release:
		s.compareRelease(e)
	case entry.Payment, entry.PaymentFailed:
		s.compareStatement(e)
	}
	switch {
	case e.Kind == entry.Rejected:
		return []posting.Result{posting.Rejected}
	case e.Kind == entry.Usage:
		return s.judgeUsage(e, known, s.now-window+120_000)
	case e.Kind == entry.Release && e.Args[entry.ArgSeenMs] < half:
		return []posting.Result{posting.Late}
	case e.Kind == entry.Release && s.grew && got == posting.Late: // ids of its time are forgotten
		return []posting.Result{posting.Late}
	case e.Kind == entry.Release && known:
		return []posting.Result{posting.Duplicate}
	case e.Kind == entry.Release:
		return []posting.Result{posting.Charged}
	case e.Kind.FromAPI() && known:
		return []posting.Result{posting.Duplicate, posting.Expired}
	case e.Kind.FromAPI() && (e.EventMs < half || s.grew && got == posting.Expired):
		return []posting.Result{posting.Expired}
	case e.Kind.FromAPI():
		s.applied[e.IDHash] = s.now
	}
	return []posting.Result{s.verdict(e)}
}

func (s *oracleShard) judgeUsage(e *entry.Entry, known bool, lateBefore int64) []posting.Result {
	if key := s.o.keys[e.IDHash]; key != "" {
		s.o.due[key] = true
	}
	switch {
	case known:
		return []posting.Result{posting.Duplicate, posting.Late}
	case e.EventMs < lateBefore:
		return []posting.Result{posting.Late}
	case s.grew: // ids of before are not known for as long as the window is now
		return []posting.Result{posting.Charged, posting.Late}
	}
	return []posting.Result{posting.Charged}
}

// verdict is the result of an entry that is no record.
func (s *oracleShard) verdict(e *entry.Entry) posting.Result {
	a := s.accounts[e.Account]
	switch e.Kind {
	case entry.Account:
		if a != nil && a.open {
			return posting.Refused
		}
	case entry.Credit, entry.Adjustment:
		balance := int64(e.AmountUnits)
		if a != nil {
			balance += a.balance
		}
		if e.AmountUnits > 0 && balance > 4_000_000_000_000_000 {
			return posting.Refused
		}
	case entry.Payment:
		if a == nil || !slices.Contains(a.tokens, tokenOf(e)) {
			return posting.Unmatched
		}
	case entry.PaymentFailed:
		t := tokenOf(e)
		if a == nil || !a.intent || a.offset != t.offset || a.ix != t.ix || a.attempt != t.attempt {
			return posting.Unmatched
		}
	}
	if e.Kind == entry.Param {
		param, value := e.Args[0], e.Args[1]
		s.grew = s.grew || param == 0 && value > s.params[0]
		s.params[param] = value
		s.room = min(s.room, s.params[5])
	}
	if e.Kind == entry.FoldVersion {
		s.version = max(s.version, e.Args[0])
	}
	if e.Kind == entry.Close {
		if day, any := s.closed[e.Args[0]]; !any || int32(e.Args[1]) > day {
			s.closed[e.Args[0]] = int32(e.Args[1])
		}
	}
	return posting.Applied
}

func tokenOf(e *entry.Entry) token { return token{e.Args[0], e.Args[1], e.Args[2]} }

// apply does to an account what an entry says.
func (s *oracleShard) apply(offset, ix int64, a *ledgerAccount, e *entry.Entry, out *posting.Outcome) {
	delta := int64(0)
	switch e.Kind {
	case entry.Usage, entry.Release:
		delta = int64(e.AmountUnits)
	case entry.Account:
		if out.Result == posting.Applied {
			a.floor = max(a.floor, s.firstOpen(a))
			a.open, a.zone, a.threshold, a.target, delta = true, e.Args[0], e.Args[1], e.Args[2], int64(e.AmountUnits)
		}
	case entry.Zone:
		a.floor = max(a.floor, s.firstOpen(a))
		a.zone = e.Args[0]
	case entry.Credit, entry.Adjustment:
		if out.Result == posting.Applied {
			delta, a.failures = int64(e.AmountUnits), 0
		}
	case entry.Settings:
		a.threshold, a.target, a.failures = e.Args[1], e.Args[2], 0
	case entry.Payment:
		if out.Result == posting.Applied {
			delta = int64(e.AmountUnits)
			s.pay(a, tokenOf(e), e)
		}
	case entry.PaymentFailed:
		if out.Result == posting.Applied {
			out.Flags |= s.fail(a)
		}
	}
	a.balance += delta
	out.AmountUnits = amount(delta)
	out.StatementDay = max(e.LocalDay, a.floor, s.firstOpen(a))
	s.evaluate(offset, ix, a, out)
}

func (s *oracleShard) pay(a *ledgerAccount, t token, e *entry.Entry) {
	a.tokens = slices.DeleteFunc(a.tokens, func(x token) bool { return x == t })
	a.failures = 0
	s.o.credited[e.Account] += int64(e.AmountUnits)
	if a.intent && a.offset == t.offset && a.ix == t.ix {
		a.intent, a.declined = false, 0
	}
}

func (s *oracleShard) fail(a *ledgerAccount) posting.Flags {
	if a.attempt++; a.attempt < s.params[3] {
		a.tokens = append(a.tokens, token{a.offset, a.ix, a.attempt})
		return 0
	}
	a.intent, a.declined = false, s.now
	a.failures++
	return posting.GaveUp
}

func (s *oracleShard) closedDay(a *ledgerAccount) int32 {
	if day, any := s.closed[a.zone]; any {
		return day
	}
	return noDay
}

func (s *oracleShard) firstOpen(a *ledgerAccount) int32 {
	if day, any := s.closed[a.zone]; any {
		return day + 1
	}
	return noDay
}

// evaluate brings the levels up to date.
func (s *oracleShard) evaluate(offset, ix int64, a *ledgerAccount, out *posting.Outcome) {
	low, suspended := a.low, a.suspended
	a.low = a.open && a.balance < a.threshold
	if a.low && !a.intent && a.target > 0 && a.failures < s.params[4] && (a.declined == 0 || s.now-a.declined > s.params[2]) {
		need := a.target - a.balance
		a.amount = (need + 999_999) / 1_000_000 * 1_000_000
		a.intent, a.offset, a.ix, a.attempt, a.openedMs = true, offset, ix, 0, s.now
		a.tokens = append(a.tokens, token{offset, ix, 0})
		out.Flags |= posting.OpenedIntent
		out.IntentUnits = amount(a.amount)
		s.o.intents[recharge.Intent{Installation: installation, Shard: s.shard, Offset: offset, Ix: uint32(ix)}] = a.amount
	}
	if a.balance >= 0 {
		a.suspended = false
	} else if a.open && !(a.intent && a.attempt == 0 && s.now-a.openedMs <= s.params[1]) {
		a.suspended = true
	}
	out.Flags |= a.level()
	for _, c := range []struct {
		was, is  bool
		up, down posting.Flags
	}{{low, a.low, posting.BecameLow, posting.BecameFunded}, {suspended, a.suspended, posting.BecameSuspended, posting.BecameRestored}} {
		if c.is && !c.was {
			out.Flags |= c.up
		}
		if c.was && !c.is {
			out.Flags |= c.down
		}
	}
}

func (a *ledgerAccount) level() (f posting.Flags) {
	if a.suspended {
		f |= posting.Suspended
	}
	if a.low {
		f |= posting.Low
	}
	return f
}

func amount(n int64) money.Amount { return money.Amount(n) }

func floorDiv(a, b int64) int64 {
	if a < 0 {
		panic(fmt.Sprintf("a time before 1970: %d", a))
	}
	return a / b
}
