package stream

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/tollgate/tollgate/deploy/local"
)

// TestApacheKafka runs on Apache Kafka itself what the tests above run on brokers
// in this process, and adds what only it does: it marks its append times.
func TestApacheKafka(t *testing.T) {
	stack := local.ForTest(t, local.ApacheKafka)
	brokers := []string{stack.KafkaAddr}
	for _, codec := range []Codec{CodecNone, CodecSnappy, CodecLZ4, CodecZstd} {
		t.Run("produce and fetch "+codec.String(), func(t *testing.T) { produceAndFetch(t, brokers, codec) })
	}
	t.Run("fetch others", func(t *testing.T) { fetchOthers(t, brokers, nil) })
	t.Run("transactions", func(t *testing.T) { transactions(t, brokers) })
	t.Run("out of range", func(t *testing.T) { outOfRange(t, brokers) })
	t.Run("commit metadata", func(t *testing.T) { commitMetadata(t, brokers) })
	t.Run("group", func(t *testing.T) { groupHandsOver(t, brokers) })
	t.Run("topics", func(t *testing.T) { topicsLive(t, brokers) })
	t.Run("append time", func(t *testing.T) { appendTime(t, brokers) })
	t.Run("large batch", func(t *testing.T) { largeBatch(t, brokers) })
	t.Run("killed", func(t *testing.T) { killed(t, stack) })
}

// killed kills the only broker twice in the middle of traffic and starts it again:
// the member of the group comes back, and every message arrives, in order.
func killed(t *testing.T, stack *local.Stack) {
	ctx := testContext(t)
	c := newClient(t, []string{stack.KafkaAddr})
	ensure(t, ctx, c, "killed", 2)
	want, got := make([][]string, 2), make([][]string, 2)
	run, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		done <- c.RunGroup(run, quick("killed", "killed"), func(ctx context.Context, g Generation) error {
			f, positions := c.NewFetcher(), []Position{{Topic: "killed"}, {Topic: "killed", Partition: 1}}
			clear(got)
			for ctx.Err() == nil {
				if err := f.Fetch(ctx, positions, 20*time.Millisecond); err != nil {
					continue
				}
				for i := range positions {
					var m Message
					for f.Result(i).Next(&m) {
						got[i] = append(got[i], string(m.Value))
					}
					positions[i].Offset = f.Result(i).NextOffset
				}
				if len(got[0]) > 0 && len(got[1]) > 0 && got[0][len(got[0])-1] == "last" && got[1][len(got[1])-1] == "last" {
					stop()
				}
			}
			return nil
		})
	}()
	p := c.NewProducer()
	for i := range 300 {
		if i == 100 || i == 200 {
			if err := stack.Kafka.Kill(); err != nil {
				t.Fatal(err)
			}
			if err := stack.Kafka.Restart(ctx); err != nil {
				t.Fatal(err)
			}
		}
		p.Reset()
		for partition := range 2 {
			v := value("killed", int32(partition), i)
			if i == 299 {
				v = "last"
			}
			want[partition] = append(want[partition], v)
			if err := p.Append("killed", int32(partition), nil, []byte(v)); err != nil {
				t.Fatal(err)
			}
		}
		send(t, ctx, p)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for i := range got {
		got[i] = slices.Compact(got[i]) // a produce of unknown outcome may be there twice
	}
	compareValues(t, got, want)
}

// appendTime holds the acknowledgement and the fetch to the same broker's time.
func appendTime(t *testing.T, brokers []string) {
	ctx := testContext(t)
	for _, codec := range []Codec{CodecNone, CodecLZ4} {
		c := newClient(t, brokers, func(cfg *Config) { cfg.Codec = codec })
		spec := TopicSpec{Name: "stamped-" + codec.String(), Partitions: 1, Replication: 1, Configs: map[string]string{"message.timestamp.type": "LogAppendTime"}}
		if _, err := c.EnsureTopic(ctx, spec); err != nil {
			t.Fatal(err)
		}
		p, f := c.NewProducer(), c.NewFetcher()
		before := time.Now().UnixMilli()
		for i := range 100 {
			if err := p.Append(spec.Name, 0, nil, []byte(value(spec.Name, 0, i))); err != nil {
				t.Fatal(err)
			}
		}
		send(t, ctx, p)
		r := p.Result(0)
		if r.AppendTime < before || r.AppendTime > time.Now().UnixMilli() {
			t.Fatalf("%+v, sent at %d", r, before)
		}
		if err := f.Fetch(ctx, []Position{{Topic: spec.Name}}, time.Second); err != nil {
			t.Fatal(err)
		}
		var m Message
		n := 0
		for ; f.Result(0).Next(&m); n++ {
			if !m.AppendTimeSet || m.AppendTime != r.AppendTime {
				t.Fatalf("%+v, acknowledged %+v", m, r)
			}
		}
		if n != 100 || f.Result(0).Err != nil {
			t.Fatal(n, f.Result(0).Err)
		}
	}
}

// largeBatch produces more than the topic takes, which is not retriable, and reads
// a batch that is larger than all limits of a fetch.
func largeBatch(t *testing.T, brokers []string) {
	ctx := testContext(t)
	c := newClient(t, brokers, func(cfg *Config) { cfg.FetchMaxBytes, cfg.PartitionMaxBytes = 10_000, 10_000 })
	spec := TopicSpec{Name: "large", Partitions: 2, Replication: 1, Configs: map[string]string{"max.message.bytes": "1000000"}}
	if _, err := c.EnsureTopic(ctx, spec); err != nil {
		t.Fatal(err)
	}
	p, f := c.NewProducer(), c.NewFetcher()
	for partition, size := range []int{900_000, 2_000_000} {
		if err := p.Append("large", int32(partition), nil, make([]byte, size)); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Send(ctx); err == nil || Retriable(err) || p.Result(0).Err != nil {
		t.Fatal(err, p.Result(0).Err)
	}
	if err := f.Fetch(ctx, []Position{{Topic: "large"}}, time.Second); err != nil {
		t.Fatal(err)
	}
	var m Message
	if !f.Result(0).Next(&m) || len(m.Value) != 900_000 {
		t.Fatal(f.Result(0).Err)
	}
}
