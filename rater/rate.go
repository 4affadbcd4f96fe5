// Package rater is the rate stage: it reads carrier topics, has each record decoded, given its owner and priced by the
// book, and appends the resulting entries to the log of the account's shard.
//
// It stands at the head of the flow. Protocol rules 3 and 4 are this file: what becomes of a record is a function of
// the record and the book alone, one block is in flight for each source and shard, and an offset is committed only
// when everything below it is in `entries`. It never sees a balance and never drops a record: what cannot be rated
// becomes an entry with its reason and raw bytes.
package rater

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/tollgate/tollgate/rater/book"
	"github.com/tollgate/tollgate/rater/decode"
	"github.com/tollgate/tollgate/rater/entry"
	"github.com/tollgate/tollgate/rater/stream"
)

// Books gives the newest book that this process has read.
type Books interface {
	Book() *book.Book
}

// Deps are the loop's neighbours.
type Deps struct {
	Reader  stream.Reader
	Writer  stream.Writer
	Topics  stream.Topics
	Commits stream.Commits
	Books   Books
	Clock   stream.Clock
	Metrics *Metrics
	Logger  *slog.Logger
}

// Loop rates the records of a few source partitions.
type Loop struct {
	Deps
	cfg        Config
	retry      stream.Retry
	generation stream.GenerationRef
	sources    []*source
	topics     []string // of the sources, each once
	ids        map[string]stream.TopicID

	positions []stream.Position
	fetching  []*source
	decoder   decode.Decoder
	record    decode.Record
	entry     entry.Entry
	wire      []byte
	commits   map[string][]stream.CommitOffset
	committed time.Time
	checked   time.Time // when the ids of all topics were looked at last
	tally     tally
}

// source is one partition of a carrier topic, and where the loop stands in it.
type source struct {
	stream.Position        // the next message to read
	emitted         uint32 // records of that message that are in blocks already
	info            book.SourceInfo
	read            reading // how messages were read last
	waitFor         int64   // the frontier that the next message waits for, ms
	acked           int64   // every message below is in entries
	committed       int64   // what the group knows, -1 for nothing
	blocks          []block // by shard
	halted          string  // why it is not read any more
	hindrance       stream.Hindrance
	alarmed         bool // it was said that its messages are not stamped
	gauges          gauges
}

// damagedAfter is how often a batch must be unreadable before its source is shown as halted: a connection may damage one once.
const damagedAfter = 5

// reading is what a book says of how the messages of one append time are to be read.
type reading struct {
	book     *book.Book
	appendMs int64
	format   *book.Format
	ready    bool
}

// formatAt asks the book, unless it did so for the message before: those of a batch have one append time.
func (s *source) formatAt(b *book.Book, appendMs int64) (format *book.Format, ready bool) {
	if s.read.book != b || s.read.appendMs != appendMs {
		format, ready = b.FormatAt(s.Topic, appendMs)
		s.read = reading{b, appendMs, format, ready}
	}
	return s.read.format, s.read.ready
}

// block is what one source sends to one shard in one round.
type block struct {
	entry.Block
	prev entry.Position // the last position that was acknowledged, None at the start
}

// NewLoop makes a loop over partitions of carrier topics, for a member of the group's generation.
func NewLoop(deps Deps, cfg Config, generation stream.GenerationRef, partitions map[string][]int32) *Loop {
	l := &Loop{Deps: deps, cfg: cfg, generation: generation, ids: map[string]stream.TopicID{}, commits: map[string][]stream.CommitOffset{}}
	l.retry = stream.Retry{Loop: "rate", Min: cfg.RetryMin, Max: cfg.RetryMax, Clock: deps.Clock, Logger: deps.Logger, Count: deps.Metrics.Retries.Inc}
	for _, topic := range sortedKeys(partitions) {
		l.topics = append(l.topics, topic)
		for _, p := range partitions[topic] {
			l.sources = append(l.sources, &source{Position: stream.Position{Topic: topic, Partition: p, Offset: -1}})
		}
	}
	return l
}

// errUnfinished says that blocks were sent of which it is unknown whether they arrived: the loop must end, for nothing
// may be sent after them. The next loop begins where offsets were committed, and shards skip what they have seen.
var errUnfinished = errors.New("blocks are left unacknowledged")

