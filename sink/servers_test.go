package sink

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tollgate/tollgate/balance/posting"
	"github.com/tollgate/tollgate/deploy/local"
	"github.com/tollgate/tollgate/rater/stream"
)

// TestRealServers stores postings from Kafka in ClickHouse, by two loops one after the other of which the first is
// stopped half-way, while ClickHouse is killed once.
func TestRealServers(t *testing.T) {
	stack := local.ForTest(t, local.EmbeddedKafka, local.ClickHouse)
	client, err := stream.New(stream.Config{Brokers: []string{stack.KafkaAddr}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.EnsureTopic(t.Context(), stream.TopicSpec{Name: "postings", Partitions: 2, Replication: 1}); err != nil {
		t.Fatal(err)
	}
	options := Options{Addrs: []string{stack.ClickHouseAddr}}
	if err := Migrate(t.Context(), options, 0); err != nil {
		t.Fatal(err)
	}
	store, err := Open(options)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()

	r := rand.New(rand.NewPCG(5, 6))
	producer, rows := client.NewProducer(), 0
	produce := func(from, to int64) {
		for offset := from; offset < to; offset++ {
			producer.Reset()
			for shard := range int32(2) {
				b := randomBlock(r, offset, 1+r.IntN(50))
				rows += b.Entries.Len()
				if err := producer.Append("postings", shard, nil, wireOf(b)); err != nil {
					t.Fatal(err)
				}
			}
			if err := producer.Send(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	cfg := DefaultConfig()
	cfg.MaxAge = 100 * time.Millisecond
	run := func(last int64, meanwhile func()) {
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		loop := NewLoop(Deps{Reader: client.NewFetcher(), Topics: client, Commits: client, Store: store, Clock: stream.SystemClock{},
			Metrics: NewMetrics(prometheus.NewRegistry()), Logger: slog.New(slog.DiscardHandler)}, cfg, stream.GenerationRef{}, []int32{0, 1})
		done := make(chan error, 1)
		go func() { done <- loop.Run(ctx) }()
		meanwhile()
		for stored := int64(-1); stored < last && ctx.Err() == nil; { // wait until both shards have committed
			topicID, err := client.TopicID(ctx, "postings")
			if err != nil {
				t.Fatal(err)
			}
			commits, err := client.Committed(ctx, "store", "postings", []int32{0, 1})
			if err != nil {
				t.Fatal(err)
			}
			stored = 1 << 40
			for _, c := range commits {
				p, err := posting.ParseCursor(c.Offset, c.Metadata, topicID)
				if err != nil {
					t.Fatal(err)
				}
				stored = min(stored, p.Last)
			}
		}
		stop()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	produce(0, 30)
	run(20, func() {})
	run(59, func() {
		if err := stack.ClickHouse.Kill(); err != nil {
			t.Fatal(err)
		}
		produce(30, 60)
		if err := stack.ClickHouse.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	var stored uint64
	const count = "SELECT (SELECT count() FROM rated_records FINAL) + (SELECT count() FROM account_entries FINAL) + (SELECT count() FROM dead_letters FINAL)"
	if err := store.conn.QueryRow(t.Context(), count).Scan(&stored); err != nil || stored != uint64(rows) {
		t.Errorf("%d rows are stored of %d, %v", stored, rows, err)
	}
}
