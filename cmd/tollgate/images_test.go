package main

import (
	"context"
	"fmt"
	"testing"

	"github.com/tollgate/tollgate/deploy/local"
	"github.com/tollgate/tollgate/rater/book"
)

// TestBookBeginsAtItsImage lets a follower write images while the book grows, and holds a follower that begins at the
// newest one to a follower that reads the whole log.
func TestBookBeginsAtItsImage(t *testing.T) {
	stack := local.ForTest(t, local.EmbeddedKafka)
	app, err := OpenApp(localConfig(stack))
	if err != nil {
		t.Fatal(err)
	}
	defer app.Close()
	if err := app.makeLogs(t.Context(), 2, func(string) {}); err != nil {
		t.Fatal(err)
	}
	follower := func(images string) *book.Follower {
		cfg := book.DefaultFollowConfig()
		cfg.Topic, cfg.ImagesTopic, cfg.ImageRecords, cfg.DemandAppendTime = app.topics.book, images, 10, false
		cfg.HeartbeatEvery = cfg.MaxWait // many heartbeats, so that images come soon
		return book.NewFollower(book.FollowDeps{Reader: app.kafka.NewFetcher(), Writer: app.kafka.NewProducer(), Topics: app.kafka,
			Clock: app.clock, Logger: app.logger}, cfg)
	}
	ctx, cancel := context.WithCancel(t.Context())
	writer := follower(app.topics.bookImages)
	done := make(chan error)
	go func() { done <- writer.Run(ctx) }()
	author := follower("")
	for i := range 30 {
		format := &book.SetFormat{Header: book.Header{ID: fmt.Sprint("format", i)}, Topic: fmt.Sprint("topic", i), Format: "tollgate", FormatVersion: 1, Source: "s"}
		if d, err := author.Decide(ctx, format); err != nil || !d[0].Accepted {
			t.Fatal(d, err)
		}
	}
	for edges := int64(0); edges < 4; { // two images at least
		offsets, err := app.kafka.ListOffsets(ctx, app.topics.bookImages, []int32{0})
		if err != nil {
			t.Fatal(err)
		}
		edges = offsets[0].End
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	whole, imaged := follower(""), follower(app.topics.bookImages)
	for _, f := range []*book.Follower{whole, imaged} {
		if err := f.CatchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	a, b := whole.Book(), imaged.Book()
	if a.Offset() != b.Offset() || a.FrontierMs() != b.FrontierMs() {
		t.Errorf("offset %d and frontier %d from the image, %d and %d from the log", b.Offset(), b.FrontierMs(), a.Offset(), a.FrontierMs())
	}
	formats := 0
	for range b.Formats() {
		formats++
	}
	if formats != 30 {
		t.Errorf("%d formats from the image, 30 are in the book", formats)
	}
}
