package simulation

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"sort"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/tollgate/tollgate/rater/stream"
)

// logKey names a log: a partition of a topic.
type logKey struct {
	topic     string
	partition int32
}

// topic is one life of a topic: one that is made anew is another.
type topic struct {
	name       string
	id         stream.TopicID
	partitions []*partition
}

// partition is a log: sealed record batches, one behind the other, as a broker keeps them.
type partition struct {
	key        logKey
	start, end int64
	data       []byte
	batches    []batch
	skewMs     int64 // of the broker that leads it
	unsteady   bool  // now this broker leads it, now that
	messages   []message
}

// batch is where a record batch lies in the data. Its offsets begin at base.
type batch struct {
	base, timeMs int64
	at           int
}

// makeTopic makes a topic; its id is new for ever.
func (w *world) makeTopic(name string, partitions int32) *topic {
	t := &topic{name: name}
	w.topicsMade++
	t.id[0], t.id[15] = 0x70, byte(w.topicsMade)
	for p := range partitions {
		t.partitions = append(t.partitions, &partition{key: logKey{name, p}})
	}
	w.topics[name] = t
	w.allTopics = append(w.allTopics, t)
	return t
}

func (w *world) log(name string, partition int32) *partition {
	return w.topics[name].partitions[partition]
}

// append stamps a sealed batch of so many messages and puts it at the end of the log, as the broker does.
func (w *world) append(p *partition, sealed []byte, messages int) (base, timeMs int64) {
	if p.unsteady && w.faults && w.r.IntN(6) == 0 {
		p.skewMs = w.skew()
	}
	base, timeMs = p.end, w.nowMs+p.skewMs
	if n := len(p.batches); n > 0 && timeMs < p.batches[n-1].timeMs {
		w.count("append times step back")
	}
	at := len(p.data)
	p.data = append(p.data, sealed...)
	stream.Stamp(p.data[at:len(p.data):len(p.data)], base, timeMs)
	p.batches = append(p.batches, batch{base, timeMs, at})
	p.end += int64(messages)
	if !isImages(p.key.topic) {
		w.hash(xxhash.Sum64(p.data[at:]))
		w.hash(uint64(base)<<44 ^ uint64(timeMs))
	}
	for _, t := range w.tasks {
		for _, position := range t.watching {
			if position.Topic == p.key.topic && position.Partition == p.key.partition {
				t.wakeMs = min(t.wakeMs, w.nowMs+w.r.Int64N(100))
			}
		}
	}
	return base, timeMs
}

// isImages tells whether a topic holds images: their ids are from the machine's randomness, so that no draw and no hash may
// depend on their bytes.
func isImages(topic string) bool { return topic == "snapshots" || topic == "book-images" }

// produce appends one message at once, as somebody does who is not part of Tollgate.
func (w *world) produce(p *partition, values ...[]byte) int64 {
	var b stream.Batch
	b.Reset()
	for _, v := range values {
		b.Append(nil, v)
	}
	sealed, err := b.Seal(w.codec, w.nowMs)
	if err != nil {
		panic(err)
	}
	base, _ := w.append(p, sealed, len(values))
	return base
}

// cut forgets all before an offset, which becomes the start of the log.
func (p *partition) cut(start int64) { p.start = max(p.start, min(start, p.end)) }

// from gives the batches from the one that holds an offset on, at most so many.
func (p *partition) from(offset int64, most int) []byte {
	i := sort.Search(len(p.batches), func(i int) bool { return p.batches[i].base > offset }) - 1
	if i < 0 || offset >= p.end {
		return nil
	}
	end := len(p.data)
	if i+most < len(p.batches) {
		end = p.batches[i+most].at
	}
	return p.data[p.batches[i].at:end:end]
}

// reader is a task's Reader.
type reader struct {
	t       *task
	results []stream.Fetched
}

