// Package sink is the store stage: it reads the postings of its shards and writes them to ClickHouse, as rows of rated
// records, account entries and dead letters.
//
// It stands behind debit, beside act and audit. Protocol rule 10 is this file: take the block after the last one, skip
// what was taken, halt at a gap; insert few, large blocks of rows; after any doubt insert the same rows again, since
// their keys are their places in the log; commit only what ClickHouse has acknowledged. It decides nothing about an
// account, and knows no Redis.
package sink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/tollgate/tollgate/balance/posting"
	"github.com/tollgate/tollgate/rater/stream"
)

// Store is ClickHouse as the loop sees it.
type Store interface {
	// Insert writes the rows, table by table in the order of Rows.Tables. Nil means that all of them are there; after an
	// error any part of what it came to may be, and the same rows are inserted again.
	Insert(ctx context.Context, rows *Rows) error
}

// Config names the limits of a store loop.
type Config struct {
	// PostingsTopic is the log that is stored, Group the consumer group that remembers how far.
	PostingsTopic, Group string
	// MaxRows, MaxTextBytes and MaxAge say when the rows at hand are inserted: when there are so many, when their
	// strings are so long, or when the first of them has waited so long.
	MaxRows      int
	MaxTextBytes int
	MaxAge       time.Duration
	// MaxAgeBehind takes the place of MaxAge while the log holds more than was read: rows are late anyway then, and larger
	// inserts are what makes ClickHouse catch up.
	MaxAgeBehind time.Duration
	// MaxWait bounds how long a fetch waits for postings.
	MaxWait time.Duration
	// Linger is the least length of a round: postings that come within it share one fetch.
	Linger time.Duration
	// CommitEvery is how often positions are committed again when nothing is inserted.
	CommitEvery time.Duration
	// RetryMin and RetryMax bound the pause before what failed is tried again.
	RetryMin, RetryMax time.Duration
}

// DefaultConfig is the configuration of a store loop on one machine.
func DefaultConfig() Config {
	return Config{
		PostingsTopic: "postings", Group: "store",
		MaxRows: 1_000_000, MaxTextBytes: 64 << 20, MaxAge: time.Second, MaxAgeBehind: 10 * time.Second,
		MaxWait: 250 * time.Millisecond, Linger: 20 * time.Millisecond, CommitEvery: time.Second,
		RetryMin: 50 * time.Millisecond, RetryMax: 5 * time.Second,
	}
}

// Deps are the loop's neighbours.
type Deps struct {
	Reader  stream.Reader
	Topics  stream.Topics
	Commits stream.Commits
	Store   Store
	Clock   stream.Clock
	Metrics *Metrics
	Logger  *slog.Logger
}

// Loop stores the postings of a few shards: one fetch and one insert serve all of them.
type Loop struct {
	Deps
	cfg        Config
	generation stream.GenerationRef
	topicID    stream.TopicID
	shards     []*shard
	fetching   []*shard // those of the last fetch, in its order
	positions  []stream.Position
	block      posting.Block
	rows       Rows
	since      time.Time // when the first of the rows at hand was taken
	committed  time.Time // when the loop committed last
	current    bool      // nothing is stored that is not committed
}

// shard is where the loop stands with one shard.
type shard struct {
	id     int32
	taken  posting.Cursor
	stored posting.Cursor
	timeMs int64  // append time of the newest block taken
	behind int64  // messages that the log held after it, when it was read last
	halted string // why the shard is halted
}

// NewLoop makes a loop over the given shards, which are its member's in that generation of the group.
func NewLoop(deps Deps, cfg Config, generation stream.GenerationRef, shards []int32) *Loop {
	l := &Loop{Deps: deps, cfg: cfg, generation: generation}
	for _, id := range shards {
		l.shards = append(l.shards, &shard{id: id})
	}
	return l
}

