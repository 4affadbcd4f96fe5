package stream

import (
	"hash/crc32"
	"math"
	"slices"
)

// Batch is one record batch in the making, in Kafka's message format v2: Reset,
// Append for each message, Seal. It keeps its buffers from batch to batch.
type Batch struct {
	plain  []byte // header and records
	sealed []byte // the same, compressed
	count  int32
}

// Reset empties the batch.
func (b *Batch) Reset() {
	b.plain = slices.Grow(b.plain[:0], batchHeader)[:batchHeader]
	b.count = 0
}

// Count is the number of messages.
func (b *Batch) Count() int { return int(b.count) }

// Size is how many bytes the batch takes before compression.
func (b *Batch) Size() int { return len(b.plain) }

// Append adds one message, copying it; nil is null. Each lies at the next offset.
func (b *Batch) Append(key, value []byte) {
	offset := int64(b.count)
	size := 1 + 1 + sizeVarint(offset) + sizeField(key) + sizeField(value) + 1
	out := appendVarint(b.plain, int64(size))
	out = append(out, 0, 0) // attributes, and no time after the batch's
	out = appendVarint(out, offset)
	out = appendField(out, key)
	out = appendField(out, value)
	b.plain = append(out, 0) // no headers
	b.count++
}

func sizeField(field []byte) int {
	if field == nil {
		return 1
	}
	return sizeVarint(int64(len(field))) + len(field)
}

func appendField(b, field []byte) []byte {
	if field == nil {
		return appendVarint(b, -1)
	}
	return append(appendVarint(b, int64(len(field))), field...)
}

// Seal compresses the batch and completes it as a producer does; timeMs, in ms
// since 1970 UTC, is the producer's time of every message. The result is valid
// until Reset.
func (b *Batch) Seal(codec Codec, timeMs int64) ([]byte, error) {
	var with *deflater
	if codec != CodecNone {
		with = &deflater{}
	}
	return b.seal(codec, timeMs, with)
}

func (b *Batch) seal(codec Codec, timeMs int64, with *deflater) ([]byte, error) {
	h := b.plain
	if codec != CodecNone {
		out := slices.Grow(b.sealed[:0], batchHeader)[:batchHeader]
		out, err := with.deflate(codec, out, b.plain[batchHeader:])
		if err != nil {
			return nil, err
		}
		b.sealed, h = out, out
	}
	clear(h[:batchHeader])
	be.PutUint32(h[atLength:], uint32(len(h)-lengthPrefix))
	be.PutUint32(h[lengthPrefix:], math.MaxUint32) // leader epoch: the broker's
	h[atMagic] = 2
	be.PutUint16(h[atAttributes:], uint16(codec))
	be.PutUint32(h[atLastDelta:], uint32(b.count-1))
	be.PutUint64(h[atFirstTime:], uint64(timeMs))
	be.PutUint64(h[atMaxTime:], uint64(timeMs))
	be.PutUint64(h[atProducerID:], math.MaxUint64) // not idempotent
	be.PutUint16(h[atProducer:], math.MaxUint16)
	be.PutUint32(h[atProducer+2:], math.MaxUint32)
	be.PutUint32(h[atCount:], uint32(b.count))
	checksum(h)
	return h, nil
}

// Stamp does to a sealed batch what a broker does when it appends it to a topic
// with LogAppendTime: it gives it its first offset and the broker's time, in ms
// since 1970 UTC. A simulated log uses it.
func Stamp(batch []byte, baseOffset, appendTimeMs int64) {
	be.PutUint64(batch, uint64(baseOffset))
	be.PutUint16(batch[atAttributes:], be.Uint16(batch[atAttributes:])|bitLogAppendTime)
	be.PutUint64(batch[atMaxTime:], uint64(appendTimeMs))
	checksum(batch)
}

func checksum(batch []byte) {
	be.PutUint32(batch[atChecksum:], crc32.Checksum(batch[atAttributes:], castagnoli))
}
