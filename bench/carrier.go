package bench

import (
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
	// partitions of the topic; records go to them in turn, one record a message.
	partitions int32
	turn       int32
	buffer     []byte
}

// recordsPerSend bounds the records that a carrier sends at once.
const recordsPerSend = 4000

// NewCarrier makes a carrier.
func NewCarrier(writer stream.Writer, generator *workload.Generator, topic string, partitions int32) *Carrier {
	return &Carrier{writer: writer, generator: generator, topic: topic, partitions: partitions}
}

// Send produces n records dated around now, and waits until they are in the topic.
func (c *Carrier) Send(ctx context.Context, n int, now time.Time) error {
	for n > 0 {
		batch := min(n, recordsPerSend)
		c.writer.Reset()
		for range batch {
			c.buffer, _ = c.generator.Append(c.buffer[:0], now.UnixMilli())
			if err := c.writer.Append(c.topic, c.turn%c.partitions, nil, c.buffer); err != nil {
				return err
			}
			c.turn++
		}
		if err := c.flush(ctx); err != nil {
			return err
		}
		n -= batch
	}
	return nil
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
		time.Sleep(50 * time.Millisecond)
	}
}
