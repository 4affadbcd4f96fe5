package book

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestEncodeIsReadBack(t *testing.T) {
	s := installation(t)
	log := append(s.log, encoded(t, 0, &Heartbeat{}), encoded(t, 0, &Replay{Header: Header{ID: "x"}, Raw: []byte{0, 1, 255}}))
	for _, m := range log {
		got, err := decodeRecord(m.value)
		if err != nil || !reflect.DeepEqual(got, m.record) {
			t.Errorf("%s is read back as %+v, %v", m.value, got, err)
		}
	}
	if m := encoded(t, 0, &Heartbeat{}); !bytes.Equal(m.value, heartbeat) {
		t.Errorf("a heartbeat is %s", m.value)
	}
	for _, r := range []Record{&Open{}, &Open{Header: Header{ID: strings.Repeat("x", MaxIDBytes+1)}}} {
		if _, err := Encode(r); err == nil {
			t.Errorf("%+v was encoded", r)
		}
	}
}

func TestMalformedRecordsAreRefused(t *testing.T) {
	b := NewBuilder()
	for i, value := range []string{
		``, `null`, `[]`, `{}`, `{"v":1}`, `{"v":0,"kind":"heartbeat"}`, `{"v":1,"kind":"nothing","id":"a"}`, `{"v":1,"kind":"open"}`,
		`{"v":1,"kind":"open","id":"a","shards":1,"installation":"x"}{}`, `{"v":1,"kind":"open","id":"a","shards":1,"installation":"x","colour":1}`,
		`{"v":1,"kind":"open","id":"a","shards":99999999999}`, `{"v":1,"kind":"assign","id":"a","number":14155550100}`,
		`{"v":1,"kind":"open","id":"a","shards":1,"installation":"x","kind":"assign"}`,
		`{"v":1,"kind":"replay","id":"a","raw":"***"}`, `{"v":1,"kind":"assign","id":"a","from":"yesterday"}`,
	} {
		d := b.Apply(int64(i), 1000+int64(i), []byte(value))
		if d.Accepted || d.Refusal == "" || b.Book().FrontierMs() != 1000+int64(i) || b.Offset() != int64(i)+1 {
			t.Errorf("%s: %+v", value, d)
		}
	}
	if len(b.Image()) != 1 {
		t.Error("malformed records are in the image")
	}
	// A malformed record does not take its id.
	m := encoded(t, 0, &Open{Header: Header{ID: "a"}, Installation: "x", Shards: 1})
	if d := b.Apply(100, 0, m.value); !d.Accepted {
		t.Errorf("%+v", d)
	}
	if d := b.Apply(100, 0, m.value); d.Accepted || b.Offset() != 101 {
		t.Errorf("an offset was applied twice: %+v", d)
	}
}

func TestTheBuilderStopsAtARecordOfANewerBuild(t *testing.T) {
	s := installation(t)
	before := s.b.Book().FrontierMs()
	s.b.Apply(1000, s.now, []byte(`{"v":2,"kind":"surprise","id":"n","anything":[]}`))
	if !errors.Is(s.b.Err(), ErrNewer) || !strings.Contains(s.b.Err().Error(), "offset 1000") {
		t.Fatalf("the error is %v", s.b.Err())
	}
	if d := s.b.Apply(1001, s.now+5000, heartbeat); d.Accepted || s.b.Book().FrontierMs() != before {
		t.Errorf("the builder goes on: %+v, frontier %d, was %d", d, s.b.Book().FrontierMs(), before)
	}
}

