package book

import (
	"bytes"
	"fmt"
	"reflect"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tollgate/tollgate/rater/entry"
	"github.com/tollgate/tollgate/rater/price"
)

// message is one message of a log.
type message struct {
	appendMs int64
	record   Record // nil for bytes that are no record
	value    []byte
}

const startMs = 1_793_000_000_000 // October 2026; both zones below change their offset within days of it

var (
	modelNumbers = []string{"+14155550100", "+24155550101", "+34155550102"}
	modelZones   = []string{"UTC", "America/New_York", "Europe/Berlin"}
	modelPlans   = map[string]string{"USD-a": "USD-one", "USD-b": "USD-two", "EUR-a": "EUR-one"}
	modelTopics  = []string{"calls", "messages"}
)

// drawLog draws a log of small ranges, so that everything meets everything: repeated ids, numbers taken twice,
// clocks that step back, rubbish between records.
func drawLog(t *rapid.T) []message {
	var log []message
	now := int64(startMs)
	if rapid.IntRange(0, 4).Draw(t, "bare") > 0 {
		log = preamble(t)
	}
	for range rapid.IntRange(1, 120).Draw(t, "records") {
		now += rapid.Int64Range(-2_000, 5_000_000).Draw(t, "later")
		m := message{appendMs: now}
		if rapid.IntRange(0, 19).Draw(t, "rubbish") == 0 {
			m.value = rapid.SampledFrom([][]byte{nil, []byte("{}"), []byte(`{"v":1,"kind":"assign","id":"1","colour":"red"}`)}).Draw(t, "bytes")
			log = append(log, m)
			continue
		}
		r := drawRecord(t, now)
		r.header().ID = "r" + strconv.Itoa(rapid.IntRange(0, 400).Draw(t, "id"))
		log = append(log, encoded(t, now, r))
	}
	return log
}

// preamble begins a log with tariffs, plans and accounts, without which nearly everything else is refused.
func preamble(t *rapid.T) []message {
	var log []message
	row := Row{Service: "voice-in", Rate: "0.01", Initial: 60, Increment: 60}
	for _, plan := range []string{"USD-a", "USD-b", "EUR-a"} {
		tariff := modelPlans[plan]
		log = append(log, encoded(t, startMs, &AddRows{Header: Header{ID: tariff}, Tariff: tariff, Revision: "0", Currency: tariff[:3], Rows: []Row{row}}),
			encoded(t, startMs, &ActivateTariff{Header: Header{ID: tariff + "!"}, Tariff: tariff, Revision: "0", Chunks: 1, Rows: 1}),
			encoded(t, startMs, &AddPlan{Header: Header{ID: plan}, Plan: plan, Currency: plan[:3], Tariff: tariff}),
			encoded(t, startMs, &OpenAccount{Header: Header{ID: plan + "!"}, Currency: plan[:3], Plan: plan, Zone: "America/New_York"}))
	}
	return log
}

// encoded makes a message of a record.
func encoded(t rapid.TB, appendMs int64, r Record) message {
	value, err := Encode(r)
	if err != nil {
		t.Fatal(err)
	}
	return message{appendMs, r, value}
}

// drawRecord draws half of the records about one number, whose changes have an order of their own.
func drawRecord(t *rapid.T, now int64) Record {
	account := rapid.Uint32Range(1, 4).Draw(t, "account")
	number := rapid.SampledFrom(modelNumbers).Draw(t, "number")
	zone := rapid.SampledFrom(modelZones).Draw(t, "zone")
	plan := rapid.SampledFrom([]string{"USD-a", "USD-b", "EUR-a"}).Draw(t, "plan")
	tariff := rapid.SampledFrom([]string{"USD-one", "USD-two", "EUR-one"}).Draw(t, "tariff")
	revision := rapid.SampledFrom([]string{"1", "2"}).Draw(t, "revision")
	wish := time.Time{}
	if rapid.Bool().Draw(t, "wishes") {
		wish = time.UnixMilli(now + rapid.Int64Range(-20_000_000, 20_000_000).Draw(t, "wish")).UTC()
	}
	kind := rapid.IntRange(0, 40).Draw(t, "kind")
	if kind > 20 {
		kind, number = 5+kind%5, modelNumbers[0]
	}
	switch kind {
	case 0:
		return &Open{Installation: "test", Shards: 4}
	case 1, 2:
		return &OpenAccount{Account: account % 4, Currency: plan[:3], Plan: plan, Zone: zone, Threshold: "1", RechargeTo: "5"}
	case 3:
		return &ChangePlan{Account: account, Plan: plan, From: wish}
	case 4:
		return &ChangeZone{Account: account, Zone: zone}
	case 5, 6, 7:
		return &AssignNumber{Number: number, Account: account, From: wish}
	case 8, 9:
		return &ReleaseNumber{Number: number, Account: account * uint32(rapid.IntRange(0, 1).Draw(t, "named")), From: wish}
	case 10:
		return &AddPlan{Plan: plan, Currency: plan[:3], Tariff: modelPlans[plan]}
	case 11, 12, 13:
		chunk := rapid.Uint32Range(0, 2).Draw(t, "chunk")
		row := Row{Service: "voice-in", Rate: fmt.Sprintf("0.0%d", chunk+1), Initial: 60, Increment: 60}
		if chunk > 0 {
			row.Prefix = strconv.Itoa(int(chunk))
		}
		return &AddRows{Tariff: tariff, Revision: revision, Currency: tariff[:3], Chunk: chunk, Rows: []Row{row}}
	case 14, 15:
		chunks := rapid.Uint32Range(1, 3).Draw(t, "chunks")
		return &ActivateTariff{Tariff: tariff, Revision: revision, Chunks: chunks, Rows: chunks, From: wish}
	case 16:
		return &SetFormat{Topic: rapid.SampledFrom(modelTopics).Draw(t, "topic"), Format: "tollgate",
			FormatVersion: uint16(rapid.IntRange(1, 9).Draw(t, "version")), Source: "pbx", From: wish}
	case 17:
		day := time.UnixMilli(now).UTC().AddDate(0, 0, rapid.IntRange(-3, 1).Draw(t, "day"))
		return &CloseDay{Zone: zone, Day: day.Format(time.DateOnly)}
	case 18:
		return &SetParam{Param: "attempts", Value: 4}
	case 19:
		return &RaiseFold{FoldVersion: rapid.Int64Range(1, 4).Draw(t, "fold")}
	}
	return &Heartbeat{}
}

