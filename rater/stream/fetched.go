package stream

import (
	"cmp"
	"fmt"
	"hash/crc32"
	"slices"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Where the fields of a record batch (message format v2) lie, and the bits of
// its attributes. The checksum covers everything from the attributes on.
const (
	atLength     = 8
	atMagic      = 16
	atChecksum   = 17
	atAttributes = 21
	atLastDelta  = 23
	atFirstTime  = 27
	atMaxTime    = 35
	atProducerID = 43
	atProducer   = 51 // its epoch, then its sequence number
	atCount      = 57
	batchHeader  = 61
	lengthPrefix = 12 // base offset and length, which the length does not count

	bitsCodec        = 0x07
	bitLogAppendTime = 0x08
	bitTransactional = 0x10
	bitControl       = 0x20
)

// Message is one message of a partition. Key and Value alias the fetcher's
// buffers until its next Fetch; nil means null.
type Message struct {
	Offset int64
	// AppendTime is when the broker appended the message, in ms since 1970 UTC,
	// if AppendTimeSet. If not, the topic does not use LogAppendTime and this
	// is the producer's own time: it must not decide anything.
	AppendTime    int64
	AppendTimeSet bool
	Key, Value    []byte
}

// Fetched is what one fetch brought for one position: whole, checked batches,
// committed ones only, from which Next takes one message after another.
type Fetched struct {
	Position // as it was asked for
	// Err is why there is nothing, or nothing more: look at it when Next has
	// returned false. A batch whose checksum fails is ErrCorrupt.
	Err error
	// HighWatermark and LastStable are the offsets after the last replicated
	// and the last decided message, LogStart that of the first message kept;
	// -1 where the broker did not say.
	HighWatermark, LastStable, LogStart int64
	// NextOffset is where to read on after Next has returned false. Everything
	// below it was given, or is aborted, control, or compacted away; so it
	// moves on where a fetch brings nothing but markers.
	NextOffset int64

	answered bool
	plain    *inflater
	rest     []byte // batches not opened yet, the last perhaps cut short
	records  []byte // of the open batch, not given yet
	left     int32  // their number
	opened   bool
	base     int64
	last     int64
	time     int64 // of the batch: see Message.AppendTime
	stamped  bool
	aborted  []abortedTxn
	aborting []int64 // producers inside a transaction that will abort
}

// abortedTxn is one aborted transaction of a fetch answer.
type abortedTxn struct{ producerID, firstOffset int64 }

// Open makes f the result of reading the batches at position p, as if a broker
// had sent them. A simulated log uses it, so that what it serves goes through
// the decoder of production.
func (f *Fetched) Open(p Position, batches []byte) {
	f.reset(p, &inflater{limit: len(batches)*256 + 1<<20})
	f.rest = batches
}

func (f *Fetched) reset(p Position, plain *inflater) {
	*f = Fetched{
		Position: p, NextOffset: p.Offset, HighWatermark: -1, LastStable: -1, LogStart: -1,
		plain: plain, aborted: f.aborted[:0], aborting: f.aborting[:0],
	}
}

// fail ends the result. The error names partition and place.
func (f *Fetched) fail(err error) {
	f.Err = fmt.Errorf("cannot fetch %s[%d] from offset %d: %w", f.Topic, f.Partition, f.NextOffset, err)
	f.rest, f.left, f.opened = nil, 0, false
}

// decode reads the part of a fetch answer that is about f, and gives its code.
func (f *Fetched) decode(r *reader) int16 {
	f.answered = true
	code := r.i16()
	f.HighWatermark, f.LastStable, f.LogStart = r.i64(), r.i64(), r.i64()
	for n := r.count(16); n > 0; n-- {
		f.aborted = append(f.aborted, abortedTxn{r.i64(), r.i64()})
	}
	slices.SortFunc(f.aborted, func(a, b abortedTxn) int { return cmp.Compare(a.firstOffset, b.firstOffset) })
	r.i32() // preferred read replica
	f.rest = r.take(int(max(r.i32(), 0)))
	if err := fromCode(code); err != nil {
		f.fail(err)
	}
	return code
}

// Next takes the next message. False means that there is none left, or Err.
func (f *Fetched) Next(m *Message) bool {
	for {
		if f.left == 0 {
			if !f.openBatch() {
				return false
			}
			continue // a batch that compaction has emptied
		}
		f.left--
		switch delta := f.record(m); {
		case delta < 0:
			f.fail(fmt.Errorf("%w: a record of the batch at offset %d", ErrCorrupt, f.base))
			return false
		case f.base+delta < f.NextOffset:
			continue // before the position, in the batch that holds it
		default:
			m.Offset = f.base + delta
			return true
		}
	}
}

// record decodes one record and gives its offset within the batch, -1 where it
// is malformed.
func (f *Fetched) record(m *Message) int64 {
	n, i := varint(f.records)
	if i <= 0 || n < 0 || n > int64(len(f.records)-i) {
		return -1
	}
	b := f.records[i : i+int(n)]
	f.records = f.records[i+int(n):]
	if len(b) < 2 {
		return -1
	}
	b = b[1:] // attributes, which are always 0
	timeDelta, i := varint(b)
	if i <= 0 {
		return -1
	}
	delta, j := varint(b[i:])
	if j <= 0 || delta < 0 || delta > f.last-f.base {
		return -1
	}
	m.AppendTime, m.AppendTimeSet = f.time, f.stamped
	if !f.stamped {
		m.AppendTime += timeDelta
	}
	var ok bool
	if m.Key, b, ok = field(b[i+j:]); !ok {
		return -1
	}
	if m.Value, _, ok = field(b); !ok {
		return -1
	}
	return delta
}

func field(b []byte) (value, rest []byte, ok bool) {
	n, i := varint(b)
	if i <= 0 || n > int64(len(b)-i) {
		return nil, nil, false
	}
	b = b[i:]
	if n < 0 {
		return nil, b, true
	}
	return b[:n:n], b[n:], true
}

// openBatch closes the open batch and opens the next one that has messages to
// give. False means that there is none, or Err.
func (f *Fetched) openBatch() bool {
	if f.opened {
		f.opened, f.NextOffset = false, f.last+1
	}
	for len(f.rest) >= batchHeader {
		n := int64(int32(be.Uint32(f.rest[atLength:]))) + lengthPrefix
		if n < batchHeader {
			f.fail(fmt.Errorf("%w: a batch of %d bytes", ErrCorrupt, n))
			return false
		}
		if n > int64(len(f.rest)) {
			return false // cut short by the limits of the fetch: it comes whole next time
		}
		if f.plain.full() && be.Uint16(f.rest[atAttributes:])&bitsCodec != 0 {
			return false // left to the next fetch
		}
		batch := f.rest[:n:n]
		f.rest = f.rest[n:]
		give, err := f.enter(batch)
		if err != nil {
			f.fail(err)
			return false
		}
		if give {
			return true
		}
	}
	return false
}

// enter checks a whole batch and makes it the open one, or passes over it where
// it has nothing to give.
func (f *Fetched) enter(b []byte) (give bool, err error) {
	f.base = int64(be.Uint64(b))
	f.last = f.base + int64(int32(be.Uint32(b[atLastDelta:])))
	if b[atMagic] != 2 {
		return false, fmt.Errorf("%w: message format v%d at offset %d, v2 is needed: set log.message.format.version to 0.11 or later", ErrCorrupt, b[atMagic], f.base)
	}
	if crc32.Checksum(b[atAttributes:], castagnoli) != be.Uint32(b[atChecksum:]) {
		return false, fmt.Errorf("%w: the batch at offset %d fails its checksum", ErrCorrupt, f.base)
	}
	count := int32(be.Uint32(b[atCount:]))
	if f.base < 0 || f.last < f.base || count < 0 || int64(count) > f.last-f.base+1 {
		return false, fmt.Errorf("%w: the batch at offset %d ends at %d and counts %d", ErrCorrupt, f.base, f.last, count)
	}
	if f.last < f.NextOffset {
		return false, nil // wholly before the position
	}
	attributes := be.Uint16(b[atAttributes:])
	aborted := f.isAborted(attributes, int64(be.Uint64(b[atProducerID:])))
	if aborted || attributes&bitControl != 0 {
		f.NextOffset = f.last + 1
		return false, nil
	}
	f.time, f.stamped = int64(be.Uint64(b[atFirstTime:])), false
	if attributes&bitLogAppendTime != 0 {
		// The broker leaves the first time and the records' deltas as the
		// producer wrote them; its own time is the largest one.
		f.time, f.stamped = int64(be.Uint64(b[atMaxTime:])), true
	}
	f.records, err = f.plain.inflate(Codec(attributes&bitsCodec), b[batchHeader:])
	if err != nil {
		return false, fmt.Errorf("the batch at offset %d: %w", f.base, err)
	}
	f.left, f.opened = count, true
	return true, nil
}

// isAborted follows the transactions through the batches: one that will abort
// begins at its first offset and ends with its producer's marker.
func (f *Fetched) isAborted(attributes uint16, producerID int64) bool {
	if attributes&bitTransactional == 0 {
		return false
	}
	for len(f.aborted) > 0 && f.aborted[0].firstOffset <= f.last {
		f.aborting = append(f.aborting, f.aborted[0].producerID)
		f.aborted = f.aborted[1:]
	}
	i := slices.Index(f.aborting, producerID)
	if i >= 0 && attributes&bitControl != 0 {
		f.aborting = slices.Delete(f.aborting, i, i+1)
	}
	return i >= 0
}
