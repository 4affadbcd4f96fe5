package main

import (
	"context"
	"time"

	"github.com/tollgate/tollgate/bench"
	"github.com/tollgate/tollgate/bench/workload"
)

// feed is what one carrier writes.
type feed struct {
	source
	*bench.Carrier
}

// counts adds up what all carriers of the installation wrote.
func (in *installation) counts() (sum workload.Counts) {
	for _, f := range in.feeds {
		counts := f.Counts()
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
			if err := f.Send(context.WithoutCancel(ctx), due, time.Now()); err != nil {
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
