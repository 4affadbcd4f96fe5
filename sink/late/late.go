// Package late decides the records that came too late for the shard to know whether it had charged them before: it asks
// ClickHouse, which forgets nothing, and sends those that were never charged to their shard again, as releases.
//
// It stands behind store: it reads the postings of its shards, as store does, waits until store has caught up with it,
// and appends to the entries (protocol rule 9). Whatever it was doing when it died is done again: a second release of a
// record is a duplicate by the record's id. It never prices, never charges, and never decides by a clock.
package late

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/tollgate/tollgate/balance/posting"
	"github.com/tollgate/tollgate/rater/entry"
	"github.com/tollgate/tollgate/rater/stream"
)

// Record names a carrier record by what its shard knows it by.
type Record struct {
	Shard  int32
	IDHash uint64
}

// Ledger is what was charged, as store has written it down.
type Ledger interface {
	// Charged gives those of the records that were charged according to the rows that are stored when it is called. It
	// may give others too.
	Charged(ctx context.Context, records []Record) (map[Record]bool, error)
}

// Config names the limits of a late loop.
type Config struct {
	// PostingsTopic is the log that is read, EntriesTopic the one that releases are appended to.
	PostingsTopic, EntriesTopic string
	// Group is the consumer group that remembers how far each shard is decided, StoreGroup that of the store stage.
	Group, StoreGroup string
	// MaxLate is how many late records of one shard may wait; no further postings of it are read then.
	MaxLate int
	// RecordsPerQuery bounds one look-up in ClickHouse, EntriesPerBlock one block of releases.
	RecordsPerQuery, EntriesPerBlock int
	// MaxWait bounds how long a fetch waits for postings.
	MaxWait time.Duration
	// Linger is the least length of a round: postings that come within it share one fetch. Nothing waits for this stage.
	Linger time.Duration
	// DecideEvery is how often the loop asks how far store has come and looks up what that allows.
	DecideEvery time.Duration
	// CommitEvery is how often positions are committed when nothing is decided.
	CommitEvery time.Duration
	// RetryMin and RetryMax bound the pause before what failed is tried again.
	RetryMin, RetryMax time.Duration
}

// DefaultConfig is the configuration of a late loop on one machine.
func DefaultConfig() Config {
	return Config{
		PostingsTopic: "postings", EntriesTopic: "entries", Group: "tollgate-late", StoreGroup: "store",
		MaxLate: 4096, RecordsPerQuery: 4096, EntriesPerBlock: 2048,
		MaxWait: 250 * time.Millisecond, Linger: 50 * time.Millisecond, DecideEvery: time.Second, CommitEvery: time.Second,
		RetryMin: 50 * time.Millisecond, RetryMax: 5 * time.Second,
	}
}

// Deps are the loop's neighbours.
type Deps struct {
	Reader  stream.Reader
	Writer  stream.Writer
	Topics  stream.Topics
	Commits stream.Commits
	Ledger  Ledger
	Clock   stream.Clock
	Metrics *Metrics
	Logger  *slog.Logger
}

// Loop decides the late records of a few shards: one fetch and one look-up serve all of them.
type Loop struct {
	Deps
	cfg        Config
	generation stream.GenerationRef
	topicID    stream.TopicID
	shards     []*shard
	fetching   []*shard // those of the last fetch, in its order
	ready      []*shard // those whose late records store has written, with all before them
	positions  []stream.Position
	ids        []int32
	records    []Record
	block      posting.Block
	entry      entry.Entry
	releases   entry.Block
	wire       []byte
	commits    []stream.CommitOffset
	asked      time.Time // when the loop last asked how far store has come
	committed  time.Time // when it committed last
	advanced   bool      // it has decided something since
}

// shard is where the loop stands with one shard. Late records gather until the loop asks how far store has come; from then
// on until they are decided, no more of its postings are read.
type shard struct {
	id      int32
	decided posting.Cursor // all before it is decided: what the group may remember
	taken   posting.Cursor // all before it was read
	late    entry.Block    // the releases of what was found late between the two
	stored  posting.Cursor // how far store had come when it was asked last
	seenMs  int64          // append time of the newest block that store had written then
	closed  bool           // no more of them are gathered
	halted  string         // why it is not read any more
}

// NewLoop makes a loop over the given shards, for a member of the group's generation.
func NewLoop(deps Deps, cfg Config, generation stream.GenerationRef, shards []int32) *Loop {
	l := &Loop{Deps: deps, cfg: cfg, generation: generation}
	for _, id := range shards {
		l.shards = append(l.shards, &shard{id: id})
	}
	return l
}