// Fetch waits for data in virtual time, and serves some of the batches that there are.
func (r *reader) Fetch(ctx context.Context, positions []stream.Position, maxWait time.Duration) error {
	t, w := r.t, r.t.w
	for _, p := range positions {
		t.reads[logKey{p.Topic, p.Partition}] = p.Offset
	}
	f, err := t.enter(ctx, "fetch", int64(len(positions)), 0)
	if err != nil {
		return err
	}
	until := w.nowMs + maxWait.Milliseconds()
	for !w.anyData(positions) && w.nowMs < until && ctx.Err() == nil {
		t.wakeMs, t.watching = until, positions
		t.pause()
	}
	t.watching = nil
	if cap(r.results) < len(positions) {
		r.results = make([]stream.Fetched, len(positions))
	}
	r.results = r.results[:len(positions)]
	for i := range positions {
		w.serve(t, &r.results[i], positions[i])
	}
	return t.leave(f, nil)
}

// Result gives what the last Fetch brought for position i.
func (r *reader) Result(i int) *stream.Fetched { return &r.results[i] }

// anyData tells whether a broker would answer at once.
func (w *world) anyData(positions []stream.Position) bool {
	for _, p := range positions {
		l := w.log(p.Topic, p.Partition)
		if p.Offset != l.end {
			return true
		}
	}
	return false
}

// serve answers one position of a fetch.
func (w *world) serve(t *task, f *stream.Fetched, p stream.Position) {
	l := w.log(p.Topic, p.Partition)
	most := len(l.batches)
	if w.faults && w.r.IntN(3) == 0 {
		most = 1 + w.r.IntN(4)
	}
	switch {
	case w.faults && w.rates.lost > 0 && w.r.IntN(300) == 0 && w.happens("partition without leader"):
		f.Open(p, nil)
		f.Err = fmt.Errorf("cannot fetch %s[%d] from offset %d: %w", p.Topic, p.Partition, p.Offset, errDown)
	case p.Offset < l.start || p.Offset > l.end:
		w.count("position outside of " + p.Topic)
		f.Open(p, nil)
		f.Err = fmt.Errorf("cannot fetch %s[%d] from offset %d: %w", p.Topic, p.Partition, p.Offset, stream.ErrOffsetOutOfRange)
	default:
		data := l.from(p.Offset, most)
		switch n := len(data); {
		case n == 0 || !w.faults:
		case w.r.IntN(16) == 0:
			w.count("batch cut short by the limits of a fetch")
			data = data[:w.r.IntN(n)]
		case w.rates.lost > 0 && w.r.IntN(200) == 0 && w.happens("corrupt batch"):
			data = w.corrupt(data)
		}
		f.Open(p, data)
		if t.served != nil {
			t.served[l.key] = l.end
		}
	}
	f.HighWatermark, f.LastStable, f.LogStart = l.end, l.end, l.start
}

// corrupt flips a bit of the first batch of the data, in what its checksum covers.
func (w *world) corrupt(data []byte) []byte {
	const covered = 21 // from the attributes on
	length := 12 + int(binary.BigEndian.Uint32(data[8:]))
	damaged := slices.Clone(data)
	damaged[covered+w.r.IntN(length-covered)] ^= 1 << w.r.IntN(8)
	return damaged
}

// flight is a batch whose sender gave up, or died, while it was on its way.
type flight struct {
	dueMs    int64
	log      *partition
	sealed   []byte
	messages int
}

// writer is a task's Writer.
type writer struct {
	t       *task
	outlets []*outlet
	used    int
}

// outlet is what goes to one partition.
type outlet struct {
	result stream.Produced
	batch  stream.Batch
	values [][]byte // only for mutants that change them
	sealed []byte
	acked  bool
}

// Reset forgets all messages.
func (wr *writer) Reset() { wr.used = 0 }

