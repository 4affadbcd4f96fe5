package stream

import (
	"encoding/binary"
)

var be = binary.BigEndian

// API keys and the one version of each request that is spoken here. All of them
// are in Kafka 2.8, and Kafka 4 still accepts them.
const (
	keyProduce, versionProduce   = 0, 8
	keyFetch, versionFetch       = 1, 11
	keyMetadata, versionMetadata = 3, 10
)

// appendHeader begins a request: four bytes for its size, which endRequest fills
// in, then key, version, correlation id and client id.
func appendHeader(b []byte, key, version int16, correlation int32, clientID string) []byte {
	b = append(b, 0, 0, 0, 0)
	b = be.AppendUint16(b, uint16(key))
	b = be.AppendUint16(b, uint16(version))
	b = be.AppendUint32(b, uint32(correlation))
	return appendString(b, clientID)
}

func endRequest(b []byte) []byte {
	be.PutUint32(b, uint32(len(b)-4))
	return b
}

func appendString(b []byte, s string) []byte {
	b = be.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

func appendCompactString(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)+1))
	return append(b, s...)
}

// reader takes fields off a response. The first one that does not fit marks the
// reader short; from then on every field is zero and every list empty.
type reader struct {
	b     []byte
	short bool
}

// noField is what a field reads as where the response is cut short.
var noField [16]byte

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.short, r.b = true, nil
		return nil
	}
	field := r.b[:n:n]
	r.b = r.b[n:]
	return field
}

func (r *reader) fixed(n int) []byte {
	if field := r.take(n); field != nil {
		return field
	}
	return noField[:n]
}

func (r *reader) i8() int8   { return int8(r.fixed(1)[0]) }
func (r *reader) i16() int16 { return int16(be.Uint16(r.fixed(2))) }
func (r *reader) i32() int32 { return int32(be.Uint32(r.fixed(4))) }
func (r *reader) i64() int64 { return int64(be.Uint64(r.fixed(8))) }

// text reads a string with a two-byte length; null reads as empty.
func (r *reader) text() []byte { return r.take(int(max(r.i16(), 0))) }

// count reads the length of a list of items of at least size bytes each, so that
// a wrong length cannot make a long loop or a large allocation. Null is 0.
func (r *reader) count(size int) int {
	return r.plausible(int64(r.i32()), size)
}

// compactCount is count for the flexible versions.
func (r *reader) compactCount(size int) int {
	return r.plausible(int64(r.uvarint())-1, size)
}

func (r *reader) plausible(n int64, size int) int {
	if n > int64(len(r.b)/size) {
		r.short, r.b = true, nil
		return 0
	}
	return int(max(n, 0))
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > 1<<31 {
		r.short, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) compactText() string {
	return string(r.take(int(max(int64(r.uvarint())-1, 0))))
}

// tags skips the tagged fields that end each flexible structure.
func (r *reader) tags() {
	for n := r.uvarint(); n > 0 && !r.short; n-- {
		r.uvarint()
		r.take(int(r.uvarint()))
	}
}

// varint decodes a zigzag varint and says how many bytes it took, 0 or less where
// it does not end. It is small enough to be inlined for the commonest case.
func varint(b []byte) (int64, int) {
	if len(b) > 0 && b[0] < 0x80 {
		return int64(b[0]>>1) ^ -int64(b[0]&1), 1
	}
	return longVarint(b)
}

func longVarint(b []byte) (int64, int) {
	if len(b) > 1 && b[1] < 0x80 {
		u := uint64(b[0]&0x7f) | uint64(b[1])<<7
		return int64(u>>1) ^ -int64(u&1), 2
	}
	u, n := binary.Uvarint(b)
	return int64(u>>1) ^ -int64(u&1), n
}

func appendVarint(b []byte, v int64) []byte {
	return binary.AppendUvarint(b, uint64(v<<1)^uint64(v>>63))
}

func sizeVarint(v int64) int {
	n := 1
	for u := uint64(v<<1) ^ uint64(v>>63); u >= 0x80; u >>= 7 {
		n++
	}
	return n
}
