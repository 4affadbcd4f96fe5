package book

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tollgate/tollgate/rater/decode"
	"github.com/tollgate/tollgate/rater/entry"
	"github.com/tollgate/tollgate/rater/price"
)

// last gives the entry of the script's last record and the shards that it is for.
func (s *script) last() (e entry.Entry, from, until int32) {
	offset := len(s.log) - 1
	from, until = s.b.Book().Entry(int64(offset), s.log[offset].value, &e)
	return e, from, until
}

func TestEntriesOfTheBook(t *testing.T) {
	s := installation(t)
	for _, c := range []struct {
		record      Record
		want        entry.Entry
		from, until int32
	}{
		{&OpenAccount{Account: 7, Currency: "USD", Plan: "standard", Zone: "Asia/Tokyo", Balance: "0.5", Threshold: "1", RechargeTo: "2"},
			entry.Entry{Kind: entry.Account, Account: 7, AmountUnits: 50_000_000, Args: [4]int64{3, 100_000_000, 200_000_000}}, 3, 4},
		{&AssignNumber{Number: "+81312345678", Account: 7}, entry.Entry{Kind: entry.Number, Account: 7, Number: 81312345678, Args: [4]int64{1}}, 3, 4},
		{&ReleaseNumber{Number: "+81312345678"}, entry.Entry{Kind: entry.Number, Account: 7, Number: 81312345678}, 3, 4},
		{&ChangeZone{Account: 7, Zone: "Europe/Berlin"}, entry.Entry{Kind: entry.Zone, Account: 7, Args: [4]int64{2}}, 3, 4},
		{&CloseDay{Zone: "Asia/Tokyo", Day: "1970-01-11"}, entry.Entry{Kind: entry.Close, Args: [4]int64{3, 10}}, 0, 4},
		{&SetParam{Param: "attempts", Value: 5}, entry.Entry{Kind: entry.Param, Args: [4]int64{3, 5}}, 0, 4},
		{&RaiseFold{FoldVersion: 2}, entry.Entry{Kind: entry.FoldVersion, Args: [4]int64{2}}, 0, 4},
	} {
		appendMs := s.now
		s.must(c.record)
		c.want.EventMs, c.want.Position = appendMs, entry.Position{Offset: int64(len(s.log) - 1)}
		zone := "UTC"
		if c.want.Account == 7 {
			zone = "Asia/Tokyo"
		}
		got, from, until := s.last()
		if day := dayText(zone, appendMs); FormatDay(got.LocalDay) != day {
			t.Errorf("%s is dated %s, want %s", c.record.kind(), FormatDay(got.LocalDay), day)
		}
		c.want.LocalDay = got.LocalDay
		if a, z := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", c.want); a != z || from != c.from || until != c.until {
			t.Errorf("%s becomes %s for %d to %d; want %s", c.record.kind(), a, from, until, z)
		}
	}
	for _, r := range []Record{&Heartbeat{}, &ChangePlan{Account: 7, Plan: "standard"}, &RaiseFold{FoldVersion: 1}} {
		s.decide(r)
		if _, from, until := s.last(); from != until {
			t.Errorf("%s becomes an entry for %d to %d", r.kind(), from, until)
		}
	}
}

// rawCall is an inbound call of 61 seconds in Tollgate's own format.
func rawCall(id string, eventMs int64, number string) []byte {
	return fmt.Appendf(nil, `{"id":%q,"type":"call","direction":"inbound","from":"+12125550100","to":%q,"start":%q,"duration":61}`,
		id, number, time.UnixMilli(eventMs).UTC().Format("2006-01-02T15:04:05.000Z"))
}

func replayOf(raw []byte) *Replay {
	return &Replay{Topic: "pbx", TopicID: strings.Repeat("07", 16), Partition: 3, Offset: 11, Raw: raw}
}

func TestReplay(t *testing.T) {
	s := installation(t)
	early := startMs - int64(1_000_000)
	lost := rawCall("lost", early, "+14155550777")
	r := replayOf(lost)
	if d := s.decide(r); d.Accepted || !strings.Contains(d.Refusal, "no account owned") {
		t.Fatalf("a replay without an owner: %+v", d)
	}
	r.ID, r.Account = "", 6
	s.must(r)
	e, from, _ := s.last()
	if e.Kind != entry.Usage || e.Account != 6 || e.AmountUnits != -6_000_000 || e.EventMs != early || string(e.ID) != "lost" || from != 6%4 {
		t.Errorf("the replay becomes %+v in shard %d", e, from)
	}
	again := *r
	again.ID, again.Account = "", 5
	if d := s.decide(&again); d.Accepted || !strings.Contains(d.Refusal, "already") {
		t.Errorf("the same record was replayed twice: %+v", d)
	}
	// The owner goes before the account named.
	owned := replayOf(rawCall("owned", early, "+14155550100"))
	owned.Account = 6
	s.must(owned)
	if e, _, _ := s.last(); e.Account != 5 {
		t.Errorf("the replay of an owned number becomes %+v", e)
	}
	// What it was rated as the first time, it is hashed as now.
	rec := decode.Record{Service: price.VoiceIn, Number: 14155550100, ID: []byte("owned"), EventMs: early}
	var rated entry.Entry
	s.b.Book().Rate(&rec, source(t, s.b.Book()), entry.Position{Offset: 11}, early, &rated)
	if e, _, _ := s.last(); rated.IDHash != e.IDHash {
		t.Errorf("the record hashes to %x, its replay to %x", rated.IDHash, e.IDHash)
	}
}

