package main

import (
	"testing"

	"github.com/tollgate/tollgate/balance/ledger"
	"github.com/tollgate/tollgate/rater/book"
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
	}
}
