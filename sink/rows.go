package sink

import (
	"unsafe"

	"github.com/google/uuid"

	"github.com/tollgate/tollgate/balance/posting"
	"github.com/tollgate/tollgate/rater/entry"
)

// The tables, in the order in which they are written. The closings of days are account entries too, but are written after
// everything else: whoever sees that a day is closed then sees all that was in the shard's log before. No table alone could
// promise that, since the server writes the months of one insert one by one.
const (
	deadLetters = iota
	ratedRecords
	accountEntries
	closings
	tableCount
)

var tableNames = [tableCount]string{deadLetters: "dead_letters", ratedRecords: "rated_records", accountEntries: "account_entries", closings: "account_entries"}

// Rows are postings as columns of the tables, ready to be sent. A loop owns its Rows for life and refills them; one
// Rows takes the blocks of many shards.
type Rows struct {
	tables [tableCount]columnSet
	text   arena
}

// Reset empties the rows; their memory stays.
func (r *Rows) Reset() {
	for i := range r.tables {
		r.tables[i].reset()
	}
	r.text.reset()
}

// Len is the number of rows, over all tables.
func (r *Rows) Len() int {
	n := 0
	for i := range r.tables {
		n += r.tables[i].len()
	}
	return n
}

// TextBytes is how much memory the strings of the rows take.
func (r *Rows) TextBytes() int { return r.text.total }

// Append adds a row for each posting of the block, which it copies.
func (r *Rows) Append(shard uint16, b *posting.Block) {
	kinds := b.Entries.Kind
	for from := 0; from < len(kinds); {
		table, to := tableOf(kinds[from]), from+1
		for to < len(kinds) && tableOf(kinds[to]) == table {
			to++
		}
		r.tables[table].appendRun(&r.text, shard, b, from, to)
		if table != ratedRecords {
			r.tables[table].appendDetails(&r.text, &b.Entries, from, to)
		}
		from = to
	}
}

func tableOf(k entry.Kind) int {
	switch k {
	case entry.Usage, entry.Release:
		return ratedRecords
	case entry.Rejected:
		return deadLetters
	case entry.Close:
		return closings
	}
	return accountEntries
}

// columnSet is every column that some table has. Of a table, all columns have one length, or none where the table
// does not have them.
type columnSet struct {
	account                                    []uint32
	number, idHash                             []uint64
	kind, service, reason, result, flags       []uint8
	id, peer, extra                            []string
	args                                       [entry.ArgCount][]int64
	eventMs, appendMs                          []int64
	localDay, statementDay                     []int32
	durationSeconds, billed, tariff, tariffRow []uint32
	amountUnits, unappliedUnits                []int64
	balanceUnits, intentUnits                  []int64
	sourceTopic                                []uuid.UUID
	sourcePartition, sourceIx                  []uint32
	sourceOffset, entryOffset                  []int64
	shard                                      []uint16
	ix                                         []uint32
}

func (c *columnSet) len() int { return len(c.account) }

func (c *columnSet) reset() {
	c.account, c.number, c.idHash = c.account[:0], c.number[:0], c.idHash[:0]
	c.kind, c.service, c.reason = c.kind[:0], c.service[:0], c.reason[:0]
	c.result, c.flags = c.result[:0], c.flags[:0]
	c.id, c.peer, c.extra = c.id[:0], c.peer[:0], c.extra[:0]
	for i := range c.args {
		c.args[i] = c.args[i][:0]
	}
	c.eventMs, c.appendMs = c.eventMs[:0], c.appendMs[:0]
	c.localDay, c.statementDay = c.localDay[:0], c.statementDay[:0]
	c.durationSeconds, c.billed = c.durationSeconds[:0], c.billed[:0]
	c.tariff, c.tariffRow = c.tariff[:0], c.tariffRow[:0]
	c.amountUnits, c.unappliedUnits = c.amountUnits[:0], c.unappliedUnits[:0]
	c.balanceUnits, c.intentUnits = c.balanceUnits[:0], c.intentUnits[:0]
	c.sourceTopic, c.sourcePartition = c.sourceTopic[:0], c.sourcePartition[:0]
	c.sourceOffset, c.sourceIx = c.sourceOffset[:0], c.sourceIx[:0]
	c.shard, c.entryOffset, c.ix = c.shard[:0], c.entryOffset[:0], c.ix[:0]
}

