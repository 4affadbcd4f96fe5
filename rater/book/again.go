package book

import (
	"bytes"
	"encoding/hex"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"github.com/tollgate/tollgate/rater/decode"
	"github.com/tollgate/tollgate/rater/entry"
)

// Again is what would become of a rejected record if it was replayed now.
type Again struct {
	// Replay has it decided. Its id names the record's place and all that decides now: the bytes, the format, who pays and
	// how much.
	Replay *Replay
	// Refusal says why it cannot be rated now either; "" if it can. Then the log need not be asked.
	Refusal string
	// RecordID and Number are the record's own, as far as it can be read.
	RecordID string
	Number   uint64
	// IDHash is by what it is charged once, 0 if it cannot be read; Account is who would pay.
	IDHash  uint64
	Account uint32
}

// Replays splits what was rejected into its records by the format that its topic has now: a whole message may have been
// rejected, such as one that came before its topic had a format. The letter is a Replay of all of it.
func (b *Book) Replays(letter Replay) (all []Again) {
	f := b.format(letter.Topic, b.frontierMs)
	if f == nil {
		return []Again{{Replay: &letter, Refusal: fmt.Sprintf("topic %q has no format", letter.Topic)}}
	}
	var d decode.Decoder
	if err := d.Reset(f.Format, f.Version, &f.Mapping, letter.Raw); err != nil {
		return []Again{{Replay: &letter, Refusal: err.Error()}}
	}
	var rec decode.Record
	for ix := letter.Ix; d.Next(&rec); ix++ {
		one := letter
		one.Raw, one.Ix = bytes.Clone(rec.Raw), ix
		again := Again{Replay: &one, RecordID: string(rec.ID), Number: rec.Number}
		if from, err := placeOf(f, &one); err == nil && rec.Problem == decode.None {
			again.IDHash = from.idHash(&rec, entry.Position{Offset: one.Offset, Ix: ix})
		}
		var e entry.Entry
		if err := b.rateAgain(&one, b.frontierMs, &e); err != nil {
			again.Refusal = err.Error()
		}
		again.Account = e.Account
		decides := fmt.Sprint(f.Name, f.Version, f.SourceName, e.Account, e.AmountUnits, e.Tariff, e.Row, e.IDHash, xxhash.Sum64(one.Raw))
		one.ID = fmt.Sprintf("replay/%s/%d/%d/%d/%016x", one.TopicID, one.Partition, one.Offset, ix, xxhash.Sum64String(decides))
		all = append(all, again)
	}
	return all
}

// Replayed tells whether a record, by the hash of its id, was replayed already: it cannot be once more.
func (f *Follower) Replayed(idHash uint64) bool {
	_, again := f.builder.replayed[idHash]
	return again
}

// placeOf is where the record of a replay came from.
func placeOf(f *Format, r *Replay) (SourceInfo, error) {
	from := SourceInfo{Format: f}
	id, err := hex.DecodeString(r.TopicID)
	if err != nil || len(id) != len(from.Source.TopicID) || r.Partition < 0 || r.Offset < 0 {
		return from, refusedf("topic id %q, partition %d, offset %d is no place in a topic", r.TopicID, r.Partition, r.Offset)
	}
	copy(from.Source.TopicID[:], id)
	from.Source.Partition = r.Partition
	return from, nil
}
