package stream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	kafka "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/createtopics"
	"github.com/segmentio/kafka-go/protocol/deletetopics"
	"github.com/segmentio/kafka-go/protocol/describeconfigs"
)

// TopicSpec is how a topic should be. Configs are Kafka's own topic settings,
// such as message.timestamp.type; those not named keep the cluster's defaults.
type TopicSpec struct {
	Name        string
	Partitions  int32
	Replication int16
	Configs     map[string]string
}

// MismatchError says how an existing topic differs from its TopicSpec. Nothing
// was changed: that is the operator's decision.
type MismatchError struct {
	Topic string
	// Differences are sentences such as "partitions: 8, want 16".
	Differences []string
}

// Error lists the differences.
func (e *MismatchError) Error() string {
	return fmt.Sprintf("topic %s is not as it must be: %s", e.Topic, strings.Join(e.Differences, "; "))
}

// metadataPoll is how often EnsureTopic looks whether a new topic has leaders.
const metadataPoll = 20 * time.Millisecond

// EnsureTopic makes the topic unless it exists, and says whether it did. It
// returns when every partition has a leader. An existing topic that differs in
// partitions, replicas or a named setting is a *MismatchError and is left alone.
func (c *Client) EnsureTopic(ctx context.Context, spec TopicSpec) (created bool, err error) {
	topic, err := c.Topic(ctx, spec.Name)
	if errors.Is(err, ErrUnknownTopic) {
		err = c.createTopic(ctx, spec)
		if created = err == nil; errors.Is(err, kafka.TopicAlreadyExists) {
			err = nil // someone else was faster
		}
		if err == nil {
			topic, err = c.awaitLeaders(ctx, spec)
		}
	}
	if err != nil {
		return created, err
	}
	return created, c.compare(ctx, spec, topic)
}

func (c *Client) createTopic(ctx context.Context, spec TopicSpec) error {
	topic := createtopics.RequestTopic{Name: spec.Name, NumPartitions: spec.Partitions, ReplicationFactor: spec.Replication}
	for _, name := range slices.Sorted(maps.Keys(spec.Configs)) {
		topic.Configs = append(topic.Configs, createtopics.RequestConfig{Name: name, Value: spec.Configs[name]})
	}
	request := &createtopics.Request{Topics: []createtopics.RequestTopic{topic}, TimeoutMs: c.halfTimeoutMs()}
	answer, err := c.askController(ctx, request)
	if err != nil {
		return fmt.Errorf("cannot create topic %s: %w", spec.Name, err)
	}
	for _, t := range answer.(*createtopics.Response).Topics {
		if err := fromCode(t.ErrorCode); err != nil {
			return fmt.Errorf("cannot create topic %s: %w %s", spec.Name, err, t.ErrorMessage)
		}
	}
	return nil
}

func (c *Client) halfTimeoutMs() int32 { return int32(c.cfg.RequestTimeout.Milliseconds() / 2) }

// askController sends a request that only the controller may answer.
func (c *Client) askController(ctx context.Context, request kafka.Request) (kafka.Response, error) {
	l, err := c.metadata(ctx, nil)
	if err != nil {
		return nil, err
	}
	return c.ask(ctx, l.cluster.Controller, request)
}

// awaitLeaders waits until the topic can be read and written: until its leaders
// are known, and know themselves that they lead.
func (c *Client) awaitLeaders(ctx context.Context, spec TopicSpec) (Topic, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.RequestTimeout)
	defer cancel()
	for {
		topic, err := c.Topic(ctx, spec.Name)
		if err == nil {
			partitions := make([]int32, len(topic.Partitions))
			for i := range partitions {
				partitions[i] = int32(i)
			}
			if _, err = c.ListOffsets(ctx, spec.Name, partitions); err == nil && len(partitions) > 0 {
				return topic, nil
			}
		}
		if err != nil && !Retriable(err) {
			return topic, err
		}
		if ended := pause(ctx, metadataPoll); ended != nil {
			return topic, fmt.Errorf("cannot use topic %s yet: not all of its partitions have a leader: %w", spec.Name, errors.Join(ended, err))
		}
	}
}

func (c *Client) compare(ctx context.Context, spec TopicSpec, topic Topic) error {
	var differences []string
	if n := len(topic.Partitions); n != int(spec.Partitions) {
		differences = append(differences, fmt.Sprintf("partitions: %d, want %d", n, spec.Partitions))
	}
	if len(topic.Partitions) > 0 && spec.Replication > 0 {
		if n := len(topic.Partitions[0].Replicas); n != int(spec.Replication) {
			differences = append(differences, fmt.Sprintf("replicas: %d, want %d", n, spec.Replication))
		}
	}
	if len(spec.Configs) > 0 {
		configs, err := c.Configs(ctx, spec.Name)
		if err != nil {
			return err
		}
		for _, name := range slices.Sorted(maps.Keys(spec.Configs)) {
			if got, want := configs[name], spec.Configs[name]; got != want {
				differences = append(differences, fmt.Sprintf("%s: %q, want %q", name, got, want))
			}
		}
	}
	if len(differences) > 0 {
		return &MismatchError{Topic: spec.Name, Differences: differences}
	}
	return nil
}

// resourceTopic is what DescribeConfigs calls a topic.
const resourceTopic = 2

// Configs gives all settings of the topic, the cluster's defaults included:
// message.timestamp.type, retention.ms, cleanup.policy, min.insync.replicas ...
func (c *Client) Configs(ctx context.Context, topic string) (map[string]string, error) {
	answer, err := c.ask(ctx, anyBroker, &describeconfigs.Request{
		Resources: []describeconfigs.RequestResource{{ResourceType: resourceTopic, ResourceName: topic}},
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read the settings of topic %s: %w", topic, err)
	}
	configs := map[string]string{}
	for _, r := range answer.(*describeconfigs.Response).Resources {
		if err := fromCode(r.ErrorCode); err != nil {
			return nil, fmt.Errorf("cannot read the settings of topic %s: %w %s", topic, err, r.ErrorMessage)
		}
		for _, entry := range r.ConfigEntries {
			configs[entry.ConfigName] = entry.ConfigValue
		}
	}
	return configs, nil
}

// DeleteTopic deletes the topic with all its messages. ErrUnknownTopic means that
// there is none.
func (c *Client) DeleteTopic(ctx context.Context, topic string) error {
	request := &deletetopics.Request{TopicNames: []string{topic}, TimeoutMs: c.halfTimeoutMs()}
	answer, err := c.askController(ctx, request)
	if err != nil {
		return fmt.Errorf("cannot delete topic %s: %w", topic, err)
	}
	for _, t := range answer.(*deletetopics.Response).Responses {
		if err := fromCode(t.ErrorCode); err != nil {
			return fmt.Errorf("cannot delete topic %s: %w", topic, err)
		}
	}
	if l := c.layout.Load(); l != nil {
		l.stale.Store(true)
	}
	return nil
}
