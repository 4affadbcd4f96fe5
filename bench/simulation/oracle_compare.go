package simulation

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/tollgate/tollgate/balance/ledger"
	"github.com/tollgate/tollgate/balance/posting"
	"github.com/tollgate/tollgate/balance/recharge"
	"github.com/tollgate/tollgate/rater/entry"
)

// factsOf gives what an entry says of a record.
func factsOf(e *entry.Entry) facts {
	return facts{kind: int(e.Kind), service: int(e.Service), account: e.Account, number: e.Number, amount: int64(e.AmountUnits),
		eventMs: e.EventMs, day: e.LocalDay, duration: e.DurationSeconds, billed: e.Billed, tariff: e.Tariff, row: e.Row,
		id: string(e.ID), peer: string(e.Peer)}
}

// compareEntry is I6: an entry says what the book says of its record.
func (o *oracle) compareEntry(shard int32, at place, e *entry.Entry) {
	want := o.places[at]
	if want == nil {
		o.w.violate("I6", "entry of %v in shard %d, where there is no record", at, shard)
		return
	}
	told := factsOf(e)
	if want.partly {
		told.service, told.number, told.duration, told.id, told.peer = 0, 0, 0, "", ""
	}
	args := [entry.ArgCount]int64{want.args[0], want.args[1], want.args[2]}
	if told != want.facts || int(e.Reason) != want.reason || string(e.Extra) != want.raw || e.Args != args || !o.inPlace(shard, at.source, want.shard) {
		o.w.violate("I6", "record %v is %+v in shard %d, the book says %+v", at, *e, shard, *want)
	}
	if want.key == "" && !want.partly && e.IDHash != 0 {
		o.w.violate("I6", "%v is no record of a carrier, and has the id hash %x", at, e.IDHash)
	}
	o.bind(e.IDHash, want.key)
}

// inPlace tells whether an entry is in the shard that it should be in.
func (o *oracle) inPlace(shard int32, source entry.Source, want int32) bool {
	const all, any = -1, -2
	switch want {
	case all:
		return true
	case any:
		if _, known := o.shards[source]; !known {
			o.shards[source] = shard
		}
		return o.shards[source] == shard
	}
	return shard == want
}

// compareRow holds a row of ClickHouse against the entry, and the outcome that the oracle gives it: every column that a row
// of its table has.
func (o *oracle) compareRow(key rowKey, source entry.Source, e *entry.Entry, appendMs int64, out *posting.Outcome) {
	r := o.w.rows[key]
	if r == nil {
		o.w.violate("I10", "entry %v has no row", key)
		return
	}
	r.known = true
	numbers := map[string]int64{
		"source_partition": int64(source.Partition), "source_offset": e.Position.Offset, "source_ix": int64(e.Position.Ix),
		"shard": int64(key.shard), "entry_offset": key.offset, "ix": int64(key.ix), "append_time": appendMs,
		"account_id": int64(e.Account), "number": int64(e.Number), "id_hash": int64(e.IDHash), "event_time": e.EventMs,
		"statement_day_number": int64(out.StatementDay), "result_code": int64(out.Result),
	}
	var table string
	var texts map[string]string
	switch e.Kind {
	case entry.Rejected:
		table, texts = "dead_letters", map[string]string{"record_id": string(e.ID), "raw": string(e.Extra)}
		numbers["reason_code"] = int64(e.Reason)
	case entry.Usage, entry.Release:
		table, texts = "rated_records", map[string]string{"record_id": string(e.ID), "peer": string(e.Peer)}
		numbers["service_code"], numbers["duration_seconds"], numbers["billed"] = int64(e.Service), int64(e.DurationSeconds), int64(e.Billed)
		numbers["tariff"], numbers["tariff_row"] = int64(e.Tariff), int64(e.Row)
	default:
		table, texts = "account_entries", map[string]string{"id": string(e.ID), "note": string(e.Extra)}
		for i, arg := range e.Args {
			numbers[fmt.Sprint("arg", i)] = arg
		}
	}
	if e.Kind != entry.Rejected {
		numbers["kind_code"], numbers["local_day_number"], numbers["flags"] = int64(e.Kind), int64(e.LocalDay), int64(out.Flags)
		numbers["amount_units"], numbers["unapplied_units"] = int64(out.AmountUnits), int64(e.AmountUnits-out.AmountUnits)
		numbers["balance_units"], numbers["intent_units"] = int64(out.BalanceUnits), int64(out.IntentUnits)
	}
	if r.table != table || r.topic != uuid.UUID(source.TopicID) || !maps.Equal(r.numbers, numbers) || !maps.Equal(r.text, texts) {
		o.w.violate("I3", "row %v of %s is %v %v of topic %v, it should be %v %v of %s", key, r.table, r.numbers, r.text, r.topic, numbers, texts, table)
	}
}