// Run decides until ctx ends, which is no error. It ends early, without an error, when its generation of the group is
// over. Records that wait are then dropped: the next owner finds them again.
func (l *Loop) Run(ctx context.Context) error {
	defer l.drop()
	retry := stream.Retry{Loop: "late", Min: l.cfg.RetryMin, Max: l.cfg.RetryMax, Clock: l.Clock, Logger: l.Logger, Count: l.Metrics.Retries.Inc}
	return retry.Rounds(ctx, l.cfg.Linger, l.round)
}

// drop forgets what waits.
func (l *Loop) drop() {
	for _, s := range l.shards {
		l.Metrics.Waiting.Sub(float64(s.late.Len()))
		s.late.Reset(entry.Source{}, entry.None)
	}
}

// round reads once, decides what store allows to decide, and commits what is decided. Where one of them fails, the
// others are done all the same: shards without late records do not wait for ClickHouse.
func (l *Loop) round(ctx context.Context) error {
	if err := l.begin(ctx); err != nil {
		return err
	}
	return errors.Join(l.read(ctx), l.decide(ctx), l.commit(ctx))
}

// begin finds out, once, how far the group has come.
func (l *Loop) begin(ctx context.Context) error {
	if l.topicID != (stream.TopicID{}) {
		return nil
	}
	topicID, err := l.Topics.TopicID(ctx, l.cfg.PostingsTopic)
	if err != nil {
		return fmt.Errorf("cannot find topic %s: %w", l.cfg.PostingsTopic, err)
	}
	l.ids = l.ids[:0]
	for _, s := range l.shards {
		l.ids = append(l.ids, s.id)
	}
	committed, err := l.Commits.Committed(ctx, l.cfg.Group, l.cfg.PostingsTopic, l.ids)
	if err != nil {
		return err
	}
	for i, s := range l.shards {
		cursor, err := posting.ParseCursor(committed[i].Offset, committed[i].Metadata, topicID)
		if err != nil {
			return fmt.Errorf("cannot begin with %s[%d] for group %s: %w", l.cfg.PostingsTopic, s.id, l.cfg.Group, err)
		}
		s.decided, s.taken = cursor, cursor
		s.late.Reset(entry.Source{}, entry.None)
	}
	l.topicID, l.committed = topicID, l.Clock.Now()
	return nil
}

// read fetches the next postings of all shards that are not halted and where late records may still gather.
func (l *Loop) read(ctx context.Context) error {
	l.fetching, l.positions = l.fetching[:0], l.positions[:0]
	for _, s := range l.shards {
		if s.halted == "" && !s.closed && s.late.Len() < l.cfg.MaxLate {
			l.fetching = append(l.fetching, s)
			l.positions = append(l.positions, stream.Position{Topic: l.cfg.PostingsTopic, Partition: s.id, Offset: s.taken.Next})
		}
	}
	if err := l.Reader.Fetch(ctx, l.positions, l.cfg.MaxWait); err != nil { // without positions it only waits
		return fmt.Errorf("cannot fetch postings: %w", err)
	}
	var failure error
	for i, s := range l.fetching {
		if err := l.take(s, l.Reader.Result(i)); err != nil {
			failure = err
		}
	}
	return failure
}

// take looks through what was fetched for one shard. What hinders one shard does not hinder the others.
func (l *Loop) take(s *shard, fetched *stream.Fetched) error {
	var m stream.Message
	for s.halted == "" && s.late.Len() < l.cfg.MaxLate && fetched.Next(&m) {
		if err := l.accept(s, &m); err != nil {
			l.halt(s, fmt.Sprintf("%s[%d] at offset %d: %v", l.cfg.PostingsTopic, s.id, m.Offset, err))
			break
		}
		if s.late.Len() == 0 {
			s.decided = s.taken
		}
	}
	if fetched.HighWatermark >= 0 {
		l.Metrics.lag(s.id, fetched.HighWatermark-s.taken.Next)
	}
	switch err := fetched.Err; {
	case errors.Is(err, stream.ErrOffsetOutOfRange):
		l.halt(s, fmt.Sprintf("%s[%d] does not hold offset %d, it begins at %d: postings were lost before they were looked at", l.cfg.PostingsTopic, s.id, s.taken.Next, fetched.LogStart))
	case err != nil:
		return err
	case s.halted == "" && s.late.Len() < l.cfg.MaxLate: // past what holds no messages
		s.taken.Next = max(s.taken.Next, fetched.NextOffset)
		if s.late.Len() == 0 {
			s.decided = s.taken
		}
	}
	return nil
}

