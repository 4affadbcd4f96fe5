// Package oracle proves from outside that no record was lost or charged twice: it reads the carriers' topics in Kafka,
// what ClickHouse tells, the card gateway's book, and what the operator imported and accepted, decodes and prices every
// record anew, and compares every record and every unit of money.
//
// It stands beside the flow and shares no code with it: decoder, prices (math/big), Kafka's batches and the reading of
// the book file are its own, so that it does not share the product's mistakes. It never writes anything.
package oracle

import (
	"context"
	"fmt"
	"math/big"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// Config says what to read.
type Config struct {
	// Kafka and ClickHouse (native protocol) are host:port.
	Kafka, ClickHouse string
	// Database, User and Password are those of ClickHouse.
	Database, User, Password string
	// Book is the book file with which the installation was opened, and all that was ever imported.
	Book string
	// Gateway is the book of the simulated gateway, "" if no card was ever charged.
	Gateway string
	// Credits is the file of accepted top-ups and adjustments, "" if there were none.
	Credits string
	// Report receives a line per step; nil is silence. Lines come one at a time.
	Report func(line string)
	// SliceRecords bounds the records that a worker holds at once; 0 is 4,000,000.
	SliceRecords int
}

const (
	defaultSlice = 4_000_000
	workers      = 2
)

// oracle is one run.
type oracle struct {
	cfg      Config
	book     *book
	log      *log
	story    *story
	findings findings
	ids      idTable

	windows map[uint16][]windowChange // by shard

	mu       sync.Mutex
	charged  map[uint32]*big.Int // units charged to each account
	late     []lateRecord
	messages int64
}

// lateRecord is a record that came after the window: it waits for its release, or for a copy that was charged.
type lateRecord struct {
	expected
	where    string
	copyHash uint64
}

// Run compares everything. The installation must have come to rest. An error means that the comparison could not be made;
// what was found until then is not reported.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	began := time.Now()
	if cfg.SliceRecords <= 0 {
		cfg.SliceRecords = defaultSlice
	}
	o := &oracle{cfg: cfg, charged: map[uint32]*big.Int{}}
	o.findings.report = &Report{RejectedByReason: map[string]int64{}, ChargedAmount: map[string]string{}, CapturedAmount: map[string]string{},
		CreditedAmount: map[string]string{}, DifferencesByKind: map[string]int64{}, Examples: []Difference{}}
	var err error
	if o.book, err = readBook(cfg.Book); err != nil {
		return nil, err
	}
	if o.story, err = openStory(ctx, &cfg); err != nil {
		return nil, err
	}
	defer o.story.conn.Close()
	o.log = openLog(cfg.Kafka)
	defer o.log.close()
	partitions, err := o.partitions(ctx)
	if err != nil {
		return nil, err
	}
	for _, step := range []func(context.Context, []*partition) error{o.readWindows, o.records, o.releases, o.fates, o.money} {
		if err := step(ctx, partitions); err != nil {
			return nil, err
		}
	}
	o.findings.report.Messages = o.messages
	o.findings.report.Seconds = time.Since(began).Seconds()
	return o.findings.report, nil
}

// say reports a step.
func (o *oracle) say(format string, args ...any) {
	if o.cfg.Report == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.cfg.Report(fmt.Sprintf(format, args...))
}

// partitions lists all partitions of the carrier topics that the book names. A topic that was cut cannot be compared.
func (o *oracle) partitions(ctx context.Context) (all []*partition, err error) {
	for topic := range o.book.formats {
		found, err := o.log.partitions(ctx, topic)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("the book %s names no carrier topic", o.cfg.Book)
	}
	messages := int64(0)
	for _, p := range all {
		if p.first > 0 {
			return nil, fmt.Errorf("%s begins only at offset %d: what was cut off can no longer be compared", p, p.first)
		}
		messages += p.next
	}
	o.say("%d accounts, %d numbers, %d carrier partitions with %d messages", len(o.book.accounts), len(o.book.numbers), len(all), messages)
	return all, nil
}

// readWindows reads from where on each shard has the book's window of duplicates.
func (o *oracle) readWindows(ctx context.Context, _ []*partition) (err error) {
	o.windows, err = o.story.windows(ctx)
	for shard, changes := range o.windows {
		for _, c := range changes {
			differ(&o.findings, "window", fmt.Sprintf("shard %d entry %d, %d", shard, c.at.offset(), c.at.ix()), o.book.windowMs, c.windowMs)
		}
	}
	return err
}

