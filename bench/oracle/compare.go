package oracle

import (
	"cmp"
	"context"
	"fmt"
	"math/big"
	"slices"
)

// Offsets before and after all that there are.
const (
	beforeAll int64 = -1 << 62
	afterAll  int64 = 1 << 62
)

// A record is late if it is older than the window of duplicates, which it must not even come near, by the append times of
// its shard. They are the brokers' and may run back, by as much as the slack.
const (
	lateMarginMs = 120_000
	lateSlackMs  = 60_000
)

// worker compares partitions, slice by slice.
type worker struct {
	*oracle
	rater    rater
	slice    []expected
	messages int64
	// What a slice adds to the whole.
	counts  Report
	charges map[uint32]*big.Int
	late    []lateRecord
}

// compare reads a partition to its end.
func (w *worker) compare(ctx context.Context, p *partition) error {
	from := beforeAll
	err := w.log.read(ctx, p, 0, func(offset, appendMs int64, value []byte) error {
		if len(w.slice) >= w.cfg.SliceRecords {
			if err := w.settle(ctx, p, from, offset); err != nil {
				return err
			}
			from = offset
		}
		w.messages++
		w.slice = w.rater.message(p.topic, offset, appendMs, value, w.slice)
		return nil
	})
	if err != nil {
		return err
	}
	return w.settle(ctx, p, from, afterAll)
}

// settle compares a slice of a partition with the rows that ClickHouse has for it, and adds what was found to the whole.
func (w *worker) settle(ctx context.Context, p *partition, from, to int64) error {
	w.start()
	if err := w.story.rated(ctx, p, from, to, func(r *ratedRow) { w.rated(p, r) }); err != nil {
		return err
	}
	if err := w.story.dead(ctx, p, from, to, func(r *deadRow) { w.dead(p, r) }); err != nil {
		return err
	}
	for i := range w.slice {
		if e := &w.slice[i]; !e.found {
			w.findings.add("missing-row", &site{p, e.offset, e.ix}, "a row: "+e.String(), "none")
		}
	}
	total := w.total()
	w.slice, w.messages = w.slice[:0], 0
	w.say("%s: compared to its %s; %d records, %d differences so far", p, until(to), total.Records, total.Differences)
	return nil
}

// start forgets the slice before.
func (w *worker) start() {
	w.counts, w.charges, w.late = Report{RejectedByReason: map[string]int64{}}, map[uint32]*big.Int{}, nil
}

func until(offset int64) string {
	if offset == afterAll {
		return "end"
	}
	return fmt.Sprintf("offset %d", offset)
}

// total adds the slice to the whole, and gives the whole as it is.
func (w *worker) total() Report {
	w.mu.Lock()
	defer w.mu.Unlock()
	for account, units := range w.charges {
		w.addCharge(account, units)
	}
	w.oracle.late = append(w.oracle.late, w.late...)
	w.oracle.messages += w.messages
	w.findings.mu.Lock()
	defer w.findings.mu.Unlock()
	r := w.findings.report
	r.Records += int64(len(w.slice))
	r.Charged += w.counts.Charged
	r.Duplicates += w.counts.Duplicates
	r.Late += w.counts.Late
	r.Rejected += w.counts.Rejected
	for reason, n := range w.counts.RejectedByReason {
		r.RejectedByReason[reason] += n
	}
	return *r
}

// site is where a record lies.
type site struct {
	partition *partition
	offset    int64
	ix        uint32
}

// String names the record.
func (s *site) String() string {
	return fmt.Sprintf("%s offset %d index %d", s.partition, s.offset, s.ix)
}

// String says what must have become of the record.
func (e *expected) String() string {
	if e.refuse != rated {
		return "dead letter, " + e.refuse.String()
	}
	return fmt.Sprintf("%s of +%d, account %d, %s %s", e.service, e.number, e.account.number, formatInt(e.units, e.account.currency), e.account.currency)
}

// claim finds the record that a row is about. It gives nil where there is none, or where it has its row already.
func (w *worker) claim(p *partition, table string, offset int64, ix uint32, at place, fingerprint uint64) *expected {
	i, there := slices.BinarySearchFunc(w.slice, offset, func(e expected, _ int64) int {
		return cmp.Or(cmp.Compare(e.offset, offset), cmp.Compare(e.ix, ix))
	})
	if !there {
		w.findings.add("extra-row", &site{p, offset, ix}, "no row: there is no such record", "a row of "+table)
		return nil
	}
	e := &w.slice[i]
	if !e.found {
		e.found, e.place, e.fingerprint = true, at, fingerprint
		return e
	}
	if e.place != at {
		w.findings.add("second-row", &site{p, e.offset, e.ix}, fmt.Sprintf("one row, that of shard %d entry %d, %d", e.place.shard(), e.place.offset(), e.place.ix()),
			fmt.Sprintf("another in %s, of shard %d entry %d, %d", table, at.shard(), at.offset(), at.ix()))
	} else if e.fingerprint != fingerprint {
		w.findings.add("copies-differ", &site{p, e.offset, e.ix}, "equal rows of one entry", "rows that differ in "+table)
	}
	return nil
}

