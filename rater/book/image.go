package book

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cespare/xxhash/v2"
	"github.com/klauspost/compress/zstd"
)

// An image is the log once more, without what can no longer matter: heartbeats, malformed records and repetitions. It
// is a list of chunks and a closing one, from which Restore makes the Builder again. README.md draws the layout.

const (
	chunkMagic   = "TGB1"
	closingMagic = "TGBZ"
	chunkHead    = 24 // magic, length of the records before compression, their number, hash of the rest
	closingLen   = 48
	// chunkBytes is what the records of a chunk come to before they are compressed: a chunk is closed when it has them.
	chunkBytes = 512 << 10
	// maxChunkBytes bounds what a chunk may unpack to: chunkBytes and one record, which Kafka bounds.
	maxChunkBytes = 64 << 20
)

// ErrImage is what Restore's errors wrap: the chunks are no whole image.
var ErrImage = errors.New("corrupt image of the book")

var le = binary.LittleEndian

// journal holds the records of the images as they come: full chunks, packed, and the records of the next one.
type journal struct {
	chunks  [][]byte
	records []byte // of the chunk that is not full yet
	count   uint32 // of records in it
	total   uint64 // of records in all

	// original is the chunk that is being restored: where the same records make a full chunk again, it is that one, and
	// need not be packed once more.
	original []byte
}

// add keeps a record with the frontier that it led to. Applied with that as its append time it leads there again.
func (j *journal) add(offset, frontierMs int64, value []byte) {
	j.records = binary.AppendUvarint(j.records, uint64(offset))
	j.records = binary.AppendVarint(j.records, frontierMs)
	j.records = binary.AppendUvarint(j.records, uint64(len(value)))
	j.records = append(j.records, value...)
	j.count++
	j.total++
	if len(j.records) >= chunkBytes {
		j.chunks = append(j.chunks, j.full())
		j.records, j.count = j.records[:0], 0
	}
}

// full gives the chunk of the records that wait, which are as many as a chunk has.
func (j *journal) full() []byte {
	if j.original != nil && len(j.records) == int(le.Uint32(j.original[4:])) && j.count == le.Uint32(j.original[8:]) {
		return j.original
	}
	return j.pack()
}

// pack gives the chunk of the records that wait.
func (j *journal) pack() []byte {
	packer, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(chunkBytes), zstd.WithLowerEncoderMem(true))
	if err != nil {
		panic("BUG: zstd refuses its options: " + err.Error())
	}
	chunk := packer.EncodeAll(j.records, make([]byte, chunkHead, chunkHead+len(j.records)/4))
	copy(chunk, chunkMagic)
	le.PutUint32(chunk[4:], uint32(len(j.records)))
	le.PutUint32(chunk[8:], j.count)
	le.PutUint64(chunk[16:], xxhash.Sum64(chunk[chunkHead:]))
	return chunk
}

// Image gives the image of the log up to Offset: chunks of bounded size, the last of which closes the image. They are
// shared with later images; nobody may write to them.
func (b *Builder) Image() [][]byte {
	chunks := slices.Clone(b.journal.chunks)
	if b.journal.count > 0 {
		chunks = append(chunks, b.journal.pack())
	}
	closing := make([]byte, closingLen)
	copy(closing, closingMagic)
	le.PutUint32(closing[4:], uint32(len(chunks)))
	le.PutUint64(closing[8:], b.journal.total)
	le.PutUint64(closing[16:], uint64(b.book.offset))
	le.PutUint64(closing[24:], uint64(b.book.frontierMs))
	le.PutUint64(closing[32:], hashChunks(chunks))
	le.PutUint64(closing[40:], xxhash.Sum64(closing[:40]))
	return append(chunks, closing)
}

// hashChunks hashes the chunks' own hashes, in order.
func hashChunks(chunks [][]byte) uint64 {
	var all xxhash.Digest
	all.Reset()
	for _, c := range chunks {
		all.Write(c[:chunkHead])
	}
	return all.Sum64()
}

// Closes tells whether a chunk is the last one of an image.
func Closes(chunk []byte) bool { return len(chunk) == closingLen && string(chunk[:4]) == closingMagic }

