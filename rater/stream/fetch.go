package stream

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/segmentio/kafka-go/protocol"
)

// Position is a place to read from: the next offset wanted of one partition.
type Position struct {
	Topic     string
	Partition int32
	Offset    int64
}

// Fetcher reads many partitions, possibly of several topics, with one request to
// each broker that leads some of them. One loop owns it and reuses its buffers
// for life; it is not safe for concurrent use.
type Fetcher struct {
	client  *Client
	topics  []string
	results []Fetched
	plain   inflater
	legs    legs
	sending []protocol.Message
	turn    int
}

// NewFetcher makes a fetcher for one loop.
func (c *Client) NewFetcher() *Fetcher {
	return &Fetcher{client: c, plain: inflater{limit: c.cfg.DecompressedMaxBytes}}
}

// Fetch asks for what follows each position, each of a different partition, and
// waits up to maxWait where there is nothing yet. Several brokers are asked at
// once, and the call ends when all have answered, so maxWait is also how long
// one broker's messages may wait for another broker that has none.
//
// Brokers fill their answer in the order of the request, so each call begins one
// position further: none starves. With no positions Fetch waits maxWait.
//
// An error means that there are no results: ctx has ended, or nobody says where
// the partitions are. What went wrong with one broker or one partition is in the
// results. Everything that earlier results gave is void.
func (f *Fetcher) Fetch(ctx context.Context, positions []Position, maxWait time.Duration) error {
	f.reset(positions)
	if len(positions) == 0 {
		return pause(ctx, maxWait)
	}
	l, err := f.client.layoutOf(ctx, f.topics)
	if err != nil {
		return err
	}
	f.plan(l, maxWait)
	errs := f.exchange(ctx, maxWait)
	if err := ctx.Err(); err != nil {
		return err
	}
	for i, err := range errs {
		if f.settle(&f.legs.all[i], err) {
			l.stale.Store(true)
		}
	}
	return nil
}

// Result gives what Fetch brought for positions[i], valid until the next Fetch.
func (f *Fetcher) Result(i int) *Fetched { return &f.results[i] }

func (f *Fetcher) reset(positions []Position) {
	f.plain.reset()
	f.results = slices.Grow(f.results[:0], len(positions))[:len(positions)]
	f.topics = f.topics[:0]
	for i := range positions {
		f.results[i].reset(positions[i], &f.plain)
		if topic := positions[i].Topic; !slices.Contains(f.topics, topic) {
			f.topics = append(f.topics, topic)
		}
	}
}

// plan makes one request for each leader.
func (f *Fetcher) plan(l *layout, maxWait time.Duration) {
	f.legs.used = 0
	f.turn++
	for k := range f.results {
		i := (f.turn + k) % len(f.results)
		p := &f.results[i]
		broker, err := l.leader(p.Topic, p.Partition)
		if err != nil {
			p.fail(err)
			continue
		}
		f.legs.to(broker).add(i, f.sameTopic)
	}
	f.sending = f.sending[:0]
	for i := range f.legs.all[:f.legs.used] {
		leg := &f.legs.all[i]
		f.client.begin(leg.call, leg.broker, keyFetch, versionFetch)
		leg.call.out = f.appendRequest(leg.call.out, leg.indices, maxWait)
		f.sending = append(f.sending, leg.call)
	}
}

func (f *Fetcher) sameTopic(i, j int) bool { return f.results[i].Topic == f.results[j].Topic }

func (f *Fetcher) exchange(ctx context.Context, maxWait time.Duration) []error {
	if len(f.sending) == 0 {
		return nil
	}
	errs := f.client.exchange(ctx, f.sending, maxWait+f.client.cfg.RequestTimeout)
	for i, err := range errs {
		if err != nil {
			f.legs.all[i].call = nil // its buffers may still be written to
		}
	}
	return errs
}

// settle puts one broker's answer into the results and says whether the leaders
// must be looked up again.
func (f *Fetcher) settle(l *leg, err error) bool {
	var stale bool
	if err == nil {
		stale, err = f.decode(l.indices, l.call.in)
	}
	if err == nil {
		return stale
	}
	for _, i := range l.indices {
		f.results[i].fail(err)
	}
	return true
}

func (f *Fetcher) appendRequest(b []byte, indices []int, maxWait time.Duration) []byte {
	cfg := &f.client.cfg
	b = be.AppendUint32(b, math.MaxUint32) // replica id -1: a client
	b = be.AppendUint32(b, uint32(max(maxWait, 0).Milliseconds()))
	b = be.AppendUint32(b, 1) // one byte is enough to answer
	b = be.AppendUint32(b, uint32(cfg.FetchMaxBytes))
	b = append(b, 1)                       // read committed
	b = be.AppendUint32(b, 0)              // no session
	b = be.AppendUint32(b, math.MaxUint32) // epoch -1: nor begin one
	topics := len(b)
	b = be.AppendUint32(b, 0)
	for n, k := 0, 0; k < len(indices); k = n {
		topic := f.results[indices[k]].Topic
		for n < len(indices) && f.results[indices[n]].Topic == topic {
			n++
		}
		be.PutUint32(b[topics:], be.Uint32(b[topics:])+1)
		b = appendString(b, topic)
		b = be.AppendUint32(b, uint32(n-k))
		for _, i := range indices[k:n] {
			b = be.AppendUint32(b, uint32(f.results[i].Partition))
			b = be.AppendUint32(b, math.MaxUint32) // leader epoch not known
			b = be.AppendUint64(b, uint64(f.results[i].Offset))
			b = be.AppendUint64(b, math.MaxUint64) // log start -1: followers only
			b = be.AppendUint32(b, uint32(cfg.PartitionMaxBytes))
		}
	}
	b = be.AppendUint32(b, 0) // nothing to forget
	return endRequest(appendString(b, ""))
}

// decode reads one broker's answer about the results named by indices.
func (f *Fetcher) decode(indices []int, b []byte) (stale bool, err error) {
	r := reader{b: b}
	r.i32() // throttle time
	code := r.i16()
	r.i32() // session id
	if code != 0 {
		return true, fromCode(code)
	}
	seen := 0
	for topics := r.count(6); topics > 0; topics-- {
		topic := r.text()
		for n := r.count(38); n > 0; n-- {
			partition := r.i32()
			k := f.find(indices, seen, topic, partition)
			if k < 0 {
				return true, fmt.Errorf("%w: the broker sent %s[%d], which was not asked for", errMalformed, topic, partition)
			}
			seen++
			if code := f.results[indices[k]].decode(&r); blames(code) {
				stale = true
			}
		}
	}
	if r.short {
		return true, fmt.Errorf("%w: fetch answer cut short", errMalformed)
	}
	for _, i := range indices {
		if p := &f.results[i]; !p.answered && p.Err == nil {
			p.fail(fmt.Errorf("%w: the broker left it out", errMalformed))
			stale = true
		}
	}
	return stale, nil
}

// find gives the place in indices of a partition that was asked for and is not
// yet answered; brokers answer in the order of the request, so it is likely at.
func (f *Fetcher) find(indices []int, at int, topic []byte, partition int32) int {
	is := func(k int) bool {
		p := &f.results[indices[k]]
		return p.Partition == partition && p.Topic == string(topic) && !p.answered
	}
	if at < len(indices) && is(at) {
		return at
	}
	for k := range indices {
		if is(k) {
			return k
		}
	}
	return -1
}

// pause waits without asking anyone.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
