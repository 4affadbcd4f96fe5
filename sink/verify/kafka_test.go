package verify

import (
	"bytes"
	"errors"
	"testing"

	"github.com/tollgate/tollgate/deploy/local"
	"github.com/tollgate/tollgate/rater/stream"
)

func TestKafkaGivesEveryBlockOnce(t *testing.T) {
	stack := local.ForTest(t, local.EmbeddedKafka)
	client, err := stream.New(stream.Config{Brokers: []string{stack.KafkaAddr}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for _, topic := range []string{"entries", "postings"} {
		if _, err := client.EnsureTopic(t.Context(), stream.TopicSpec{Name: topic, Partitions: 2, Replication: 1}); err != nil {
			t.Fatal(err)
		}
	}
	w := newWorld(11, 2, 1).live(40, 20)
	for shard, s := range w.shards {
		for i := range s.entries {
			append1(t, client, "entries", int32(shard), s.entries[i])
			append1(t, client, "postings", int32(shard), s.postings[i])
			if i%5 == 3 { // what a zombie ships again
				append1(t, client, "postings", int32(shard), s.postings[i-2])
				append1(t, client, "postings", int32(shard), s.postings[i])
			}
		}
	}
	logs := NewKafka(client, "entries", "postings")
	for shard, s := range w.shards {
		start, end, err := logs.Bounds(t.Context(), int32(shard))
		if err != nil || start != 0 || end != int64(len(s.entries)) {
			t.Fatalf("shard %d: %d to %d, %v", shard, start, end, err)
		}
		for _, from := range []int64{0, 7} {
			next := from
			if err := logs.Entries(t.Context(), int32(shard), from, end-2, func(offset, appendMs int64, block []byte) error {
				if offset != next || appendMs <= 0 || !bytes.Equal(block, s.entries[offset]) {
					t.Errorf("block %d instead of %d, appended at %d", offset, next, appendMs)
				}
				next++
				return nil
			}); err != nil || next != end-1 {
				t.Errorf("entries from %d end before %d of %d: %v", from, next, end, err)
			}
			next = from
			if err := logs.Postings(t.Context(), int32(shard), from, end-1, func(block []byte) error {
				if !bytes.Equal(block, s.postings[next]) {
					t.Errorf("other postings than those of block %d", next)
				}
				next++
				return nil
			}); err != nil || next != end {
				t.Errorf("postings from %d end before %d of %d: %v", from, next, end, err)
			}
		}
		if err := logs.Entries(t.Context(), int32(shard), 3, 2, nil); err != nil {
			t.Errorf("no entries: %v", err)
		}
		wrong := errors.New("no more")
		if err := logs.Entries(t.Context(), int32(shard), 0, 2, func(int64, int64, []byte) error { return wrong }); !errors.Is(err, wrong) {
			t.Errorf("the error of yield became %v", err)
		}
	}
}

func append1(t *testing.T, client *stream.Client, topic string, partition int32, value []byte) {
	t.Helper()
	producer := client.NewProducer()
	producer.Reset()
	if err := producer.Append(topic, partition, nil, value); err != nil {
		t.Fatal(err)
	}
	if err := producer.Send(t.Context()); err != nil {
		t.Fatal(err)
	}
}