// Run stores until ctx ends or the generation is over, which is no error. Rows at hand are then dropped: the next
// owner reads them again.
func (l *Loop) Run(ctx context.Context) error {
	retry := stream.Retry{Loop: "store", Min: l.cfg.RetryMin, Max: l.cfg.RetryMax, Clock: l.Clock, Logger: l.Logger, Count: l.Metrics.Retries.Inc}
	return retry.Rounds(ctx, l.cfg.Linger, func(ctx context.Context) error {
		err := l.round(ctx)
		if err != nil {
			l.measure(ctx)
		}
		return err
	})
}

// round reads once and writes what is due. Where writing failed, it is done before more is read; where reading failed,
// what was read before is written all the same.
func (l *Loop) round(ctx context.Context) error {
	if err := l.begin(ctx); err != nil {
		return err
	}
	var unread error
	if !l.due() {
		unread = l.read(ctx)
	}
	if l.due() {
		if err := l.insert(ctx); err != nil {
			return err
		}
	}
	return errors.Join(unread, l.commit(ctx))
}

// begin finds out where the group stands, once.
func (l *Loop) begin(ctx context.Context) error {
	if l.topicID != (stream.TopicID{}) {
		return nil
	}
	topicID, err := l.Topics.TopicID(ctx, l.cfg.PostingsTopic)
	if err != nil {
		return fmt.Errorf("cannot find topic %s: %w", l.cfg.PostingsTopic, err)
	}
	ids := make([]int32, len(l.shards))
	for i, s := range l.shards {
		ids[i] = s.id
	}
	commits, err := l.Commits.Committed(ctx, l.cfg.Group, l.cfg.PostingsTopic, ids)
	if err != nil {
		return err
	}
	for i, s := range l.shards {
		p, err := posting.ParseCursor(commits[i].Offset, commits[i].Metadata, topicID)
		if err != nil {
			return fmt.Errorf("cannot begin with %s[%d]: %w", l.cfg.PostingsTopic, s.id, err)
		}
		s.taken, s.stored = p, p
	}
	l.topicID, l.current, l.committed = topicID, true, l.Clock.Now()
	return nil
}

// read fetches the next postings of all shards that are not halted, and takes them.
func (l *Loop) read(ctx context.Context) error {
	l.fetching, l.positions = l.fetching[:0], l.positions[:0]
	for _, s := range l.shards {
		if s.halted == "" {
			l.fetching = append(l.fetching, s)
			l.positions = append(l.positions, stream.Position{Topic: l.cfg.PostingsTopic, Partition: s.id, Offset: s.taken.Next})
		}
	}
	if err := l.Reader.Fetch(ctx, l.positions, l.patience()); err != nil {
		return fmt.Errorf("cannot fetch postings: %w", err)
	}
	var failure error
	for i, s := range l.fetching {
		if l.full() { // an insert has failed: no more until it is done
			break
		}
		if err := l.take(ctx, s, l.Reader.Result(i)); err != nil {
			failure = err
		}
	}
	return failure
}

// measure shows how far the shards are behind while rows cannot be written, and so no more are read.
func (l *Loop) measure(ctx context.Context) {
	ids := make([]int32, len(l.shards))
	for i, s := range l.shards {
		ids[i] = s.id
	}
	edges, err := l.Topics.ListOffsets(ctx, l.cfg.PostingsTopic, ids)
	if err != nil {
		return // what failed before is tried again, and says what is wrong
	}
	for i, s := range l.shards {
		l.Metrics.lag(s.id, edges[i].End-s.taken.Next)
	}
}

// patience is how long a fetch may wait: rows at hand must not become older than they may.
func (l *Loop) patience() time.Duration {
	if l.rows.Len() == 0 {
		return l.cfg.MaxWait
	}
	return max(0, min(l.cfg.MaxWait, l.maxAge()-l.Clock.Now().Sub(l.since)))
}

