package stream

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync/atomic"

	kafka "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
)

// TopicID is the cluster's own name for one life of a topic: a topic that was
// deleted and made anew has another. The zero value is no topic.
type TopicID [16]byte

// Topic is what the cluster says of one topic at one moment.
type Topic struct {
	Name       string
	ID         TopicID
	Partitions []Partition // by number, without gaps
}

// Partition is what the cluster says of one partition: the brokers' ids. Leader
// is -1 while there is none.
type Partition struct {
	Leader   int32
	Replicas []int32
	InSync   []int32
}

// Broker is one member of the cluster, and the address at which it wants clients.
type Broker struct {
	ID   int32
	Host string
	Port int32
	Rack string
}

// Cluster is what doctor wants to know: who is there, and the highest version of
// the three requests that decide whether the brokers are recent enough.
type Cluster struct {
	ID         string
	Controller int32
	Brokers    []Broker

	ProduceVersion, FetchVersion, MetadataVersion int
}

// layout is where everything is; immutable, swapped whole. Only stale changes:
// whoever gets an error that a moved leader can explain sets it, and the next
// look-up asks the cluster again.
type layout struct {
	cluster Cluster
	topics  map[string]Topic
	errs    map[string]error // of topics that were asked for and could not be had
	stale   atomic.Bool
}

func (l *layout) covers(topics []string) bool {
	for _, name := range topics {
		if _, ok := l.topics[name]; !ok {
			return false
		}
	}
	return true
}

// leader gives the broker that leads the partition.
func (l *layout) leader(topic string, partition int32) (int32, error) {
	t, ok := l.topics[topic]
	if !ok {
		if err := l.errs[topic]; err != nil {
			return 0, err
		}
		return 0, ErrUnknownTopic
	}
	if partition < 0 || int(partition) >= len(t.Partitions) {
		return 0, ErrUnknownTopic
	}
	if leader := t.Partitions[partition].Leader; leader >= 0 {
		return leader, nil
	}
	l.stale.Store(true)
	return 0, kafka.LeaderNotAvailable
}

// layoutOf gives a layout that was asked about the topics. It asks the cluster
// only where a topic is new to it or the layout is stale.
func (c *Client) layoutOf(ctx context.Context, topics []string) (*layout, error) {
	if l := c.layout.Load(); l != nil && !l.stale.Load() && l.covers(topics) {
		return l, nil
	}
	c.refresh.Lock()
	defer c.refresh.Unlock()
	wanted := slices.Clone(topics)
	if l := c.layout.Load(); l != nil {
		if !l.stale.Load() && l.covers(topics) {
			return l, nil // another loop has just asked
		}
		for name := range l.topics {
			if !slices.Contains(wanted, name) {
				wanted = append(wanted, name)
			}
		}
	}
	l, err := c.metadata(ctx, wanted)
	if err != nil {
		return nil, err
	}
	c.layout.Store(l)
	return l, nil
}

// metadata asks any broker where the topics are.
func (c *Client) metadata(ctx context.Context, topics []string) (*layout, error) {
	if err := c.checkVersions(ctx); err != nil {
		return nil, err
	}
	k := &call{}
	c.begin(k, anyBroker, keyMetadata, versionMetadata)
	k.out = appendMetadataRequest(k.out, topics)
	if err := c.exchange(ctx, []protocol.Message{k}, c.cfg.RequestTimeout)[0]; err != nil {
		return nil, fmt.Errorf("cannot ask Kafka at %s for its topics: %w", c.addr, err)
	}
	l, err := decodeMetadata(k.in)
	if err != nil {
		return nil, fmt.Errorf("cannot read what Kafka at %s says of its topics: %w", c.addr, err)
	}
	return l, nil
}

// checkVersions asks once whether the brokers know topic ids: kafka-go does not
// negotiate so high a version of the metadata request for us.
func (c *Client) checkVersions(ctx context.Context) error {
	if c.recent.Load() {
		return nil
	}
	highest, err := c.versions(ctx)
	if err != nil {
		return err
	}
	if v := highest[keyMetadata]; v < versionMetadata {
		return fmt.Errorf("cannot use Kafka at %s: %w: it speaks Metadata v%d, topic ids need v%d", c.addr, ErrBrokerTooOld, v, versionMetadata)
	}
	c.recent.Store(true)
	return nil
}

func (c *Client) versions(ctx context.Context) (map[int]int, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.RequestTimeout)
	defer cancel()
	answer, err := c.kafka.ApiVersions(ctx, &kafka.ApiVersionsRequest{})
	if err == nil {
		err = answer.Error
	}
	if err != nil {
		return nil, fmt.Errorf("cannot ask Kafka at %s which requests it speaks: %w", c.addr, err)
	}
	highest := make(map[int]int, len(answer.ApiKeys))
	for _, key := range answer.ApiKeys {
		highest[key.ApiKey] = key.MaxVersion
	}
	return highest, nil
}

