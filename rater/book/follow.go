package book

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/tollgate/tollgate/rater/stream"
)

// FollowConfig names the limits of a Follower.
type FollowConfig struct {
	// Topic is the book log, of one partition.
	Topic string
	// MaxWait bounds how long a fetch waits for records.
	MaxWait time.Duration
	// HeartbeatEvery is how long the book may be silent before the Follower writes a heartbeat (protocol rule 2).
	HeartbeatEvery time.Duration
	// RetryMin and RetryMax bound the pause before a failed call is made again.
	RetryMin, RetryMax time.Duration
	// ImagesTopic keeps images of the book, from which a Follower begins; "" is none. Run writes one whenever the log has
	// grown by ImageRecords, most of which are heartbeats.
	ImagesTopic  string
	ImageRecords int64
	// DemandAppendTime makes a record whose time the broker did not stamp an error.
	DemandAppendTime bool
}

// DefaultFollowConfig is the configuration of a Follower.
func DefaultFollowConfig() FollowConfig {
	return FollowConfig{
		Topic: "book", MaxWait: 100 * time.Millisecond, HeartbeatEvery: 500 * time.Millisecond,
		RetryMin: 20 * time.Millisecond, RetryMax: 2 * time.Second, ImageRecords: 200_000, DemandAppendTime: true,
	}
}

// FollowDeps are a Follower's neighbours.
type FollowDeps struct {
	Reader stream.Reader
	Writer stream.Writer
	Topics stream.Topics
	Clock  stream.Clock
	Logger *slog.Logger
}

// Follower reads the book log and gives the newest Book to all who ask. One goroutine owns it and calls Run, or CatchUp
// and Decide; Book may be called by anyone.
type Follower struct {
	FollowDeps
	cfg     FollowConfig
	retry   stream.Retry
	builder *Builder
	next    int64 // -1 until the start of the log is known
	imaged  int64 // offset of the newest image that is known
	newest  atomic.Pointer[Book]
	heard   time.Time
	wanted  map[string]*Decision // ids that Decide waits for, nil until they are decided
}

// NewFollower makes a Follower at the start of the log.
func NewFollower(deps FollowDeps, cfg FollowConfig) *Follower {
	f := &Follower{FollowDeps: deps, cfg: cfg, builder: NewBuilder(), next: -1}
	f.retry = stream.Retry{Loop: "book", Min: cfg.RetryMin, Max: cfg.RetryMax, Clock: deps.Clock, Logger: deps.Logger}
	f.newest.Store(f.builder.Book())
	return f
}

// Book gives the newest Book that was read.
func (f *Follower) Book() *Book { return f.newest.Load() }

// Run follows the log until ctx ends, which is no error, and writes heartbeats when it is silent.
func (f *Follower) Run(ctx context.Context) error {
	return f.retry.Rounds(ctx, 0, func(ctx context.Context) error {
		err := f.step(ctx)
		if err == nil {
			err = f.beat(ctx)
		}
		if err == nil && f.cfg.ImagesTopic != "" && f.builder.Offset()-f.imaged >= f.cfg.ImageRecords {
			err = f.writeImage(ctx)
		}
		return err
	})
}

