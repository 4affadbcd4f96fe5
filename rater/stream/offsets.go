package stream

import (
	"context"
	"errors"
	"fmt"

	kafka "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/listoffsets"
)

// Offsets are the ends of one partition: Start is the first message kept, End the
// offset after the last replicated one, LastStable the offset after the last one
// that no open transaction can still undo.
type Offsets struct {
	Partition              int32
	Start, LastStable, End int64
}

// What the ListOffsets request calls the first and the last offset, and its two
// isolation levels.
const (
	earliest, latest               = -2, -1
	readUncommitted, readCommitted = 0, 1
)

// ListOffsets asks the leaders for the ends of the partitions, in their order.
func (c *Client) ListOffsets(ctx context.Context, topic string, partitions []int32) ([]Offsets, error) {
	offsets := make([]Offsets, len(partitions))
	index := make(map[int32]int, len(partitions))
	for i, partition := range partitions {
		offsets[i].Partition = partition
		index[partition] = i
	}
	l, err := c.layoutOf(ctx, []string{topic})
	if err != nil {
		return nil, err
	}
	queries := []struct {
		timestamp int64
		isolation int8
		put       func(*Offsets, int64)
	}{
		{earliest, readUncommitted, func(o *Offsets, at int64) { o.Start = at }},
		{latest, readCommitted, func(o *Offsets, at int64) { o.LastStable = at }},
		{latest, readUncommitted, func(o *Offsets, at int64) { o.End = at }},
	}
	for _, q := range queries {
		got, err := c.listOffsets(ctx, l, topic, partitions, q.timestamp, q.isolation)
		if err != nil {
			l.stale.Store(true)
			return nil, fmt.Errorf("cannot find the offsets of %s: %w", topic, err)
		}
		for partition, at := range got {
			q.put(&offsets[index[partition]], at)
		}
	}
	return offsets, nil
}

// listOffsets asks each leader once about one of the offsets.
func (c *Client) listOffsets(ctx context.Context, l *layout, topic string, partitions []int32, timestamp int64, isolation int8) (map[int32]int64, error) {
	requests := map[int32]*listoffsets.Request{}
	var legs []protocol.Message
	for _, partition := range partitions {
		broker, err := l.leader(topic, partition)
		if err != nil {
			return nil, fmt.Errorf("partition %d: %w", partition, err)
		}
		r := requests[broker]
		if r == nil {
			r = &listoffsets.Request{ReplicaID: -1, IsolationLevel: isolation, Topics: []listoffsets.RequestTopic{{Topic: topic}}}
			requests[broker] = r
			legs = append(legs, &typed{broker: broker, clientID: c.cfg.ClientID, request: r})
		}
		r.Topics[0].Partitions = append(r.Topics[0].Partitions, listoffsets.RequestPartition{
			Partition: partition, CurrentLeaderEpoch: -1, Timestamp: timestamp,
		})
	}
	if len(legs) == 0 {
		return nil, nil
	}
	got := make(map[int32]int64, len(partitions))
	for i, err := range c.exchange(ctx, legs, c.cfg.RequestTimeout) {
		if err != nil {
			return nil, err
		}
		for _, t := range legs[i].(*typed).answer.(*listoffsets.Response).Topics {
			for _, p := range t.Partitions {
				if err := fromCode(p.ErrorCode); err != nil {
					return nil, fmt.Errorf("partition %d: %w", p.Partition, err)
				}
				got[p.Partition] = p.Offset
			}
		}
	}
	if len(got) < len(partitions) {
		return nil, fmt.Errorf("%w: %d of %d partitions are answered", errMalformed, len(got), len(partitions))
	}
	return got, nil
}

// GenerationRef names the member on whose behalf a commit is made. The zero value
// commits for a group without members, as tools do.
type GenerationRef struct {
	ID     int32
	Member string
}

// CommitOffset is what a group remembers of one partition: the next offset to
// read, and text of the committer's own, such as the topic's id.
type CommitOffset struct {
	Partition int32
	Offset    int64
	Metadata  string
}

// Commit makes the group remember where it is. It commits what it is given,
// backwards too. ErrFenced means that the generation is over and nothing was
// committed for its partitions: another member may have them.
func (c *Client) Commit(ctx context.Context, group string, generation GenerationRef, offsets map[string][]CommitOffset) error {
	request := &kafka.OffsetCommitRequest{
		GroupID: group, GenerationID: int(generation.ID), MemberID: generation.Member,
		Topics: make(map[string][]kafka.OffsetCommit, len(offsets)),
	}
	if generation == (GenerationRef{}) {
		request.GenerationID = -1
	}
	for topic, list := range offsets {
		commits := make([]kafka.OffsetCommit, len(list))
		for i, o := range list {
			commits[i] = kafka.OffsetCommit{Partition: int(o.Partition), Offset: o.Offset, Metadata: o.Metadata}
		}
		request.Topics[topic] = commits
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.RequestTimeout)
	defer cancel()
	answer, err := c.kafka.OffsetCommit(ctx, request)
	if err != nil {
		return fmt.Errorf("cannot commit for group %s: %w", group, err)
	}
	for topic, partitions := range answer.Topics {
		for _, p := range partitions {
			if p.Error != nil {
				return fmt.Errorf("cannot commit %s[%d] for group %s: %w", topic, p.Partition, group, fenced(p.Error))
			}
		}
	}
	return nil
}

// Committed asks what the group remembers of the partitions, in their order. The
// offset is -1 where it remembers nothing.
func (c *Client) Committed(ctx context.Context, group, topic string, partitions []int32) ([]CommitOffset, error) {
	request := &kafka.OffsetFetchRequest{GroupID: group, Topics: map[string][]int{topic: make([]int, len(partitions))}}
	committed := make([]CommitOffset, len(partitions))
	index := make(map[int]int, len(partitions))
	for i, partition := range partitions {
		request.Topics[topic][i] = int(partition)
		committed[i] = CommitOffset{Partition: partition, Offset: -1}
		index[int(partition)] = i
	}
	if len(partitions) == 0 {
		return committed, nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.RequestTimeout)
	defer cancel()
	answer, err := c.kafka.OffsetFetch(ctx, request)
	if err == nil {
		err = answer.Error
	}
	if errors.Is(err, kafka.GroupIdNotFound) {
		return committed, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read what group %s has committed: %w", group, err)
	}
	seen := 0
	for _, p := range answer.Topics[topic] {
		if p.Error != nil && !errors.Is(p.Error, kafka.GroupIdNotFound) {
			return nil, fmt.Errorf("cannot read what group %s has committed of %s[%d]: %w", group, topic, p.Partition, p.Error)
		}
		if i, ok := index[p.Partition]; ok {
			committed[i].Offset, committed[i].Metadata = p.CommittedOffset, p.Metadata
			seen++
		}
	}
	if seen < len(partitions) {
		return nil, fmt.Errorf("cannot read what group %s has committed of %s: %w: %d of %d partitions are answered", group, topic, errMalformed, seen, len(partitions))
	}
	return committed, nil
}