// appendRun adds postings from..to of the block, all of one table: whole columns at a time.
func (c *columnSet) appendRun(text *arena, shard uint16, b *posting.Block, from, to int) {
	e := &b.Entries
	c.account = append(c.account, e.Account[from:to]...)
	c.number = append(c.number, e.Number[from:to]...)
	c.idHash = append(c.idHash, e.IDHash[from:to]...)
	c.kind = appendCodes(c.kind, e.Kind[from:to])
	c.service = appendCodes(c.service, e.Service[from:to])
	c.eventMs = append(c.eventMs, e.EventMs[from:to]...)
	c.localDay = append(c.localDay, e.LocalDay[from:to]...)
	c.durationSeconds = append(c.durationSeconds, e.DurationSeconds[from:to]...)
	c.billed = append(c.billed, e.Billed[from:to]...)
	c.tariff = append(c.tariff, e.Tariff[from:to]...)
	c.tariffRow = append(c.tariffRow, e.Row[from:to]...)
	c.sourceOffset = append(c.sourceOffset, e.Offset[from:to]...)
	c.sourceIx = append(c.sourceIx, e.Ix[from:to]...)
	topic, partition := uuid.UUID(e.Source.TopicID), uint32(e.Source.Partition)
	for i := from; i < to; i++ {
		c.id = append(c.id, text.add(e.ID(i)))
		c.peer = append(c.peer, text.add(e.Peer(i)))
		c.sourceTopic = append(c.sourceTopic, topic)
		c.sourcePartition = append(c.sourcePartition, partition)
		c.shard = append(c.shard, shard)
		c.entryOffset = append(c.entryOffset, b.EntryOffset)
		c.ix = append(c.ix, uint32(i))
		c.appendMs = append(c.appendMs, b.AppendMs)
	}
	for i := from; i < to; i++ {
		o := &b.Outcomes[i]
		c.result = append(c.result, uint8(o.Result))
		c.flags = append(c.flags, uint8(o.Flags))
		c.statementDay = append(c.statementDay, o.StatementDay)
		c.amountUnits = append(c.amountUnits, int64(o.AmountUnits))
		c.unappliedUnits = append(c.unappliedUnits, int64(e.AmountUnits[i]-o.AmountUnits))
		c.balanceUnits = append(c.balanceUnits, int64(o.BalanceUnits))
		c.intentUnits = append(c.intentUnits, int64(o.IntentUnits))
	}
}

// appendDetails adds the columns that usage does not have.
func (c *columnSet) appendDetails(text *arena, e *entry.Block, from, to int) {
	c.reason = appendCodes(c.reason, e.Reason[from:to])
	for i := from; i < to; i++ {
		c.extra = append(c.extra, text.add(e.Extra(i)))
		for k, arg := range e.Args(i) {
			c.args[k] = append(c.args[k], arg)
		}
	}
}

func appendCodes[T ~uint8](dst []uint8, codes []T) []uint8 {
	for _, code := range codes {
		dst = append(dst, uint8(code))
	}
	return dst
}

// arena holds the bytes of the rows' strings. A chunk that is full stays alive through the strings in it; the next
// one is twice as large, so that soon one chunk holds all.
type arena struct {
	chunk []byte
	total int
}

const firstChunkBytes = 64 << 10

// reset makes every string that was added void.
func (a *arena) reset() { a.chunk, a.total = a.chunk[:0], 0 }

func (a *arena) add(s []byte) string {
	if len(s) == 0 {
		return ""
	}
	if cap(a.chunk)-len(a.chunk) < len(s) {
		a.chunk = make([]byte, 0, max(2*cap(a.chunk), len(s), firstChunkBytes))
	}
	at := len(a.chunk)
	a.chunk = append(a.chunk, s...)
	a.total += len(s)
	return unsafe.String(&a.chunk[at], len(s))
}
