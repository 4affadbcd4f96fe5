package book

import (
	"fmt"
	"testing"
)

// TestEarlierGivesTheFirstAnswer asks for every id of a log again, those in full chunks and those that wait, accepted and
// refused, on the Builder that read the log and on one that was restored.
func TestEarlierGivesTheFirstAnswer(t *testing.T) {
	b := NewBuilder()
	first := map[string]Decision{}
	apply := func(r Record) {
		value, err := Encode(r)
		if err != nil {
			t.Fatal(err)
		}
		d := b.Apply(b.Offset(), startMs, value)
		if _, again := first[d.ID]; !again {
			first[d.ID] = d
		}
	}
	apply(&AddRows{Header: Header{ID: "rows"}, Tariff: "t", Revision: "1", Currency: "USD", Rows: []Row{{Service: "message-in", Segment: "1"}}})
	apply(&ActivateTariff{Header: Header{ID: "tariff"}, Tariff: "t", Revision: "1", Chunks: 1, Rows: 1})
	apply(&AddPlan{Header: Header{ID: "plan"}, Plan: "p", Currency: "USD", Tariff: "t"})
	apply(&Open{Header: Header{ID: "open"}, Installation: "i", Shards: 4})
	for i := 0; len(b.journal.chunks) < 2; i++ {
		id := fmt.Sprintf("account-%d", i)
		apply(&OpenAccount{Header: Header{ID: id}, Currency: "USD", Plan: "p", Zone: "UTC"})
		apply(&OpenAccount{Header: Header{ID: id}, Currency: "USD", Plan: "p", Zone: "UTC", Balance: "5"}) // the id again
		apply(&AssignNumber{Header: Header{ID: id + "-refused"}, Number: "no number", Account: 1})
	}
	restored, err := Restore(b.Image())
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for id := range first {
		ids = append(ids, id)
	}
	for _, builder := range []*Builder{b, restored} {
		found, err := builder.Earlier(append(ids, "never")...)
		if err != nil || len(found) != len(ids) {
			t.Fatalf("%d of %d ids are found: %v", len(found), len(ids), err)
		}
		for id, want := range first {
			got := found[id]
			if got.Record == nil || got.Record.header().ID != id || got.Decision != want {
				t.Fatalf("%s: %+v; want %+v", id, got, want)
			}
			if opened, is := got.Record.(*OpenAccount); is && opened.Balance != "" {
				t.Fatalf("%s: the second request is given", id)
			}
		}
	}
}
