package simulation

import (
	"context"
	"fmt"
	"time"

	"github.com/tollgate/tollgate/balance/ledger"
	"github.com/tollgate/tollgate/balance/posting"
	"github.com/tollgate/tollgate/rater/entry"
	"github.com/tollgate/tollgate/rater/money"
)

// request is what a caller of the API asks for: an entry under an idempotency key, which the caller may use again.
type request struct {
	entry entry.Entry
	atMs  int64
}

// answer is what a caller was told.
type answer struct {
	shard   int32
	offset  int64 // of the entry
	id      uint64
	body    int64
	refused bool // the key was used before, for something else
	outcome posting.Outcome
}

// caller asks for one entry by protocol rule 9: append it, wait until the shard has applied it, read what is kept under its
// id; after silence, ask again under the same key. It plays the rule by which submit of cmd/tollgate/client.go asks, and is
// not that code, which talks to servers.
type caller struct {
	w     *world
	t     *task
	shard int32
	entry entry.Entry
}

// keyMs is for how long callers use a key, well within the window of ids.
const keyMs = 20 * minuteMs

// ask has somebody use the API: for something new, for what was asked before, or, by mistake, for something else under a key
// that was used before.
func (w *world) ask() {
	r := w.newRequest()
	if n := len(w.api); n > 0 && w.r.IntN(3) == 0 && w.nowMs-w.api[n-1].atMs < keyMs {
		if again := w.api[n-1]; w.r.IntN(4) > 0 {
			w.count("API repeat")
			r = again
		} else {
			w.count("API key for another body")
			r.entry.IDHash, r.entry.ID, r.entry.Account, r.atMs = again.entry.IDHash, again.entry.ID, again.entry.Account, again.atMs
		}
	} else {
		w.api = append(w.api, r)
	}
	w.callers++
	c := &caller{w: w, shard: int32(r.entry.Account % shardCount), entry: r.entry, t: &task{name: fmt.Sprintf("caller.%d", w.callers), calls: true}}
	untilMs := r.atMs + keyMs
	w.start(c.t, func(ctx context.Context) error { return c.run(ctx, untilMs) })
}

// newRequest draws a request under a new key.
func (w *world) newRequest() request {
	w.ids++
	e := entry.Entry{Kind: entry.Credit, Account: 1 + uint32(w.r.IntN(accountCount)), LocalDay: dayIn("UTC", w.nowMs),
		IDHash: mix(uint64(w.ids), 77) | 1<<63, ID: []byte(fmt.Sprint("key-", w.ids)), AmountUnits: money.Amount(1+w.r.IntN(100)) * 1_000_000}
	e.Args[entry.ArgBody] = int64(w.ids)
	switch w.r.IntN(4) {
	case 0:
		e.Kind, e.AmountUnits = entry.Adjustment, -e.AmountUnits
	case 1:
		e.Kind, e.AmountUnits = entry.Settings, 0
		e.Args[entry.ArgThreshold] = w.r.Int64N(2) * 100_000_000
		e.Args[entry.ArgRechargeTo] = (1 + w.r.Int64N(4)) * 100_000_000
	case 2:
		if w.r.IntN(4) == 0 {
			e.AmountUnits = 5_000_000_000_000_000 // refused
		}
	}
	return request{e, w.nowMs}
}

// run asks until there is an answer, or the key must not be used any more.
func (c *caller) run(ctx context.Context, untilMs int64) error {
	out := &writer{t: c.t}
	for ctx.Err() == nil && c.w.nowMs < untilMs {
		offset, err := c.append(ctx, out)
		if err == nil && c.wait(ctx, offset) {
			return nil
		}
		c.w.count("API: no answer in time")
		c.t.Sleep(ctx, time.Duration(20+c.w.r.IntN(200))*time.Second)
	}
	return nil
}

// append puts the entry into the log, accepted now.
func (c *caller) append(ctx context.Context, out *writer) (offset int64, err error) {
	c.entry.EventMs = c.w.nowMs
	var b entry.Block
	b.Reset(entry.Source{}, entry.None)
	b.Add(&c.entry)
	value := b.AppendTo(nil)
	if c.w.faults && c.w.r.IntN(4) == 0 { // it is on its way for longer than its sender has patience
		c.w.launchValue(c.t, c.w.log("entries", c.shard), value)
		return 0, errLost
	}
	out.Reset()
	if err := out.Append("entries", c.shard, nil, value); err != nil {
		return 0, err
	}
	if err := out.Send(ctx); err != nil {
		return 0, err
	}
	return out.Result(0).BaseOffset, nil
}

// wait waits until the shard has applied the entry, and takes notice of the answer, if it comes in time.
func (c *caller) wait(ctx context.Context, offset int64) (answered bool) {
	for untilMs := c.w.nowMs + minuteMs; c.w.nowMs < untilMs && ctx.Err() == nil; {
		wm, kept, found, err := redis{c.t}.Result(ctx, c.shard, c.entry.IDHash)
		if err == nil && (wm >= offset || c.w.mutation.answerEarly) {
			c.hear(offset, kept, found)
			return true
		}
		c.t.Sleep(ctx, time.Duration(1+c.w.r.IntN(20))*time.Second)
	}
	return false
}

// hear takes notice of what is kept under the id.
func (c *caller) hear(offset int64, kept ledger.APIResult, found bool) {
	w, body := c.w, c.entry.Args[entry.ArgBody]
	switch {
	case !found: // expired, or pushed out by others: the postings know
		w.count("API: accepted, outcome not kept")
		w.unkept = append(w.unkept, answer{shard: c.shard, offset: offset, id: c.entry.IDHash})
	case kept.BodyHash != body && !w.mutation.anyBody:
		w.count("API: key used before")
		w.answers = append(w.answers, answer{c.shard, offset, c.entry.IDHash, body, true, posting.Outcome{}})
	default:
		w.count("API: answered")
		w.answers = append(w.answers, answer{c.shard, offset, c.entry.IDHash, body, false, kept.Outcome})
	}
}

// keeping is what a shard can have kept for callers.
type keeping struct {
	outcomes, room int64          // how many outcomes it has kept in all, and for how many it had the least room
	expired        map[int64]bool // entries that had none
}

// checkAnswers holds what callers were told against what the oracle's fold made of the first entry under the key.
func (o *oracle) checkAnswers() {
	for _, a := range o.w.answers {
		first, applied := o.first[a.id]
		switch {
		case !applied:
			o.w.violate("answer", "a caller was told of an entry that never was applied: %+v", a)
		case a.refused != (first.body != a.body):
			o.w.violate("answer", "a caller with body %d was told %+v, the key is that of body %d", a.body, a, first.body)
		case !a.refused && a.outcome != first.outcome:
			o.w.violate("answer", "a caller was told %+v, the outcome is %+v", a, first.outcome)
		}
	}
	for _, a := range o.w.unkept {
		if k := o.kept[a.shard]; k.outcomes <= k.room && !k.expired[a.offset] {
			o.w.violate("answer", "a caller was told that no outcome is kept, though none was pushed out: %+v", a)
		}
	}
}
