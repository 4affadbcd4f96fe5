package chaos

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/tollgate/tollgate/bench/workload"
	"github.com/tollgate/tollgate/rater/stream"
)

// feed is what one carrier writes: mostly one record a message; now and then an array, lines, or a gzipped message.
type feed struct {
	carrier
	writer    *stream.Producer
	generator *workload.Generator
	infos     []workload.Info
	message   []byte
	zipped    bytes.Buffer
	turn      int32
	written   atomic.Int64 // records that were acknowledged
	repeats   atomic.Int64 // sendings that had to be repeated: their records may be in the topic twice
}

const (
	recordsPerBatch = 2000
	bundleEvery     = 50 // messages from one of several records to the next
	bundleRecords   = 12
	flowEvery       = 50 * time.Millisecond
	sendAgainAfter  = 50 * time.Millisecond
)

// flow writes the carrier's share of so many records a second, for so long. What it could not write in time it writes
// afterwards, so that a run has its number of records.
func (f *feed) flow(ctx context.Context, perSecond int, duration time.Duration) error {
	for began := time.Now(); ; {
		elapsed := min(time.Since(began), duration)
		due := int64(float64(perSecond)*f.share*elapsed.Seconds()) - f.written.Load()
		if due <= 0 && elapsed == duration {
			return nil
		}
		if due > 0 {
			if err := f.send(ctx, min(int(due), recordsPerBatch)); err != nil {
				return err
			}
		}
		if due < recordsPerBatch && !pause(ctx, flowEvery) {
			return ctx.Err()
		}
	}
}

// send writes n records, and waits until they are in the topic.
func (f *feed) send(ctx context.Context, n int) error {
	f.writer.Reset()
	now := time.Now().UnixMilli()
	for left := n; left > 0; f.turn++ {
		left -= f.compose(now, left)
		if err := f.writer.Append(f.Name, f.turn%f.partitions, nil, f.message); err != nil {
			return fmt.Errorf("carrier of %s: %w", f.Name, err)
		}
	}
	for {
		err := f.writer.Send(ctx)
		if err == nil {
			f.written.Add(int64(n))
			return nil
		}
		if !stream.Retriable(err) || ctx.Err() != nil {
			return fmt.Errorf("carrier of %s: %w", f.Name, err)
		}
		if errors.Is(err, stream.ErrUnknownOutcome) {
			f.repeats.Add(1)
		}
		pause(ctx, sendAgainAfter)
	}
}

// compose makes the next message, of at most so many records, and gives their number.
func (f *feed) compose(now int64, most int) int {
	if f.turn%bundleEvery != 0 {
		f.message, _ = f.generator.Append(f.message[:0], now)
		return 1
	}
	n, layout := min(most, bundleRecords), workload.Layout(f.turn/bundleEvery%2)
	f.message, f.infos = f.generator.AppendMessage(f.message[:0], f.infos[:0], now, layout, n)
	if f.turn/bundleEvery%3 == 0 {
		f.zipped.Reset()
		zip := gzip.NewWriter(&f.zipped)
		_, _ = zip.Write(f.message) // into memory: it cannot fail
		_ = zip.Close()
		f.message = append(f.message[:0], f.zipped.Bytes()...)
	}
	return n
}

// written is how many records all carriers have written.
func (in *installation) written() (n int64) {
	for _, f := range in.feeds {
		n += f.written.Load()
	}
	return n
}
