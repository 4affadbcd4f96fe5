// Package notify tells the outside world what happened to accounts: it reads the postings of its shards and appends
// events to the `events` topic.
//
// It is a half of the act stage (balance/recharge is the other), behind debit and beside store and audit. Like them it
// takes every block of postings once and in order (protocol rule 10): events are appended first, then the position is
// committed. What is in doubt is sent again, as the same bytes under the same id. It decides nothing, reads no Redis,
// and only speaks of postings that are in Kafka.
package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/tollgate/tollgate/balance/posting"
	"github.com/tollgate/tollgate/rater/entry"
	"github.com/tollgate/tollgate/rater/money"
	"github.com/tollgate/tollgate/rater/stream"
)

// Currencies tells in which currency an account is kept: the zero Currency if the account is not known yet.
type Currencies interface {
	Currency(account uint32) money.Currency
}

// Config names the limits of a notify loop.
type Config struct {
	// Installation is the name that every event carries.
	Installation string
	// PostingsTopic is the log that is read, EventsTopic the one that is written: it has as many partitions, and the
	// events of a shard are in the partition of the same number.
	PostingsTopic, EventsTopic string
	// DeadLettersTopic gets the records that could not be rated. It has as many partitions, too.
	DeadLettersTopic string
	// Group is the consumer group that remembers how far each shard is told.
	Group string
	// MaxWait bounds how long a fetch waits for postings.
	MaxWait time.Duration
	// Linger is the least length of a round: postings that come within it share one fetch and one produce.
	Linger time.Duration
	// BlocksPerRound bounds the blocks of one shard that share a produce and a commit.
	BlocksPerRound int
	// CommitEvery is how often positions are committed, also when nothing happens.
	CommitEvery time.Duration
	// RetryMin and RetryMax bound the pause before what failed is tried again.
	RetryMin, RetryMax time.Duration
}

// DefaultConfig is the configuration of a notify loop on one machine.
func DefaultConfig() Config {
	return Config{
		PostingsTopic: "postings", EventsTopic: "events", DeadLettersTopic: "dead-letters", Group: "tollgate-notify",
		MaxWait: 250 * time.Millisecond, Linger: 50 * time.Millisecond, BlocksPerRound: 256, CommitEvery: time.Second,
		RetryMin: 20 * time.Millisecond, RetryMax: 2 * time.Second,
	}
}

// Deps are the loop's neighbours.
type Deps struct {
	Reader     stream.Reader
	Writer     stream.Writer
	Topics     stream.Topics
	Commits    stream.Commits
	Currencies Currencies
	Clock      stream.Clock
	Metrics    *Metrics
	Logger     *slog.Logger
}

// Loop tells of the postings of a few shards.
type Loop struct {
	Deps
	cfg        Config
	retry      stream.Retry
	generation stream.GenerationRef
	topicID    stream.TopicID
	shards     []*shard
	fetching   []*shard // those of the last fetch, in its order
	positions  []stream.Position
	block      posting.Block
	entry      entry.Entry
	events     []Event
	sent       map[string]int // events of this round, by type
	key, wire  []byte
	commits    []stream.CommitOffset
	committed  time.Time
}

// shard is where the loop stands with one shard.
type shard struct {
	id     int32
	taken  posting.Cursor // read, its events gathered
	told   posting.Cursor // its events are in the log
	halted string         // why it is not read any more
}

// NewLoop makes a loop over the given shards, for a member of the group's generation.
func NewLoop(deps Deps, cfg Config, generation stream.GenerationRef, shards []int32) *Loop {
	l := &Loop{Deps: deps, cfg: cfg, generation: generation, sent: map[string]int{}}
	l.retry = stream.Retry{Loop: "notify", Min: cfg.RetryMin, Max: cfg.RetryMax, Clock: deps.Clock, Logger: deps.Logger, Count: deps.Metrics.Retries.Inc}
	for _, id := range shards {
		l.shards = append(l.shards, &shard{id: id})
	}
	return l
}

// Run tells until ctx ends, which is no error; what is told by then is committed. It ends early, without an error, when
// its generation of the group is over.
func (l *Loop) Run(ctx context.Context) error {
	if err := l.retry.Rounds(ctx, l.cfg.Linger, l.round); err != nil {
		return err
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.cfg.RetryMax)
	defer cancel()
	if err := l.commit(last); err != nil && !errors.Is(err, stream.ErrFenced) {
		l.Logger.Warn("notify: the last commit failed; some events will be sent again", "error", err)
	}
	return nil
}

