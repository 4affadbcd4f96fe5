package book

import (
	"fmt"
	"slices"
)

// Earlier is a record of the log, with what was decided of it.
type Earlier struct {
	Record   Record
	Decision Decision
}

// Earlier finds the records that first had the ids, and what was decided of them: for the rare caller who sends an id
// again and wants its first answer. An id that no record of the log had is not in the map.
func (b *Builder) Earlier(ids ...string) (map[string]Earlier, error) {
	found := make(map[string]Earlier, len(ids))
	wanted := make(map[string]bool, len(ids))
	for _, id := range ids {
		wanted[id] = true
	}
	err := b.decideAgain(func(value []byte, d Decision) error {
		if !wanted[d.ID] {
			return nil
		}
		r, err := decodeRecord(value)
		found[d.ID] = Earlier{r, d}
		return err
	})
	return found, err
}

// decideAgain shows all that the log has decided once more, in its order, heartbeats, repetitions and malformed records
// aside: as much work as restoring an image.
func (b *Builder) decideAgain(visit func(value []byte, d Decision) error) error {
	again := NewBuilder()
	packed := slices.Clone(b.journal.chunks)
	if b.journal.count > 0 {
		packed = append(packed, b.journal.pack())
	}
	for _, chunk := range packed {
		records, err := unpack(chunk)
		for err == nil && len(records) > 0 {
			var offset, frontierMs int64
			var value []byte
			if offset, frontierMs, value, records, err = first(records); err == nil {
				err = visit(value, again.Apply(offset, frontierMs, value))
			}
		}
		if err != nil {
			return fmt.Errorf("BUG: the book cannot read its own records: %w", err)
		}
	}
	return nil
}

// Earlier is Builder.Earlier for what the Follower has read.
func (f *Follower) Earlier(ids ...string) (map[string]Earlier, error) {
	return f.builder.Earlier(ids...)
}
