package main

import (
	"testing"

	"github.com/tollgate/tollgate/balance/ledger"
	"github.com/tollgate/tollgate/balance/posting"
	"github.com/tollgate/tollgate/rater/book"
	"github.com/tollgate/tollgate/rater/entry"
)

// TestBookKnowsTheFoldsParameters holds the book's list of parameters, which rater cannot take from balance, to the fold's.
func TestBookKnowsTheFoldsParameters(t *testing.T) {
	want := map[string]ledger.Param{
		"window-ms": ledger.WindowMs, "grace-ms": ledger.GraceMs, "back-off-ms": ledger.BackOffMs,
		"attempts": ledger.Attempts, "give-up-after": ledger.GiveUpAfter, "results-kept": ledger.ResultsKept,
	}
	if len(book.Params) != int(ledger.ParamCount) || len(want) != int(ledger.ParamCount) {
		t.Fatalf("the book knows %d parameters, the fold has %d", len(book.Params), ledger.ParamCount)
	}
	for _, p := range book.Params {
		if number, ok := want[p.Name]; !ok || int64(number) != p.Number {
			t.Errorf("the book calls %s parameter %d, the fold %d", p.Name, p.Number, number)
		}
		if value := ledger.Defaults[p.Number]; value < p.Min || value > p.Max {
			t.Errorf("the default of %s, %d, is outside of what the book admits", p.Name, value)
		}
		for _, value := range []int64{p.Min, p.Max} { // whatever a book file may set, the shards take
			e := entry.Entry{Kind: entry.Param}
			e.Args[entry.ArgParam], e.Args[entry.ArgValue] = p.Number, value
			if o := foldWire(t, ledger.New(), &e); o.Result != posting.Applied || book.CheckParam(p.Name, value) != nil {
				t.Errorf("%s = %d: the shards say %s, a book file %v", p.Name, value, o.Result, book.CheckParam(p.Name, value))
			}
		}
		if book.CheckParam(p.Name, p.Min-1) == nil || book.CheckParam(p.Name, p.Max+1) == nil {
			t.Errorf("a book file may set %s beyond what the table says", p.Name)
		}
	}
}
