package simulation

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/tollgate/tollgate/balance/ledger"
	"github.com/tollgate/tollgate/balance/posting"
	"github.com/tollgate/tollgate/balance/recharge"
	"github.com/tollgate/tollgate/rater/stream"
)

// postedState is how far the postings of a shard were looked through.
type postedState struct {
	next  int64 // offset in postings
	last  int64 // highest entry with all before it, -1 for none
	first map[int64][]byte
}

// postedTo looks through what was added to a shard's postings: first appearances have no gap (I4), repeats are equal (I3).
// It gives the highest entry whose postings are there, with all before it.
func (w *world) postedTo(shard int32) int64 {
	p, l := &w.posted[shard], w.log("postings", shard)
	if p.first == nil {
		p.first = map[int64][]byte{}
	}
	l.decode()
	for ; p.next < l.end; p.next++ {
		value := l.messages[p.next].value
		offset, err := posting.EntryOffset(value)
		switch {
		case err != nil:
			w.violate("I3", "postings[%d] at %d: %v", shard, p.next, err)
		case offset > p.last+1:
			w.violate("I4", "postings[%d] at %d is of entry %d, but %d is missing", shard, p.next, offset, p.last+1)
		case offset <= p.last:
			w.count("postings appended again")
			if !bytes.Equal(p.first[offset], value) {
				w.violate("I3", "two postings of entry %d of shard %d differ", offset, shard)
			}
		default:
			p.first[offset], p.last = value, offset
		}
	}
	return p.last
}

// cursor is how far a group has come with a shard's postings.
func (w *world) cursor(group string, shard int32) posting.Cursor {
	o, known := w.commits[commitKey{group, logKey{"postings", shard}}]
	if !known {
		o.Offset = -1
	}
	c, err := posting.ParseCursor(o.Offset, o.Metadata, w.topics["postings"].id)
	if err != nil {
		w.violate("I9", "%v", err)
	}
	return c
}

// sourceKey names a partition of one life of a topic.
type sourceKey struct {
	id        stream.TopicID
	partition int32
}

// unsettled says what is still to be done, "" if nothing is.
func (w *world) unsettled() string {
	if len(w.flights)+len(w.requests) > 0 {
		return "something under way"
	}
	if i := slices.IndexFunc(w.tasks, func(t *task) bool { return t.calls }); i >= 0 {
		return w.tasks[i].name + " without an answer"
	}
	for _, name := range w.carrierTopics() {
		t := w.topics[name]
		for _, p := range t.partitions {
			if done := w.rated[sourceKey{t.id, p.key.partition}]; done < p.end {
				return fmt.Sprintf("rate at %d of %d of %s[%d]", done, p.end, name, p.key.partition)
			}
		}
	}
	if done := w.rated[sourceKey{w.topics["book"].id, 0}]; done <= w.lastChange() {
		return fmt.Sprintf("rate at %d of the book", done)
	}
	for shard := range int32(shardCount) {
		if what := w.unsettledShard(shard); what != "" {
			return fmt.Sprintf("shard %d: %s", shard, what)
		}
	}
	for _, p := range w.payments {
		if p.finalMs > w.nowMs {
			return "a charge that is undecided"
		}
	}
	return ""
}

// lastChange is the offset of the newest record of the book that is no heartbeat.
func (w *world) lastChange() int64 {
	l := w.log("book", 0)
	l.decode()
	for i := len(l.messages) - 1; i >= 0; i-- {
		if len(l.messages[i].value) > 40 {
			return int64(i)
		}
	}
	return -1
}

func (w *world) unsettledShard(shard int32) string {
	end, s := w.log("entries", shard).end, w.masters[shard].now
	switch {
	case !s.initialized:
		return "not loaded"
	case s.wm != end-1:
		return fmt.Sprintf("debit at %d of %d", s.wm, end)
	case w.postedTo(shard) != end-1:
		return fmt.Sprintf("postings up to %d of %d", w.postedTo(shard), end)
	}
	for _, group := range []string{"store", "late", "act"} {
		if c := w.cursor(group, shard); c.Last != end-1 {
			return fmt.Sprintf("%s at %d of %d", group, c.Last, end)
		}
	}
	for _, t := range w.stages["audit"].members {
		for _, p := range t.share["postings"] {
			if at := t.reads[logKey{"postings", shard}]; p == shard && w.mutation.fold == nil && at < w.log("postings", shard).end {
				return fmt.Sprintf("%s at %d of %d postings", t.name, at, w.log("postings", shard).end)
			}
		}
	}
	return w.unsettledAccounts(s)
}

// unsettledAccounts looks for recharges that are under way or should be.
func (w *world) unsettledAccounts(s *redisState) string {
	for id, a := range s.fold.Accounts {
		switch {
		case a.HasIntent:
			return fmt.Sprintf("account %d has an open intent", id)
		case a.WantsAttention(s.fold.Params[ledger.GiveUpAfter]):
			return fmt.Sprintf("account %d waits for something", id)
		}
		for _, token := range a.Tokens {
			for _, p := range w.payments {
				if p.Account == id && p.Intent.Offset == token.Offset && p.Intent.Ix == token.Ix && p.Attempt == token.Attempt &&
					p.at(w.nowMs).Status == recharge.Succeeded {
					return fmt.Sprintf("a capture of account %d is not credited", id)
				}
			}
		}
	}
	return ""
}
