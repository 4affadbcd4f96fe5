package verify

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/tollgate/tollgate/balance/posting"
	"github.com/tollgate/tollgate/rater/entry"
)

// positions collects, over all shards, which positions of the sources have a row that is not repeated.
type positions struct {
	rated    []Rated
	mutex    sync.Mutex
	bySource map[entry.Source]*marks
}

// marks are the positions of one source: the first record of each message in bitmaps, the few others in a list.
type marks struct {
	pages  map[int64]*[pageWords]uint64
	later  []entry.Position
	lowest int64
	count  int64
}

const (
	pageWords   = 1024
	pageOffsets = pageWords * 64
)

func newPositions(rated []Rated) *positions {
	p := &positions{rated: rated, bySource: map[entry.Source]*marks{}}
	for _, r := range rated {
		p.bySource[r.Source] = &marks{pages: map[int64]*[pageWords]uint64{}, lowest: -1}
	}
	return p
}

// mark takes note of a block's positions. A position that comes a second time, in whatever shard, is a difference.
func (p *positions) mark(b *entry.Block, outcomes []posting.Outcome, report *Report) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	m := p.bySource[b.Source]
	if m == nil {
		return // the book, or no source
	}
	for i := range outcomes {
		if outcomes[i].Result == posting.Repeated {
			continue
		}
		m.count++
		offset := b.Offset[i]
		if m.lowest < 0 || offset < m.lowest {
			m.lowest = offset
		}
		if b.Ix[i] > 0 {
			m.later = append(m.later, entry.Position{Offset: offset, Ix: b.Ix[i]})
			continue
		}
		word, bit := m.word(offset), uint64(1)<<(offset%64)
		if *word&bit != 0 {
			report.differ(1, "source %x[%d]: offset %d has two rows that are not repeated", b.Source.TopicID, b.Source.Partition, offset)
		}
		*word |= bit
	}
}

func (m *marks) word(offset int64) *uint64 {
	page := m.pages[offset/pageOffsets]
	if page == nil {
		page = new([pageWords]uint64)
		m.pages[offset/pageOffsets] = page
	}
	return &page[offset%pageOffsets/64]
}

func (m *marks) has(offset int64) bool {
	page := m.pages[offset/pageOffsets]
	return page != nil && page[offset%pageOffsets/64]>>(offset%64)&1 != 0
}

// check finds, for every source, the positions that have no row, and those of one message that are not 0, 1, 2 ...
func (p *positions) check(ctx context.Context, sources Sources, report *Report) error {
	for _, r := range p.rated {
		m := p.bySource[r.Source]
		report.Sources++
		report.Records += m.count
		m.checkLater(r, report)
		first := r.First
		if first < 0 {
			first = m.lowest
		}
		if err := m.checkHoles(ctx, sources, r, max(first, 0), report); err != nil {
			return fmt.Errorf("cannot check the positions of %s: %w", r.Name, err)
		}
	}
	return nil
}

// checkHoles asks the source about every run of offsets without a row.
func (m *marks) checkHoles(ctx context.Context, sources Sources, r Rated, first int64, report *Report) error {
	for at := first; at < r.Next; at++ {
		if m.has(at) {
			continue
		}
		to := at
		for to+1 < r.Next && !m.has(to+1) {
			to++
		}
		n, err := sources.Messages(ctx, r.Source, at, to)
		if err != nil {
			return err
		}
		if n > 0 {
			report.differ(n, "source %s: %d messages at offsets %d to %d have no row", r.Name, n, at, to)
		}
		at = to
	}
	return nil
}

// checkLater checks that the further records of each message count on from its first.
func (m *marks) checkLater(r Rated, report *Report) {
	slices.SortFunc(m.later, func(a, b entry.Position) int {
		return cmp.Or(cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.Ix, b.Ix))
	})
	last := entry.None
	for _, at := range m.later {
		due := uint32(1)
		if at.Offset == last.Offset {
			due = last.Ix + 1
		} else if !m.has(at.Offset) {
			report.differ(1, "source %s: record 0 of the message at offset %d has no row", r.Name, at.Offset)
		}
		switch {
		case at == last:
			report.differ(1, "source %s: record %d of the message at offset %d has two rows that are not repeated", r.Name, at.Ix, at.Offset)
		case at.Ix > due:
			report.differ(int64(at.Ix-due), "source %s: records %d to %d of the message at offset %d have no row", r.Name, due, at.Ix-1, at.Offset)
		}
		last = at
	}
}
