package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/tollgate/tollgate/rater/book"
	"github.com/tollgate/tollgate/rater/stream"
)

// closer writes into the book that days are over, a while after midnight in each zone that has accounts. Its clock
// decides nothing about money: a day is closed when the book says so, for every shard at its own place in the log.
type closer struct {
	follower *book.Follower
	after    time.Duration
	clock    stream.Clock
	logger   *slog.Logger
}

func newCloser(follower *book.Follower, after time.Duration, clock stream.Clock, logger *slog.Logger) *closer {
	return &closer{follower, after, clock, logger}
}

// closeEvery is how often the closer looks, retryEvery how soon after a failure.
const (
	closeEvery = time.Minute
	retryEvery = 5 * time.Second
)

// Run closes days until ctx ends, which is no error.
func (c *closer) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		pause := closeEvery
		if err := c.runOnce(ctx); err != nil && ctx.Err() == nil {
			c.logger.Warn("cannot close days, trying again", "error", err)
			pause = retryEvery
		}
		c.clock.Sleep(ctx, pause)
	}
	return nil
}

// runOnce closes, in every zone, the newest day that has been over for long enough.
func (c *closer) runOnce(ctx context.Context) error {
	if err := c.follower.CatchUp(ctx); err != nil {
		return err
	}
	b := c.follower.Book()
	if !b.Opened() {
		return nil
	}
	var records []book.Record
	for zone := range b.Zones() {
		day := zone.Day(c.clock.Now().Add(-c.after).UnixMilli()) - 1
		if closed, ok := b.Closed(zone.Number); ok && closed >= day {
			continue
		}
		text := book.FormatDay(day)
		// The id is the same for every process that closes the day, so that one of them counts.
		records = append(records, &book.CloseDay{Header: book.Header{ID: fmt.Sprintf("close/%s/%s", zone.Name, text)}, Zone: zone.Name, Day: text})
	}
	if len(records) == 0 {
		return nil
	}
	_, err := c.follower.Decide(ctx, records...)
	return err
}
