// Package audit is the audit stage: it folds the entries again in Go, compares every posting with its own outcome, and
// writes the images from which a lost shard is loaded.
//
// It reads both logs and stands beside the flow: nothing waits for it. It never writes to Redis and never mends
// anything; a difference is an alarm that names the posting, counted in tollgate_audit_difference_total.
package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/tollgate/tollgate/balance/ledger"
	"github.com/tollgate/tollgate/balance/posting"
	"github.com/tollgate/tollgate/rater/entry"
	"github.com/tollgate/tollgate/rater/stream"
)

// Config names the limits of an audit loop.
type Config struct {
	// EntriesTopic, PostingsTopic and SnapshotsTopic are the two logs that are compared and the one of images.
	EntriesTopic, PostingsTopic, SnapshotsTopic string
	// MaxWait bounds how long a fetch waits.
	MaxWait time.Duration
	// Linger is the least length of a round: postings that come within it share one fetch. Nothing waits for this stage.
	Linger time.Duration
	// ImageEntries and ImageEvery say when a shard's next image is due: after so many entries, or so much time if
	// there was an entry at all. Shards are staggered over ImageEvery.
	ImageEntries int64
	ImageEvery   time.Duration
	// RetryMin and RetryMax bound the pause before a failed call is made again.
	RetryMin, RetryMax time.Duration
	// DifferencesLogged bounds the differences of one shard that are logged; all are counted.
	DifferencesLogged int
}

// DefaultConfig is the configuration of an audit loop on one machine.
func DefaultConfig() Config {
	return Config{
		EntriesTopic: "entries", PostingsTopic: "postings", SnapshotsTopic: "snapshots", MaxWait: 250 * time.Millisecond, Linger: 50 * time.Millisecond,
		ImageEntries: 1_000_000, ImageEvery: 10 * time.Minute, RetryMin: 20 * time.Millisecond, RetryMax: 2 * time.Second,
		DifferencesLogged: 20,
	}
}

// Deps are the loop's neighbours. The two logs have a reader each: a broker that fills its answer in the order of the
// request would else bring the postings of all shards and the entries of none, over and over.
type Deps struct {
	Postings  stream.Reader
	Entries   stream.Reader
	Writer    stream.Writer
	Topics    stream.Topics
	Snapshots *Snapshots
	Fold      Fold // nil for that of balance/ledger
	Clock     stream.Clock
	Metrics   *Metrics
	Logger    *slog.Logger
}

// Fold is the fold as a build of tollgate knows it. The simulator has builds that know a version more.
type Fold interface {
	Check(s *ledger.Shard, b *entry.Block) error
	Fold(s *ledger.Shard, offset, appendMs int64, b *entry.Block, outcomes []posting.Outcome) []posting.Outcome
}

// ownFold is the fold of this build.
type ownFold struct{}

// Check tells whether the shard may fold the block.
func (ownFold) Check(s *ledger.Shard, b *entry.Block) error { return s.Check(b) }

// Fold folds the block.
func (ownFold) Fold(s *ledger.Shard, offset, appendMs int64, b *entry.Block, outcomes []posting.Outcome) []posting.Outcome {
	return s.Fold(offset, appendMs, b, outcomes)
}

// Loop audits a few shards.
type Loop struct {
	Deps
	cfg       Config
	shards    []*shard
	started   bool
	reading   []*shard
	positions []stream.Position // in postings
	needed    []stream.Position // in entries, of the same shards
	entries   entry.Block
	outcomes  []posting.Outcome
	wire      []byte
	decoded   []posting.Outcome
}

// shard is where the loop stands with one shard.
type shard struct {
	id          int32
	state       *ledger.Shard
	postings    int64 // offset of the next message of postings
	stopped     string
	imaged      int64 // WM of the last image
	imagedAt    time.Time
	entries     int64 // folded since the last image
	differences int
}

// NewLoop makes a loop over the given shards.
func NewLoop(deps Deps, cfg Config, shards []int32) *Loop {
	l := &Loop{Deps: deps, cfg: cfg}
	if l.Fold == nil {
		l.Fold = ownFold{}
	}
	for _, id := range shards {
		l.shards = append(l.shards, &shard{id: id})
	}
	return l
}

