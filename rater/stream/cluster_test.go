package stream

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// appendClock is the broker's clock of the tests' clusters: each produce request
// is appended one millisecond after the one before.
type appendClock struct{ now atomic.Int64 }

// newCluster starts brokers in this process. They stamp batches as a topic with
// LogAppendTime does, except that they cannot set the attribute that says so.
func newCluster(t testing.TB, brokers int, opts ...kfake.Opt) (*kfake.Cluster, *appendClock) {
	t.Helper()
	cluster, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(brokers)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	clock := &appendClock{}
	clock.now.Store(1_700_000_000_000)
	cluster.ControlKey(keyProduce, func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		now := uint64(clock.now.Add(1))
		for _, topic := range r.(*kmsg.ProduceRequest).Topics {
			for _, p := range topic.Partitions {
				if b := p.Records; len(b) >= batchHeader {
					be.PutUint64(b[atFirstTime:], now)
					be.PutUint64(b[atMaxTime:], now)
					checksum(b)
				}
			}
		}
		return nil, nil, false
	})
	return cluster, clock
}

func newClient(t testing.TB, brokers []string, change ...func(*Config)) *Client {
	t.Helper()
	cfg := Config{Brokers: brokers, RequestTimeout: 5 * time.Second, MetadataTTL: 200 * time.Millisecond, FetchMaxBytes: 64 << 20}
	for _, f := range change {
		f(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// collect reads partitions until each has reached its end, and gives the values
// by partition. It fails on any error, on offsets that do not ascend, and on
// lists that are not at the offsets that NextOffset promised.
func collect(t testing.TB, ctx context.Context, c *Client, from []Position, ends []int64) [][]string {
	t.Helper()
	values := make([][]string, len(from))
	f := c.NewFetcher()
	positions := append([]Position(nil), from...)
	for !reached(positions, ends) {
		if err := f.Fetch(ctx, positions, 50*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		for i := range positions {
			r := f.Result(i)
			var m Message
			for next := positions[i].Offset; r.Next(&m); next = m.Offset + 1 {
				if m.Offset < next {
					t.Fatalf("%v: offset %d after %d", positions[i], m.Offset, next)
				}
				values[i] = append(values[i], string(m.Value))
			}
			if r.Err != nil && !Retriable(r.Err) {
				t.Fatal(r.Err)
			}
			if r.NextOffset < positions[i].Offset {
				t.Fatalf("%v: next offset %d", positions[i], r.NextOffset)
			}
			positions[i].Offset = r.NextOffset
		}
	}
	return values
}

func reached(positions []Position, ends []int64) bool {
	for i, p := range positions {
		if p.Offset < ends[i] {
			return false
		}
	}
	return true
}

// send sends until everything is acknowledged, as a loop would.
func send(t testing.TB, ctx context.Context, p *Producer) {
	t.Helper()
	for {
		err := p.Send(ctx)
		if err == nil {
			return
		}
		if !Retriable(err) {
			t.Fatal(err)
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
}

func ensure(t testing.TB, ctx context.Context, c *Client, topic string, partitions int32) {
	t.Helper()
	if _, err := c.EnsureTopic(ctx, TopicSpec{Name: topic, Partitions: partitions, Replication: 1}); err != nil {
		var mismatch *MismatchError
		if !errors.As(err, &mismatch) {
			t.Fatal(err)
		}
	}
}

func value(topic string, partition int32, i int) string {
	return fmt.Sprintf("%s[%d] message %d, with some text that can be compressed, compressed, compressed", topic, partition, i)
}
