package oracle

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	kafka "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/compress"
	"github.com/segmentio/kafka-go/protocol"
)

// Limits of what is asked of Kafka.
const (
	fetchBytes   = 8 << 20
	fetchWait    = 500 * time.Millisecond
	kafkaTimeout = 30 * time.Second
	kafkaRetries = 20
	kafkaPause   = 500 * time.Millisecond
)

// log reads carrier topics. kafka-go connects, and finds leaders; fetches and metadata are encoded here, because kafka-go
// gives neither the broker's append times nor the ids of topics.
type log struct {
	client *kafka.Client
}

func openLog(address string) *log {
	return &log{&kafka.Client{Addr: kafka.TCP(address), Timeout: kafkaTimeout, Transport: &kafka.Transport{}}}
}

func (l *log) close() { l.client.Transport.(*kafka.Transport).CloseIdleConnections() }

// partition is one partition of a carrier topic, and the offsets that it holds.
type partition struct {
	topic       string
	topicID     [16]byte
	number      int32
	first, next int64
}

func (p *partition) String() string { return fmt.Sprintf("%s[%d]", p.topic, p.number) }

// rawCall is a request that is encoded here. kafka-go's transport carries it.
type rawCall struct {
	key, version int16
	flexible     bool   // its headers have tags
	topic        string // whose leader is wanted; "" is any broker
	partition    int32
	out, in      []byte
}

const (
	keyFetch, fetchVersion       = 1, 4
	keyMetadata, metadataVersion = 3, 10
)

// ApiKey names the request to kafka-go.
func (c *rawCall) ApiKey() protocol.ApiKey { return protocol.ApiKey(c.key) }

// Required tells kafka-go that the exchange is ours.
func (c *rawCall) Required(map[protocol.ApiKey]int16) bool { return true }

// Broker picks the leader of the partition.
func (c *rawCall) Broker(cluster protocol.Cluster) (protocol.Broker, error) {
	if c.topic == "" {
		for _, b := range cluster.Brokers {
			return b, nil
		}
		return protocol.Broker{ID: -1}, nil
	}
	led, known := cluster.Topics[c.topic].Partitions[c.partition]
	leader, reachable := cluster.Brokers[led.Leader]
	if !known || !reachable {
		return leader, kafka.LeaderNotAvailable
	}
	return leader, nil
}

// RawExchange writes the request and reads the answer.
func (c *rawCall) RawExchange(rw io.ReadWriter) (protocol.Message, error) {
	header := binary.BigEndian.AppendUint16(make([]byte, 4), uint16(c.key))
	header = binary.BigEndian.AppendUint16(header, uint16(c.version))
	header = binary.BigEndian.AppendUint32(header, 1) // correlation: there is one request at a time
	header = appendString(header, "tolloracle")
	if c.flexible {
		header = append(header, 0)
	}
	request := append(header, c.out...)
	binary.BigEndian.PutUint32(request, uint32(len(request)-4))
	if _, err := rw.Write(request); err != nil {
		return nil, err
	}
	var size [4]byte
	if _, err := io.ReadFull(rw, size[:]); err != nil {
		return nil, err
	}
	c.in = make([]byte, binary.BigEndian.Uint32(size[:]))
	_, err := io.ReadFull(rw, c.in)
	return c, err
}

func appendString(to []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(to, uint16(len(s))), s...)
}

// ask sends a request until there is an answer, for as long as a broker may take to come back.
func (l *log) ask(ctx context.Context, c *rawCall, read func(*reader) error) (err error) {
	for range kafkaRetries {
		asking, cancel := context.WithTimeout(ctx, kafkaTimeout)
		_, err = l.client.Transport.RoundTrip(asking, l.client.Addr, c)
		cancel()
		if err == nil {
			r := &reader{data: c.in}
			r.skip(4)
			if c.flexible {
				r.tags()
			}
			err = read(r)
		}
		var again kafka.Error
		if err == nil || ctx.Err() != nil || errors.As(err, &again) && !again.Temporary() {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(kafkaPause):
		}
	}
	return err
}

