package recharge

import (
	"context"
	"fmt"
	"slices"

	"github.com/tollgate/tollgate/rater/entry"
	"github.com/tollgate/tollgate/rater/stream"
)

// appender gathers entries, each a block of its own, appends them, and tells at which offsets they are.
type appender struct {
	writer stream.Writer
	topic  string
	block  entry.Block
	wire   []byte
	shards []int32 // in the order in which they were first appended to
	counts []int64 // entries gathered for each of them
	places []place
}

// place is where an entry stands: among those of a shard.
type place struct {
	shard int // index in shards
	nth   int64
}

func (a *appender) reset() {
	a.writer.Reset()
	a.shards, a.counts, a.places = a.shards[:0], a.counts[:0], a.places[:0]
}

// add gathers one entry. After an error it is not gathered.
func (a *appender) add(shard int32, e *entry.Entry) error {
	a.block.Reset(entry.Source{}, entry.None)
	a.block.Add(e)
	a.wire = a.block.AppendTo(a.wire[:0])
	if err := a.writer.Append(a.topic, shard, nil, a.wire); err != nil {
		return fmt.Errorf("cannot gather a %s entry of account %d: %w", e.Kind, e.Account, err)
	}
	i := slices.Index(a.shards, shard)
	if i < 0 {
		i = len(a.shards)
		a.shards, a.counts = append(a.shards, shard), append(a.counts, 0)
	}
	a.places = append(a.places, place{i, a.counts[i]})
	a.counts[i]++
	return nil
}

// send appends what was gathered, once. After an error some of it may be in the log, even where offset says no.
func (a *appender) send(ctx context.Context) error {
	if len(a.places) == 0 {
		return nil
	}
	if err := a.writer.Send(ctx); err != nil {
		return fmt.Errorf("cannot append %d entries: %w", len(a.places), err)
	}
	return nil
}

// offset tells where the i-th entry is in its shard's log, -1 if it was not gathered or is not acknowledged.
func (a *appender) offset(i int) int64 {
	if i >= len(a.places) {
		return -1
	}
	p := a.places[i]
	if base := a.writer.Result(p.shard).BaseOffset; base >= 0 {
		return base + p.nth
	}
	return -1
}

// result is the entry that states what became of an attempt: money captured, or a definitive failure.
func result(c *Charge, nowMs int64, book Book) entry.Entry {
	e := entry.Entry{
		Kind: entry.PaymentFailed, Account: c.Account, EventMs: nowMs, LocalDay: book.Day(c.Account, nowMs),
		ID: []byte(c.ID[:min(len(c.ID), maxIDBytes)]),
	}
	e.Args[entry.ArgIntentOffset], e.Args[entry.ArgIntentIx] = c.Intent.Offset, int64(c.Intent.Ix)
	e.Args[entry.ArgAttempt] = int64(c.Attempt)
	switch c.Status {
	case Succeeded:
		e.Kind, e.AmountUnits = entry.Payment, c.AmountUnits
	case NeedsAuthentication:
		e.Args[entry.ArgFailure] = entry.FailureAuthentication
	default:
		e.Args[entry.ArgFailure] = entry.FailureDeclined
	}
	return e
}

// maxIDBytes bounds the gateway's name of a charge in an entry.
const maxIDBytes = 255