// Restore makes the Builder of which Image gave the chunks; the log goes on at its Offset. The error wraps ErrImage, or
// ErrNewer if a newer build wrote something that this one cannot understand.
func Restore(chunks [][]byte) (*Builder, error) {
	closing := []byte(nil)
	if len(chunks) > 0 {
		closing = chunks[len(chunks)-1]
	}
	if !Closes(closing) || le.Uint64(closing[40:]) != xxhash.Sum64(closing[:40]) {
		return nil, fmt.Errorf("%w: its %d chunks have no closing one", ErrImage, len(chunks))
	}
	chunks = chunks[:len(chunks)-1]
	if int64(le.Uint32(closing[4:])) != int64(len(chunks)) {
		return nil, fmt.Errorf("%w: %d chunks, the closing one says %d", ErrImage, len(chunks), le.Uint32(closing[4:]))
	}
	b := NewBuilder()
	for i, c := range chunks {
		if err := b.restoreChunk(c); err != nil {
			return nil, fmt.Errorf("chunk %d: %w", i, err)
		}
	}
	if b.journal.total != le.Uint64(closing[8:]) || hashChunks(chunks) != le.Uint64(closing[32:]) {
		return nil, fmt.Errorf("%w: the chunks do not add up to what the closing one says", ErrImage)
	}
	b.book.offset = max(b.book.offset, int64(le.Uint64(closing[16:])))
	b.book.frontierMs = max(b.book.frontierMs, int64(le.Uint64(closing[24:])))
	return b, nil
}

// restoreChunk applies the records of a chunk.
func (b *Builder) restoreChunk(chunk []byte) error {
	records, err := unpack(chunk)
	if err != nil {
		return err
	}
	b.journal.original = chunk
	defer func() { b.journal.original = nil }()
	for range le.Uint32(chunk[8:]) {
		if records, err = b.restoreRecord(records); err != nil {
			return err
		}
	}
	if len(records) != 0 {
		return fmt.Errorf("%w: %d bytes follow the last record", ErrImage, len(records))
	}
	return nil
}

// unpack gives the records of a chunk.
func unpack(chunk []byte) ([]byte, error) {
	if len(chunk) < chunkHead || string(chunk[:4]) != chunkMagic || le.Uint64(chunk[16:]) != xxhash.Sum64(chunk[chunkHead:]) {
		return nil, fmt.Errorf("%w: %d bytes that are damaged, or no chunk", ErrImage, len(chunk))
	}
	reader, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxChunkBytes))
	if err != nil {
		panic("BUG: zstd refuses its options: " + err.Error())
	}
	defer reader.Close()
	records, err := reader.DecodeAll(chunk[chunkHead:], nil)
	if err != nil || int64(len(records)) != int64(le.Uint32(chunk[4:])) {
		return nil, fmt.Errorf("%w: cannot be unpacked to %d bytes", ErrImage, le.Uint32(chunk[4:]))
	}
	return records, nil
}

// restoreRecord applies the first of the records and gives the rest.
func (b *Builder) restoreRecord(records []byte) ([]byte, error) {
	offset, frontierMs, value, rest, err := first(records)
	if err != nil {
		return nil, err
	}
	before := b.journal.total
	b.Apply(offset, frontierMs, value)
	if b.err != nil {
		return nil, b.err
	}
	if b.journal.total != before+1 {
		return nil, fmt.Errorf("%w: the record at offset %d is out of place", ErrImage, offset)
	}
	return rest, nil
}

// first cuts the first of the records off the rest.
func first(records []byte) (offset, frontierMs int64, value, rest []byte, err error) {
	at, n := binary.Uvarint(records)
	frontierMs, m := binary.Varint(records[max(n, 0):])
	if n <= 0 || m <= 0 {
		return 0, 0, nil, nil, fmt.Errorf("%w: a record is cut short", ErrImage)
	}
	length, k := binary.Uvarint(records[n+m:])
	rest = records[n+m+max(k, 0):]
	if k <= 0 || length > uint64(len(rest)) {
		return 0, 0, nil, nil, fmt.Errorf("%w: a record is cut short", ErrImage)
	}
	return int64(at), frontierMs, rest[:length], rest[length:], nil
}
