package simulation

import (
	"encoding/json"
	"math/big"
	"strconv"
	"strings"
	"time"
)

// call is a carrier's record as the oracle reads it.
type call struct {
	service, number, peer string
	id                    string
	eventMs               int64
	duration, segments    int64
	key                   string
}

// readRecord reads a record that a carrier wrote, nil if it cannot be read.
func readRecord(text string, f format) *call {
	var j struct {
		ID, Type, Direction, From, To string
		Start                         json.RawMessage
		Duration, Segments            *int64
	}
	if json.Unmarshal([]byte(text), &j) != nil || f.name != "tollgate" || j.Start == nil {
		return nil
	}
	r := &call{id: j.ID, number: j.To, peer: j.From}
	if j.Direction == "outbound" {
		r.number, r.peer = j.From, j.To
	}
	ms, err := strconv.ParseInt(string(j.Start), 10, 64)
	if err != nil {
		t, err := time.Parse(time.RFC3339, strings.Trim(string(j.Start), `"`))
		if err != nil {
			return nil
		}
		ms = t.UnixMilli()
	}
	r.eventMs = ms
	way := map[string]string{"inbound": "in", "outbound": "out"}[j.Direction]
	switch {
	case j.Type == "call" && j.Duration != nil:
		r.service, r.duration = "voice-"+way, *j.Duration
	case j.Type == "message" && j.Segments != nil:
		r.service, r.segments = "message-"+way, *j.Segments
	default:
		return nil
	}
	r.key = f.source + "|" + j.Type + "|" + j.ID
	return r
}

// route gives what a record of a message must become.
func (b *oracleBook) route(text string, f format, appendMs int64) *wanted {
	const rejected, undecodable, unknownNumber, tooFarAhead = 2, 1, 3, 5
	r := readRecord(text, f)
	if r == nil {
		return unread(undecodable, text, appendMs)
	}
	no := &wanted{facts: r.facts(rejected), shard: -2, raw: text, key: r.key}
	no.day = dayIn("UTC", r.eventMs)
	if r.eventMs > appendMs+60_000 {
		no.reason = tooFarAhead
		return no
	}
	owner, _ := b.owners[r.number].at(r.eventMs - 2000)
	if owner == 0 {
		no.reason = unknownNumber
		return no
	}
	e := b.rate(r, owner, f, r.eventMs-2000)
	if e.kind == rejected {
		e.raw = text
	}
	return e
}

// unread is what a record becomes that cannot be read: it is dated by its append time.
func unread(reason int, text string, appendMs int64) *wanted {
	const rejected = 2
	return &wanted{facts: facts{kind: rejected, eventMs: appendMs, day: dayIn("UTC", appendMs)}, reason: reason, shard: -2, raw: text, partly: true}
}

// services are the codes of services in entries.
var services = map[string]int{"voice-in": 1, "voice-out": 2, "message-in": 3, "message-out": 4}

// facts gives what an entry says of the record whoever owns it.
func (r *call) facts(kind int) facts {
	return facts{kind: kind, service: services[r.service], number: digitsOf(r.number), eventMs: r.eventMs, duration: uint32(r.duration), id: r.id, peer: r.peer}
}

// digitsOf gives a number that is written with a plus.
func digitsOf(number string) uint64 {
	digits, err := strconv.ParseUint(strings.TrimPrefix(number, "+"), 10, 64)
	if err != nil {
		panic("no number: " + number)
	}
	return digits
}

// rate gives what a record costs an account by the prices of a time.
func (b *oracleBook) rate(r *call, owner uint32, f format, atMs int64) *wanted {
	a := b.accounts[owner]
	zone, _ := a.zones.at(atMs)
	e := &wanted{facts: r.facts(2), reason: 4, shard: int32(owner % shardCount), key: r.key}
	e.account, e.day = owner, dayIn(zone, r.eventMs)
	plan, _ := a.plans.at(atMs)
	v, ok := b.tariffs[b.plans[plan]].at(atMs)
	if !ok {
		return e
	}
	digits := r.number[1:]
	if strings.HasSuffix(r.service, "-out") {
		digits = peerDigits(r.peer, f.country)
	}
	best := -1
	for i, c := range v.rows {
		if c.Service == r.service && strings.HasPrefix(digits, c.Prefix) && (best < 0 || len(c.Prefix) > len(v.rows[best].Prefix)) {
			best = i
		}
	}
	if best < 0 {
		return e
	}
	charge, billed := cost(&v.rows[best], r)
	e.kind, e.reason, e.amount, e.billed, e.tariff, e.row = 1, 0, -charge, uint32(billed), v.number, uint32(best)
	return e
}

// peerDigits gives the digits of the other party's number, "" if it has none.
func peerDigits(peer, country string) string {
	if strings.HasPrefix(peer, "+") {
		return peer[1:]
	}
	if _, err := strconv.Atoi(peer); err != nil {
		return ""
	}
	return country + peer
}

// cost computes a charge with rationals, and rounds once, half away from zero.
func cost(row *deckRow, r *call) (charge, billed int64) {
	if strings.HasPrefix(r.service, "message") {
		return units(row.Segment) * r.segments, r.segments
	}
	if r.duration == 0 {
		return 0, 0
	}
	billed = row.Initial
	for billed < r.duration {
		billed += row.Increment
	}
	per := row.PerSeconds
	if per == 0 {
		per = 60
	}
	exact := new(big.Rat).Mul(big.NewRat(units(row.Rate), 1), big.NewRat(billed, per))
	exact.Add(exact, big.NewRat(units(row.Connect), 1))
	exact.Add(exact, big.NewRat(1, 2))
	charge = new(big.Int).Div(exact.Num(), exact.Denom()).Int64()
	return max(charge, units(row.Minimum)), billed
}