// round reads once, appends the events of what was read, and now and then commits. Events that could not be appended
// are made again in the next round, from the same postings.
func (l *Loop) round(ctx context.Context) error {
	if err := l.begin(ctx); err != nil {
		return err
	}
	if err := l.read(ctx); err != nil {
		return err
	}
	l.Writer.Reset()
	clear(l.sent)
	var failure error
	for i, s := range l.fetching {
		if err := l.take(ctx, s, l.Reader.Result(i)); err != nil {
			failure = err
		}
	}
	if err := l.retry.Send(ctx, l.Writer); err != nil {
		return fmt.Errorf("cannot append events: %w", err)
	}
	for _, s := range l.shards {
		s.told = s.taken
	}
	for name, n := range l.sent {
		l.Metrics.events[name].Add(float64(n))
	}
	if l.Clock.Now().Sub(l.committed) < l.cfg.CommitEvery {
		return failure
	}
	return errors.Join(failure, l.commit(ctx))
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
	ids := make([]int32, len(l.shards))
	for i, s := range l.shards {
		ids[i] = s.id
	}
	committed, err := l.Commits.Committed(ctx, l.cfg.Group, l.cfg.PostingsTopic, ids)
	if err != nil {
		return err
	}
	for i, s := range l.shards {
		cursor, err := posting.ParseCursor(committed[i].Offset, committed[i].Metadata, topicID)
		if err != nil {
			return fmt.Errorf("cannot begin with %s[%d] for group %s: %w", l.cfg.PostingsTopic, s.id, l.cfg.Group, err)
		}
		s.taken, s.told = cursor, cursor
	}
	l.topicID, l.committed = topicID, l.Clock.Now()
	return nil
}

// read fetches what follows the postings that are told, of all shards that are not halted.
func (l *Loop) read(ctx context.Context) error {
	l.fetching, l.positions = l.fetching[:0], l.positions[:0]
	for _, s := range l.shards {
		s.taken = s.told
		if s.halted == "" {
			l.fetching = append(l.fetching, s)
			l.positions = append(l.positions, stream.Position{Topic: l.cfg.PostingsTopic, Partition: s.id, Offset: s.told.Next})
		}
	}
	if err := l.Reader.Fetch(ctx, l.positions, l.cfg.MaxWait); err != nil {
		return fmt.Errorf("cannot fetch postings: %w", err)
	}
	return nil
}

// take gathers the events of what was fetched for one shard. What hinders one shard does not hinder the others.
func (l *Loop) take(ctx context.Context, s *shard, fetched *stream.Fetched) error {
	var m stream.Message
	blocks := 0
	for ; s.halted == "" && blocks < l.cfg.BlocksPerRound && fetched.Next(&m); blocks++ {
		if err := l.accept(ctx, s, &m); err != nil {
			return err
		}
	}
	l.Metrics.lag(s.id).Set(float64(max(0, fetched.HighWatermark-s.taken.Next)))
	switch err := fetched.Err; {
	case errors.Is(err, stream.ErrOffsetOutOfRange):
		l.halt(s, fmt.Sprintf("%s[%d] does not hold offset %d, it begins at %d: postings were lost before they were told", l.cfg.PostingsTopic, s.id, s.taken.Next, fetched.LogStart))
	case err != nil:
		return err
	case s.halted == "" && blocks < l.cfg.BlocksPerRound:
		s.taken.Next = max(s.taken.Next, fetched.NextOffset)
	}
	return nil
}

