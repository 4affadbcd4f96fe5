package verify

import (
	"context"
	"fmt"
	"time"

	"github.com/tollgate/tollgate/balance/posting"
	"github.com/tollgate/tollgate/rater/stream"
)

// Kafka reads the logs of production.
type Kafka struct {
	// Topics tells where the logs begin and end.
	Topics stream.Topics
	// NewReader makes a reader for one reading.
	NewReader func() stream.Reader
	// EntriesTopic and PostingsTopic are the two logs.
	EntriesTopic, PostingsTopic string
	// MaxWait bounds how long a fetch waits.
	MaxWait time.Duration
	// Silence bounds how long a reading may get nothing before it fails: what it waits for is in the log.
	Silence time.Duration
}

// NewKafka reads through the client.
func NewKafka(client *stream.Client, entriesTopic, postingsTopic string) *Kafka {
	return &Kafka{
		Topics: client, NewReader: func() stream.Reader { return client.NewFetcher() },
		EntriesTopic: entriesTopic, PostingsTopic: postingsTopic, MaxWait: 250 * time.Millisecond, Silence: 30 * time.Second,
	}
}

// Bounds gives the first offset of entries that a shard's log holds, and the offset after the last.
func (k *Kafka) Bounds(ctx context.Context, shard int32) (start, end int64, err error) {
	offsets, err := k.Topics.ListOffsets(ctx, k.EntriesTopic, []int32{shard})
	if err != nil {
		return 0, 0, err
	}
	return offsets[0].Start, offsets[0].LastStable, nil
}

// Entries reads the blocks of entries from..to.
func (k *Kafka) Entries(ctx context.Context, shard int32, from, to int64, yield func(offset, appendMs int64, block []byte) error) error {
	if from > to {
		return nil
	}
	return k.read(ctx, stream.Position{Topic: k.EntriesTopic, Partition: shard, Offset: from}, func(m *stream.Message) (more bool, err error) {
		if m.Offset > to {
			return false, nil
		}
		return m.Offset < to, yield(m.Offset, m.AppendTime, m.Value)
	})
}

// Postings reads the postings of the blocks of entries from..to, each once.
func (k *Kafka) Postings(ctx context.Context, shard int32, from, to int64, yield func(block []byte) error) error {
	if from > to {
		return nil
	}
	bounds, err := k.Topics.ListOffsets(ctx, k.PostingsTopic, []int32{shard})
	if err != nil {
		return err
	}
	last := from - 1
	return k.read(ctx, stream.Position{Topic: k.PostingsTopic, Partition: shard, Offset: bounds[0].Start}, func(m *stream.Message) (more bool, err error) {
		offset, err := posting.EntryOffset(m.Value)
		if err != nil || offset > to {
			return false, err
		}
		if offset <= last {
			return last < to, nil
		}
		last = offset
		return last < to, yield(m.Value)
	})
}

// read gives one message after the other until yield wants no more.
func (k *Kafka) read(ctx context.Context, at stream.Position, yield func(*stream.Message) (more bool, err error)) error {
	reader, quiet := k.NewReader(), time.Duration(0)
	var m stream.Message
	for quiet < k.Silence {
		if err := reader.Fetch(ctx, []stream.Position{at}, k.MaxWait); err != nil {
			return err
		}
		fetched := reader.Result(0)
		quiet += k.MaxWait
		for fetched.Next(&m) {
			quiet = 0
			at.Offset = m.Offset + 1
			more, err := yield(&m)
			if err != nil || !more {
				return err
			}
		}
		if err := fetched.Err; err != nil {
			if !stream.Retriable(err) {
				return err
			}
			stream.SystemClock{}.Sleep(ctx, k.MaxWait)
		}
		at.Offset = max(at.Offset, fetched.NextOffset)
	}
	return fmt.Errorf("cannot read %s[%d] at offset %d: nothing came for %s", at.Topic, at.Partition, at.Offset, k.Silence)
}
