package stream

import (
	"errors"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestTopics(t *testing.T) {
	cluster, _ := newCluster(t, 3)
	topicsLive(t, cluster.ListenAddrs())
}

// topicsLive makes a topic, finds it the same, finds it different, deletes it and
// makes it anew: then it has another id.
func topicsLive(t *testing.T, brokers []string) {
	ctx := testContext(t)
	c := newClient(t, brokers)
	spec := TopicSpec{Name: "lives", Partitions: 5, Replication: 1, Configs: map[string]string{"message.timestamp.type": "LogAppendTime", "retention.ms": "86400000"}}
	created, err := c.EnsureTopic(ctx, spec)
	if err != nil || !created {
		t.Fatal(created, err)
	}
	if created, err := c.EnsureTopic(ctx, spec); err != nil || created {
		t.Fatal(created, err)
	}
	first, err := c.Topic(ctx, "lives")
	if err != nil || first.ID == (TopicID{}) || len(first.Partitions) != 5 || len(first.Partitions[4].InSync) != 1 {
		t.Fatalf("%+v %v", first, err)
	}
	other := spec
	other.Partitions, other.Configs = 6, map[string]string{"retention.ms": "1", "message.timestamp.type": "LogAppendTime"}
	_, err = c.EnsureTopic(ctx, other)
	var mismatch *MismatchError
	want := []string{"partitions: 5, want 6", `retention.ms: "86400000", want "1"`}
	if !errors.As(err, &mismatch) || !slices.Equal(mismatch.Differences, want) {
		t.Fatal(err)
	}
	configs, err := c.Configs(ctx, "lives")
	if err != nil || configs["cleanup.policy"] != "delete" || configs["min.insync.replicas"] == "" {
		t.Fatal(configs, err)
	}
	if err := c.DeleteTopic(ctx, "lives"); err != nil {
		t.Fatal(err)
	}
	for !errors.Is(err, ErrUnknownTopic) { // until every broker knows
		_, err = c.TopicID(ctx, "lives")
	}
	if err := c.DeleteTopic(ctx, "lives"); !errors.Is(err, ErrUnknownTopic) {
		t.Fatal(err)
	}
	if created, err := c.EnsureTopic(ctx, spec); err != nil || !created {
		t.Fatal(created, err)
	}
	if again, err := c.TopicID(ctx, "lives"); err != nil || again == first.ID {
		t.Fatal(again, err)
	}
	if n, err := c.Partitions(ctx, "lives"); err != nil || n != 5 {
		t.Fatal(n, err)
	}
	info, err := c.Cluster(ctx)
	if err != nil || len(info.Brokers) == 0 || info.MetadataVersion < versionMetadata || info.FetchVersion < versionFetch || info.ProduceVersion < versionProduce {
		t.Fatalf("%+v %v", info, err)
	}
}

// TestTooOld meets brokers from before topic ids.
func TestTooOld(t *testing.T) {
	ctx := testContext(t)
	cluster, _ := newCluster(t, 1, kfake.SeedTopics(1, "entries"))
	cluster.ControlKey(18, func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		answer := r.ResponseKind().(*kmsg.ApiVersionsResponse)
		for key, highest := range map[int16]int16{keyProduce: 7, keyFetch: 10, keyMetadata: 8, 18: 2} {
			k := kmsg.NewApiVersionsResponseApiKey()
			k.ApiKey, k.MaxVersion = key, highest
			answer.ApiKeys = append(answer.ApiKeys, k)
		}
		return answer, nil, true
	})
	c := newClient(t, cluster.ListenAddrs())
	_, err := c.TopicID(ctx, "entries")
	if !errors.Is(err, ErrBrokerTooOld) || Retriable(err) {
		t.Fatal(err)
	}
	if info, err := c.Cluster(ctx); err != nil || info.MetadataVersion != 8 {
		t.Fatalf("%+v %v", info, err)
	}
	c.recent.Store(true)
	f := c.NewFetcher()
	if err := f.Fetch(ctx, []Position{{Topic: "entries"}}, 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Result(0).Err; !errors.Is(err, ErrBrokerTooOld) {
		t.Fatal(err)
	}
}

func TestConfig(t *testing.T) {
	for _, cfg := range []Config{{}, {Brokers: []string{"a:1"}, Codec: CodecGzip}, {Brokers: []string{"a:1"}, RequestTimeout: -1}, {Brokers: []string{"a:1"}, FetchMaxBytes: 2, ResponseMaxBytes: 1}} {
		if c, err := New(cfg); err == nil {
			c.Close()
			t.Errorf("%+v was accepted", cfg)
		}
	}
	for _, name := range []string{"none", "snappy", "lz4", "zstd"} {
		if c, err := ParseCodec(name); err != nil || c.String() != name {
			t.Error(name, c, err)
		}
	}
	for _, name := range []string{"gzip", "", "brotli"} {
		if _, err := ParseCodec(name); err == nil {
			t.Errorf("%q was accepted", name)
		}
	}
}
