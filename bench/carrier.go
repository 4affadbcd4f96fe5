package bench

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tollgate/tollgate/bench/workload"
	"github.com/tollgate/tollgate/rater/stream"
)

// Carrier produces the records of one generator to one topic, as a carrier's feed would.
type Carrier struct {
	writer    stream.Writer
	generator *workload.Generator
	topic     string
	// partitions of the topic; messages go to them in turn.
	partitions int32
	turn       int32
	bundles    bool
	buffer     []byte
	infos      []workload.Info
	zipped     bytes.Buffer
	sentAgain  int64
}

const (
	// recordsPerSend bounds the records that a carrier sends at once.
	recordsPerSend = 2000
	sendAgainAfter = 50 * time.Millisecond

	bundleEvery   = 50 // messages from one of several records to the next
	bundleRecords = 12
)

// NewCarrier makes a carrier that writes one record a message.
func NewCarrier(writer stream.Writer, generator *workload.Generator, topic string, partitions int32) *Carrier {
	return &Carrier{writer: writer, generator: generator, topic: topic, partitions: partitions}
}

// NewBundlingCarrier makes a carrier that now and then writes an array, lines, or a gzipped message.
func NewBundlingCarrier(writer stream.Writer, generator *workload.Generator, topic string, partitions int32) *Carrier {
	c := NewCarrier(writer, generator, topic, partitions)
	c.bundles = true
	return c
}

// Counts tells what was made so far. What Send was given and returned without an error is in the topic.
func (c *Carrier) Counts() workload.Counts { return c.generator.Counts() }

// SentAgain tells how many sendings had to be repeated though they may have arrived: their records may be in the topic
// twice.
func (c *Carrier) SentAgain() int64 { return c.sentAgain }

// Send produces n records dated around now, and waits until they are in the topic.
func (c *Carrier) Send(ctx context.Context, n int, now time.Time) error {
	for n > 0 {
		c.writer.Reset()
		for batch := min(n, recordsPerSend); batch > 0; c.turn++ {
			taken := c.compose(now.UnixMilli(), batch)
			if err := c.writer.Append(c.topic, c.turn%c.partitions, nil, c.buffer); err != nil {
				return fmt.Errorf("cannot gather records for %s: %w", c.topic, err)
			}
			batch, n = batch-taken, n-taken
		}
		if err := c.flush(ctx); err != nil {
			return err
		}
	}
	return nil
}

// compose makes the next message, of at most so many records, and gives their number.
func (c *Carrier) compose(nowMs int64, most int) int {
	if !c.bundles || c.turn%bundleEvery != 0 {
		c.buffer, _ = c.generator.Append(c.buffer[:0], nowMs)
		return 1
	}
	n, layout := min(most, bundleRecords), workload.Layout(c.turn/bundleEvery%2)
	c.buffer, c.infos = c.generator.AppendMessage(c.buffer[:0], c.infos[:0], nowMs, layout, n)
	if c.turn/bundleEvery%3 == 0 {
		c.zipped.Reset()
		zip := gzip.NewWriter(&c.zipped)
		_, _ = zip.Write(c.buffer) // into memory: it cannot fail
		_ = zip.Close()
		c.buffer = append(c.buffer[:0], c.zipped.Bytes()...)
	}
	return n
}

// flush sends what the writer gathered until it is acknowledged. A batch of unknown outcome may be in the topic twice,
// as with any carrier: its records are then duplicates.
func (c *Carrier) flush(ctx context.Context) error {
	for {
		err := c.writer.Send(ctx)
		if err == nil {
			return nil
		}
		if !stream.Retriable(err) || ctx.Err() != nil {
			return fmt.Errorf("cannot produce to %s: %w", c.topic, errors.Join(err, ctx.Err()))
		}
		if errors.Is(err, stream.ErrUnknownOutcome) {
			c.sentAgain++
		}
		select {
		case <-ctx.Done():
		case <-time.After(sendAgainAfter):
		}
	}
}