// accept gathers the events of one block, if it is the one that follows the last.
func (l *Loop) accept(ctx context.Context, s *shard, m *stream.Message) error {
	offset, err := posting.EntryOffset(m.Value)
	if err != nil {
		l.halt(s, fmt.Sprintf("%s[%d] at offset %d: %v", l.cfg.PostingsTopic, s.id, m.Offset, err))
		return nil
	}
	switch s.taken.Accept(offset) {
	case posting.Gap:
		l.halt(s, fmt.Sprintf("%s[%d] at offset %d: the postings of entries %d to %d are missing", l.cfg.PostingsTopic, s.id, m.Offset, s.taken.Last+1, offset-1))
		return nil
	case posting.Skip:
		l.Metrics.Skipped.Inc()
		s.taken.Next = m.Offset + 1
		return nil
	}
	found, err := posting.Any(m.Value, speaks)
	if err == nil && found {
		err = l.block.Decode(m.Value)
	}
	if err != nil {
		l.halt(s, fmt.Sprintf("%s[%d] at offset %d: %v", l.cfg.PostingsTopic, s.id, m.Offset, err))
		return nil
	}
	if found {
		if err := l.tell(ctx, s); err != nil {
			return err
		}
	}
	s.taken = posting.Cursor{Next: m.Offset + 1, Last: offset}
	return nil
}

// tell gathers the events of the block that is decoded.
func (l *Loop) tell(ctx context.Context, s *shard) error {
	for i := range l.block.Outcomes {
		o := &l.block.Outcomes[i]
		if !speaks(o.Result, o.Flags) {
			continue
		}
		l.block.Entries.Get(i, &l.entry)
		at := place{installation: l.cfg.Installation, shard: s.id, offset: l.block.EntryOffset, ix: uint32(i), appendMs: l.block.AppendMs}
		if o.Result == posting.Rejected {
			if err := l.bury(ctx, at); err != nil {
				return err
			}
			continue
		}
		if o.Flags&facts == 0 && l.entry.Kind != entry.Payment && l.entry.Kind != entry.PaymentFailed {
			continue
		}
		currency := l.Currencies.Currency(l.entry.Account)
		if currency == (money.Currency{}) {
			return fmt.Errorf("the book does not tell the currency of account %d yet, which has an event at entry %d of shard %d", l.entry.Account, l.block.EntryOffset, s.id)
		}
		l.events = describe(l.events[:0], at, &l.entry, o, currency)
		for k := range l.events {
			if err := l.announce(ctx, s, &l.events[k]); err != nil {
				return err
			}
		}
	}
	return nil
}

// bury gathers the dead letter of the loop's entry.
func (l *Loop) bury(ctx context.Context, at place) error {
	d := deadLetter(at, l.block.Entries.Source, &l.entry)
	wire, err := d.appendTo(l.wire[:0])
	if l.wire = wire; err != nil {
		return err
	}
	return l.gather(ctx, l.cfg.DeadLettersTopic, at.shard, nil, RecordRejected)
}

// announce gathers an event.
func (l *Loop) announce(ctx context.Context, s *shard, e *Event) error {
	wire, err := e.appendTo(l.wire[:0])
	if l.wire = wire; err != nil {
		return err
	}
	l.key = strconv.AppendUint(l.key[:0], uint64(e.Data.Account), 10)
	return l.gather(ctx, l.cfg.EventsTopic, s.id, l.key, e.Type)
}

// gather hands what stands in wire to the writer, which may have to send others first.
func (l *Loop) gather(ctx context.Context, topic string, shard int32, key []byte, kind string) error {
	if err := l.retry.Append(ctx, l.Writer, topic, shard, key, l.wire); err != nil {
		return fmt.Errorf("cannot append what shard %d has to tell: %w", shard, err)
	}
	l.sent[kind]++
	return nil
}

// halt stops reading one shard, until the process or the group's generation is a new one; the others go on.
func (l *Loop) halt(s *shard, reason string) {
	s.halted = reason
	l.Metrics.halt(s.id)
	l.Logger.Error("BUG: shard halted, no events are sent for it; see the runbook", "stage", "notify", "shard", s.id, "reason", reason)
}

// commit has the group remember how far each shard is told, with the last entry offset and the topic's id.
func (l *Loop) commit(ctx context.Context) error {
	if l.topicID == (stream.TopicID{}) {
		return nil
	}
	l.commits = l.commits[:0]
	for _, s := range l.shards {
		l.commits = append(l.commits, stream.CommitOffset{Partition: s.id, Offset: s.told.Next, Metadata: s.told.Metadata(l.topicID)})
	}
	err := l.Commits.Commit(ctx, l.cfg.Group, l.generation, map[string][]stream.CommitOffset{l.cfg.PostingsTopic: l.commits})
	if err != nil {
		return err
	}
	l.committed = l.Clock.Now()
	return nil
}