// accept gathers the late records of one block, if it is the one that follows the last. The error says why the shard
// cannot go on.
func (l *Loop) accept(s *shard, m *stream.Message) error {
	offset, err := posting.EntryOffset(m.Value)
	if err != nil {
		return err
	}
	switch s.taken.Accept(offset) {
	case posting.Gap:
		return fmt.Errorf("the postings of entries %d to %d are missing", s.taken.Last+1, offset-1)
	case posting.Skip:
		l.Metrics.Skipped.Inc()
		s.taken.Next = m.Offset + 1
		return nil
	}
	found, err := posting.Any(m.Value, late)
	if err == nil && found {
		err = l.gather(s, m.Value)
	}
	if err != nil {
		return err
	}
	s.taken = posting.Cursor{Next: m.Offset + 1, Last: offset}
	return nil
}

// late tells whether a posting is one that this stage decides.
func late(result posting.Result, _ posting.Flags) bool { return result == posting.Late }

// gather makes the release of each late record of a block. The time up to which ClickHouse was seen is, to begin with, the
// append time of that block: ClickHouse is asked when it holds the block and all before it.
func (l *Loop) gather(s *shard, value []byte) error {
	if err := l.block.Decode(value); err != nil {
		return err
	}
	entries, found := &l.block.Entries, 0
	for i := range l.block.Outcomes {
		if l.block.Outcomes[i].Result != posting.Late {
			continue
		}
		if kind := entries.Kind[i]; kind != entry.Usage && kind != entry.Release || entries.IDHash[i] == 0 {
			return fmt.Errorf("entry %d of the block is late, but of kind %v with id hash %x: only records with an id can be", i, kind, entries.IDHash[i])
		}
		found++
	}
	for i := range l.block.Outcomes {
		if l.block.Outcomes[i].Result != posting.Late {
			continue
		}
		entries.Get(i, &l.entry)
		l.entry.Kind, l.entry.Position, l.entry.Extra = entry.Release, entry.Position{}, nil
		l.entry.Args = [entry.ArgCount]int64{entry.ArgSeenMs: l.block.AppendMs}
		s.late.Add(&l.entry)
	}
	l.Metrics.Found.Add(float64(found))
	l.Metrics.Waiting.Add(float64(found))
	return nil
}

// halt stops reading one shard, until the process or the group's generation is a new one; the others go on.
func (l *Loop) halt(s *shard, reason string) {
	s.halted = reason
	l.Metrics.halt(s.id)
	l.Logger.Error("BUG: shard halted, its late records are not decided; see the runbook", "stage", "late", "shard", s.id, "reason", reason)
}

// decide looks up the late records that store has written, and releases those that were not charged.
func (l *Loop) decide(ctx context.Context) error {
	now := l.Clock.Now()
	if now.Sub(l.asked) < l.cfg.DecideEvery {
		return nil
	}
	l.asked = now
	failure := l.findReady(ctx)
	if len(l.ready) == 0 {
		return failure
	}
	charged, err := l.lookUp(ctx)
	if err != nil {
		return errors.Join(failure, err)
	}
	for _, s := range l.ready { // one by one: what is in the log for one is not sent again when another fails
		if err := l.release(ctx, s, charged); err != nil {
			failure = errors.Join(failure, err)
		}
	}
	return failure
}

// findReady finds the shards with late records of which store has written all that was read here.
func (l *Loop) findReady(ctx context.Context) error {
	l.ready, l.ids = l.ready[:0], l.ids[:0]
	var waiting []*shard
	for _, s := range l.shards {
		if s.closed = s.late.Len() > 0; s.closed {
			waiting, l.ids = append(waiting, s), append(l.ids, s.id)
		}
	}
	if len(waiting) == 0 {
		return nil
	}
	committed, err := l.Commits.Committed(ctx, l.cfg.StoreGroup, l.cfg.PostingsTopic, l.ids)
	if err != nil {
		return err
	}
	for i, s := range waiting {
		stored, parseErr := posting.ParseCursor(committed[i].Offset, committed[i].Metadata, l.topicID)
		switch {
		case parseErr != nil:
			err = fmt.Errorf("cannot tell how far %s[%d] is stored: %w", l.cfg.PostingsTopic, s.id, parseErr)
		case stored.Last >= s.taken.Last:
			s.stored, s.seenMs = stored, 0
			l.ready = append(l.ready, s)
		}
	}
	return errors.Join(err, l.see(ctx))
}

