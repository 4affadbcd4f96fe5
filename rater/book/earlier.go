package book

import (
	"fmt"
	"slices"
)

// Earlier finds the record that first had the id, and what was decided of it, by deciding again all that the log has
// decided up to it: as much work as restoring an image, for the rare caller who sends an id again and wants its first
// answer. It gives nil if no record of the log had the id.
func (b *Builder) Earlier(id string) (Record, Decision, error) {
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
			if offset, frontierMs, value, records, err = first(records); err != nil {
				break
			}
			if d := again.Apply(offset, frontierMs, value); d.ID == id {
				r, err := decodeRecord(value)
				return r, d, err
			}
		}
		if err != nil {
			return nil, Decision{}, fmt.Errorf("BUG: the book cannot read its own records: %w", err)
		}
	}
	return nil, Decision{}, nil
}

// Earlier is Builder.Earlier for what the Follower has read.
func (f *Follower) Earlier(id string) (Record, Decision, error) { return f.builder.Earlier(id) }