// CatchUp reads to where the log ends now.
func (f *Follower) CatchUp(ctx context.Context) error {
	edges, err := f.Topics.ListOffsets(ctx, f.cfg.Topic, []int32{0})
	if err != nil {
		return err
	}
	for f.next < edges[0].End {
		if err := f.step(ctx); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// Decide appends records to the log, in order, and reads on until every one is decided. Each must have an id of its own;
// one whose id was decided before gets a Decision that says so.
func (f *Follower) Decide(ctx context.Context, records ...Record) ([]Decision, error) {
	f.wanted = make(map[string]*Decision, len(records))
	defer func() { f.wanted = nil }()
	for _, r := range records {
		f.wanted[r.header().ID] = nil
	}
	if err := f.append(ctx, records); err != nil {
		return nil, err
	}
	for left := true; left; {
		if err := f.step(ctx); err != nil {
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("the records are in the book, but were not read back: %w", ctx.Err())
		}
		left = false
		for _, d := range f.wanted {
			left = left || d == nil
		}
	}
	decisions := make([]Decision, len(records))
	for i, r := range records {
		decisions[i] = *f.wanted[r.header().ID]
	}
	return decisions, nil
}

// append writes the records and waits until they are in the log.
func (f *Follower) append(ctx context.Context, records []Record) error {
	f.Writer.Reset()
	for _, r := range records {
		value, err := Encode(r)
		if err != nil {
			return err
		}
		if err := f.retry.Append(ctx, f.Writer, f.cfg.Topic, 0, nil, value); err != nil {
			return err
		}
	}
	return f.send(ctx)
}

// send does not give up before ctx ends: a copy that arrives twice counts once.
func (f *Follower) send(ctx context.Context) error {
	if err := f.retry.Send(ctx, f.Writer); err != nil {
		return fmt.Errorf("cannot write to the book: %w", err)
	}
	return nil
}

// step reads what there is and publishes the new Book.
func (f *Follower) step(ctx context.Context) error {
	if f.next < 0 {
		if err := f.begin(ctx); err != nil {
			return err
		}
	}
	if err := f.Reader.Fetch(ctx, []stream.Position{{Topic: f.cfg.Topic, Offset: f.next}}, f.cfg.MaxWait); err != nil {
		return fmt.Errorf("cannot read the book: %w", err)
	}
	var m stream.Message
	fetched := f.Reader.Result(0)
	for fetched.Next(&m) {
		if f.cfg.DemandAppendTime && !m.AppendTimeSet {
			return fmt.Errorf("record %d of %s was not stamped by the broker: set message.timestamp.type=LogAppendTime on the topic", m.Offset, f.cfg.Topic)
		}
		d := f.builder.Apply(m.Offset, m.AppendTime, m.Value)
		if err := f.builder.Err(); err != nil {
			return err
		}
		if known, waits := f.wanted[d.ID]; waits && known == nil {
			f.wanted[d.ID] = &d
		}
		if d.Refusal != "" && !d.Repeated {
			f.Logger.Info("book: record refused", "offset", m.Offset, "kind", d.Kind, "id", d.ID, "refusal", d.Refusal)
		}
		f.next, f.heard = m.Offset+1, f.Clock.Now()
	}
	if fetched.Err == nil {
		f.next = max(f.next, fetched.NextOffset)
	}
	f.newest.Store(f.builder.Book())
	if errors.Is(fetched.Err, stream.ErrOffsetOutOfRange) { // the log was cut meanwhile: begin again, at an image
		f.next = -1
	}
	return fetched.Err
}

// begin starts at the newest image, or at the start of the log.
func (f *Follower) begin(ctx context.Context) error {
	edges, err := f.Topics.ListOffsets(ctx, f.cfg.Topic, []int32{0})
	if err != nil {
		return err
	}
	if f.cfg.ImagesTopic != "" {
		if err := f.readImages(ctx); err != nil {
			return err
		}
	}
	f.imaged = f.builder.Offset()
	if f.imaged < edges[0].Start {
		return fmt.Errorf("BUG: %s begins at %d, but the newest image of the book ends at %d: restore the log or an image", f.cfg.Topic, edges[0].Start, f.imaged)
	}
	f.next, f.heard = f.imaged, f.Clock.Now()
	return nil
}

// readImages restores the newest whole image, if there is one. Images of several writers may be interleaved: the chunks of
// one have its key. An image that cannot be restored is passed over for the one before.
func (f *Follower) readImages(ctx context.Context) error {
	edges, err := f.Topics.ListOffsets(ctx, f.cfg.ImagesTopic, []int32{0})
	if err != nil {
		return err
	}
	partial := map[string][][]byte{}
	for next := edges[0].Start; next < edges[0].End; {
		if err := f.Reader.Fetch(ctx, []stream.Position{{Topic: f.cfg.ImagesTopic, Offset: next}}, f.cfg.MaxWait); err != nil {
			return fmt.Errorf("cannot read images of the book: %w", err)
		}
		var m stream.Message
		fetched := f.Reader.Result(0)
		for fetched.Next(&m) {
			key := string(m.Key)
			partial[key] = append(partial[key], bytes.Clone(m.Value))
			if !Closes(m.Value) {
				continue
			}
			restored, err := Restore(partial[key])
			delete(partial, key)
			switch {
			case errors.Is(err, ErrNewer):
				return err
			case err != nil:
				f.Logger.Warn("book: an image cannot be used", "offset", m.Offset, "error", err)
			case restored.Offset() > f.builder.Offset():
				f.builder = restored
			}
		}
		if fetched.Err != nil {
			return fetched.Err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		next = fetched.NextOffset
	}
	return nil
}

// writeImage writes an image of the book as it is now.
func (f *Follower) writeImage(ctx context.Context) error {
	id := uuid.New()
	f.Writer.Reset()
	for _, chunk := range f.builder.Image() {
		if err := f.retry.Append(ctx, f.Writer, f.cfg.ImagesTopic, 0, id[:], chunk); err != nil {
			return err
		}
	}
	if err := f.send(ctx); err != nil {
		return err
	}
	f.imaged = f.builder.Offset()
	return nil
}

// beat writes a heartbeat if the log has been silent for a while.
func (f *Follower) beat(ctx context.Context) error {
	if f.Clock.Now().Sub(f.heard) < f.cfg.HeartbeatEvery {
		return nil
	}
	return f.append(ctx, []Record{&Heartbeat{}})
}
