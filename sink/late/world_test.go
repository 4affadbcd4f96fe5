package late

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tollgate/tollgate/balance/ledger"
	"github.com/tollgate/tollgate/balance/posting"
	"github.com/tollgate/tollgate/rater/entry"
	"github.com/tollgate/tollgate/rater/money"
	"github.com/tollgate/tollgate/rater/stream"
)

const (
	hourMs   = 3600 * 1000
	windowMs = 72 * hourMs
)

// crash is what a fake panics with where the process dies.
type crash struct{}

var (
	errLost    = errors.New("the connection broke")
	carrier    = entry.Source{TopicID: [16]byte{7}, Partition: 1}
	logTopicID = stream.TopicID{1, 2, 3}
)

// message is one message of a partition's log.
type message struct {
	value  []byte
	timeMs int64
}

// flight is a produce whose sender died or gave up while it was on its way.
type flight struct {
	shard int
	value []byte
}

// partition is one shard with its two logs, its fold, and how far its readers have come.
type partition struct {
	entries, postings []message
	fold              *ledger.Shard
	next              int64          // offset of the next entries to fold
	stored            posting.Cursor // rows in ClickHouse
	committed         posting.Cursor // what store has committed
	rows              map[uint64]bool
	carrierAt         entry.Position
}

// world is everything around the loop: carriers, debit, store, Kafka and ClickHouse. It moves on when the loop waits for
// it, in one goroutine, by the seed alone.
type world struct {
	t             testing.TB
	r             *rand.Rand
	partitions    []*partition
	nowMs         int64
	maxStepMs     int64 // how much time a step may take
	sent          []entry.Entry
	copies        map[uint64]int
	flights       []flight
	carriers      bool // carriers send
	faulty        bool // calls and replies get lost, processes die, ClickHouse is away
	down          bool // ClickHouse is away
	storeHeld     bool // store does not move
	batchMessages int  // that a produce takes, 0 for any number
	generation    int32
	commits       map[int32]stream.CommitOffset // of the late group
	cancel        context.CancelFunc
	done          func() bool
	steps         int

	lookUps, asks int
	now           time.Duration // that the loop has waited, see Sleep

	// The mutants.
	storeLies   bool // store claims to have written everything
	seenNow     bool // a release carries the present as the time that ClickHouse was seen
	ledgerBlind bool // ClickHouse knows nothing
	ledgerGuess bool // ClickHouse knows everything
	bounced     int  // releases that were late again
	lateUsage   int
}

func newWorld(t testing.TB, seed uint64, shards int) *world {
	w := &world{
		t: t, r: rand.New(rand.NewPCG(seed, 9)), nowMs: 20_000 * 24 * hourMs, maxStepMs: hourMs,
		copies: map[uint64]int{}, commits: map[int32]stream.CommitOffset{},
	}
	for range shards {
		w.partitions = append(w.partitions, &partition{
			fold: ledger.New(), stored: posting.Start, committed: posting.Start, rows: map[uint64]bool{}, carrierAt: entry.None,
		})
	}
	return w
}

func (w *world) chance(percent int) bool { return w.r.IntN(100) < percent }

func (w *world) shardOf(id uint64) int { return int(id % uint64(len(w.partitions))) }

// step lets the world do a little of everything.
func (w *world) step() {
	w.steps++
	w.nowMs += w.r.Int64N(w.maxStepMs)
	if w.carriers && w.chance(40) {
		w.carry()
	}
	if w.faulty && w.chance(3) {
		w.down = !w.down
	}
	if w.faulty && w.chance(1) { // for days
		w.storeHeld = !w.storeHeld
	}
	if len(w.flights) > 0 && (!w.faulty || w.chance(10)) {
		w.append(w.flights[0].shard, w.flights[0].value)
		w.flights = w.flights[1:]
	}
	for _, p := range w.partitions {
		if !w.faulty || w.chance(70) {
			w.debit(p)
		}
		if !w.storeHeld && (!w.faulty || w.chance(30)) {
			w.store(p)
		}
	}
}

