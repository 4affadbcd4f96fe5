package book

import (
	"fmt"
	"iter"
	"sort"

	"github.com/tollgate/tollgate/rater/decode"
	"github.com/tollgate/tollgate/rater/entry"
)

// The book is a source too: what concerns accounts becomes entries of their shards.

// yieldsEntry tells whether an accepted record becomes an entry.
func yieldsEntry(r Record) bool {
	switch r.(type) {
	case *OpenAccount, *ChangeZone, *AssignNumber, *ReleaseNumber, *CloseDay, *SetParam, *RaiseFold, *Replay:
		return true
	}
	return false
}

// Entry makes the entry that the record at an offset of the log becomes, dated and priced at the frontier of the
// record, and tells the shards [from, until) that it is for: one for what concerns an account, all for what concerns
// everybody, none for a refused record and for kinds that no shard needs to know. value is the message at that offset.
// The slices of e alias memory of their own.
//
// The Book must be open and hold the offset; every such Book gives the same. It panics if value is not the message that
// was applied.
func (b *Book) Entry(offset int64, value []byte, e *entry.Entry) (from, until int32) {
	i := sort.Search(len(b.decided), func(i int) bool { return b.decided[i].offset >= offset })
	if i == len(b.decided) || b.decided[i].offset != offset {
		return 0, 0
	}
	decision := b.decided[i]
	r, err := decodeRecord(value)
	if err != nil {
		panic(fmt.Sprintf("BUG: the record of the book at offset %d was another one when it was applied: %v", offset, err))
	}
	*e = entry.Entry{Account: decision.account, EventMs: decision.frontierMs, LocalDay: utcDay(decision.frontierMs)}
	account := b.Account(decision.account)
	if account != nil {
		e.LocalDay = b.LocalDay(account, decision.frontierMs, decision.frontierMs)
	}
	if err := b.fill(e, r, account, decision.frontierMs); err != nil {
		panic(fmt.Sprintf("BUG: the record of the book at offset %d was accepted, and now is not: %v", offset, err))
	}
	e.Position = entry.Position{Offset: offset}
	if account == nil {
		return 0, b.shards
	}
	shard := b.Shard(e.Account)
	return shard, shard + 1
}

// Yields lists the records of the log that become entries, in their order: the offset of each, and the account that it
// concerns, 0 where it is for every shard.
func (b *Book) Yields() iter.Seq2[int64, uint32] {
	return func(yield func(int64, uint32) bool) {
		for _, d := range b.decided {
			if !yield(d.offset, d.account) {
				return
			}
		}
	}
}

// fill writes into e what the accepted record says.
func (b *Book) fill(e *entry.Entry, r Record, account *Account, frontierMs int64) error {
	switch r := r.(type) {
	case *OpenAccount:
		zone, _ := account.zones.at(always)
		e.Kind, e.AmountUnits = entry.Account, account.BalanceUnits
		e.Args[entry.ArgZone] = int64(zone)
		e.Args[entry.ArgThreshold], e.Args[entry.ArgRechargeTo] = int64(account.ThresholdUnits), int64(account.RechargeUnits)
	case *ChangeZone:
		e.Kind = entry.Zone
		e.Args[entry.ArgZone] = int64(b.ZoneNamed(r.Zone).Number)
	case *AssignNumber:
		e.Kind, e.Args[0] = entry.Number, 1
		e.Number, _ = ParseNumber(r.Number)
	case *ReleaseNumber:
		e.Kind = entry.Number
		e.Number, _ = ParseNumber(r.Number)
	case *CloseDay:
		day, err := ParseDay(r.Day)
		e.Kind = entry.Close
		e.Args[entry.ArgZone], e.Args[entry.ArgDay] = int64(b.ZoneNamed(r.Zone).Number), int64(day)
		return err
	case *SetParam:
		param, err := findParam(r.Param, r.Value)
		if err != nil {
			return err
		}
		e.Kind = entry.Param
		e.Args[entry.ArgParam], e.Args[entry.ArgValue] = param.Number, r.Value
	case *RaiseFold:
		e.Kind, e.Args[0] = entry.FoldVersion, r.FoldVersion
	case *Replay:
		return b.rateAgain(r, frontierMs, e)
	default:
		return fmt.Errorf("a record of type %T becomes no entry", r)
	}
	return nil
}

// replay accepts the first replay of a record that can be rated now.
func (b *Builder) replay(r *Replay, d *Decision) error {
	var e entry.Entry
	if err := b.book.rateAgain(r, b.book.frontierMs, &e); err != nil {
		return err
	}
	if _, again := b.replayed[e.IDHash]; again {
		return refusedf("the record %q was replayed already", e.ID)
	}
	b.replayed[e.IDHash] = struct{}{}
	d.Account = e.Account
	return nil
}

// rateAgain rates a rejected record as if it had come now: read by the topic's format at the frontier, charged to the
// owner at its time, else to the account that the replay names, at the price of its time, else at the frontier's.
func (b *Book) rateAgain(r *Replay, frontierMs int64, e *entry.Entry) error {
	if !b.Opened() {
		return refused("nothing can be replayed before the installation is open")
	}
	f := b.format(r.Topic, frontierMs)
	if f == nil {
		return refusedf("topic %q has no format", r.Topic)
	}
	var rec decode.Record
	if err := readAgain(f, r, &rec); err != nil {
		return err
	}
	from, err := placeOf(f, r)
	if err != nil {
		return err
	}
	atMs := rec.EventMs - Margin
	if atMs > frontierMs {
		return refusedf("the record is dated %d ms after the time that the book knows", atMs-frontierMs)
	}
	account, owned := b.Owner(rec.Number, atMs)
	if !owned {
		account = r.Account
	}
	if b.Account(account) == nil {
		if r.Account == 0 {
			return refusedf("no account owned %s at the time: name one that pays", FormatNumber(rec.Number))
		}
		return refusedf("no account owned %s at the time, and there is no account %d", FormatNumber(rec.Number), r.Account)
	}
	*e = entry.Entry{
		Kind: entry.Usage, Service: rec.Service, Number: rec.Number, EventMs: rec.EventMs, DurationSeconds: rec.DurationSeconds,
		IDHash: from.idHash(&rec, entry.Position{Offset: r.Offset, Ix: r.Ix + r.Piece}), ID: rec.ID, Peer: rec.Peer,
	}
	reason := b.charge(account, &rec, f, atMs, e)
	if reason == entry.NoPrice {
		reason = b.charge(account, &rec, f, frontierMs, e)
	}
	if reason != entry.NoReason {
		return refusedf("the record has no charge: %s", reason)
	}
	return nil
}

// readAgain reads the record that a replay means.
func readAgain(f *Format, r *Replay, rec *decode.Record) error {
	if !f.Format.Knows(f.Version) {
		return fmt.Errorf("version %d of format %q: %w", f.Version, f.Name, errNewer)
	}
	var d decode.Decoder
	if err := d.Reset(f.Format, f.Version, &f.Mapping, r.Raw); err != nil {
		return refused(err.Error())
	}
	for range r.Piece + 1 {
		if !d.Next(rec) {
			return refusedf("the bytes hold no record %d", r.Piece)
		}
	}
	if rec.Problem != decode.None {
		return refusedf("the record still cannot be read: %s", rec.Detail)
	}
	return nil
}