// Run rates until ctx ends, which is no error; what is in `entries` by then is committed. It ends early, without an
// error, when its generation of the group is over, and with one when it cannot know what it wrote.
func (l *Loop) Run(ctx context.Context) error {
	work, cancel := stream.Outlive(ctx, l.cfg.Drain)
	defer cancel()
	if err := l.retry.Rounds(ctx, l.cfg.Linger, func(ctx context.Context) error { return l.round(ctx, work) }, errUnfinished); err != nil {
		return err
	}
	if err := l.commit(work); err != nil && !errors.Is(err, stream.ErrFenced) {
		l.Logger.Warn("rate: the last commit failed; records will be read and skipped again", "error", err)
	}
	return nil
}

// round reads what there is, rates it, appends the blocks, and now and then commits. What must not be broken off goes by
// the context of work, which outlives ctx a little.
func (l *Loop) round(ctx, work context.Context) error {
	b := l.Books.Book()
	if !b.Opened() {
		l.Clock.Sleep(ctx, l.cfg.MaxWait)
		return nil
	}
	if err := l.start(ctx, b); err != nil {
		return err
	}
	if err := l.read(ctx, b); err != nil {
		return err
	}
	if err := l.checkTopics(ctx); err != nil {
		return err
	}
	for i, left := 0, l.cfg.EntriesPerRound; i < len(l.fetching); i++ {
		left -= l.rate(b, l.fetching[i], l.Reader.Result(i), left)
	}
	l.Metrics.add(&l.tally)
	if err := l.write(work); err != nil {
		return fmt.Errorf("%w: %w", errUnfinished, err)
	}
	if l.Clock.Now().Sub(l.committed) < l.cfg.CommitEvery {
		return nil
	}
	return l.commit(work)
}

// start finds where sources that are new to the loop go on: at the committed offset if it was committed for the
// topic as it is now, else at the start of the log.
func (l *Loop) start(ctx context.Context, b *book.Book) error {
	for _, topic := range l.topics {
		if _, known := l.ids[topic]; known {
			continue
		}
		id, err := l.Topics.TopicID(ctx, topic)
		if err != nil {
			return fmt.Errorf("cannot find topic %s: %w", topic, err)
		}
		var partitions []int32
		var sources []*source
		for _, s := range l.sources {
			if s.Topic == topic {
				partitions, sources = append(partitions, s.Partition), append(sources, s)
			}
		}
		committed, err := l.Commits.Committed(ctx, l.cfg.Group, topic, partitions)
		if err != nil {
			return err
		}
		edges, err := l.Topics.ListOffsets(ctx, topic, partitions)
		if err != nil {
			return err
		}
		for i, s := range sources {
			s.committed, s.Offset = -1, edges[i].Start
			if committed[i].Offset >= 0 && committed[i].Metadata == hex.EncodeToString(id[:]) {
				s.committed, s.Offset = committed[i].Offset, committed[i].Offset
			}
			s.acked, s.emitted, s.waitFor = s.Offset, 0, 0
			s.info.Source = entry.Source{TopicID: id, Partition: s.Partition}
			s.gauges = l.Metrics.of(topic, s.Partition)
			s.blocks = make([]block, b.Shards())
			for p := range s.blocks {
				s.blocks[p].prev = entry.None
				s.blocks[p].Reset(s.info.Source, entry.None)
			}
		}
		l.ids[topic] = id
	}
	return nil
}

// read fetches from all sources that do not wait for the book.
func (l *Loop) read(ctx context.Context, b *book.Book) error {
	l.fetching, l.positions = l.fetching[:0], l.positions[:0]
	wait, now := l.cfg.MaxWait, l.Clock.Now()
	for _, s := range l.sources {
		switch {
		case s.halted != "":
		case s.hindrance.Holds(now):
			wait = l.cfg.RetryMin
		case b.FrontierMs() < s.waitFor:
			wait = l.cfg.RetryMin // the book moves on every half second
		default:
			l.fetching, l.positions = append(l.fetching, s), append(l.positions, s.Position)
		}
	}
	if err := l.Reader.Fetch(ctx, l.positions, wait); err != nil {
		return fmt.Errorf("cannot fetch records: %w", err)
	}
	return nil
}