// A message that was rejected whole, since its topic had no format, is replayed record by record, and each is charged as
// if the topic had had its format all the time.
func TestReplaysOfAWholeMessage(t *testing.T) {
	s := installation(t)
	early := startMs - int64(1_000_000)
	records := [][]byte{rawCall("c1", early, "+14155550100"), rawCall("torn", early, "14155550100x"), rawCall("c3", early, "+14155550100"),
		rawCall("nobody's", early, "+14155550777"), rawCall("c5", early, "+14155550100")}
	for name, message := range map[string][]byte{
		"lines": bytes.Join(records, []byte("\n")), "array": []byte("[" + string(bytes.Join(records, []byte(", "))) + "]"), "zipped": zipped(t, bytes.Join(records, nil)),
	} {
		s := installation(t)
		letter := *replayOf(message)
		all := s.b.Book().Replays(letter)
		if len(all) != len(records) {
			t.Fatalf("%s: %d records", name, len(all))
		}
		ids := map[string]bool{}
		for i, again := range all {
			ids[again.Replay.ID] = true
			charged := i != 1 && i != 3
			if (again.Refusal == "") != charged || (again.IDHash == 0) != (i == 1) {
				t.Fatalf("%s: record %d: %+v", name, i, again)
			}
			if d := s.decide(again.Replay); d.Accepted != charged || charged && (d.Account != 5 || again.Account != 5) {
				t.Errorf("%s: record %d: %+v", name, i, d)
			}
			rec := decode.Record{Service: price.VoiceIn, Number: 14155550100, ID: []byte(again.RecordID), EventMs: early}
			var rated entry.Entry // as it would have been at first
			s.b.Book().Rate(&rec, source(t, s.b.Book()), entry.Position{Offset: 11, Ix: uint32(i)}, early, &rated)
			if e, _, _ := s.last(); charged && (e.IDHash != rated.IDHash || e.IDHash != again.IDHash || e.EventMs != early || e.AmountUnits == 0) {
				t.Errorf("%s: record %d becomes %+v", name, i, e)
			}
		}
		if len(ids) != len(all) {
			t.Errorf("%s: the ids are %v", name, ids)
		}
		// The same once more is the same, and what pays otherwise has another id.
		for i, again := range s.b.Book().Replays(letter) {
			if again.Replay.ID != all[i].Replay.ID || !bytes.Equal(again.Replay.Raw, all[i].Replay.Raw) {
				t.Errorf("%s: record %d is another one the second time: %+v", name, i, again)
			}
		}
		letter.Account = 6
		if again := s.b.Book().Replays(letter)[3]; again.Refusal != "" || again.Account != 6 || again.Replay.ID == all[3].Replay.ID {
			t.Errorf("%s: with an account that pays: %+v", name, again)
		}
	}
	for _, c := range []struct {
		letter Replay
		why    string
	}{{Replay{Topic: "none", Raw: records[0]}, "no format"}, {*replayOf(nil), "empty"}} {
		if all := s.b.Book().Replays(c.letter); len(all) != 1 || !strings.Contains(all[0].Refusal, c.why) {
			t.Errorf("%+v; want %q", all, c.why)
		}
	}
}

func zipped(t *testing.T, text []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	zip := gzip.NewWriter(&b)
	if _, err := zip.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestReplaysThatAreVoid(t *testing.T) {
	s := installation(t)
	good := func() *Replay { return replayOf(rawCall("x", startMs-1_000_000, "+14155550100")) }
	for name, change := range map[string]func(r *Replay){
		"later than the book": func(r *Replay) { r.Raw = rawCall("x", s.now+Margin+1, "+14155550100") },
		"another topic":       func(r *Replay) { r.Topic = "none" },
		"no such piece":       func(r *Replay) { r.Piece = 1 },
		"no topic id":         func(r *Replay) { r.TopicID = "07" },
		"unreadable":          func(r *Replay) { r.Raw = []byte("{}") },
		"nobody":              func(r *Replay) { r.Raw = rawCall("x", startMs-1_000_000, "+14155550777") },
		"beyond the limit":    func(r *Replay) { r.Raw = rawCall("x", startMs-1_000_000, "+18005550100") },
	} {
		r := good()
		if change(r); name == "beyond the limit" {
			r.Raw = []byte(strings.Replace(string(r.Raw), ":61", ":86400", 1))
		}
		if d := s.decide(r); d.Accepted || d.Refusal == "" {
			t.Errorf("%s: %+v", name, d)
		}
	}
	s.must(good()) // none of them took the record's id
}

func TestReplayWaitsForANewerBuild(t *testing.T) {
	s := installation(t)
	s.must(&SetFormat{Topic: "pbx", Format: "tollgate", FormatVersion: 999, Source: "pbx"}, &Heartbeat{})
	before := s.b.Book().FrontierMs()
	d := s.decide(replayOf(rawCall("x", startMs-1_000_000, "+14155550100")))
	if d.Accepted || !errors.Is(s.b.Err(), ErrNewer) || s.b.Book().FrontierMs() != before {
		t.Errorf("%+v, %v, frontier %d, was %d", d, s.b.Err(), s.b.Book().FrontierMs(), before)
	}
}