// answers writes down everything that a Book says of the times.
func answers(b *Book, times []int64) string {
	var out bytes.Buffer
	for _, at := range times {
		fmt.Fprintf(&out, "at %d:", at)
		for _, text := range modelNumbers {
			number, _ := ParseNumber(text)
			account, ok := b.Owner(number, at)
			fmt.Fprintf(&out, " %d/%v", account, ok)
		}
		for number := range uint32(6) {
			if a := b.Account(number); a != nil {
				v, row, ok := b.Price(a, price.VoiceIn, 14155550100, at)
				version := uint32(0)
				if v != nil {
					version = v.Number
				}
				fmt.Fprintf(&out, " account %d: %s %s %s %d %d %v", number, b.PlanAt(a, at).Name, b.ZoneAt(a, at).Name,
					FormatDay(b.LocalDay(a, at, at)), version, row, ok)
			}
		}
		for _, topic := range modelTopics {
			if f := b.format(topic, at); f != nil {
				fmt.Fprintf(&out, " %s %d %d", topic, f.Version, f.FromMs)
			}
		}
		out.WriteByte('\n')
	}
	return out.String()
}

// oracleAnswers is answers by the oracle.
func oracleAnswers(o *oracle, times []int64) string {
	var out bytes.Buffer
	for _, at := range times {
		fmt.Fprintf(&out, "at %d:", at)
		for _, text := range modelNumbers {
			account, _ := inForce(o.owners[text], at)
			fmt.Fprintf(&out, " %d/%v", account, account != 0)
		}
		for number := range uint32(6) {
			if a := o.accounts[number]; a != nil {
				version, row, ok := o.row(number, price.VoiceIn, "14155550100", at, modelPlans)
				zone := inForceName(a.zones, at)
				fmt.Fprintf(&out, " account %d: %s %s %s %d %d %v", number, inForceName(a.plans, at), zone, dayText(zone, at), version, row, ok)
			}
		}
		for _, topic := range modelTopics {
			if version, ok := inForce(o.formats[topic], at); ok {
				from := int64(oracleAlways)
				for _, c := range o.formats[topic] {
					if c.from <= at {
						from = max(from, c.from)
					}
				}
				fmt.Fprintf(&out, " %s %d %d", topic, version, from)
			}
		}
		out.WriteByte('\n')
	}
	return out.String()
}

// drawTimes draws times around those of the log.
func drawTimes(t *rapid.T, log []message) []int64 {
	var times []int64
	for _, m := range rapid.SliceOfN(rapid.SampledFrom(log), 4, 12).Draw(t, "around") {
		times = append(times, m.appendMs+rapid.SampledFrom([]int64{-20_000_000, -1, 0, 1, 2, 20_000_000, 90_000_000}).Draw(t, "distance"))
	}
	return times
}

func TestBuilderAgreesWithTheOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		log := drawLog(t)
		times := drawTimes(t, log)
		b, o := NewBuilder(), newOracle()
		for i, m := range log {
			d := b.Apply(int64(i), m.appendMs, m.value)
			if m.record == nil {
				o.frontier = max(o.frontier, m.appendMs)
				if d.Accepted || d.Refusal == "" {
					t.Fatalf("rubbish %q was decided %+v", m.value, d)
				}
				continue
			}
			accepted, effective, account := o.apply(m.appendMs, m.record)
			if d.Accepted != accepted || accepted && (d.EffectiveMs != effective || d.Account != account) || (d.Refusal == "") != accepted {
				t.Fatalf("record %d, %s: %+v; want %v, %d, account %d", i, m.value, d, accepted, effective, account)
			}
			if b.Book().FrontierMs() != o.frontier || b.Offset() != int64(i)+1 {
				t.Fatalf("record %d: frontier %d, want %d", i, b.Book().FrontierMs(), o.frontier)
			}
			if got, want := answers(b.Book(), times), oracleAnswers(o, times); got != want {
				t.Fatalf("after record %d, %s:\n%s\nwant\n%s", i, m.value, got, want)
			}
		}
	})
}

// What a Book says never changes; and once the installation is open, what it says of times up to its frontier is what
// every later Book says of them. So are the entries that it makes.
func TestTheFrontierIsForEver(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		log := drawLog(t)
		times := drawTimes(t, log)
		b := NewBuilder()
		var books []*Book
		var said []string
		for i, m := range log {
			b.Apply(int64(i), m.appendMs, m.value)
			books = append(books, b.Book())
			said = append(said, answers(books[i], times))
		}
		last := books[len(books)-1]
		for i, earlier := range books {
			if answers(earlier, times) != said[i] {
				t.Fatalf("the Book of offset %d changed", i)
			}
			if !earlier.Opened() {
				continue
			}
			known := []int64{earlier.FrontierMs()}
			for _, at := range times {
				if at <= earlier.FrontierMs() {
					known = append(known, at)
				}
			}
			if a, z := ownersAndPrices(earlier, known, earlier), ownersAndPrices(last, known, earlier); a != z {
				t.Fatalf("of times up to %d the Book of offset %d says\n%s\nthe last one\n%s", earlier.FrontierMs(), i, a, z)
			}
			for j := range i + 1 {
				if a, z := entryText(earlier, log, j), entryText(last, log, j); a != z {
					t.Fatalf("record %d becomes %s at offset %d, and %s at the end", j, a, i, z)
				}
			}
		}
	})
}

// ownersAndPrices is answers about the accounts of an earlier Book: those opened later are no contradiction.
func ownersAndPrices(b *Book, times []int64, earlier *Book) string {
	shown := *b
	shown.accounts = table[held]{}
	for a := range earlier.Accounts() {
		shown.accounts.put(uint64(a.Number), hold(b.Account(a.Number)))
	}
	return answers(&shown, times)
}

func entryText(b *Book, log []message, i int) string {
	var e entry.Entry
	from, until := b.Entry(int64(i), log[i].value, &e)
	if from == until {
		return "nothing"
	}
	return fmt.Sprintf("%+v for %d to %d", e, from, until)
}

func TestAnImageGoesOnLikeTheLog(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		log := drawLog(t)
		times := drawTimes(t, log)
		cut := rapid.IntRange(0, len(log)).Draw(t, "cut")
		whole := NewBuilder()
		for i, m := range log[:cut] {
			whole.Apply(int64(i), m.appendMs, m.value)
		}
		restored, err := Restore(whole.Image())
		if err != nil {
			t.Fatal(err)
		}
		if restored.Offset() != whole.Offset() {
			t.Fatalf("the image goes on at %d, the log at %d", restored.Offset(), whole.Offset())
		}
		for i := cut; i < len(log); i++ {
			a, z := whole.Apply(int64(i), log[i].appendMs, log[i].value), restored.Apply(int64(i), log[i].appendMs, log[i].value)
			if a != z {
				t.Fatalf("record %d: %+v by the log, %+v by the image", i, a, z)
			}
		}
		if a, z := answers(whole.Book(), times), answers(restored.Book(), times); a != z {
			t.Fatalf("the log says\n%s\nthe image\n%s", a, z)
		}
		for i := range log {
			if whole.Book().Opened() && entryText(whole.Book(), log, i) != entryText(restored.Book(), log, i) {
				t.Fatalf("record %d becomes another entry after the image", i)
			}
		}
		if !reflect.DeepEqual(whole.Image(), restored.Image()) {
			t.Fatal("the image of the image is another one")
		}
	})
}

// Books are read while the Builder goes on; the race detector looks at what they share.
func TestBooksAreReadWhileTheBuilderGoesOn(t *testing.T) {
	s := installation(t)
	b := s.b.Book()
	times := []int64{b.FrontierMs()}
	want := answers(b, times)
	ready, done := make(chan struct{}), make(chan string)
	go func() {
		close(ready)
		for range 100 {
			if got := answers(b, times); got != want {
				done <- got
				return
			}
		}
		done <- want
	}()
	<-ready
	for i := range 2000 {
		s.must(&AssignNumber{Number: FormatNumber(13_000_000_000 + uint64(i)), Account: 5}, &ChangePlan{Account: 5, Plan: "standard"})
		s.b.Book()
	}
	if got := <-done; got != want {
		t.Errorf("a Book changed from\n%s\nto\n%s", want, got)
	}
}