// Topic asks the cluster what it knows of the topic now: its id, its partitions,
// their leaders and replicas. Errors are ErrUnknownTopic where there is none.
func (c *Client) Topic(ctx context.Context, topic string) (Topic, error) {
	l, err := c.metadata(ctx, []string{topic})
	if err != nil {
		return Topic{}, err
	}
	if err := l.errs[topic]; err != nil {
		return Topic{}, fmt.Errorf("cannot find topic %s: %w", topic, err)
	}
	t, ok := l.topics[topic]
	if !ok {
		return Topic{}, fmt.Errorf("cannot find topic %s: %w", topic, ErrUnknownTopic)
	}
	return t, nil
}

// TopicID asks the cluster for the topic's id. Ask at each assignment: what was
// committed counts only together with the id of the topic it was committed for.
func (c *Client) TopicID(ctx context.Context, topic string) (TopicID, error) {
	t, err := c.Topic(ctx, topic)
	return t.ID, err
}

// Partitions asks the cluster how many partitions the topic has.
func (c *Client) Partitions(ctx context.Context, topic string) (int32, error) {
	t, err := c.Topic(ctx, topic)
	return int32(len(t.Partitions)), err
}

// Cluster asks who is there and how recent the brokers are. It answers for
// brokers that are too old, too, so that doctor can say so.
func (c *Client) Cluster(ctx context.Context) (Cluster, error) {
	highest, err := c.versions(ctx)
	if err != nil {
		return Cluster{}, err
	}
	cluster := Cluster{ProduceVersion: highest[keyProduce], FetchVersion: highest[keyFetch], MetadataVersion: highest[keyMetadata]}
	if cluster.MetadataVersion < versionMetadata {
		return cluster, nil
	}
	l, err := c.metadata(ctx, nil)
	if err != nil {
		return cluster, err
	}
	cluster.ID, cluster.Controller, cluster.Brokers = l.cluster.ID, l.cluster.Controller, l.cluster.Brokers
	return cluster, nil
}

func appendMetadataRequest(b []byte, topics []string) []byte {
	b = append(b, 0) // no tags in the header
	b = binary.AppendUvarint(b, uint64(len(topics)+1))
	for _, name := range topics {
		b = append(b, noField[:]...) // by name, not by id
		b = appendCompactString(b, name)
		b = append(b, 0)
	}
	b = append(b, 0, 0, 0) // do not create topics, do not list what is authorised
	return endRequest(append(b, 0))
}

func decodeMetadata(b []byte) (*layout, error) {
	r := reader{b: b}
	l := &layout{topics: map[string]Topic{}, errs: map[string]error{}}
	r.tags()
	r.i32() // throttle time
	for n := r.compactCount(11); n > 0; n-- {
		broker := Broker{ID: r.i32(), Host: r.compactText(), Port: r.i32(), Rack: r.compactText()}
		l.cluster.Brokers = append(l.cluster.Brokers, broker)
		r.tags()
	}
	l.cluster.ID, l.cluster.Controller = r.compactText(), r.i32()
	for n := r.compactCount(26); n > 0; n-- {
		err := fromCode(r.i16())
		t := Topic{Name: r.compactText()}
		copy(t.ID[:], r.take(len(t.ID)))
		r.i8() // internal
		if listErr := decodePartitions(&r, &t); err == nil {
			err = listErr
		}
		r.i32() // authorised operations
		r.tags()
		if err != nil {
			l.errs[t.Name] = err
			continue
		}
		l.topics[t.Name] = t
	}
	if r.short {
		return nil, errMalformed
	}
	return l, nil
}

// decodePartitions reads the list of partitions, which comes in any order.
func decodePartitions(r *reader, t *Topic) error {
	n := r.compactCount(18)
	t.Partitions = make([]Partition, n)
	var missing error
	for range n {
		code, index := r.i16(), r.i32()
		p := Partition{Leader: r.i32()}
		r.i32() // leader epoch
		p.Replicas, p.InSync = decodeBrokers(r), decodeBrokers(r)
		decodeBrokers(r) // replicas that are offline
		r.tags()
		if code != 0 && code != int16(kafka.ReplicaNotAvailable) {
			p.Leader = -1
		}
		if index < 0 || int(index) >= n {
			missing = fmt.Errorf("%w: partition %d of %d", errMalformed, index, n)
			continue
		}
		t.Partitions[index] = p
	}
	return missing
}

func decodeBrokers(r *reader) []int32 {
	n := r.compactCount(4)
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = r.i32()
	}
	return ids
}