// take makes rows of what was fetched for one shard. It inserts in between when there are enough.
func (l *Loop) take(ctx context.Context, s *shard, fetched *stream.Fetched) error {
	var m stream.Message
	for s.halted == "" && fetched.Next(&m) {
		l.accept(s, &m)
		if l.full() {
			if err := l.insert(ctx); err != nil {
				return err
			}
		}
	}
	if fetched.HighWatermark >= 0 {
		s.behind = fetched.HighWatermark - s.taken.Next
		l.Metrics.lag(s.id, s.behind)
	}
	switch err := fetched.Err; {
	case s.halted != "" || err == nil:
		s.taken.Next = max(s.taken.Next, fetched.NextOffset)
		return nil
	case errors.Is(err, stream.ErrOffsetOutOfRange):
		l.halt(s, fmt.Sprintf("the log does not hold %s[%d] at offset %d any more: postings were lost", l.cfg.PostingsTopic, s.id, s.taken.Next))
		return nil
	default:
		return err
	}
}

// accept makes rows of the block that follows the last one.
func (l *Loop) accept(s *shard, m *stream.Message) {
	offset, err := posting.EntryOffset(m.Value)
	if err == nil && offset <= s.taken.Last {
		l.Metrics.Skipped.Inc()
		s.taken.Next = m.Offset + 1
		return
	}
	if err == nil && offset > s.taken.Last+1 {
		err = fmt.Errorf("the postings of entries %d to %d are missing", s.taken.Last+1, offset-1)
	}
	if err == nil {
		err = l.block.Decode(m.Value)
	}
	if err != nil {
		l.halt(s, fmt.Sprintf("%s[%d] at offset %d: %v", l.cfg.PostingsTopic, s.id, m.Offset, err))
		return
	}
	if l.rows.Len() == 0 {
		l.since = l.Clock.Now()
	}
	l.rows.Append(uint16(s.id), &l.block)
	s.taken = posting.Cursor{Next: m.Offset + 1, Last: offset}
	s.timeMs = l.block.AppendMs
}

// halt stops one shard until its next owner, or this process started again, looks at it anew. The others go on.
func (l *Loop) halt(s *shard, reason string) {
	s.halted = reason
	l.Metrics.halt(s.id)
	l.Logger.Error("BUG: shard halted; see the runbook", "stage", "store", "shard", s.id, "reason", reason)
}

func (l *Loop) full() bool {
	return l.rows.Len() >= l.cfg.MaxRows || l.rows.TextBytes() >= l.cfg.MaxTextBytes
}

func (l *Loop) due() bool {
	return l.full() || l.rows.Len() > 0 && l.Clock.Now().Sub(l.since) >= l.maxAge()
}

// maxAge is how old rows at hand may become.
func (l *Loop) maxAge() time.Duration {
	for _, s := range l.shards {
		if s.behind > 0 && s.halted == "" {
			return max(l.cfg.MaxAge, l.cfg.MaxAgeBehind)
		}
	}
	return l.cfg.MaxAge
}

// insert writes the rows at hand. They stay at hand until ClickHouse has acknowledged them.
func (l *Loop) insert(ctx context.Context) error {
	began := l.Clock.Now()
	if err := l.Store.Insert(ctx, &l.rows); err != nil {
		return err
	}
	now := l.Clock.Now()
	l.Metrics.inserted(&l.rows, now.Sub(began))
	for _, s := range l.shards {
		if s.stored != s.taken {
			l.Metrics.stored(s.id, s.taken.Last, now.Sub(time.UnixMilli(s.timeMs)))
		}
		s.stored = s.taken
	}
	l.rows.Reset()
	l.current = false
	return nil
}

// commit has the group remember what is stored: at once after an insert, and now and then, so that the group does not
// forget shards without traffic.
func (l *Loop) commit(ctx context.Context) error {
	now := l.Clock.Now()
	if l.current && now.Sub(l.committed) < l.cfg.CommitEvery {
		return nil
	}
	commits := make([]stream.CommitOffset, len(l.shards))
	for i, s := range l.shards {
		if l.rows.Len() == 0 { // what was taken since the last insert was skipped
			s.stored = s.taken
		}
		commits[i] = stream.CommitOffset{Partition: s.id, Offset: s.stored.Next, Metadata: s.stored.Metadata(l.topicID)}
	}
	err := l.Commits.Commit(ctx, l.cfg.Group, l.generation, map[string][]stream.CommitOffset{l.cfg.PostingsTopic: commits})
	if err != nil {
		return err
	}
	l.current, l.committed = true, now
	return nil
}