// compareStatement is half of I8: a card result states what the gateway has.
func (s *oracleShard) compareStatement(e *entry.Entry) {
	w := s.o.w
	i := slices.IndexFunc(w.payments, func(p *payment) bool { return p.ID == string(e.ID) })
	if i < 0 {
		w.violate("I8", "%s of account %d is of charge %q, which the gateway does not have", e.Kind, e.Account, e.ID)
		return
	}
	p := w.payments[i]
	intent := recharge.Intent{Installation: installation, Shard: s.shard, Offset: e.Args[0], Ix: uint32(e.Args[1])}
	same := p.Account == e.Account && p.Intent == intent && int64(p.Attempt) == e.Args[2]
	has := func(status recharge.Status) bool { return p.Status == status || p.finalMs != 0 && p.final == status }
	if e.Kind == entry.Payment {
		same = same && has(recharge.Succeeded) && e.AmountUnits == p.AmountUnits && e.Args[3] == 0
	} else {
		failed := map[int64]recharge.Status{1: recharge.Declined, 2: recharge.NeedsAuthentication}
		status, known := failed[e.Args[3]]
		same = same && known && has(status) && e.AmountUnits == 0
	}
	if !same {
		w.violate("I8", "%s %v of account %d states %d, the gateway has %+v", e.Kind, e.Args, e.Account, e.AmountUnits, *p)
	}
}

// compareRelease finds the late record that a release is of: it says the same.
func (s *oracleShard) compareRelease(e *entry.Entry) {
	record := factsOf(e)
	record.kind = int(entry.Usage)
	if !s.late[lateRecord{e.IDHash, record}] || e.Args[entry.ArgSeenMs] > s.now || e.Args[1] != 0 || e.Args[2] != 0 || e.Args[3] != 0 || len(e.Extra) > 0 {
		s.o.w.violate("I6", "a release of shard %d is of no late record: %+v", s.shard, *e)
	}
}

// compareRedis holds all that Redis has of the shard against the oracle's: accounts, days, parameters, sources, and what is
// kept for callers. Of the ids only so much is certain: each was applied, and those of the window are there.
func (s *oracleShard) compareRedis() {
	w := s.o.w
	master := w.masters[s.shard].now
	state := master.fold
	if end := w.log("entries", s.shard).end; master.wm != end-1 || state.WM != end-1 || state.NowMs != s.now || state.Version != s.version {
		w.violate("I1", "shard %d is at %d, %d in Redis, fold version %d at %d, the log ends at %d, version %d at %d",
			s.shard, master.wm, state.WM, state.Version, state.NowMs, end, s.version, s.now)
	}
	for id := range state.Accounts {
		if s.accounts[id] == nil {
			w.violate("I1", "account %d is in Redis, shard %d has no entry of it", id, s.shard)
		}
	}
	for id, want := range s.accounts {
		if got := state.Accounts[id]; got == nil {
			w.violate("I1", "account %d is not in Redis", id)
		} else if !want.is(got) {
			w.violate("I1", "account %d is %+v in Redis, the oracle says %+v", id, *got, *want)
		}
	}
	closed := map[uint32]int32{}
	for zone, day := range s.closed {
		closed[uint32(zone)] = day
	}
	if !maps.Equal(state.Closed, closed) || state.Params != s.params || !maps.Equal(state.Sources, s.top) {
		w.violate("I1", "shard %d has closed %v, parameters %v, sources %v in Redis, the oracle says %v, %v, %v",
			s.shard, state.Closed, state.Params, state.Sources, closed, s.params, s.top)
	}
	s.compareIDs(state)
	s.compareResults(state)
}

// is tells whether Redis has the account as the oracle has it.
func (a *ledgerAccount) is(got *ledger.Account) bool {
	same := got.Open == a.open && got.Suspended == a.suspended && got.Low == a.low && int64(got.Failures) == a.failures &&
		int64(got.Zone) == a.zone && got.Floor == a.floor && int64(got.BalanceUnits) == a.balance &&
		int64(got.ThresholdUnits) == a.threshold && int64(got.RechargeToUnits) == a.target && got.DeclinedMs == a.declined &&
		got.HasIntent == a.intent
	var intent ledger.Intent
	if a.intent {
		intent = ledger.Intent{Offset: a.offset, Ix: uint32(a.ix), Attempt: uint8(a.attempt), AmountUnits: amount(a.amount), OpenedMs: a.openedMs}
	}
	return same && got.Intent == intent && slices.EqualFunc(got.Tokens, a.tokens, func(g ledger.Token, t token) bool {
		return token{g.Offset, int64(g.Ix), int64(g.Attempt)} == t
	})
}

// compareIDs holds the ids that the shard remembers against those that were ever applied.
func (s *oracleShard) compareIDs(state *ledger.Shard) {
	for _, set := range []*ledger.IDs{&state.Current, &state.Previous} {
		for id := range set.All() {
			if _, applied := s.applied[id]; !applied {
				s.o.w.violate("I1", "shard %d remembers id %x, which was never applied", s.shard, id)
			}
		}
	}
	for id, ms := range s.applied {
		if !s.grew && ms >= s.now-s.params[0] && !state.Current.Has(id) && !state.Previous.Has(id) {
			s.o.w.violate("I1", "shard %d has forgotten id %x of %s, it is %s", s.shard, id, timeText(ms), timeText(s.now))
		}
	}
}

// compareResults holds the outcomes that are kept for callers against the oracle's.
func (s *oracleShard) compareResults(state *ledger.Shard) {
	same := len(state.Results) == len(s.results) && slices.Equal(state.ResultOrder, s.results)
	for _, id := range s.results {
		first := s.o.first[id]
		same = same && state.Results[id] == ledger.APIResult{Offset: first.offset, BodyHash: first.body, Outcome: first.outcome}
	}
	if !same {
		var want strings.Builder
		for _, id := range s.results {
			fmt.Fprintf(&want, " %x: %+v", id, s.o.first[id])
		}
		s.o.w.violate("I1", "shard %d keeps %v, in the order %x, for callers, the oracle says%s", s.shard, state.Results, state.ResultOrder, want.String())
	}
}