// see dates the releases of the ready shards by the newest block that store has written: whatever was charged before its
// append time is found in ClickHouse, and whatever was charged since is still known to the shard, if it folds the release
// in time. Dated by their own blocks, the releases of a long backlog would come too late again, every time.
func (l *Loop) see(ctx context.Context) error {
	l.positions = l.positions[:0]
	for _, s := range l.ready {
		l.positions = append(l.positions, stream.Position{Topic: l.cfg.PostingsTopic, Partition: s.id, Offset: max(0, s.stored.Next-1)})
	}
	if len(l.positions) == 0 {
		return nil
	}
	if err := l.Reader.Fetch(ctx, l.positions, l.cfg.MaxWait); err != nil {
		return fmt.Errorf("cannot fetch the newest stored postings: %w", err)
	}
	for i, s := range l.ready {
		var m stream.Message
		if !l.Reader.Result(i).Next(&m) || m.Offset >= s.stored.Next {
			continue
		}
		if err := l.block.Decode(m.Value); err != nil {
			return fmt.Errorf("cannot read %s[%d] at offset %d: %w", l.cfg.PostingsTopic, s.id, m.Offset, err)
		}
		s.seenMs = l.block.AppendMs
	}
	return nil
}

// lookUp asks ClickHouse which late records of the ready shards were charged.
func (l *Loop) lookUp(ctx context.Context) (map[Record]bool, error) {
	l.records = l.records[:0]
	for _, s := range l.ready {
		for _, id := range s.late.IDHash {
			l.records = append(l.records, Record{Shard: s.id, IDHash: id})
		}
	}
	charged := make(map[Record]bool)
	for rest := l.records; len(rest) > 0; {
		n := min(len(rest), l.cfg.RecordsPerQuery)
		found, err := l.Ledger.Charged(ctx, rest[:n])
		if err != nil {
			return nil, fmt.Errorf("cannot look up %d late records: %w", n, err)
		}
		for record := range found {
			charged[record] = true
		}
		rest = rest[n:]
	}
	return charged, nil
}

// release appends the releases of a shard's late records that were not charged. When they are in the log, all that was
// read of the shard is decided.
func (l *Loop) release(ctx context.Context, s *shard, charged map[Record]bool) error {
	l.Writer.Reset()
	l.releases.Reset(entry.Source{}, entry.None)
	released := 0
	for i, id := range s.late.IDHash {
		if charged[Record{Shard: s.id, IDHash: id}] {
			continue
		}
		s.late.Get(i, &l.entry)
		l.entry.Args[entry.ArgSeenMs] = max(l.entry.Args[entry.ArgSeenMs], s.seenMs)
		l.releases.Add(&l.entry)
		released++
		if l.releases.Len() == l.cfg.EntriesPerBlock {
			if err := l.append(ctx, s); err != nil {
				return err
			}
		}
	}
	if err := l.append(ctx, s); err != nil {
		return err
	}
	if released > 0 {
		if err := l.Writer.Send(ctx); err != nil {
			return fmt.Errorf("cannot append %d releases to %s[%d]: %w", released, l.cfg.EntriesTopic, s.id, err)
		}
	}
	l.Metrics.Released.Add(float64(released))
	l.Metrics.AlreadyCharged.Add(float64(s.late.Len() - released))
	l.Metrics.Waiting.Sub(float64(s.late.Len()))
	s.decided, s.closed, l.advanced = s.taken, false, true
	s.late.Reset(entry.Source{}, entry.None)
	return nil
}

// append hands the block of releases to the writer, if there are any, and empties it. What the writer holds may have to
// be sent first.
func (l *Loop) append(ctx context.Context, s *shard) error {
	if l.releases.Len() == 0 {
		return nil
	}
	l.wire = l.releases.AppendTo(l.wire[:0])
	err := l.Writer.Append(l.cfg.EntriesTopic, s.id, nil, l.wire)
	if errors.Is(err, stream.ErrBatchFull) {
		if err = l.Writer.Send(ctx); err == nil {
			l.Writer.Reset()
			err = l.Writer.Append(l.cfg.EntriesTopic, s.id, nil, l.wire)
		}
	}
	if err != nil {
		return fmt.Errorf("cannot gather releases for %s[%d]: %w", l.cfg.EntriesTopic, s.id, err)
	}
	l.releases.Reset(entry.Source{}, entry.None)
	return nil
}

// commit has the group remember how far each shard is decided: at once after a decision, and now and then.
func (l *Loop) commit(ctx context.Context) error {
	now := l.Clock.Now()
	if !l.advanced && now.Sub(l.committed) < l.cfg.CommitEvery {
		return nil
	}
	l.commits = l.commits[:0]
	for _, s := range l.shards {
		l.commits = append(l.commits, stream.CommitOffset{Partition: s.id, Offset: s.decided.Next, Metadata: s.decided.Metadata(l.topicID)})
	}
	err := l.Commits.Commit(ctx, l.cfg.Group, l.generation, map[string][]stream.CommitOffset{l.cfg.PostingsTopic: l.commits})
	if err != nil {
		return err
	}
	l.committed, l.advanced = now, false
	return nil
}
