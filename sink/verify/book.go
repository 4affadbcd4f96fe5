package verify

import (
	"context"
	"iter"
	"sync"

	"github.com/tollgate/tollgate/balance/posting"
	"github.com/tollgate/tollgate/rater/entry"
)

// Book tells what of the book is in the logs of the shards. The book is a source too, but not each of its records
// becomes an entry, and some become one of every shard.
type Book interface {
	// Entered gives the book as a source: its records before Next that yield entries have made them.
	Entered(ctx context.Context) (Rated, error)
	// Yields lists the records of the book before an offset that yield entries, in their order, with the shards that each
	// is for.
	Yields(before int64) iter.Seq2[int64, Shards]
}

// Shards are those from From to before Until.
type Shards struct{ From, Until int32 }

// decided collects the positions of the book that have a row which is not repeated, by shard, in their order.
type decided struct {
	rated   Rated
	mutex   sync.Mutex
	byShard [][]entry.Position
}

// mark takes note of a block's positions, if it comes from the book.
func (d *decided) mark(shard int32, b *entry.Block, outcomes []posting.Outcome) {
	if d.rated.Next == 0 || b.Source != d.rated.Source {
		return
	}
	d.mutex.Lock()
	defer d.mutex.Unlock()
	for i := range outcomes {
		if outcomes[i].Result != posting.Repeated && b.Offset[i] < d.rated.Next {
			d.byShard[shard] = append(d.byShard[shard], entry.Position{Offset: b.Offset[i], Ix: b.Ix[i]})
		}
	}
}

// check demands of each shard exactly the positions that the book yields for it, each once (invariant I10).
func (d *decided) check(book Book, report *Report) {
	found := d.byShard
	for offset, shards := range book.Yields(d.rated.Next) {
		for shard := shards.From; shard < shards.Until; shard++ {
			found[shard] = d.strangers(found[shard], shard, entry.Position{Offset: offset}, report)
			if len(found[shard]) > 0 && found[shard][0] == (entry.Position{Offset: offset}) {
				found[shard] = found[shard][1:]
				report.Decided++
				continue
			}
			report.differ(1, "shard %d has no row of the record at offset %d of the book", shard, offset)
		}
	}
	for shard := range found {
		d.strangers(found[shard], int32(shard), entry.Position{Offset: d.rated.Next}, report)
	}
}

// strangers reports the positions below the next one that is due, and gives the rest.
func (d *decided) strangers(found []entry.Position, shard int32, due entry.Position, report *Report) []entry.Position {
	for len(found) > 0 && found[0].Less(due) {
		report.differ(1, "shard %d has a row of record %d at offset %d of the book, which is none of its own or was there before", shard, found[0].Ix, found[0].Offset)
		found = found[1:]
	}
	return found
}
