package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/tollgate/tollgate/balance/ledger"
	"github.com/tollgate/tollgate/rater/stream"
)

// Snapshots are the images of all shards, in the `snapshots` topic: partition p holds those of shard p. The audit writes
// them; a debit loop whose shard has lost its state loads the newest.
type Snapshots struct {
	reader stream.Reader
	topics stream.Topics
	topic  string
}

// NewSnapshots makes a view of the images in a topic. It uses the reader for itself alone.
func NewSnapshots(reader stream.Reader, topics stream.Topics, topic string) *Snapshots {
	return &Snapshots{reader, topics, topic}
}

// snapshotWait bounds how long one fetch of chunks waits.
const snapshotWait = 250 * time.Millisecond

// Newest gives the newest whole image of a shard, or nil if there is none.
func (s *Snapshots) Newest(ctx context.Context, shard int32) (*ledger.Shard, error) {
	state, _, err := s.newest(ctx, shard)
	return state, err
}

// newest gives the newest whole image, and where in `postings` its audit goes on.
func (s *Snapshots) newest(ctx context.Context, shard int32) (*ledger.Shard, int64, error) {
	edges, err := s.topics.ListOffsets(ctx, s.topic, []int32{shard})
	if err != nil {
		return nil, 0, err
	}
	var assembler ledger.Assembler
	var m stream.Message
	next, end := edges[0].Start, edges[0].End
	for next < end {
		if err := s.reader.Fetch(ctx, []stream.Position{{Topic: s.topic, Partition: shard, Offset: next}}, snapshotWait); err != nil {
			return nil, 0, fmt.Errorf("cannot read images of shard %d: %w", shard, err)
		}
		fetched := s.reader.Result(0)
		for fetched.Next(&m) {
			// A chunk that is corrupt, or of an image whose beginning was cut off, only makes that image unusable.
			if err := assembler.Add(m.Value); err != nil && !errors.Is(err, ledger.ErrCorruptImage) {
				return nil, 0, fmt.Errorf("images of shard %d: %w", shard, err)
			}
		}
		switch {
		case errors.Is(fetched.Err, stream.ErrOffsetOutOfRange): // retention passed by: begin again at the new start
			return s.newest(ctx, shard)
		case fetched.Err != nil:
			return nil, 0, fetched.Err
		case ctx.Err() != nil:
			return nil, 0, ctx.Err()
		}
		next = fetched.NextOffset
	}
	newest := assembler.Newest()
	if newest == nil {
		return nil, 0, nil
	}
	return newest.State, newest.NextPosting, nil
}

// write appends an image of the state to the shard's partition. After an error part of it may be there, which no reader
// takes for an image.
func (s *Snapshots) write(ctx context.Context, writer stream.Writer, shard int32, state *ledger.Shard, nextPosting int64) error {
	image := ledger.Image{State: state, NextPosting: nextPosting}
	writer.Reset()
	err := image.Write(uuid.New(), ledger.DefaultChunkLimit, func(chunk []byte) error {
		err := writer.Append(s.topic, shard, nil, chunk)
		if !errors.Is(err, stream.ErrBatchFull) {
			return err
		}
		if err := writer.Send(ctx); err != nil {
			return err
		}
		writer.Reset()
		return writer.Append(s.topic, shard, nil, chunk)
	})
	if err == nil {
		err = writer.Send(ctx)
	}
	if err != nil {
		return fmt.Errorf("cannot write an image of shard %d: %w", shard, err)
	}
	return nil
}
