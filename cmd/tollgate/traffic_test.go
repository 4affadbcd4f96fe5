package main

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

// feed is what one carrier writes: mostly one record a message; now and then an array, lines, or a gzipped message.
type feed struct {
	source
	writer    *stream.Producer
	generator *workload.Generator
	infos     []workload.Info
	message   []byte
	zipped    bytes.Buffer
	turn      int32
}

func newFeed(writer *stream.Producer, generator *workload.Generator, s source) *feed {
	return &feed{source: s, writer: writer, generator: generator}
}

const (
	recordsPerBatch = 2000
	bundleEvery     = 50 // messages from one of several records to the next
	bundleRecords   = 12
)

// send writes n records, and waits until they are in the topic.
func (f *feed) send(ctx context.Context, n int) error {
	for n > 0 {
		f.writer.Reset()
		now := time.Now().UnixMilli()
		for batch := min(n, recordsPerBatch); batch > 0; f.turn++ {
			taken := f.compose(now, batch)
			if err := f.writer.Append(f.topic, f.turn%f.partitions, nil, f.message); err != nil {
				return err
			}
			batch, n = batch-taken, n-taken
		}
		if err := f.flush(ctx); err != nil {
			return err
		}
	}
	return nil
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

func (f *feed) flush(ctx context.Context) error {
	for {
		err := f.writer.Send(ctx)
		if err == nil {
			return nil
		}
		if !stream.Retriable(err) || ctx.Err() != nil {
			return fmt.Errorf("carrier of %s: %w", f.topic, errors.Join(err, ctx.Err()))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// counts adds up what all carriers of the installation wrote.
func (in *installation) counts() (sum workload.Counts) {
	for _, f := range in.feeds {
		counts := f.generator.Counts()
		sum.Add(&counts)
	}
	return sum
}

// traffic is records that flow while a test does something else.
type traffic struct {
	in    *installation
	stop  context.CancelFunc
	ended chan error
	began time.Time
}

// flow lets so many records a second come, from all carriers.
func (in *installation) flow(perSecond int) *traffic {
	ctx, cancel := context.WithCancel(in.Context())
	t := &traffic{in: in, stop: cancel, ended: make(chan error, 1), began: time.Now()}
	go func() { t.ended <- t.run(ctx, float64(perSecond)) }()
	in.Cleanup(cancel)
	return t
}

func (t *traffic) run(ctx context.Context, perSecond float64) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	sent := make([]int, len(t.in.feeds))
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for i, f := range t.in.feeds {
			due := int(perSecond*f.share*time.Since(t.began).Seconds()) - sent[i]
			if due <= 0 {
				continue
			}
			// What is begun is finished: the counts hold only for records that are in the topic.
			if err := f.send(context.WithoutCancel(ctx), due); err != nil {
				return err
			}
			sent[i] += due
		}
	}
}

// end stops the flow and tells how fast it was. Less than atLeast records a second fail the test.
func (t *traffic) end(atLeast float64) {
	t.in.Helper()
	t.stop()
	t.in.must(<-t.ended)
	counts := t.in.counts()
	took := time.Since(t.began).Seconds()
	t.in.Logf("%d records came in %.1f s, %.0f a second: %v", counts.Records(), took, float64(counts.Records())/took, counts.ByKind)
	if float64(counts.Records())/took < atLeast {
		t.in.Errorf("fewer than %.0f records came a second", atLeast)
	}
}
