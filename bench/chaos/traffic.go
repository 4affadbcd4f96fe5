package chaos

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/tollgate/tollgate/bench"
)

// feed is what one carrier writes.
type feed struct {
	carrier
	*bench.Carrier
	written atomic.Int64 // records that were acknowledged
}

const (
	recordsPerBatch = 2000
	flowEvery       = 50 * time.Millisecond
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
			n := min(int(due), recordsPerBatch)
			if err := f.Send(ctx, n, time.Now()); err != nil {
				return err
			}
			f.written.Add(int64(n))
		}
		if due < recordsPerBatch && !pause(ctx, flowEvery) {
			return ctx.Err()
		}
	}
}

// written is how many records all carriers have written.
func (in *installation) written() (n int64) {
	for _, f := range in.feeds {
		n += f.written.Load()
	}
	return n
}
