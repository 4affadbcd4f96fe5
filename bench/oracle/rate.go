package oracle

import (
	"github.com/cespare/xxhash/v2"
)

// expected is what must have become of one record, in 128 bytes: the oracle keeps those of one slice of a partition.
type expected struct {
	offset int64
	ix     uint32
	refuse reason // rated for a record that must have its row in rated_records
	// The record as it was stated. Texts are kept as hashes, which ClickHouse can compute too.
	service  service
	number   uint64
	eventMs  int64
	duration uint32
	idHash   uint64
	peerHash uint64
	rawHash  uint64 // of a record that must be a dead letter
	// What the book makes of it.
	account  *account
	key      uint64 // of the record's id: equal for its copies
	units    int64  // its price, positive
	billed   uint32
	localDay int32
	// What was found.
	found       bool
	place       place
	fingerprint uint64
}

// rater says what must become of records.
type rater struct {
	book    *book
	pricer  pricer
	decoder decoder
	record  record
	key     []byte
}

// message adds what must become of each record of a message.
func (r *rater) message(topic string, offset, appendMs int64, value []byte, to []expected) []expected {
	r.decoder.format = r.book.formatAt(topic, appendMs-marginMs)
	if r.decoder.format == nil {
		return append(to, expected{offset: offset, refuse: noFormat, rawHash: xxhash.Sum64(value)})
	}
	for ix, p := range split(value) {
		e := expected{offset: offset, ix: uint32(ix)}
		r.decoder.decode(p, &r.record)
		if r.rate(&r.record, appendMs, &e); e.refuse != rated {
			e.rawHash = xxhash.Sum64(p.raw)
		}
		to = append(to, e)
	}
	return to
}

// rate finds the owner and the price of a record, by what the book said shortly before the record's own time.
func (r *rater) rate(rec *record, appendMs int64, e *expected) {
	e.service, e.number, e.eventMs = rec.service, rec.number, rec.eventMs
	e.idHash, e.peerHash = xxhash.Sum64(rec.id), xxhash.Sum64(rec.peer)
	if rec.service.voice() {
		e.duration = rec.count
	}
	if e.refuse = rec.refusal; e.refuse != rated {
		return
	}
	if rec.eventMs > appendMs+aheadMs {
		e.refuse = tooFarAhead
		return
	}
	at := rec.eventMs - marginMs
	if e.account = r.book.ownerAt(rec.number, at); e.account == nil {
		e.refuse = unknownNumber
		return
	}
	r.key = append(append(r.key[:0], r.decoder.format.source...), 0, map[bool]byte{true: 'c', false: 'm'}[rec.service.voice()])
	e.key = xxhash.Sum64(append(r.key, rec.id...))
	e.localDay = dayOf(rec.eventMs, e.account.zone)
	row := r.row(rec, e.account, at)
	if row == nil {
		e.refuse = noPrice
		return
	}
	charge := r.pricer.price(priceKey{row, e.account.currency, rec.service, rec.count})
	if !charge.ok {
		e.refuse = outOfBounds
		return
	}
	e.units, e.billed = charge.units, charge.billed
}

// row gives the row of the tariff: by the account's own number for what comes in, else by the other party's.
func (r *rater) row(rec *record, a *account, at int64) *rateRow {
	v := a.tariff.at(at)
	if v == nil {
		return nil
	}
	digits := rec.number
	if !rec.service.inbound() {
		digits, _ = parseNumber(rec.peer, r.decoder.format.country) // 0 for a party without a number
	}
	return v.row(rec.service, digits)
}
