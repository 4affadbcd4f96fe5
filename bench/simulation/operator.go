package simulation

import (
	"context"
	"fmt"
	"time"

	"github.com/tollgate/tollgate/rater/book"
)

// operators is somebody who changes the book through the Follower of production.
type operators struct {
	w    *world
	t    *task
	f    *book.Follower
	last []book.Record
}

// operate starts an operator.
func (w *world) operate() {
	o := &operators{w: w}
	o.t = &task{w: w, name: "operator"}
	cfg := book.DefaultFollowConfig()
	cfg.MaxWait, cfg.RetryMin, cfg.RetryMax = 20*time.Second, time.Second, 20*time.Second
	cfg.ImagesTopic = "book-images"
	o.f = book.NewFollower(book.FollowDeps{
		Reader: &reader{t: o.t}, Writer: &writer{t: o.t}, Topics: kafka{o.t}, Clock: o.t, Logger: w.logger(o.t),
	}, cfg)
	w.operators = o
	w.start(o.t, o.Run)
}

// Run changes the book now and then until ctx ends.
func (o *operators) Run(ctx context.Context) error {
	w := o.w
	for ctx.Err() == nil {
		o.t.Sleep(ctx, time.Duration(1+w.r.IntN(w.patience))*time.Second)
		if !w.faults || ctx.Err() != nil {
			continue
		}
		records := w.change()
		if len(o.last) > 0 && w.r.IntN(12) == 0 {
			w.count("change sent again")
			records = o.last
		}
		if len(records) == 0 || !w.happens("change") {
			continue
		}
		o.last = records
		if decide := w.mutation.decide; decide != nil {
			records = decide(o, records)
		}
		decisions, err := o.f.Decide(ctx, records...)
		for i := range decisions {
			w.noteText("the book decides %T: accepted %t %s", records[i], decisions[i].Accepted, decisions[i].Refusal)
			if decisions[i].Accepted {
				w.count(fmt.Sprintf("book %T", records[i]))
			} else {
				w.count("change refused")
			}
		}
		if err != nil {
			w.trace(fmt.Sprintf("the operator fails: %v", err))
		}
	}
	return nil
}

// wish is a time at which a change is wished to take effect: the past, the future, or as soon as may be.
func (w *world) wish() time.Time {
	if w.r.IntN(3) == 0 {
		return time.Time{}
	}
	return time.UnixMilli(w.nowMs + w.r.Int64N(90*minuteMs) - hourMs).UTC()
}

// change draws a change of the book.
func (w *world) change() (records []book.Record) {
	number, account := numberText(w.r.IntN(numberCount)), 1+uint32(w.r.IntN(accountCount))
	switch w.r.IntN(18) {
	case 0, 1:
		records = append(records, &book.AssignNumber{Number: number, Account: account, From: w.wish()})
	case 2:
		records = append(records, &book.ReleaseNumber{Number: number, From: w.wish()})
	case 3, 4, 5:
		at := w.wish()
		records = append(records, &book.ReleaseNumber{Number: number, From: at}, &book.AssignNumber{Number: number, Account: account, From: at})
	case 6:
		records = append(records, &book.ChangeZone{Account: account, Zone: zones[w.r.IntN(len(zones))]})
	case 7:
		records = append(records, &book.ChangePlan{Account: account, Plan: fmt.Sprintf("plan-%d", w.r.IntN(2)), From: w.wish()})
	case 8:
		records = append(records, w.newAccount(account))
	case 9, 10:
		w.revisions++
		records = w.tariff([]string{"tariff-a", "tariff-b"}[w.r.IntN(2)], w.revisions, 1+w.r.IntN(3), w.wish(), w.r.IntN(9))
		if w.r.IntN(5) == 0 {
			w.count("tariff without a chunk")
			records = records[1:]
		}
	case 11:
		records = append(records, w.newFormat())
	case 12:
		records = append(records, w.newParam())
	case 13:
		records = append(records, w.closing())
	case 14:
		if w.allNewer() || w.r.IntN(6) == 0 { // too early: the shards wait for builds that know the version
			records = append(records, &book.RaiseFold{FoldVersion: int64(newerBuild)})
		}
	default:
		records = w.replays()
	}
	for _, r := range records {
		w.name(r)
	}
	return records
}

func (w *world) newFormat() *book.SetFormat {
	f := &book.SetFormat{Topic: w.carrierTopics()[w.r.IntN(2)], Format: "tollgate", FormatVersion: 1, Source: "carrier", From: w.wish()}
	switch w.r.IntN(4) {
	case 0:
		f.Format = "twilio-call"
	case 1:
		f.DefaultCountry = "1"
	case 2:
		f.Source = "other"
	}
	return f
}

func (w *world) newParam() *book.SetParam {
	if w.raises && w.r.IntN(2) == 0 {
		least := []int64{hourMs, 4 * hourMs}[w.r.IntN(2)]
		return &book.SetParam{Param: "window-ms", Value: least + w.r.Int64N(least)}
	}
	switch w.r.IntN(7) {
	case 5:
		return &book.SetParam{Param: "give-up-after", Value: 1 + w.r.Int64N(5)}
	case 0:
		return &book.SetParam{Param: "attempts", Value: 1 + w.r.Int64N(4)}
	case 1:
		return &book.SetParam{Param: "back-off-ms", Value: w.r.Int64N(2 * hourMs)}
	case 2:
		return &book.SetParam{Param: "results-kept", Value: 1 + w.r.Int64N(8)}
	case 3:
		return &book.SetParam{Param: "window-ms", Value: hourMs + w.r.Int64N(hourMs)}
	}
	return &book.SetParam{Param: "grace-ms", Value: w.r.Int64N(30 * minuteMs)}
}

// closing closes yesterday by somebody's own clock.
func (w *world) closing() *book.CloseDay {
	zone := zones[w.r.IntN(len(zones))]
	day := dayIn(zone, w.nowMs+w.r.Int64N(4*hourMs)-2*hourMs) - 1
	return &book.CloseDay{Zone: zone, Day: time.Unix(int64(day)*86400, 0).UTC().Format(time.DateOnly)}
}

// replays decides rejected records again, each perhaps by several operators with an opinion of their own.
func (w *world) replays() (records []book.Record) {
	for range min(len(w.dead), 1+w.r.IntN(2)) {
		r := w.dead[w.r.IntN(len(w.dead))]
		topic := w.topicOf(r.topic)
		if topic == "" {
			continue
		}
		for range 1 + w.r.IntN(2) {
			w.count("replay asked for")
			records = append(records, &book.Replay{
				Topic: topic, TopicID: fmt.Sprintf("%x", r.topic[:]), Partition: int32(r.numbers["source_partition"]),
				Offset: r.numbers["source_offset"], Ix: uint32(r.numbers["source_ix"]), Shard: int32(r.numbers["shard"]),
				EntryOffset: r.numbers["entry_offset"], EntryIx: uint32(r.numbers["ix"]),
				Raw: []byte(r.text["raw"]), Account: uint32(w.r.IntN(accountCount + 1)),
			})
		}
	}
	return records
}

// topicOf finds the name of a topic by its id.
func (w *world) topicOf(id [16]byte) string {
	for _, t := range w.allTopics {
		if [16]byte(t.id) == id {
			return t.name
		}
	}
	return ""
}