// checkTopics makes sure, after a fetch, that what was fetched is from the topics that the loop started on: ids never
// come back, so a topic that still has its id had it during the fetch. Topics that brought nothing are looked at now and
// then all the same: one that was made anew may end just where the loop stands in the old one.
func (l *Loop) checkTopics(ctx context.Context) error {
	now := l.Clock.Now()
	idle := now.Sub(l.checked) >= l.cfg.CommitEvery
	fetched := map[string]bool{} // topics of which the fetch brought something, if only an error
	for i, s := range l.fetching {
		r := l.Reader.Result(i)
		fetched[s.Topic] = fetched[s.Topic] || r.Err != nil || r.HighWatermark > s.Offset
	}
	for _, topic := range l.topics {
		if !fetched[topic] && !idle {
			continue
		}
		id, err := l.Topics.TopicID(ctx, topic)
		if err != nil {
			return fmt.Errorf("cannot find topic %s: %w", topic, err)
		}
		if id == l.ids[topic] {
			continue
		}
		l.Logger.Warn("rate: the topic was made anew, reading it from its start", "topic", topic)
		delete(l.ids, topic)
		return fmt.Errorf("topic %s was made anew", topic)
	}
	if idle {
		l.checked = now
	}
	return nil
}

// rate turns what was fetched of one source into entries of its blocks, at most left of them, and gives their number.
// It stops where the book is not far enough, or a block is full; the position says where to go on.
func (l *Loop) rate(b *book.Book, s *source, fetched *stream.Fetched, left int) (entries int) {
	var m stream.Message
	for entries < left && fetched.Next(&m) {
		if l.cfg.DemandAppendTime && !m.AppendTimeSet {
			l.alarm(s, &m)
		}
		n, done := l.rateMessage(b, s, &m, left-entries)
		entries += n
		if !done {
			break
		}
		s.Offset, s.emitted, s.waitFor = m.Offset+1, 0, 0
	}
	if fetched.Err == nil && s.hindrance.Failures > 0 {
		s.hindrance = stream.Hindrance{}
		l.Metrics.halt(s.Topic, s.Partition, false)
	}
	switch err := fetched.Err; {
	case errors.Is(err, stream.ErrOffsetOutOfRange):
		l.halt(s, fmt.Sprintf("offset %d is not in the log, which begins at %d: records were lost before they were rated", s.Offset, fetched.LogStart))
	case err != nil:
		l.hinder(s, err)
	case entries < left && s.waitFor == 0 && s.emitted == 0:
		s.Offset = max(s.Offset, fetched.NextOffset)
	}
	if entries > 0 {
		s.gauges.ahead.Set(float64(l.entry.EventMs-m.AppendTime) / 1000)
	}
	s.gauges.lag.Set(float64(max(0, fetched.HighWatermark-s.Offset)))
	return entries
}

// rateMessage turns one message into entries, and tells whether it came to its end.
func (l *Loop) rateMessage(b *book.Book, s *source, m *stream.Message, left int) (entries int, done bool) {
	if s.Topic == l.cfg.BookTopic {
		return l.bookMessage(b, s, m)
	}
	format, ready := s.formatAt(b, m.AppendTime)
	switch {
	case !ready:
		s.waitFor = m.AppendTime - book.Margin
		return 0, false
	case format == nil:
		if !l.add(s, b.Reject(entry.NoFormat, m.Value, s.info.Source, entry.Position{Offset: m.Offset}, m.AppendTime, &l.entry)) {
			return 0, false
		}
		return 1, true
	}
	if err := l.decoder.Reset(format.Format, format.Version, &format.Mapping, m.Value); err != nil {
		l.halt(s, err.Error())
		return 0, false
	}
	s.info.Format = format
	for position := (entry.Position{Offset: m.Offset}); l.decoder.Next(&l.record); position.Ix++ {
		if position.Ix < s.emitted {
			continue
		}
		shard, ready := b.Rate(&l.record, &s.info, position, m.AppendTime, &l.entry)
		if !ready {
			s.waitFor = l.record.EventMs - book.Margin
			return entries, false
		}
		if entries >= left || !l.add(s, shard) {
			return entries, false
		}
		s.emitted++
		entries++
	}
	return entries, true
}

// bookMessage turns a record of the book into the entries of the shards that it concerns.
func (l *Loop) bookMessage(b *book.Book, s *source, m *stream.Message) (entries int, done bool) {
	if b.Offset() <= m.Offset {
		s.waitFor = b.FrontierMs() + 1
		return 0, false
	}
	from, until := b.Entry(m.Offset, m.Value, &l.entry)
	for shard := from; shard < until; shard++ {
		if s.blocks[shard].Len() >= l.cfg.EntriesPerBlock {
			return 0, false
		}
	}
	for shard := from; shard < until; shard++ {
		l.add(s, shard)
	}
	return int(until - from), true
}