// rated compares a row of rated_records.
func (w *worker) rated(p *partition, r *ratedRow) {
	e := w.claim(p, "rated_records", r.offset, r.ix, r.place, r.fingerprint)
	if e == nil {
		return
	}
	where := &site{p, e.offset, e.ix}
	if e.refuse != rated {
		w.findings.add("not-refused", where, e.String(), resultName(r.result)+" to account "+fmt.Sprint(r.account))
		return
	}
	w.findings.compare(where, e, r)
	begins := r.appendMs - w.windowAt(r.place) + lateMarginMs // of what is in time
	switch r.result {
	case resultCharged:
		if e.eventMs < begins {
			w.findings.add("window", where, "late: it is older than the window of duplicates", "charged")
		}
		w.counts.Charged++
		w.chargeOnce(e.key, where, r.place)
		units := w.charges[e.account.number]
		if units == nil {
			units = new(big.Int)
			w.charges[e.account.number] = units
		}
		units.Add(units, big.NewInt(e.units))
	case resultDuplicate:
		w.counts.Duplicates++
		w.ids.repeat(e.key, r.place)
	case resultLate:
		if e.eventMs >= begins+lateSlackMs {
			w.findings.add("window", where, "charged, or a duplicate: it is within the window", "late")
		}
		w.counts.Late++
		w.late = append(w.late, lateRecord{*e, where.String(), r.copyHash})
	default:
		w.findings.add("result", where, "charged, duplicate or late", resultName(r.result))
	}
}

// compare compares all that a row says with what its record must have become.
func (f *findings) compare(where any, e *expected, r *ratedRow) {
	if e.account.number != r.account || e.number != r.number || int8(e.service) != r.service || e.eventMs != r.eventMs ||
		e.duration != r.duration || e.billed != r.billed || e.localDay != r.localDay {
		differ(f, "account", where, e.account.number, r.account)
		differ(f, "number", where, e.number, r.number)
		differ(f, "service", where, e.service, service(r.service))
		differ(f, "event-time", where, e.eventMs, r.eventMs)
		differ(f, "duration", where, e.duration, r.duration)
		differ(f, "billed", where, e.billed, r.billed)
		differ(f, "local-day", where, e.localDay, r.localDay)
	}
	differHash(f, "record-id", where, e.idHash, r.idHash)
	differHash(f, "peer", where, e.peerHash, r.peerHash)
	amount, unapplied := int64(0), -e.units
	if r.result == resultCharged {
		amount, unapplied = unapplied, 0
		// What comes when its own day was closed goes to the next open one, at most to the day on which it came.
		if latest := max(e.localDay, dayOf(r.appendMs, e.account.zone)); r.statement < e.localDay || r.statement > latest {
			f.add("statement-day", where, fmt.Sprintf("day %d to %d", e.localDay, latest), fmt.Sprint(r.statement))
		}
	}
	currency := e.account.currency
	if amount != r.amount {
		f.add("amount", where, formatInt(amount, currency), formatInt(r.amount, currency))
	}
	if unapplied != r.unapplied {
		f.add("unapplied-amount", where, formatInt(unapplied, currency), formatInt(r.unapplied, currency))
	}
}

func differHash(f *findings, kind string, where any, expected, found uint64) {
	if expected != found {
		f.add(kind, where, fmt.Sprintf("the text with xxHash64 %x", expected), fmt.Sprintf("another, %x", found))
	}
}

// dead compares a dead letter.
func (w *worker) dead(p *partition, r *deadRow) {
	e := w.claim(p, "dead_letters", r.offset, r.ix, r.place, r.fingerprint)
	if e == nil {
		return
	}
	where, found := &site{p, e.offset, e.ix}, reason(r.reason)
	if e.refuse == rated {
		w.findings.add("refused", where, e.String(), "dead letter, "+found.String())
		return
	}
	w.counts.Rejected++
	w.counts.RejectedByReason[found.String()]++
	differ(&w.findings, "reason", where, e.refuse, found)
	differHash(&w.findings, "raw", where, e.rawHash, r.rawHash)
	owner := uint32(0)
	switch e.refuse {
	case undecodable, noFormat:
		return // of what could not be read, nothing else is promised
	case outOfBounds:
		if e.account == nil {
			return
		}
	}
	if e.account != nil {
		owner = e.account.number
	}
	differ(&w.findings, "account", where, owner, r.account)
	differ(&w.findings, "number", where, e.number, r.number)
	differ(&w.findings, "event-time", where, e.eventMs, r.eventMs)
	differHash(&w.findings, "record-id", where, e.idHash, r.idHash)
}