func TestRefusals(t *testing.T) {
	s := installation(t)
	for _, c := range []struct {
		record Record
		why    string
	}{
		{&Open{Installation: "again", Shards: 4}, "open already"},
		{&OpenAccount{Account: 5, Currency: "USD", Plan: "standard", Zone: "UTC"}, "account 5 is open already"},
		{&OpenAccount{Currency: "EUR", Plan: "standard", Zone: "UTC"}, "in USD"},
		{&OpenAccount{Currency: "USD", Plan: "standard", Zone: "Local"}, "unknown zone"},
		{&OpenAccount{Currency: "USD", Plan: "standard", Zone: "UTC", Balance: "40000000.01"}, "out of bounds"},
		{&OpenAccount{Currency: "USD", Plan: "standard", Zone: "UTC", Threshold: "-10000001"}, "out of bounds"},
		{&OpenAccount{Currency: "USD", Plan: "standard", Zone: "UTC", RechargeTo: "-1"}, "below the threshold"},
		{&ChangePlan{Account: 9, Plan: "standard"}, "no account 9"},
		{&ChangeZone{Account: 6, Zone: "Europe/Berlin"}, "already"},
		{&AssignNumber{Number: "+14155550100", Account: 6}, "account 5's"},
		{&AssignNumber{Number: "14155550109", Account: 6}, "no number"},
		{&ReleaseNumber{Number: "+14155550100", Account: 6}, "not account 6's"},
		{&ReleaseNumber{Number: "+14155550109"}, "no account owns"},
		{&AddPlan{Plan: "standard", Currency: "USD", Tariff: "us"}, "already"},
		{&AddPlan{Plan: "x\n", Currency: "USD", Tariff: "us"}, "no name"},
		{&AddPlan{Plan: "x", Currency: "EUR", Tariff: "us"}, "in USD"},
		{&AddRows{Tariff: "us", Revision: "2", Currency: "EUR", Rows: []Row{{Service: "message-in", Segment: "1"}}}, "in USD"},
		{&AddRows{Tariff: "us", Revision: "1", Currency: "USD", Rows: []Row{{Service: "message-in", Segment: "1"}}}, "activated already"},
		{&AddRows{Tariff: "us", Revision: "2", Currency: "USD"}, "0 rows"},
		{&AddRows{Tariff: "us", Revision: "2", Currency: "USD", Rows: []Row{{Service: "voice-in", Rate: "1", Initial: 1}}}, "increment"},
		{&ActivateTariff{Tariff: "us", Revision: "2", Chunks: 1, Rows: 1}, "no rows"},
		{&SetFormat{Topic: "t", Format: "f", Source: "s"}, "from 1"},
		{&SetFormat{Topic: "t", Format: "f", FormatVersion: 1, Source: "s", DefaultCountry: "+1"}, "calling code"},
		{&SetFormat{Topic: "t", Format: "f", FormatVersion: 1}, "source"},
		{&CloseDay{Zone: "Asia/Tokyo", Day: "2026-01-01"}, "no account uses"},
		{&CloseDay{Zone: "UTC", Day: "2026-13-01"}, "no day"},
		{&CloseDay{Zone: "UTC", Day: dayText("UTC", s.now)}, "not over"},
		{&SetParam{Param: "attempts", Value: 0}, "use 1 to"},
		{&SetParam{Param: "nothing", Value: 1}, "no parameter"},
		{&RaiseFold{FoldVersion: 1}, "only rises"},
	} {
		before := answers(s.b.Book(), []int64{s.now})
		if d := s.decide(c.record); d.Accepted || !strings.Contains(d.Refusal, c.why) {
			t.Errorf("%s %+v: %+v; want %q", c.record.kind(), c.record, d, c.why)
		}
		if answers(s.b.Book(), []int64{s.now - 1000}) != before {
			t.Errorf("%s was refused and changed something", c.record.kind())
		}
	}
}

// What earlier builds wrote and the log accepted stays accepted, but nobody writes it any more.
func TestParametersBeyondWhatShardsTake(t *testing.T) {
	s := installation(t)
	if d := s.decide(&SetParam{Param: "results-kept", Value: 1_000_000}); !d.Accepted {
		t.Errorf("a value that logs hold: %+v", d)
	}
	if d := s.decide(&SetParam{Param: "results-kept", Value: 1_000_001}); d.Accepted {
		t.Errorf("a value that no log holds: %+v", d)
	}
	if err := CheckParam("results-kept", 100_001); err == nil || !strings.Contains(err.Error(), "use 1 to 100000") {
		t.Errorf("a value that shards refuse: %v", err)
	}
	if err := CheckParam("results-kept", 100_000); err != nil {
		t.Error(err)
	}
}

func FuzzApply(f *testing.F) {
	for _, m := range installation(f).log {
		f.Add(m.value, m.appendMs)
	}
	f.Add([]byte(`{"v":2,"kind":"open"}`), int64(-1))
	f.Add([]byte(`{"v":1,"kind":"zone","id":"z","account":5,"zone":"Africa/Cairo"}`), int64(1)<<62)
	f.Add([]byte(`{"v":1,"kind":"replay","id":"r","topic":"pbx","topicId":"0707","raw":"e30="}`), int64(startMs))
	f.Fuzz(func(t *testing.T, value []byte, appendMs int64) {
		a, b := installation(t), installation(t)
		offset := int64(len(a.log))
		d := a.b.Apply(offset, appendMs, value)
		if again := b.b.Apply(offset, appendMs, value); d != again || d.Accepted != (d.Refusal == "") {
			t.Fatalf("%+v, then %+v", d, again)
		}
		if a.b.Err() != nil {
			return
		}
		restored, err := Restore(a.b.Image())
		if err != nil {
			t.Fatal(err)
		}
		times := []int64{startMs, appendMs, 0}
		if got, want := answers(restored.Book(), times), answers(a.b.Book(), times); got != want {
			t.Fatalf("the image says\n%s\nthe log\n%s", got, want)
		}
		log := append(a.log, message{appendMs, nil, value})
		if got, want := entryText(restored.Book(), log, len(log)-1), entryText(a.b.Book(), log, len(log)-1); got != want {
			t.Fatalf("%s by the image, %s by the log", got, want)
		}
	})
}
