package stream

import (
	"context"
	"fmt"
	"math"
	"time"

	kafka "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
)

// Produced is what became of the messages of one partition.
type Produced struct {
	Topic     string
	Partition int32
	Messages  int
	// BaseOffset is the offset of the first message; the others follow without
	// gaps. -1 until the broker has acknowledged them.
	BaseOffset int64
	// AppendTime is the broker's time of all of them, in ms since 1970 UTC, or
	// -1 where the topic does not use LogAppendTime.
	AppendTime int64
	// Err is why there is no acknowledgement. With ErrUnknownOutcome the
	// messages may be in the log all the same.
	Err error
}

// Producer gathers messages for many partitions and sends them with one request
// to each leader, all in-sync replicas acknowledging. One loop owns it and reuses
// its buffers for life; it is not safe for concurrent use.
type Producer struct {
	client  *Client
	index   map[target]int
	outlets []outlet // the first used ones
	used    int
	topics  []string
	deflate deflater
	legs    legs
	sending []protocol.Message
}

type target struct {
	topic     string
	partition int32
}

// outlet is one partition's batch and what became of it.
type outlet struct {
	result Produced
	batch  Batch
	sealed []byte // nil until the first Send
	acked  bool
}

// NewProducer makes a producer for one loop.
func (c *Client) NewProducer() *Producer {
	return &Producer{client: c, index: map[target]int{}}
}

// Reset forgets all messages and results.
func (p *Producer) Reset() {
	clear(p.index)
	p.used = 0
}

// Append adds a message, copying it; a nil key or value is null. The messages of
// one partition go in one record batch, in order. ErrBatchFull means that it was
// not added, because the batch would pass BatchMaxBytes: send the others first.
func (p *Producer) Append(topic string, partition int32, key, value []byte) error {
	to := target{topic, partition}
	i, ok := p.index[to]
	if !ok {
		i = p.open(to)
	}
	o := &p.outlets[i]
	if o.sealed != nil {
		return fmt.Errorf("cannot append to %s[%d]: %w", topic, partition, errSent)
	}
	if size := o.batch.Size() + len(key) + len(value); size > p.client.cfg.BatchMaxBytes && o.batch.Count() > 0 {
		return fmt.Errorf("cannot append to %s[%d]: %w: %d bytes", topic, partition, ErrBatchFull, size)
	}
	o.batch.Append(key, value)
	o.result.Messages++
	return nil
}

func (p *Producer) open(to target) int {
	if p.used == len(p.outlets) {
		p.outlets = append(p.outlets, outlet{})
	}
	i := p.used
	p.used++
	p.index[to] = i
	o := &p.outlets[i]
	o.batch.Reset()
	o.sealed, o.acked = nil, false
	o.result = Produced{Topic: to.topic, Partition: to.partition, BaseOffset: -1, AppendTime: -1}
	return i
}

// Len is the number of partitions that have messages.
func (p *Producer) Len() int { return p.used }

// Result gives what became of one partition's messages, by the order in which
// partitions were first appended to.
func (p *Producer) Result(i int) Produced { return p.outlets[i].result }

// Send sends what has not been acknowledged yet and waits for the brokers. Nil
// means that every message is in the log. After an error that is Retriable, Send
// again sends the same batches, and only those that lack acknowledgement.
//
// Where a connection broke or a broker did not answer in time, the outcome is
// unknown: the batch may be in the log, and will be there twice after another
// Send. Every reader of Tollgate's logs skips such repeats by their position.
func (p *Producer) Send(ctx context.Context) error {
	if err := p.seal(); err != nil {
		return err
	}
	if len(p.topics) == 0 {
		return nil
	}
	l, err := p.client.layoutOf(ctx, p.topics)
	if err != nil {
		return err
	}
	p.plan(l)
	if len(p.sending) > 0 {
		for i, err := range p.client.exchange(ctx, p.sending, p.client.cfg.RequestTimeout) {
			if p.settle(&p.legs.all[i], err) {
				l.stale.Store(true)
			}
		}
	}
	return p.failure()
}

// seal completes the batches that Send is to send for the first time, and lists
// the topics of all that it is to send.
func (p *Producer) seal() error {
	now := time.Now().UnixMilli() // only where the topic does not use LogAppendTime, and for retention
	p.topics = p.topics[:0]
	for i := range p.outlets[:p.used] {
		o := &p.outlets[i]
		if o.acked {
			continue
		}
		if o.sealed == nil {
			sealed, err := o.batch.seal(p.client.cfg.Codec, now, &p.deflate)
			if err != nil {
				return fmt.Errorf("cannot compress a batch for %s[%d]: %w", o.result.Topic, o.result.Partition, err)
			}
			o.sealed = sealed
		}
		if n := len(p.topics); n == 0 || p.topics[n-1] != o.result.Topic {
			p.topics = append(p.topics, o.result.Topic)
		}
	}
	return nil
}