// windowAt gives the window of duplicates that holds for an entry, milliseconds.
func (o *oracle) windowAt(at place) int64 {
	windowMs := defaultWindow.Milliseconds()
	for _, c := range o.windows[at.shard()] {
		if c.at < at {
			windowMs = c.windowMs
		}
	}
	return windowMs
}

// records compares every record of every partition with its row, by a few workers.
func (o *oracle) records(ctx context.Context, partitions []*partition) error {
	group, running := errgroup.WithContext(ctx)
	var taken atomic.Int64
	for range workers {
		group.Go(func() error {
			w := &worker{oracle: o, rater: rater{book: o.book}}
			for i := taken.Add(1) - 1; i < int64(len(partitions)); i = taken.Add(1) - 1 {
				if err := w.compare(running, partitions[i]); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for _, table := range []string{"rated_records", "dead_letters"} {
		if err := o.story.strays(ctx, table, partitions, func(where string) {
			o.findings.add("extra-row", where, "no row", "a row of "+table+" from no carrier partition")
		}); err != nil {
			return err
		}
	}
	return nil
}

// releases matches the records that were decided anew with the late records that they are.
func (o *oracle) releases(ctx context.Context, _ []*partition) error {
	waiting := map[uint64][]*lateRecord{}
	for i := range o.late {
		l := &o.late[i]
		waiting[l.copyHash] = append(waiting[l.copyHash], l)
	}
	seen := map[place]bool{}
	report := o.findings.report
	return o.story.releases(ctx, func(r *ratedRow) {
		if seen[r.place] {
			return
		}
		seen[r.place] = true
		where := fmt.Sprintf("release at shard %d entry %d, %d", r.shard, r.entryOffset, r.entryIx)
		late := released(waiting[r.copyHash], r)
		if late == nil {
			o.findings.add("release", where, "a late record that it is", "none")
			return
		}
		o.findings.compare(where+" of "+late.where, &late.expected, r)
		switch r.result {
		case resultCharged:
			report.Released++
			o.chargeOnce(late.key, late.where, r.place)
			report.Charged++
			o.addCharge(late.account.number, big.NewInt(late.units))
		case resultDuplicate:
			o.ids.repeat(late.key, r.place)
		case resultLate: // it came too late again, and is decided once more
		default:
			o.findings.add("result", where, "charged, duplicate or late", resultName(r.result))
		}
	})
}

// released finds the late record that a release is: of its copies the one that says the same.
func released(candidates []*lateRecord, r *ratedRow) *lateRecord {
	for _, l := range candidates {
		if l.idHash == r.idHash && l.account.number == r.account && l.eventMs == r.eventMs && l.number == r.number {
			return l
		}
	}
	return nil
}

// fates demands of every record id that just one copy was charged, and that the others came after it.
func (o *oracle) fates(ctx context.Context, partitions []*partition) error {
	for i := range o.late {
		if l := &o.late[i]; !o.ids.charged(l.key) {
			o.findings.add("never-charged", l.where, "a charge of it or of a copy", "late, and not decided")
		}
	}
	o.ids.each(func(f fate) {
		switch {
		case f.charged == 0 && f.duplicate != 0:
			o.misfortune(ctx, "never-charged", f.duplicate, partitions, "a charge of it or of a copy", "duplicates only")
		case f.charged != 0 && f.duplicate != 0 && f.duplicate.shard() == f.charged.shard() && f.duplicate < f.charged:
			o.misfortune(ctx, "charged-later", f.duplicate, partitions, "the first copy in the log charged", "a duplicate, and a later copy charged")
		}
	})
	return ctx.Err()
}

// misfortune adds a difference of a record id, and looks up its record if it becomes an example.
func (o *oracle) misfortune(ctx context.Context, kind string, at place, partitions []*partition, expected, found string) {
	where := ""
	if o.findings.wantsExample(kind) {
		where = o.story.sourceOf(ctx, at, partitions)
	}
	o.findings.add(kind, where, expected, found)
}

// chargeOnce notes the charge of a record, which must be the only one of its id.
func (o *oracle) chargeOnce(key uint64, where any, at place) {
	if before := o.ids.charge(key, at); before != 0 && before != at {
		o.findings.add("charged-twice", where, "one charge of the record and its copies",
			fmt.Sprintf("another one at shard %d entry %d, %d", before.shard(), before.offset(), before.ix()))
	}
}

// addCharge adds to what was charged to an account.
func (o *oracle) addCharge(account uint32, units *big.Int) {
	sum := o.charged[account]
	if sum == nil {
		sum = new(big.Int)
		o.charged[account] = sum
	}
	sum.Add(sum, units)
}
