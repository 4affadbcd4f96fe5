package audit

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tollgate/tollgate/rater/stream"
)

// passing is a Kafka of which retention takes the first entries while a loop looks for an image: before that there is no
// image and no need of one, after it there would be two.
type passing struct{ entriesStart int64 }

func (p *passing) TopicID(context.Context, string) (stream.TopicID, error) {
	return stream.TopicID{1}, nil
}

func (p *passing) ListOffsets(_ context.Context, topic string, shards []int32) (edges []stream.Offsets, err error) {
	for _, shard := range shards {
		edge := stream.Offsets{Partition: shard}
		switch topic {
		case "entries":
			edge.Start, edge.End = p.entriesStart, 9
		case "snapshots":
			p.entriesStart = 5
		}
		edges = append(edges, edge)
	}
	return edges, nil
}

// A loop that found no image because there was none yet must not take the log that was cut since for one that cannot be
// folded: it reads it, is told that it was cut, and begins again. A log that was cut before is one.
func TestLogCutWhileImagesAreSought(t *testing.T) {
	for start, stopped := range map[int64]bool{0: false, 3: true} {
		kafka, cfg := &passing{entriesStart: start}, DefaultConfig()
		cfg.EntriesTopic, cfg.PostingsTopic, cfg.SnapshotsTopic = "entries", "postings", "snapshots"
		l := NewLoop(Deps{Topics: kafka, Snapshots: NewSnapshots(nil, kafka, "snapshots"), Clock: &standing{now: time.UnixMilli(0)},
			Metrics: NewMetrics(prometheus.NewRegistry(), stream.SystemClock{}), Logger: slog.New(slog.DiscardHandler)}, cfg, []int32{0})
		if err := l.start(t.Context()); err != nil || (l.shards[0].stopped != "") != stopped {
			t.Errorf("a log that began at %d: stopped %q, %v", start, l.shards[0].stopped, err)
		}
	}
}
