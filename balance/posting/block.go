package posting

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/tollgate/tollgate/rater/entry"
)

// Block is the postings of one block of entries: one Kafka message of `postings`.
type Block struct {
	// EntryOffset is the offset of the block of entries in its partition of `entries`. Postings are identified by
	// (shard, EntryOffset, index).
	EntryOffset int64
	// AppendMs is the broker's append time of the block of entries, milliseconds since 1970 UTC.
	AppendMs int64
	// Entries are the entries, Outcomes what became of each.
	Entries  entry.Block
	Outcomes []Outcome
}

// The layout, little endian, version 1: a header of 40 bytes ("TGP1", CRC-32C of the bytes from 8 on, length,
// entry offset, append time, length of the outcomes, number of entries), the outcomes, the block of entries as it
// stands in `entries`.
const (
	headerLen   = 40
	maxBlockLen = 96 << 20
)

var (
	magic      = [4]byte{'T', 'G', 'P', '1'}
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	le         = binary.LittleEndian
)

// ErrCorrupt is what errors of this package wrap: the bytes are no whole block, or a checksum does not match.
var ErrCorrupt = errors.New("corrupt postings")

// AppendTo appends a block's bytes to dst: count outcomes as the script made them, and the entries as they stand
// in the `entries` log. Nothing is decoded, so that what Redis decided is what the log says.
func AppendTo(dst []byte, entryOffset, appendMs int64, count int, outcomes, entries []byte) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, headerLen)...)
	dst = append(dst, outcomes...)
	dst = append(dst, entries...)
	h := dst[start:]
	copy(h, magic[:])
	le.PutUint32(h[8:], uint32(len(h)))
	le.PutUint32(h[12:], uint32(count))
	le.PutUint64(h[16:], uint64(entryOffset))
	le.PutUint64(h[24:], uint64(appendMs))
	le.PutUint32(h[32:], uint32(len(outcomes)))
	le.PutUint32(h[4:], crc32.Checksum(h[8:], castagnoli))
	return dst
}

// EntryOffset reads the entry offset from the head of a block, without decoding the rest.
func EntryOffset(src []byte) (int64, error) {
	if len(src) < headerLen || [4]byte(src) != magic {
		return 0, fmt.Errorf("%w: %d bytes that do not begin with %q", ErrCorrupt, len(src), magic[:])
	}
	return int64(le.Uint64(src[16:])), nil
}

// Split checks a block's header and checksum and gives its parts, which alias src.
func Split(src []byte) (outcomes, entries []byte, count int, err error) {
	if len(src) < headerLen || [4]byte(src) != magic {
		return nil, nil, 0, fmt.Errorf("%w: %d bytes that do not begin with %q", ErrCorrupt, len(src), magic[:])
	}
	if len(src) > maxBlockLen || int(le.Uint32(src[8:])) != len(src) {
		return nil, nil, 0, fmt.Errorf("%w: %d bytes, the header says %d", ErrCorrupt, len(src), le.Uint32(src[8:]))
	}
	if crc32.Checksum(src[8:], castagnoli) != le.Uint32(src[4:]) {
		return nil, nil, 0, fmt.Errorf("%w: checksum does not match", ErrCorrupt)
	}
	n := uint64(le.Uint32(src[32:]))
	if headerLen+n > uint64(len(src)) {
		return nil, nil, 0, fmt.Errorf("%w: %d bytes of outcomes in a block of %d", ErrCorrupt, n, len(src))
	}
	return src[headerLen : headerLen+n], src[headerLen+n:], int(le.Uint32(src[12:])), nil
}

// Any tells whether some posting of the block in src is one that the caller looks for, by its result and flags. Most
// blocks have none for most readers, and need not be decoded. The error wraps ErrCorrupt.
func Any(src []byte, wanted func(Result, Flags) bool) (bool, error) {
	outcomes, _, count, err := Split(src)
	if err != nil {
		return false, err
	}
	if len(outcomes) < OutcomesLen(count) {
		return false, fmt.Errorf("%w: %d bytes of outcomes for %d entries", ErrCorrupt, len(outcomes), count)
	}
	for i := range count {
		if wanted(Peek(outcomes, i)) {
			return true, nil
		}
	}
	return false, nil
}

// Decode refills the block from src, which it copies. The error wraps ErrCorrupt or entry.ErrCorrupt.
func (b *Block) Decode(src []byte) error {
	outcomes, entries, count, err := Split(src)
	if err != nil {
		return err
	}
	if err := b.Entries.DecodeVouched(entries); err != nil {
		return fmt.Errorf("postings of entry %d: %w", int64(le.Uint64(src[16:])), err)
	}
	if b.Entries.Len() != count {
		return fmt.Errorf("%w: %d outcomes for %d entries", ErrCorrupt, count, b.Entries.Len())
	}
	if b.Outcomes, err = DecodeOutcomes(b.Outcomes, outcomes, count); err != nil {
		return err
	}
	b.EntryOffset, b.AppendMs = int64(le.Uint64(src[16:])), int64(le.Uint64(src[24:]))
	return nil
}
