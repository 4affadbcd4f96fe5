package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/tollgate/tollgate/rater"
	"github.com/tollgate/tollgate/rater/book"
	"github.com/tollgate/tollgate/rater/stream"
)

// closer writes into the book that days are over, a while after midnight in each zone that has accounts, by the book's
// own time: a process whose clock runs ahead must not close a day that goes on.
type closer struct {
	books  rater.Books
	writer stream.Writer
	topic  string // the book
	after  time.Duration
	clock  stream.Clock
	logger *slog.Logger
}

// closeEvery is how often the closer looks.
const closeEvery = 15 * time.Second

// Run closes days until ctx ends, which is no error.
func (c *closer) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := c.runOnce(ctx); err != nil && ctx.Err() == nil {
			c.logger.Warn("cannot close days, trying again", "error", err)
		}
		c.clock.Sleep(ctx, closeEvery)
	}
	return nil
}

// runOnce closes, in every zone, the newest day that has been over for long enough and that the book does not have closed.
func (c *closer) runOnce(ctx context.Context) error {
	b := c.books.Book()
	if !b.Opened() {
		return nil
	}
	c.writer.Reset()
	closing := 0
	for zone := range b.Zones() {
		day := zone.Day(b.FrontierMs()-c.after.Milliseconds()) - 1
		if closed, ok := b.Closed(zone.Number); ok && closed >= day {
			continue
		}
		text := book.FormatDay(day)
		// The id is the same for every process that closes the day, so that one of them counts.
		value, err := book.Encode(&book.CloseDay{Header: book.Header{ID: fmt.Sprintf("close/%s/%s", zone.Name, text)}, Zone: zone.Name, Day: text})
		if err != nil {
			return err
		}
		if err := c.writer.Append(c.topic, 0, nil, value); err != nil {
			return err
		}
		closing++
	}
	if closing == 0 {
		return nil
	}
	return c.writer.Send(ctx)
}
