package notify

import (
	"encoding/json"
	"testing"

	"github.com/tollgate/tollgate/rater/entry"
)

// TestDeadLetters has a rejected record told once, with all that a carrier's integrator needs, in the topic of its own.
func TestDeadLetters(t *testing.T) {
	k := newKafka()
	k.life(0,
		usage(1, 5, 11),
		entry.Entry{Kind: entry.Rejected, Reason: entry.UnknownNumber, Number: 14155550100, EventMs: startMs, Position: entry.Position{Offset: 7, Ix: 2},
			ID: []byte("call-1"), Extra: []byte(`{"id":"call-1"}`)},
	)
	rounds(t, k.loop(0), 3)
	if len(k.events) != 1 {
		t.Fatalf("%d messages, one is to be told: %+v", len(k.events), k.events)
	}
	var d DeadLetter
	if err := json.Unmarshal([]byte(k.events[0].value), &d); err != nil {
		t.Fatal(err)
	}
	want := DeadLetter{ID: "acme/0/1/0", Reason: "unknown-number", TopicID: "00000000000000000000000000000000", Offset: 7, Ix: 2,
		RecordID: "call-1", Number: "+14155550100", Time: d.Time, Raw: []byte(`{"id":"call-1"}`)}
	if string(d.Raw) != string(want.Raw) || d.ID != want.ID || d.Reason != want.Reason || d.Offset != 7 || d.Ix != 2 || d.Number != want.Number || d.RecordID != "call-1" {
		t.Errorf("dead letter %+v, want %+v", d, want)
	}
}