func (p *Producer) plan(l *layout) {
	p.legs.used = 0
	for i := range p.outlets[:p.used] {
		o := &p.outlets[i]
		if o.acked {
			continue
		}
		broker, err := l.leader(o.result.Topic, o.result.Partition)
		if err != nil {
			o.fail(err)
			continue
		}
		p.legs.to(broker).add(i, p.sameTopic)
	}
	p.sending = p.sending[:0]
	for i := range p.legs.all[:p.legs.used] {
		leg := &p.legs.all[i]
		p.client.begin(leg.call, leg.broker, keyProduce, versionProduce)
		leg.call.out = p.appendRequest(leg.call.out, leg.indices)
		p.sending = append(p.sending, leg.call)
	}
}

func (p *Producer) sameTopic(i, j int) bool {
	return p.outlets[i].result.Topic == p.outlets[j].result.Topic
}

func (p *Producer) appendRequest(b []byte, indices []int) []byte {
	b = be.AppendUint16(b, math.MaxUint16) // no transaction
	b = be.AppendUint16(b, math.MaxUint16) // acks -1: all in-sync replicas
	b = be.AppendUint32(b, uint32(p.client.cfg.RequestTimeout.Milliseconds()/2))
	topics := len(b)
	b = be.AppendUint32(b, 0)
	for n, k := 0, 0; k < len(indices); k = n {
		topic := p.outlets[indices[k]].result.Topic
		for n < len(indices) && p.outlets[indices[n]].result.Topic == topic {
			n++
		}
		be.PutUint32(b[topics:], be.Uint32(b[topics:])+1)
		b = appendString(b, topic)
		b = be.AppendUint32(b, uint32(n-k))
		for _, i := range indices[k:n] {
			o := &p.outlets[i]
			b = be.AppendUint32(b, uint32(o.result.Partition))
			b = be.AppendUint32(b, uint32(len(o.sealed)))
			b = append(b, o.sealed...)
		}
	}
	return endRequest(b)
}

// settle puts one broker's answer into the results and says whether the leaders
// must be looked up again.
func (p *Producer) settle(l *leg, err error) bool {
	if err != nil {
		l.call = nil // its buffers may still be written to
		err = fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	}
	for _, i := range l.indices {
		p.outlets[i].result.Err = nil
	}
	var stale bool
	if err == nil {
		if stale, err = p.decode(l.call.in); err != nil {
			err = fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
		}
	}
	for _, i := range l.indices {
		switch o := &p.outlets[i]; {
		case o.acked || o.result.Err != nil:
		case err != nil:
			o.fail(err)
		default:
			o.fail(fmt.Errorf("%w: the broker's answer left it out", ErrUnknownOutcome))
		}
	}
	return stale || err != nil
}

// decode reads one broker's answer, which names the partitions that it is about.
func (p *Producer) decode(b []byte) (stale bool, err error) {
	r := reader{b: b}
	for topics := r.count(6); topics > 0; topics-- {
		topic := r.text()
		for n := r.count(36); n > 0; n-- {
			partition, code := r.i32(), r.i16()
			baseOffset, appendTime := r.i64(), r.i64()
			r.i64() // log start
			for records := r.count(6); records > 0; records-- {
				r.i32()
				r.text()
			}
			reason := r.text()
			i, ok := p.index[target{string(topic), partition}]
			if r.short || !ok {
				return true, fmt.Errorf("%w: produce answer cut short, or about another request", errMalformed)
			}
			stale = stale || blames(code)
			p.outlets[i].settle(code, string(reason), baseOffset, appendTime)
		}
	}
	if r.short {
		return true, fmt.Errorf("%w: produce answer cut short", errMalformed)
	}
	return stale, nil
}

func (o *outlet) settle(code int16, reason string, baseOffset, appendTime int64) {
	switch err := fromCode(code); {
	case err == nil:
		o.acked = true
		o.result.BaseOffset, o.result.AppendTime = baseOffset, appendTime
	case err == kafka.RequestTimedOut || err == kafka.NotEnoughReplicasAfterAppend:
		o.fail(fmt.Errorf("%w: %w", ErrUnknownOutcome, err))
	case reason != "":
		o.fail(fmt.Errorf("%w (%s)", err, reason))
	default:
		o.fail(err)
	}
}

func (o *outlet) fail(err error) {
	o.result.Err = fmt.Errorf("cannot produce %d messages to %s[%d]: %w", o.result.Messages, o.result.Topic, o.result.Partition, err)
}

// failure is the first partition's error and how many others there are. One that
// is not retriable goes before those that are.
func (p *Producer) failure() error {
	var first error
	failed := 0
	for i := range p.outlets[:p.used] {
		o := &p.outlets[i]
		if o.acked {
			continue
		}
		failed++
		if err := o.result.Err; first == nil || Retriable(first) && !Retriable(err) {
			first = err
		}
	}
	if failed > 1 {
		return fmt.Errorf("%w (and %d partitions more)", first, failed-1)
	}
	return first
}
