package book

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"

	"github.com/tollgate/tollgate/rater/decode"
	"github.com/tollgate/tollgate/rater/entry"
	"github.com/tollgate/tollgate/rater/price"
)

const (
	// Margin is how long, in milliseconds, records wait for the book: one is rated by what the book says of its event
	// time less Margin, and read by what the book says of its append time less Margin. With heartbeats more often than
	// that, nothing waits; a greater or smaller margin would be as right.
	Margin = 2000
	// FutureMs is how far past its append time a record may be dated, milliseconds.
	FutureMs = 60_000
)

// SourceInfo is what Rate has to know about where a record came from besides its position.
type SourceInfo struct {
	// Source is the partition.
	Source entry.Source
	// Format is what FormatAt gave for the record's message.
	Format *Format
}

// Rate makes the entry of a decoded carrier record: the heart of the rate stage. It is not ready while the book does not
// know all about the record's time yet; then e is worthless, and the record is to be rated again by a later Book. The
// shard is that of the owner; a record that has none, and one that could not be read, goes to a shard of its source.
//
// Once ready, the entry and the shard are the same for every Book of the log. The slices of e alias those of the
// record. Nothing is allocated.
func (b *Book) Rate(rec *decode.Record, from *SourceInfo, position entry.Position, appendMs int64, e *entry.Entry) (shard int32, ready bool) {
	if !b.Opened() {
		return 0, false
	}
	*e = entry.Entry{
		Kind: entry.Usage, Service: rec.Service, Number: rec.Number, Position: position, EventMs: rec.EventMs,
		DurationSeconds: rec.DurationSeconds, IDHash: from.idHash(rec, position), ID: rec.ID, Peer: rec.Peer,
	}
	if rec.Problem != decode.None {
		return b.reject(reasonOf(rec.Problem), rec.Raw, from, appendMs, e), true
	}
	if rec.EventMs > appendMs+FutureMs {
		return b.reject(entry.TooFarAhead, rec.Raw, from, appendMs, e), true
	}
	atMs := rec.EventMs - Margin
	if b.frontierMs < atMs {
		return 0, false
	}
	account, owned := b.Owner(rec.Number, atMs)
	if !owned {
		return b.reject(entry.UnknownNumber, rec.Raw, from, appendMs, e), true
	}
	if reason := b.charge(account, rec, from.Format, atMs, e); reason != entry.NoReason {
		e.Kind, e.Reason, e.Extra = entry.Rejected, reason, rec.Raw
	}
	return b.Shard(account), true
}

// charge writes into e what the record costs the account, by what was in force at a time, or gives the reason why it
// has no price.
func (b *Book) charge(account uint32, rec *decode.Record, f *Format, atMs int64, e *entry.Entry) entry.Reason {
	plan, zone := b.termsAt(account, atMs)
	e.Account, e.LocalDay = account, zone.Day(rec.EventMs)
	digits := rec.Number
	if !rec.Service.Inbound() {
		digits, _ = decode.ParseNumber(rec.Peer, f.Mapping.DefaultCountry) // 0 for a party that has no number
	}
	v, row, ok := b.priceOf(plan, rec.Service, digits, atMs)
	if !ok {
		return entry.NoPrice
	}
	charge, ok := price.Compute(&v.Rows[row], rec.DurationSeconds, rec.Segments)
	if !ok {
		return entry.OutOfBounds
	}
	e.AmountUnits, e.Billed, e.Tariff, e.Row = -charge.AmountUnits, charge.Billed, v.Number, row
	return entry.NoReason
}

// Reject makes the entry of a message that has no format, and so no records: FormatAt gave nil for it. The shard is one
// of its source. The Book must be open.
func (b *Book) Reject(reason entry.Reason, raw []byte, source entry.Source, position entry.Position, appendMs int64, e *entry.Entry) (shard int32) {
	*e = entry.Entry{Position: position}
	return b.reject(reason, raw, &SourceInfo{Source: source}, appendMs, e)
}

// reject makes e a rejected record that belongs to no account. One without a time is dated by its append time.
func (b *Book) reject(reason entry.Reason, raw []byte, from *SourceInfo, appendMs int64, e *entry.Entry) (shard int32) {
	e.Kind, e.Reason, e.Extra = entry.Rejected, reason, raw
	if e.EventMs == 0 {
		e.EventMs = appendMs
	}
	e.LocalDay = utcDay(e.EventMs)
	var key [entry.SourceLen]byte
	return int32(xxhash.Sum64(from.Source.AppendKey(key[:0])) % uint64(b.shards))
}

// reasonOf is the reason of a record that could not be read.
func reasonOf(p decode.Problem) entry.Reason {
	if p == decode.OutOfBounds {
		return entry.OutOfBounds
	}
	return entry.Undecodable
}

// idHash hashes what makes a record unique: the source's name, the kind of service and the carrier's id, or the
// position where the carrier gave none. It is never 0.
func (s *SourceInfo) idHash(rec *decode.Record, position entry.Position) uint64 {
	seed := s.Format.messageSeed
	if rec.Service.Voice() {
		seed = s.Format.voiceSeed
	}
	var digest xxhash.Digest
	digest.ResetWithSeed(seed)
	if len(rec.ID) > 0 {
		digest.Write(rec.ID)
	} else {
		var key [1 + entry.SourceLen + 12]byte // the first byte, 0, is that of no legible id
		at := s.Source.AppendKey(key[:1])
		at = binary.BigEndian.AppendUint64(at, uint64(position.Offset))
		digest.Write(binary.BigEndian.AppendUint32(at, position.Ix))
	}
	return max(digest.Sum64(), 1)
}