// partitions asks which partitions a topic has, and what they hold.
func (l *log) partitions(ctx context.Context, topic string) ([]*partition, error) {
	c := &rawCall{key: keyMetadata, version: metadataVersion, flexible: true}
	c.out = append(c.out, 2)                   // one topic
	c.out = append(c.out, make([]byte, 16)...) // by its name, not its id
	c.out = append(binary.AppendUvarint(c.out, uint64(len(topic)+1)), topic...)
	c.out = append(c.out, 0, 0, 0, 0, 0) // tags; make no topic; no operations, twice; tags
	var id [16]byte
	count := 0
	err := l.ask(ctx, c, func(r *reader) error {
		var err error
		id, count, err = readMetadata(r)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot find the topic %s: %w", topic, err)
	}
	var all []*partition
	var wanted []kafka.OffsetRequest
	for n := range count {
		all = append(all, &partition{topic: topic, topicID: id, number: int32(n)})
		wanted = append(wanted, kafka.FirstOffsetOf(n), kafka.LastOffsetOf(n))
	}
	answer, err := l.client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{topic: wanted}})
	if err != nil {
		return nil, fmt.Errorf("cannot ask for the offsets of %s: %w", topic, err)
	}
	for _, p := range answer.Topics[topic] {
		if p.Error != nil {
			return nil, fmt.Errorf("cannot ask for the offsets of %s[%d]: %w", topic, p.Partition, p.Error)
		}
		all[p.Partition].first, all[p.Partition].next = p.FirstOffset, p.LastOffset
	}
	return all, nil
}

// readMetadata reads the id and the number of partitions of the one topic that was asked for.
func readMetadata(r *reader) (id [16]byte, partitions int, err error) {
	r.skip(4) // throttled
	for range r.compactLen() {
		r.skip(4)
		r.compactString()
		r.skip(4)
		r.compactString()
		r.tags()
	}
	r.compactString() // cluster
	r.skip(4)         // controller
	for range r.compactLen() {
		code := kafka.Error(r.int16())
		r.compactString()
		copy(id[:], r.bytes(16))
		r.skip(1)
		partitions = r.compactLen()
		if code != 0 {
			return id, 0, code
		}
		break // the rest is not needed
	}
	if r.failed || partitions == 0 {
		return id, 0, errors.New("the answer of Kafka cannot be read")
	}
	return id, partitions, nil
}

// read gives every message of a partition from an offset on, up to the end that it had when it was listed.
func (l *log) read(ctx context.Context, p *partition, from int64, each func(offset, appendMs int64, value []byte) error) error {
	for from < p.next {
		c := &rawCall{key: keyFetch, version: fetchVersion, topic: p.topic, partition: p.number}
		c.out = binary.BigEndian.AppendUint32(c.out, 0xffffffff) // no replica
		c.out = binary.BigEndian.AppendUint32(c.out, uint32(fetchWait.Milliseconds()))
		c.out = binary.BigEndian.AppendUint32(c.out, 1)
		c.out = binary.BigEndian.AppendUint32(c.out, fetchBytes)
		c.out = append(c.out, 0, 0, 0, 0, 1) // uncommitted too; one topic
		c.out = appendString(c.out, p.topic)
		c.out = binary.BigEndian.AppendUint32(c.out, 1)
		c.out = binary.BigEndian.AppendUint32(c.out, uint32(p.number))
		c.out = binary.BigEndian.AppendUint64(c.out, uint64(from))
		c.out = binary.BigEndian.AppendUint32(c.out, fetchBytes)
		var records []byte
		err := l.ask(ctx, c, func(r *reader) (err error) {
			records, err = readFetch(r)
			return err
		})
		if err != nil {
			return fmt.Errorf("cannot read %s from offset %d on: %w", p, from, err)
		}
		next, err := readBatches(records, from, each)
		if err != nil {
			return fmt.Errorf("cannot read %s from offset %d on: %w", p, from, err)
		}
		from = next
	}
	return nil
}

// readFetch gives the batches of the one partition that was asked for.
func readFetch(r *reader) ([]byte, error) {
	r.skip(4 + 4) // throttled; one topic
	r.skip(int(r.int16()))
	r.skip(4 + 4) // one partition; its number
	code := kafka.Error(r.int16())
	r.skip(8 + 8)
	r.skip(16 * max(0, int(r.int32()))) // aborted transactions
	records := r.bytes(max(0, int(r.int32())))
	if code != 0 {
		return nil, code
	}
	if r.failed {
		return nil, errors.New("the answer of Kafka cannot be read")
	}
	return records, nil
}

// Where things lie in a batch of records, version 2.
const (
	atLength, atMagic, atCRC, atAttributes, atLastDelta, atMaxTime, atCount, atRecords = 8, 16, 17, 21, 23, 35, 57, 61

	isControl  = 1 << 5
	codecBits  = 7
	lengthFrom = 12 // what the length of a batch counts from
)