// carry appends a block of records: new ones, late ones, copies of either.
func (w *world) carry() {
	var b entry.Block
	shard := w.r.IntN(len(w.partitions))
	p := w.partitions[shard]
	b.Reset(carrier, p.carrierAt)
	for range 1 + w.r.IntN(3) {
		e := entry.Entry{Kind: entry.Usage, Account: 1 + uint32(w.r.IntN(3)), AmountUnits: -money.Amount(1 + w.r.IntN(1000)),
			EventMs: w.nowMs - w.r.Int64N(hourMs), Number: 1555, Service: 1, Billed: 60, ID: []byte("id"), Peer: []byte("peer")}
		if len(w.sent) > 0 && w.chance(60) {
			e = w.sent[len(w.sent)-1-w.r.IntN(min(len(w.sent), 40))]
		} else {
			e.IDHash = uint64(shard) + uint64(len(w.partitions)*(1+len(w.sent)))
			if w.chance(40) {
				e.EventMs -= windowMs + w.r.Int64N(windowMs)
			}
			w.sent = append(w.sent, e)
		}
		if w.shardOf(e.IDHash) != shard {
			continue
		}
		w.copies[e.IDHash]++
		e.Position = entry.Position{Offset: p.carrierAt.Offset + 1}
		p.carrierAt = e.Position
		b.Add(&e)
	}
	if b.Len() > 0 {
		w.append(shard, b.AppendTo(nil))
	}
}

// append appends to the entries of a shard. The broker's clock may step back.
func (w *world) append(shard int, value []byte) {
	p := w.partitions[shard]
	p.entries = append(p.entries, message{value, w.nowMs - w.r.Int64N(60_000)})
}

// debit folds the next entries. Another one that is alive appends some postings once more.
func (w *world) debit(p *partition) {
	if p.next == int64(len(p.entries)) {
		return
	}
	m := p.entries[p.next]
	var b entry.Block
	if err := b.Decode(m.value); err != nil {
		w.t.Fatal(err)
	}
	if err := p.fold.Check(&b); err != nil {
		w.t.Fatal(err)
	}
	outcomes := p.fold.Fold(p.next, m.timeMs, &b, nil)
	value := posting.AppendTo(nil, p.next, m.timeMs, b.Len(), posting.AppendOutcomes(nil, outcomes), m.value)
	p.postings = append(p.postings, message{value, w.nowMs})
	if w.chance(10) {
		p.postings = append(p.postings, p.postings[max(0, len(p.postings)-3):]...)
	}
	p.next++
}

// store writes some postings, and commits some of what it has written.
func (w *world) store(p *partition) {
	if !w.down {
		for n := w.r.IntN(20); n > 0 && p.stored.Next < int64(len(p.postings)); n-- {
			var b posting.Block
			if err := b.Decode(p.postings[p.stored.Next].value); err != nil {
				w.t.Fatal(err)
			}
			for i, o := range b.Outcomes {
				if o.Result == posting.Charged {
					p.rows[b.Entries.IDHash[i]] = true
				}
			}
			p.stored = posting.Cursor{Next: p.stored.Next + 1, Last: max(p.stored.Last, b.EntryOffset)}
		}
	}
	if w.chance(50) {
		p.committed = p.stored
	}
}

// trouble happens before or after an effect: the process dies, or the call or its reply is lost.
func (w *world) trouble() error {
	switch {
	case !w.faulty:
		return nil
	case w.chance(2):
		panic(crash{})
	case w.chance(3):
		return errLost
	}
	return nil
}

// settled tells whether every log was read to its end by all.
func (w *world) settled() bool {
	for i, p := range w.partitions {
		c, ok := w.commits[int32(i)]
		if !ok {
			return false
		}
		cursor, err := posting.ParseCursor(c.Offset, c.Metadata, logTopicID)
		if err != nil {
			w.t.Fatal(err)
		}
		if p.next < int64(len(p.entries)) || p.committed.Last < p.next-1 || cursor.Last < p.next-1 {
			return false
		}
	}
	return len(w.flights) == 0
}

// run runs loops, one after the death of the other, until done.
func (w *world) run(cfg Config, done func() bool) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w.cancel, w.done = cancel, done
	for ctx.Err() == nil {
		w.live(ctx, w.loop(cfg))
	}
}

