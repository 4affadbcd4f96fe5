package ledger

import (
	"testing"

	"github.com/tollgate/tollgate/balance/posting"
	"github.com/tollgate/tollgate/rater/entry"
)

// TestRaisedWindowForgetsNothing charges a record, lets its id be forgotten, raises the window, and then has copies of it
// come by every way that does not look at the record's own time. None may be charged or applied again.
func TestRaisedWindowForgetsNothing(t *testing.T) {
	const hour = 3600 * 1000
	s := New()
	offset := int64(-1)
	fold := func(atHour int64, e entry.Entry) posting.Result {
		var b entry.Block
		b.Reset(entry.Source{}, entry.None)
		b.Add(&e)
		offset++
		return s.Fold(offset, atHour*hour, &b, nil)[0].Result
	}
	window := func(atHour, hours int64) {
		fold(atHour, entry.Entry{Kind: entry.Param, Args: [entry.ArgCount]int64{int64(WindowMs), hours * hour}})
	}
	start := int64(1000)
	window(start, 1)
	if got := fold(start+10, entry.Entry{Kind: entry.Usage, Account: 1, IDHash: 7, EventMs: (start + 10) * hour}); got != posting.Charged {
		t.Fatalf("the record is %s", got)
	}
	if got := fold(start+10, entry.Entry{Kind: entry.Credit, Account: 1, IDHash: 8, EventMs: (start + 10) * hour}); got != posting.Applied {
		t.Fatalf("the credit is %s", got)
	}
	fold(start+12, entry.Entry{Kind: entry.Wake, Account: 1})
	fold(start+14, entry.Entry{Kind: entry.Wake, Account: 1}) // two generations on: the ids are forgotten
	window(start+14, 72)
	release := entry.Entry{Kind: entry.Release, Account: 1, IDHash: 7, EventMs: (start + 10) * hour, Args: [entry.ArgCount]int64{(start + 9) * hour}}
	if got := fold(start+15, release); got != posting.Late {
		t.Errorf("a release whose look-up is older than what the shard remembers is %s, not late", got)
	}
	if got := fold(start+15, entry.Entry{Kind: entry.Credit, Account: 1, IDHash: 8, EventMs: (start + 10) * hour}); got != posting.Expired {
		t.Errorf("a repeated credit older than what the shard remembers is %s, not expired", got)
	}
	// The same request, accepted again at 12 by one who had not heard its outcome, was on its way until after the raise. It is
	// younger than half the new window and than what the shard remembers, but the first one is forgotten.
	if got := fold(start+15, entry.Entry{Kind: entry.Credit, Account: 1, IDHash: 8, EventMs: (start + 12) * hour}); got != posting.Expired {
		t.Errorf("a credit that was accepted again before half of what the shard remembers is %s, not expired", got)
	}
	if got := fold(start+16, entry.Entry{Kind: entry.Credit, Account: 1, IDHash: 9, EventMs: (start + 15) * hour}); got != posting.Applied {
		t.Errorf("a new credit is %s", got)
	}
}