// Run audits until ctx ends, which is no error.
func (l *Loop) Run(ctx context.Context) error {
	retry := stream.Retry{Loop: "audit", Min: l.cfg.RetryMin, Max: l.cfg.RetryMax, Clock: l.Clock, Logger: l.Logger, Count: l.Metrics.Retries.Inc}
	return retry.Rounds(ctx, l.cfg.Linger, l.round)
}

// round folds and compares what there is, and writes the images that are due.
func (l *Loop) round(ctx context.Context) error {
	if !l.started {
		if err := l.start(ctx); err != nil {
			return err
		}
	}
	l.reading, l.positions, l.needed = l.reading[:0], l.positions[:0], l.needed[:0]
	for _, s := range l.shards {
		if s.stopped == "" {
			l.reading = append(l.reading, s)
			l.positions = append(l.positions, stream.Position{Topic: l.cfg.PostingsTopic, Partition: s.id, Offset: s.postings})
			l.needed = append(l.needed, stream.Position{Topic: l.cfg.EntriesTopic, Partition: s.id, Offset: s.state.WM + 1})
		}
	}
	if err := l.Postings.Fetch(ctx, l.positions, l.cfg.MaxWait); err != nil {
		return fmt.Errorf("cannot fetch postings: %w", err)
	}
	if err := l.Entries.Fetch(ctx, l.needed, 0); err != nil { // whatever has postings is there
		return fmt.Errorf("cannot fetch entries: %w", err)
	}
	for i, s := range l.reading {
		if err := l.compare(s, l.Postings.Result(i), l.Entries.Result(i)); err != nil {
			return err
		}
		if err := l.image(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// start begins each shard at its newest image, or before its first entry.
func (l *Loop) start(ctx context.Context) error {
	ids := make([]int32, len(l.shards))
	for i, s := range l.shards {
		ids[i] = s.id
	}
	// First where the entries begin: a log that was cut by now has images, a log that is cut later says so when it is read.
	entries, err := l.Topics.ListOffsets(ctx, l.cfg.EntriesTopic, ids)
	if err != nil {
		return err
	}
	for i, s := range l.shards {
		state, postings, err := l.Snapshots.newest(ctx, s.id)
		if err != nil {
			return err
		}
		if state == nil {
			edges, err := l.Topics.ListOffsets(ctx, l.cfg.PostingsTopic, []int32{s.id})
			if err != nil {
				return err
			}
			state, postings = ledger.New(), edges[0].Start
			if first := entries[i].Start; first > 0 {
				l.stop(s, fmt.Sprintf("there is no image, and %s[%d] begins at %d: it cannot be folded again", l.cfg.EntriesTopic, s.id, first))
			}
		}
		s.state, s.postings, s.imaged, s.entries = state, postings, state.WM, 0
		l.Metrics.of(s.id, state)
		s.imagedAt = l.Clock.Now().Add(-l.cfg.ImageEvery * time.Duration(i) / time.Duration(len(l.shards)))
	}
	l.started = true
	return nil
}

// compare folds the entries of one shard for which there are postings, and compares the outcomes byte by byte.
func (l *Loop) compare(s *shard, postings, entries *stream.Fetched) error {
	var p, e stream.Message
	for postings.Next(&p) {
		offset, err := posting.EntryOffset(p.Value)
		if err != nil {
			l.stop(s, fmt.Sprintf("%s[%d] at %d: %v", l.cfg.PostingsTopic, s.id, p.Offset, err))
			return nil
		}
		if offset <= s.state.WM { // a repeat
			s.postings = p.Offset + 1
			continue
		}
		if !entries.Next(&e) {
			break
		}
		if e.Offset != offset {
			l.stop(s, fmt.Sprintf("%s[%d] at %d is of entry %d, where the next entry is %d", l.cfg.PostingsTopic, s.id, p.Offset, offset, e.Offset))
			return nil
		}
		if !l.audit(s, &p, &e) {
			return nil
		}
		s.postings = p.Offset + 1
	}
	l.Metrics.of(s.id, s.state)
	return l.hindered(s, postings.Err, entries.Err)
}

// hindered tells what to do about what a fetch could not bring. A log that was cut before it was audited begins again
// at an image.
func (l *Loop) hindered(s *shard, failures ...error) error {
	for _, err := range failures {
		if errors.Is(err, stream.ErrOffsetOutOfRange) {
			l.started = false
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// audit folds one block and compares its outcomes with the posting, and tells whether the shard can go on.
func (l *Loop) audit(s *shard, p, e *stream.Message) bool {
	outcomes, entries, count, err := posting.Split(p.Value)
	if err == nil {
		err = l.entries.DecodeForFold(e.Value)
	}
	if err == nil {
		err = l.Fold.Check(s.state, &l.entries)
	}
	if errors.Is(err, ledger.ErrVersion) { // nothing is wrong: whoever has the build audits it
		s.stopped = err.Error()
		l.Metrics.halt(s.id)
		l.Logger.Error("audit: a shard is not audited by this build", "shard", s.id, "entry", e.Offset, "reason", err)
		return false
	}
	if err != nil {
		l.stop(s, fmt.Sprintf("entry %d of shard %d: %v", e.Offset, s.id, err))
		return false
	}
	l.outcomes = l.Fold.Fold(s.state, e.Offset, e.AppendTime, &l.entries, l.outcomes)
	s.entries += int64(l.entries.Len())
	l.Metrics.Audited.Add(float64(l.entries.Len()))
	l.wire = posting.AppendOutcomes(l.wire[:0], l.outcomes)
	if !bytes.Equal(entries, e.Value) || count != l.entries.Len() {
		l.differ(s, fmt.Sprintf("posting at %d holds other entries than entry %d of the log", p.Offset, e.Offset))
	}
	if !bytes.Equal(outcomes, l.wire) {
		l.name(s, e.Offset, outcomes, count)
	}
	return true
}

// name finds which outcomes of a block differ.
func (l *Loop) name(s *shard, offset int64, outcomes []byte, count int) {
	decoded, err := posting.DecodeOutcomes(l.decoded, outcomes, count)
	if l.decoded = decoded; err != nil || len(decoded) != len(l.outcomes) {
		l.differ(s, fmt.Sprintf("entry %d: the outcomes cannot be read: %v", offset, err))
		return
	}
	for i := range decoded {
		if decoded[i] != l.outcomes[i] {
			l.differ(s, fmt.Sprintf("entry %d, index %d: the posting says %+v, the fold %+v", offset, i, decoded[i], l.outcomes[i]))
		}
	}
}

// differ counts a difference and says which.
func (l *Loop) differ(s *shard, what string) {
	l.Metrics.Differences.Inc()
	if s.differences++; s.differences <= l.cfg.DifferencesLogged {
		l.Logger.Error("audit: DIFFERENCE", "shard", s.id, "what", what)
	}
}

// stop ends the audit of one shard: what it reads cannot be. The others go on.
func (l *Loop) stop(s *shard, reason string) {
	s.stopped = reason
	l.Metrics.halt(s.id)
	l.Metrics.Differences.Inc()
	l.Logger.Error("BUG: audit stopped", "shard", s.id, "reason", reason)
}

// image writes an image of the shard if one is due. All its postings have been seen, for the state moves only by them. A
// shard with a difference gets none: it is not known whether the log or this fold is right.
func (l *Loop) image(ctx context.Context, s *shard) error {
	now := l.Clock.Now()
	due := s.entries >= l.cfg.ImageEntries || s.entries > 0 && now.Sub(s.imagedAt) >= l.cfg.ImageEvery
	if s.stopped != "" || s.differences > 0 || !due || s.state.WM == s.imaged {
		return nil
	}
	if err := l.Snapshots.write(ctx, l.Writer, s.id, s.state, s.postings); err != nil {
		return err
	}
	l.Metrics.Images.Inc()
	s.imaged, s.imagedAt, s.entries = s.state.WM, now, 0
	return nil
}
