package bench

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tollgate/tollgate/bench/workload"
	"github.com/tollgate/tollgate/rater/stream"
)

// Load fills a carrier topic with records of the workload, as fast as it goes: a backlog, or a warm-up.
type Load struct {
	Client  *stream.Client
	Work    *workload.Workload
	Topic   string
	Streams int // carriers that produce side by side
	// FirstStream is the number of the first carrier's stream of records: no two carriers of an installation may share one.
	FirstStream uint16
}

// Send produces n records over the partitions of the topic, dated around now, and gives what they were.
func (l *Load) Send(ctx context.Context, n int, now time.Time) (workload.Counts, error) {
	partitions, err := l.Client.Partitions(ctx, l.Topic)
	if err != nil {
		return workload.Counts{}, fmt.Errorf("cannot fill %s: %w", l.Topic, err)
	}
	generators := make([]*workload.Generator, l.Streams)
	group, ctx := errgroup.WithContext(ctx)
	for i := range generators {
		generators[i] = l.Work.Generator(l.FirstStream + uint16(i))
		share := n / l.Streams
		if i == 0 {
			share += n % l.Streams
		}
		carrier := NewCarrier(l.Client.NewProducer(), generators[i], l.Topic, partitions)
		group.Go(func() error { return carrier.Send(ctx, share, now) })
	}
	if err := group.Wait(); err != nil {
		return workload.Counts{}, err
	}
	var counts workload.Counts
	for _, g := range generators {
		part := g.Counts()
		counts.Add(&part)
	}
	return counts, nil
}