// castagnoli is the polynomial of the batches' checksums.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// readBatches gives the messages of all whole batches, and the offset behind them. The append time of a message is that
// of its batch, as the broker stamped it.
func readBatches(data []byte, from int64, each func(offset, appendMs int64, value []byte) error) (next int64, err error) {
	next = from
	for len(data) > lengthFrom {
		end := lengthFrom + int(binary.BigEndian.Uint32(data[atLength:]))
		if end < atRecords || end > len(data) {
			return next, nil // cut short: it comes whole with the next fetch
		}
		batch := data[:end]
		data = data[end:]
		if batch[atMagic] != 2 {
			return next, fmt.Errorf("a batch has version %d: only 2 can be read", batch[atMagic])
		}
		if crc32.Checksum(batch[atAttributes:], castagnoli) != binary.BigEndian.Uint32(batch[atCRC:]) {
			return next, errors.New("the checksum of a batch is wrong")
		}
		base := int64(binary.BigEndian.Uint64(batch))
		if err := readBatch(batch, base, from, each); err != nil {
			return next, err
		}
		next = max(next, base+int64(binary.BigEndian.Uint32(batch[atLastDelta:]))+1)
	}
	return next, nil
}

func readBatch(batch []byte, base, from int64, each func(offset, appendMs int64, value []byte) error) error {
	attributes := binary.BigEndian.Uint16(batch[atAttributes:])
	if attributes&isControl != 0 {
		return nil
	}
	appendMs := int64(binary.BigEndian.Uint64(batch[atMaxTime:]))
	records := batch[atRecords:]
	if code := compress.Compression(attributes & codecBits); code != compress.None {
		codec := code.Codec()
		if codec == nil {
			return fmt.Errorf("a batch is compressed by codec %d", code)
		}
		unpacked := codec.NewReader(bytes.NewReader(records))
		defer unpacked.Close()
		var err error
		if records, err = io.ReadAll(unpacked); err != nil {
			return fmt.Errorf("cannot unpack a batch: %w", err)
		}
	}
	r := &reader{data: records}
	for range binary.BigEndian.Uint32(batch[atCount:]) {
		size := int(r.varint())
		record := &reader{data: r.bytes(size)}
		record.skip(1)
		record.varint() // the producer's time
		offset := base + record.varint()
		record.bytes(max(0, int(record.varint()))) // key
		value := record.bytes(max(0, int(record.varint())))
		if r.failed || record.failed {
			return fmt.Errorf("the batch at offset %d cannot be read", base)
		}
		if offset < from {
			continue
		}
		if err := each(offset, appendMs, value); err != nil {
			return err
		}
	}
	return nil
}

// reader takes numbers and bytes off data. Whatever is beyond its end is 0, and remembered as failed.
type reader struct {
	data   []byte
	failed bool
}

func (r *reader) bytes(n int) []byte {
	if n < 0 || n > len(r.data) {
		r.failed, r.data = true, nil
		return nil
	}
	taken := r.data[:n]
	r.data = r.data[n:]
	return taken
}

func (r *reader) skip(n int) { r.bytes(n) }

func (r *reader) int16() int16 {
	if b := r.bytes(2); b != nil {
		return int16(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (r *reader) int32() int32 {
	if b := r.bytes(4); b != nil {
		return int32(binary.BigEndian.Uint32(b))
	}
	return 0
}

func (r *reader) varint() int64 {
	n, size := binary.Varint(r.data)
	r.skip(max(size, -1))
	if size <= 0 {
		r.failed = true
	}
	return n
}

// compactLen is the length of an array, a string or tags, which count from 1.
func (r *reader) compactLen() int {
	n, size := binary.Uvarint(r.data)
	r.skip(size)
	if size <= 0 || n > uint64(len(r.data))+1 {
		r.failed = true
		return 0
	}
	return max(0, int(n)-1)
}

func (r *reader) compactString() { r.skip(r.compactLen()) }

func (r *reader) tags() {
	count, size := binary.Uvarint(r.data)
	r.skip(size)
	for range min(count, uint64(len(r.data))) {
		_, size := binary.Uvarint(r.data)
		r.skip(size)
		length, size := binary.Uvarint(r.data)
		r.skip(size)
		r.skip(int(min(length, uint64(len(r.data)))))
	}
}