// add adds the loop's entry to the block of a shard, unless that is full.
func (l *Loop) add(s *source, shard int32) bool {
	b := &s.blocks[shard]
	if b.Len() >= l.cfg.EntriesPerBlock || b.ExtraBytes() >= maxBlockRawBytes {
		return false
	}
	l.entry.Extra = l.entry.Extra[:min(len(l.entry.Extra), MaxRawBytes)]
	b.Add(&l.entry)
	l.tally.note(&l.entry)
	return true
}

// alarm counts a message that the broker did not stamp, and says so once for each source.
func (l *Loop) alarm(s *source, m *stream.Message) {
	l.Metrics.Unstamped.Inc()
	if s.alarmed {
		return
	}
	s.alarmed = true
	l.Logger.Error("rate: the broker does not stamp this source: set message.timestamp.type=LogAppendTime on the topic",
		"topic", s.Topic, "partition", s.Partition, "offset", m.Offset)
}

// hinder has a source that cannot be read wait, longer each time; the others go on. A batch that is damaged, or unpacks to
// more than any may, is never skipped: its source is shown as halted for as long as it is there.
func (l *Loop) hinder(s *source, err error) {
	if l.retry.Hinder(&s.hindrance, err) {
		l.Logger.Warn("rate: cannot read a source, trying again", "topic", s.Topic, "partition", s.Partition, "error", err)
	}
	if s.hindrance.Failures == damagedAfter && errors.Is(err, stream.ErrCorrupt) {
		l.Metrics.halt(s.Topic, s.Partition, true)
		l.Logger.Error("rate: source halted: what comes next in it cannot be read; see the runbook", "topic", s.Topic, "partition", s.Partition,
			"offset", s.Offset, "error", err)
	}
}

// halt stops reading one source; the others go on.
func (l *Loop) halt(s *source, reason string) {
	s.halted = reason
	l.Metrics.halt(s.Topic, s.Partition, true)
	l.Logger.Error("BUG: source halted", "topic", s.Topic, "partition", s.Partition, "reason", reason)
}

// write appends the blocks of this round, and does not go on before they are in the log.
func (l *Loop) write(ctx context.Context) error {
	l.Writer.Reset()
	gathered := 0
	for _, s := range l.sources {
		for p := range s.blocks {
			if s.blocks[p].Len() == 0 {
				continue
			}
			if err := l.gather(ctx, int32(p), &s.blocks[p]); err != nil {
				return err
			}
			gathered++
		}
	}
	if gathered > 0 {
		if err := l.retry.Send(ctx, l.Writer); err != nil {
			return fmt.Errorf("cannot append entries: %w", err)
		}
	}
	for _, s := range l.sources {
		s.acked = s.Offset
		for p := range s.blocks {
			s.blocks[p].acknowledge()
		}
	}
	return nil
}

// acknowledge empties a block that is in the log.
func (b *block) acknowledge() {
	n := b.Len()
	if n == 0 {
		return
	}
	b.prev = entry.Position{Offset: b.Offset[n-1], Ix: b.Ix[n-1]}
	b.Reset(b.Source, b.prev)
}

// gather hands one block to the writer, which may have to send others first.
func (l *Loop) gather(ctx context.Context, shard int32, b *block) error {
	l.wire = b.AppendTo(l.wire[:0])
	if err := l.retry.Append(ctx, l.Writer, l.cfg.EntriesTopic, shard, nil, l.wire); err != nil {
		return fmt.Errorf("cannot append entries of shard %d: %w", shard, err)
	}
	return nil
}

// commit stores how far each source is in `entries`, with the id of its topic: an offset of another topic by the
// same name counts for nothing.
func (l *Loop) commit(ctx context.Context) error {
	l.committed = l.Clock.Now()
	clear(l.commits)
	for _, s := range l.sources {
		if id, started := l.ids[s.Topic]; started && s.acked > s.committed {
			l.commits[s.Topic] = append(l.commits[s.Topic],
				stream.CommitOffset{Partition: s.Partition, Offset: s.acked, Metadata: hex.EncodeToString(id[:])})
		}
	}
	if len(l.commits) == 0 {
		return nil
	}
	if err := l.Commits.Commit(ctx, l.cfg.Group, l.generation, l.commits); err != nil {
		return err
	}
	for _, s := range l.sources {
		if _, started := l.ids[s.Topic]; started {
			s.committed = max(s.committed, s.acked)
		}
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