func (w *world) loop(cfg Config) *Loop {
	w.generation++
	shards := make([]int32, len(w.partitions))
	for i := range shards {
		shards[i] = int32(i)
	}
	deps := Deps{Reader: &reader{w: w}, Writer: &writer{w: w}, Topics: w, Commits: w, Ledger: w, Clock: w,
		Metrics: NewMetrics(prometheus.NewRegistry()), Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
	return NewLoop(deps, cfg, stream.GenerationRef{ID: w.generation, Member: "m"}, shards)
}

func (w *world) live(ctx context.Context, l *Loop) {
	defer func() {
		if r := recover(); r != nil && r != (crash{}) {
			panic(r)
		}
	}()
	if err := l.Run(ctx); err != nil {
		w.t.Fatal(err)
	}
	for _, s := range l.shards {
		if s.halted != "" {
			w.t.Fatalf("shard %d halted: %s", s.id, s.halted)
		}
	}
}

// check compares what was charged with what was sent.
func (w *world) check() error {
	charged := map[uint64]int{}
	w.bounced, w.lateUsage = 0, 0
	for _, p := range w.partitions {
		seen := posting.Start
		for _, m := range p.postings {
			var b posting.Block
			if err := b.Decode(m.value); err != nil {
				return err
			}
			if seen.Accept(b.EntryOffset) != posting.Take {
				continue
			}
			seen.Last = b.EntryOffset
			for i, o := range b.Outcomes {
				switch {
				case o.Result == posting.Charged:
					charged[b.Entries.IDHash[i]]++
				case o.Result == posting.Late && b.Entries.Kind[i] == entry.Release:
					w.bounced++
				case o.Result == posting.Late:
					w.lateUsage++
				}
			}
		}
	}
	for id := range w.copies {
		if charged[id] != 1 {
			return fmt.Errorf("record %d came %d times and was charged %d times", id, w.copies[id], charged[id])
		}
	}
	if len(charged) != len(w.copies) {
		return fmt.Errorf("%d records were charged, %d were sent", len(charged), len(w.copies))
	}
	return nil
}

// TopicID implements stream.Topics.
func (w *world) TopicID(context.Context, string) (stream.TopicID, error) {
	return logTopicID, w.trouble()
}

// ListOffsets implements stream.Topics.
func (w *world) ListOffsets(context.Context, string, []int32) ([]stream.Offsets, error) {
	return nil, errors.New("the loop has no business with it")
}

// Commit implements stream.Commits for the late group.
func (w *world) Commit(_ context.Context, group string, generation stream.GenerationRef, offsets map[string][]stream.CommitOffset) error {
	if err := w.trouble(); err != nil {
		return err
	}
	if group != "tollgate-late" || generation.ID != w.generation {
		return stream.ErrFenced
	}
	for _, c := range offsets["postings"] {
		w.commits[c.Partition] = c
	}
	return w.trouble()
}

// Committed implements stream.Commits.
func (w *world) Committed(_ context.Context, group, topic string, partitions []int32) ([]stream.CommitOffset, error) {
	if err := w.trouble(); err != nil {
		return nil, err
	}
	answer := make([]stream.CommitOffset, len(partitions))
	for i, id := range partitions {
		answer[i] = stream.CommitOffset{Partition: id, Offset: -1}
		if c, ok := w.commits[id]; ok && group == "tollgate-late" {
			answer[i] = c
		}
		if group == "store" {
			cursor := w.partitions[id].committed
			if w.storeLies {
				cursor = posting.Cursor{Next: 1 << 40, Last: 1 << 40}
			}
			answer[i] = stream.CommitOffset{Partition: id, Offset: cursor.Next, Metadata: cursor.Metadata(logTopicID)}
		}
	}
	if group == "store" {
		w.asks++
	}
	return answer, nil
}

// Charged implements Ledger. Long pauses happen after it: the answer is old when the loop acts on it.
func (w *world) Charged(_ context.Context, records []Record) (map[Record]bool, error) {
	w.lookUps++
	if err := w.trouble(); err != nil {
		return nil, err
	}
	if w.down {
		return nil, errLost
	}
	charged := map[Record]bool{}
	for _, r := range records {
		if !w.ledgerBlind && w.partitions[r.Shard].rows[r.IDHash] || w.ledgerGuess {
			charged[r] = true
		}
	}
	if w.faulty && w.chance(5) {
		w.maxStepMs *= 8
		for range 10 + w.r.IntN(50) {
			w.step()
		}
		w.maxStepMs /= 8
	}
	return charged, w.trouble()
}

// Now implements stream.Clock. It is the loop's own clock; the brokers have theirs.
func (w *world) Now() time.Time { return time.UnixMilli(0).Add(w.now) }

// Sleep implements stream.Clock.
func (w *world) Sleep(_ context.Context, d time.Duration) { w.wait(d) }

func (w *world) wait(d time.Duration) {
	w.now += d
	w.step()
	if w.done() {
		w.cancel()
	}
}

// reader is a stream.Reader on the postings.
type reader struct {
	w       *world
	fetched []stream.Fetched
}

// Fetch implements stream.Reader: it brings a few messages from each position.
func (r *reader) Fetch(_ context.Context, positions []stream.Position, maxWait time.Duration) error {
	r.w.wait(maxWait)
	if err := r.w.trouble(); err != nil {
		return err
	}
	r.fetched = make([]stream.Fetched, len(positions))
	for i, at := range positions {
		log := r.w.partitions[at.Partition].postings
		var batch stream.Batch
		batch.Reset()
		for _, m := range log[min(at.Offset, int64(len(log))):] {
			if batch.Append(nil, m.value); r.w.faulty && r.w.chance(30) {
				break
			}
		}
		var sealed []byte
		if batch.Count() > 0 {
			b, err := batch.Seal(stream.CodecNone, r.w.nowMs)
			if err != nil {
				return err
			}
			sealed = b
			stream.Stamp(sealed, at.Offset, r.w.nowMs)
		}
		r.fetched[i].Open(at, sealed)
	}
	return nil
}

// Result implements stream.Reader.
func (r *reader) Result(i int) *stream.Fetched { return &r.fetched[i] }

// writer is a stream.Writer on the entries. What was on its way when a call failed may still arrive, much later.
type writer struct {
	w       *world
	shard   int
	pending [][]byte
}

// Reset implements stream.Writer.
func (wr *writer) Reset() { wr.pending = nil }

// Append implements stream.Writer.
func (wr *writer) Append(topic string, shard int32, _, value []byte) error {
	if topic != "entries" || len(wr.pending) > 0 && int(shard) != wr.shard {
		return fmt.Errorf("unexpected message for %s[%d]", topic, shard)
	}
	if n := wr.w.batchMessages; n > 0 && len(wr.pending) == n {
		return stream.ErrBatchFull
	}
	wr.shard = int(shard)
	wr.pending = append(wr.pending, append([]byte(nil), value...))
	return nil
}

// Send implements stream.Writer.
func (wr *writer) Send(context.Context) error {
	w := wr.w
	if w.seenNow {
		wr.stampNow()
	}
	if w.faulty && w.chance(15) {
		for _, value := range wr.pending {
			w.flights = append(w.flights, flight{wr.shard, value})
		}
		if w.chance(50) {
			panic(crash{})
		}
		return stream.ErrUnknownOutcome
	}
	if err := w.trouble(); err != nil {
		return err
	}
	for _, value := range wr.pending {
		w.append(wr.shard, value)
	}
	return w.trouble()
}

// stampNow is the mutant that takes the present for the time that ClickHouse was seen.
func (wr *writer) stampNow() {
	for i, value := range wr.pending {
		var from, to entry.Block
		var e entry.Entry
		if err := from.Decode(value); err != nil {
			wr.w.t.Fatal(err)
		}
		to.Reset(entry.Source{}, entry.None)
		for k := range from.Len() {
			from.Get(k, &e)
			e.Args[entry.ArgSeenMs] = wr.w.nowMs
			to.Add(&e)
		}
		wr.pending[i] = to.AppendTo(nil)
	}
}

// Result implements stream.Writer.
func (wr *writer) Result(int) stream.Produced { return stream.Produced{} }
