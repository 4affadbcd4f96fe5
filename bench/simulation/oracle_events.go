package simulation

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/tollgate/tollgate/balance/posting"
	"github.com/tollgate/tollgate/rater/entry"
)

// said is what an event, or the dead letter of a record, says.
type said struct {
	kind, subject, time, currency, intent, reason, raw string
	account                                            uint32
	offset, ix                                         int64
	balance, amount, attempt                           int64
	topic, recordID, number                            string
	partition                                          int64
	told                                               bool
}

// tell notes what must be told of an outcome.
func (s *oracleShard) tell(source entry.Source, offset int64, ix int, e *entry.Entry, o *posting.Outcome) {
	id := fmt.Sprintf("%s/%d/%d/%d", installation, s.shard, offset, ix)
	base := said{time: rfc3339(s.appendMs), account: e.Account, offset: offset, ix: int64(ix), balance: int64(o.BalanceUnits), attempt: -1,
		currency: "USD", subject: fmt.Sprint(e.Account)}
	say := func(kind string, x said) {
		x.kind = kind
		s.told[id+"/"+kind] = x
	}
	settled := base
	settled.intent, settled.attempt = fmt.Sprintf("%d-%d-%d", s.shard, e.Args[0], e.Args[1]), e.Args[2]
	switch {
	case o.Result == posting.Rejected:
		s.told[id] = s.letter(source, e)
	case o.Result == posting.Applied && e.Kind == entry.Payment:
		settled.amount = int64(o.AmountUnits)
		say("recharge.succeeded", settled)
	case o.Result == posting.Applied && e.Kind == entry.PaymentFailed:
		settled.reason = map[int64]string{1: "declined", 2: "authentication-required"}[e.Args[3]]
		say("recharge.failed", settled)
		if o.Flags&posting.GaveUp != 0 {
			say("recharge.given-up", settled)
		}
	}
	for flag, name := range map[posting.Flags]string{posting.BecameSuspended: "account.suspended", posting.BecameRestored: "account.restored",
		posting.BecameLow: "account.low-balance", posting.BecameFunded: "account.funded"} {
		if o.Flags&flag != 0 {
			say(name, base)
		}
	}
	if o.Flags&posting.OpenedIntent != 0 {
		wish := base
		wish.amount, wish.intent = int64(o.IntentUnits), fmt.Sprintf("%d-%d-%d", s.shard, offset, ix)
		say("recharge.wanted", wish)
	}
}

// letter is what the dead letter of a rejected record says.
func (s *oracleShard) letter(source entry.Source, e *entry.Entry) said {
	reasons := []string{"", "undecodable", "no-format", "unknown-number", "no-price", "too-far-ahead", "out-of-bounds"}
	l := said{time: rfc3339(e.EventMs), account: e.Account, reason: reasons[e.Reason], raw: base64.StdEncoding.EncodeToString(e.Extra),
		topic: fmt.Sprintf("%x", source.TopicID[:]), partition: int64(source.Partition), offset: e.Position.Offset, ix: int64(e.Position.Ix),
		recordID: string(e.ID), attempt: -1}
	if e.Number != 0 {
		l.number = "+" + strconv.FormatUint(e.Number, 10)
	}
	return l
}

// notice is the JSON of events and dead letters: all fields that either has.
type notice struct {
	ID, Type, Subject, Time string
	Data                    struct {
		Account                                   uint32
		Currency, Balance, Amount, Intent, Reason string
		Shard                                     int32
		Offset, Ix                                int64
		Attempt                                   *int64
	}
	Reason, Number, Raw   string
	TopicID               string `json:"topic_id"`
	RecordID              string `json:"record_id"`
	Account               uint32
	Partition, Offset, Ix int64
}

// said gives what the message says.
func (n *notice) said() said {
	if n.Type == "" {
		return said{time: n.Time, account: n.Account, reason: n.Reason, raw: n.Raw, topic: n.TopicID, partition: n.Partition,
			offset: n.Offset, ix: n.Ix, recordID: n.RecordID, number: n.Number, attempt: -1}
	}
	d := &n.Data
	x := said{kind: n.Type, subject: n.Subject, time: n.Time, currency: d.Currency, intent: d.Intent, reason: d.Reason, account: d.Account,
		offset: d.Offset, ix: d.Ix, balance: units(d.Balance), amount: units(d.Amount), attempt: -1}
	if d.Attempt != nil {
		x.attempt = *d.Attempt
	}
	return x
}

// compareEvents holds what was told against what was to be told, events told twice against each other, and what was told
// last about every account against what holds.
func (s *oracleShard) compareEvents() {
	w := s.o.w
	events, letters := w.log("events", s.shard), w.log("dead-letters", s.shard)
	events.decode()
	letters.decode()
	texts, last, newest := map[string]string{}, map[uint32]string{}, map[uint32][2]int64{}
	for _, m := range slices.Concat(events.messages, letters.messages) {
		var n notice
		if err := json.Unmarshal(m.value, &n); err != nil {
			w.violate("I3", "an event of shard %d: %v", s.shard, err)
			continue
		}
		before, again := texts[n.ID]
		if again && before != string(m.value) {
			w.violate("I3", "event %s was told in two ways", n.ID)
		}
		texts[n.ID] = string(m.value)
		if again {
			w.count("event told again")
			continue
		}
		s.compareNotice(&n)
		if n.Type != "account.suspended" && n.Type != "account.restored" {
			continue
		}
		if at := [2]int64{n.Data.Offset, n.Data.Ix}; last[n.Data.Account] == "" || slices.Compare(at[:], slice(newest[n.Data.Account])) >= 0 {
			last[n.Data.Account], newest[n.Data.Account] = n.Type, at
		}
	}
	for id, x := range s.told {
		if !x.told {
			w.violate("I10", "nobody was told of %s", id)
		}
	}
	for id, a := range s.accounts {
		if (last[id] == "account.suspended") != a.suspended {
			w.violate("I9", "account %d: suspended is %t, told last was %q", id, a.suspended, last[id])
		}
	}
}

// compareNotice holds an event or a dead letter against what was to be told.
func (s *oracleShard) compareNotice(n *notice) {
	want, known := s.told[n.ID]
	if got := n.said(); !known || got != want || n.Data.Shard != s.shard && n.Type != "" {
		s.o.w.violate("outcome", "shard %d was told %+v as %s, the oracle says %+v", s.shard, got, n.ID, want)
	}
	want.told = true
	s.told[n.ID] = want
}

func slice(a [2]int64) []int64 { return a[:] }
