package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/tollgate/tollgate/rater/stream"
)

// topics are the names of Tollgate's own logs.
type topics struct{ book, bookImages, entries, postings, snapshots, events, deadLetters string }

func topicsOf(prefix string) topics {
	return topics{prefix + "book", prefix + "book-images", prefix + "entries", prefix + "postings", prefix + "snapshots", prefix + "events", prefix + "dead-letters"}
}

// own tells whether a topic is one of these.
func (t topics) own(name string) bool {
	return slices.Contains([]string{t.book, t.bookImages, t.entries, t.postings, t.snapshots, t.events, t.deadLetters}, name)
}

// group is the consumer group of a stage.
func (c *Config) group(stage string) string { return c.Installation + "-" + stage }

// Limits of the logs. Retention of entries and postings must outlast several images and any outage of ClickHouse.
const (
	logRetention       = 7 * 24 * time.Hour
	messageMaxBytes    = 16 << 20
	snapshotsKeptBytes = 1 << 30 // of a shard; by size, not by age: the newest image is never too old to keep
)

// logSpecs describes the logs of an installation with so many shards.
func (a *App) logSpecs(shards int32) []stream.TopicSpec {
	stamped := func(name string, partitions int32, retentionMs, retentionBytes int64) stream.TopicSpec {
		return stream.TopicSpec{Name: name, Partitions: partitions, Replication: int16(a.cfg.Kafka.Replication), Configs: map[string]string{
			"message.timestamp.type": "LogAppendTime", "cleanup.policy": "delete",
			"retention.ms": strconv.FormatInt(retentionMs, 10), "retention.bytes": strconv.FormatInt(retentionBytes, 10),
			"max.message.bytes": strconv.Itoa(messageMaxBytes), "min.insync.replicas": strconv.Itoa(min(2, a.cfg.Kafka.Replication)),
			"unclean.leader.election.enable": "false",
		}}
	}
	kept := logRetention.Milliseconds()
	return []stream.TopicSpec{
		stamped(a.topics.book, 1, -1, -1),
		stamped(a.topics.bookImages, 1, -1, snapshotsKeptBytes),
		stamped(a.topics.entries, shards, kept, -1),
		stamped(a.topics.postings, shards, kept, -1),
		stamped(a.topics.snapshots, shards, -1, snapshotsKeptBytes),
		stamped(a.topics.events, shards, kept, -1),
		stamped(a.topics.deadLetters, shards, kept, -1),
	}
}

// makeLogs makes the logs that are not there yet, and reports each.
func (a *App) makeLogs(ctx context.Context, shards int32, report func(string)) error {
	for _, spec := range a.logSpecs(shards) {
		created, err := a.kafka.EnsureTopic(ctx, spec)
		if err != nil {
			return err
		}
		if created {
			report(fmt.Sprintf("topic %s made, %d partitions", spec.Name, spec.Partitions))
		} else {
			report(fmt.Sprintf("topic %s is there", spec.Name))
		}
	}
	return nil
}

// errNotMigrated says that an installation lacks its logs.
var errNotMigrated = errors.New("run `tollgate migrate` first")

// checkLogs makes sure that the logs are there before any stage starts: a clear line now beats retries for ever.
func (a *App) checkLogs(ctx context.Context) error {
	for _, name := range []string{a.topics.book, a.topics.bookImages, a.topics.entries, a.topics.postings, a.topics.snapshots, a.topics.events, a.topics.deadLetters} {
		if _, err := a.kafka.TopicID(ctx, name); errors.Is(err, stream.ErrUnknownTopic) {
			return fmt.Errorf("kafka has no topic %s: %w", name, errNotMigrated)
		} else if err != nil {
			return fmt.Errorf("cannot reach kafka at %v: %w", a.cfg.Kafka.Brokers, err)
		}
	}
	return nil
}
