package simulation

import (
	"fmt"
	"time"

	"github.com/tollgate/tollgate/rater/book"
)

// The cast: small, so that everything meets everything.
const (
	accountCount = 6 // the last is opened late
	numberCount  = 6 // the last has no owner at first
)

// epochs are when seeds begin: an ordinary day, and the nights on which New York changes its clocks.
var epochs = []int64{
	time.Date(2026, 11, 24, 17, 0, 0, 0, time.UTC).UnixMilli(),
	time.Date(2026, 11, 1, 2, 0, 0, 0, time.UTC).UnixMilli(),
	time.Date(2027, 3, 14, 3, 0, 0, 0, time.UTC).UnixMilli(),
}

// zones are those that accounts are in. Their midnights lie hours apart.
var zones = []string{"UTC", "America/New_York", "Asia/Kathmandu"}

// carrier is a topic of a carrier, and how wrong its clock is.
type carrier struct {
	topic  string
	skewMs int64
}

// sentRecord is a record that a carrier has sent: copies of it come again.
type sentRecord struct {
	topic, json string
}

func numberText(i int) string { return fmt.Sprintf("+1415555010%d", i) }

func (w *world) carrierTopics() []string { return []string{"carrier-a", "carrier-b"} }

// open makes the logs, the book and everybody who takes part.
func (w *world) open() {
	w.makeTopic("book", 1)
	w.makeTopic("book-images", 1)
	for _, name := range []string{"entries", "postings", "snapshots", "events", "dead-letters"} {
		w.makeTopic(name, shardCount)
	}
	w.makeTopic("carrier-a", 2)
	w.makeTopic("carrier-b", 1)
	for _, name := range w.carrierTopics() {
		c := &carrier{topic: name, skewMs: w.r.Int64N(100_000) - 20_000}
		switch w.r.IntN(12) {
		case 0:
			c.skewMs -= w.r.Int64N(2 * dayMs)
		case 1:
			c.skewMs += w.r.Int64N(2 * dayMs)
		}
		w.carriers = append(w.carriers, c)
	}
	for p := range w.masters {
		w.masters[p] = &node{now: &redisState{}}
	}
	w.openBook()
	for i := range 2 {
		f := &follower{w: w, index: i, build: olderBuild + build(w.r.IntN(2))}
		w.followers = append(w.followers, f)
		w.follow(f)
	}
	w.operate()
	w.makeStages()
	for _, name := range []string{"rate", "debit", "store", "late", "act", "audit", "recharge", "reconcile"} {
		w.rebalance(w.stages[name])
	}
}

// openBook writes the first records of the book, which are in force from always on.
func (w *world) openBook() {
	records := []book.Record{}
	for i, name := range []string{"tariff-a", "tariff-b"} {
		records = append(records, w.tariff(name, 0, 2, time.Time{}, i+1)...)
		records = append(records, &book.AddPlan{Plan: fmt.Sprintf("plan-%d", i), Currency: "USD", Tariff: name})
	}
	for i, name := range w.carrierTopics() {
		source := []string{"carrier", "other"}[w.r.IntN(1+i)]
		records = append(records, &book.SetFormat{Topic: name, Format: "tollgate", FormatVersion: 1, Source: source})
	}
	records = append(records, &book.SetParam{Param: "window-ms", Value: hourMs + w.r.Int64N(hourMs)},
		&book.SetParam{Param: "grace-ms", Value: w.r.Int64N(20 * minuteMs)},
		&book.SetParam{Param: "back-off-ms", Value: w.r.Int64N(90 * minuteMs)})
	for a := uint32(1); a < accountCount; a++ {
		records = append(records, w.newAccount(a))
	}
	for n := range numberCount - 1 {
		records = append(records, &book.AssignNumber{Number: numberText(n), Account: 1 + uint32(w.r.IntN(accountCount-1))})
	}
	records = append(records, &book.Open{Installation: installation, Shards: shardCount})
	for _, r := range records {
		w.produce(w.log("book", 0), w.encode(r))
	}
}

// encode gives the message of a record of the book, with an id of its own.
func (w *world) encode(r book.Record) []byte {
	w.name(r)
	value, err := book.Encode(r)
	if err != nil {
		panic(err)
	}
	return value
}

// name gives a record an id of its own.
func (w *world) name(r book.Record) {
	w.changes++
	id := fmt.Sprintf("change-%d", w.changes)
	switch r := r.(type) {
	case *book.Open:
		r.ID = id
	case *book.OpenAccount:
		r.ID = id
	case *book.ChangePlan:
		r.ID = id
	case *book.ChangeZone:
		r.ID = id
	case *book.AssignNumber:
		r.ID = id
	case *book.ReleaseNumber:
		r.ID = id
	case *book.AddPlan:
		r.ID = id
	case *book.AddRows:
		r.ID = id
	case *book.ActivateTariff:
		r.ID = id
	case *book.SetFormat:
		r.ID = id
	case *book.CloseDay:
		r.ID = id
	case *book.SetParam:
		r.ID = id
	case *book.RaiseFold:
		r.ID = id
	case *book.Replay:
		r.ID = id
	default:
		panic(fmt.Sprintf("a record of type %T needs no id", r))
	}
}

func (w *world) newAccount(number uint32) *book.OpenAccount {
	a := &book.OpenAccount{Account: number, Currency: "USD", Plan: fmt.Sprintf("plan-%d", w.r.IntN(2)), Zone: zones[w.r.IntN(len(zones))],
		Balance: fmt.Sprintf("%d.%02d", w.r.IntN(4), w.r.IntN(100))}
	if w.r.IntN(6) > 0 {
		a.Threshold, a.RechargeTo = fmt.Sprintf("%d.50", w.r.IntN(2)), fmt.Sprintf("%d.00", 2+w.r.IntN(3))
	}
	return a
}

// tariff gives the records of a version of a tariff: rows in chunks, then their activation. One more in level is dearer.
func (w *world) tariff(name string, revision, chunks int, from time.Time, level int) []book.Record {
	price := func(cents int) string { return fmt.Sprintf("0.%04d", min(9999, cents*(100+7*level))) }
	rows := []book.Row{
		{Service: "voice-in", Connect: price(w.r.IntN(2)), Rate: price(3 + w.r.IntN(5)), Initial: 1 + uint32(w.r.IntN(60)), Increment: 1 + uint32(w.r.IntN(30))},
		{Service: "voice-out", Prefix: "1", Rate: price(5), PerSeconds: 7, Initial: 6, Increment: 6, Minimum: price(1)},
		{Service: "voice-out", Prefix: "1415", Rate: price(9), PerSeconds: 60, Initial: 60, Increment: 60},
		{Service: "message-in", Segment: price(1)},
	}
	if w.r.IntN(3) > 0 { // else some records have no price
		rows = append(rows, book.Row{Service: "message-out", Segment: price(2)}, book.Row{Service: "voice-out", Rate: price(50), Initial: 30, Increment: 6})
	}
	var records []book.Record
	text := fmt.Sprintf("revision-%d", revision)
	for chunk := range chunks {
		from, to := len(rows)*chunk/chunks, len(rows)*(chunk+1)/chunks
		records = append(records, &book.AddRows{Tariff: name, Revision: text, Currency: "USD", Chunk: uint32(chunk), Rows: rows[from:to]})
	}
	return append(records, &book.ActivateTariff{Tariff: name, Revision: text, Chunks: uint32(chunks), Rows: uint32(len(rows)), From: from})
}