// Append adds a message to the batch of its partition.
func (wr *writer) Append(topic string, partition int32, key, value []byte) error {
	i := slices.IndexFunc(wr.outlets[:wr.used], func(o *outlet) bool {
		return o.result.Topic == topic && o.result.Partition == partition
	})
	if i < 0 {
		i = wr.used
		if wr.used++; wr.used > len(wr.outlets) {
			wr.outlets = append(wr.outlets, &outlet{})
		}
		o := wr.outlets[i]
		o.batch.Reset()
		o.result = stream.Produced{Topic: topic, Partition: partition, BaseOffset: -1, AppendTime: -1}
		o.sealed, o.acked = nil, false
	}
	o := wr.outlets[i]
	if o.batch.Count() > 0 && o.batch.Size()+len(key)+len(value) > wr.t.w.batchMax {
		return fmt.Errorf("cannot append to %s[%d]: %w", topic, partition, stream.ErrBatchFull)
	}
	if change := wr.t.w.mutation.write; change != nil {
		value = change(wr.t, topic, value)
	}
	o.batch.Append(key, value)
	o.result.Messages++
	return nil
}

// Send tries to append what is not acknowledged yet.
func (wr *writer) Send(ctx context.Context) error {
	t := wr.t
	if hook := t.w.mutation.send; hook != nil {
		if done, err := hook(ctx, wr); done {
			return err
		}
	}
	var first error
	for _, o := range wr.outlets[:wr.used] {
		if o.acked {
			continue
		}
		if err := wr.sendOne(ctx, o); err != nil && first == nil {
			first = err
		}
	}
	return first
}

func (wr *writer) sendOne(ctx context.Context, o *outlet) error {
	t, w := wr.t, wr.t.w
	if o.sealed == nil {
		codec := w.codec
		if isImages(o.result.Topic) {
			codec = stream.CodecNone
		}
		sealed, err := o.batch.Seal(codec, w.nowMs)
		if err != nil {
			panic(err)
		}
		o.sealed = slices.Clone(sealed)
	}
	l := w.log(o.result.Topic, o.result.Partition)
	f, err := t.enter(ctx, "produce "+o.result.Topic, int64(o.result.Partition), int64(o.result.Messages))
	if err != nil {
		if err == errLost && w.r.IntN(2) == 0 {
			w.launch(t, l, o.sealed, o.result.Messages)
		}
		o.result.Err = fmt.Errorf("%w: %w", stream.ErrUnknownOutcome, err)
		return o.result.Err
	}
	base, timeMs := w.append(l, o.sealed, o.result.Messages)
	if err := t.leave(f, nil); err != nil {
		o.result.Err = fmt.Errorf("%w: %w", stream.ErrUnknownOutcome, err)
		return o.result.Err
	}
	o.acked, o.result.BaseOffset, o.result.AppendTime, o.result.Err = true, base, timeMs, nil
	return nil
}

// launch sends a batch on a long way: it arrives minutes or hours later, whoever has gone on meanwhile.
func (w *world) launch(t *task, l *partition, sealed []byte, messages int) {
	due := w.nowMs + w.r.Int64N(10*minuteMs)
	if w.r.IntN(4) == 0 || w.raises && w.r.IntN(2) == 0 {
		due += w.r.Int64N(4 * hourMs)
	}
	if !w.happens("late produce") {
		return
	}
	w.flights = append(w.flights, flight{due, l, sealed, messages})
}

// land appends the flights that are due.
func (w *world) land() {
	for i := 0; i < len(w.flights); {
		f := w.flights[i]
		if f.dueMs > w.nowMs && w.faults {
			i++
			continue
		}
		w.flights = slices.Delete(w.flights, i, i+1)
		if w.topics[f.log.key.topic].partitions[f.log.key.partition] == f.log {
			w.count("late batch arrives")
			w.noteText("a late batch arrives at %s[%d]", f.log.key.topic, f.log.key.partition)
			w.append(f.log, f.sealed, f.messages)
		}
	}
}

// Result gives what became of the messages of the i-th partition appended to.
func (wr *writer) Result(i int) stream.Produced { return wr.outlets[i].result }

// Produced is that of stream.Writer; see Result.
var _ stream.Writer = (*writer)(nil)

// kafka is the rest of Kafka as a task sees it: topics and commits.
type kafka struct{ t *task }

// TopicID gives the id of the topic as it is now.
func (k kafka) TopicID(ctx context.Context, name string) (id stream.TopicID, err error) {
	err = k.t.call(ctx, "topic id", 0, 0, func() error {
		id = k.t.w.topics[name].id
		return nil
	})
	return id, err
}

// ListOffsets gives the ends of logs.
func (k kafka) ListOffsets(ctx context.Context, name string, partitions []int32) (offsets []stream.Offsets, err error) {
	err = k.t.call(ctx, "list offsets", 0, 0, func() error {
		for _, p := range partitions {
			l := k.t.w.log(name, p)
			offsets = append(offsets, stream.Offsets{Partition: p, Start: l.start, LastStable: l.end, End: l.end})
		}
		return nil
	})
	return offsets, err
}

// Commit stores offsets for a member of the present generation.
func (k kafka) Commit(ctx context.Context, group string, ref stream.GenerationRef, offsets map[string][]stream.CommitOffset) error {
	w := k.t.w
	return k.t.call(ctx, "commit "+group, int64(ref.ID), 0, func() error {
		if w.stages[group].generation != ref.ID {
			w.count("commit fenced")
			return fmt.Errorf("cannot commit: %w", stream.ErrFenced)
		}
		for _, name := range slices.Sorted(maps.Keys(offsets)) {
			for _, o := range offsets[name] {
				w.commit(group, name, o)
			}
		}
		return nil
	})
}

func (w *world) commit(group, name string, o stream.CommitOffset) {
	key := commitKey{group, logKey{name, o.Partition}}
	w.commits[key] = o
	if ids := w.topics[name]; group == "rate" && o.Metadata == fmt.Sprintf("%x", ids.id[:]) {
		w.rated[sourceKey{ids.id, o.Partition}] = max(o.Offset, w.rated[sourceKey{ids.id, o.Partition}])
	}
	w.hash(xxhash.Sum64String(group) ^ xxhash.Sum64String(name) ^ xxhash.Sum64String(o.Metadata))
	w.hash(uint64(o.Offset)<<16 ^ uint64(o.Partition))
}

func commitOf(partition int32, offset int64, metadata string) stream.CommitOffset {
	return stream.CommitOffset{Partition: partition, Offset: offset, Metadata: metadata}
}

// commitKey names what a group remembers of a log.
type commitKey struct {
	group string
	log   logKey
}

// Committed gives what the group remembers.
func (k kafka) Committed(ctx context.Context, group, name string, partitions []int32) (offsets []stream.CommitOffset, err error) {
	w := k.t.w
	err = k.t.call(ctx, "committed "+group, 0, 0, func() error {
		for _, p := range partitions {
			o, known := w.commits[commitKey{group, logKey{name, p}}]
			if !known {
				o = stream.CommitOffset{Partition: p, Offset: -1}
			}
			if w.mutation.committedByName && known && group == "rate" {
				id := w.topics[name].id
				o.Metadata = fmt.Sprintf("%x", id[:])
			}
			offsets = append(offsets, o)
		}
		return nil
	})
	return offsets, err
}

// message is one message of a log, decoded once for all.
type message struct {
	key      []byte
	value    []byte
	appendMs int64
}

// message gives the message at an offset and its append time.
func (p *partition) message(offset int64) ([]byte, int64) {
	p.decode()
	m := &p.messages[offset]
	return m.value, m.appendMs
}

// decode reads what was appended since it was called last.
func (p *partition) decode() {
	next := int64(len(p.messages))
	if next == p.end {
		return
	}
	var f stream.Fetched
	var m stream.Message
	f.Open(stream.Position{Topic: p.key.topic, Partition: p.key.partition, Offset: next}, p.from(next, len(p.batches)))
	for f.Next(&m) {
		p.messages = append(p.messages, message{m.Key, m.Value, m.AppendTime})
	}
	if f.Err != nil || int64(len(p.messages)) != p.end {
		panic(fmt.Sprintf("the simulated log %v is damaged: %v", p.key, f.Err))
	}
}
