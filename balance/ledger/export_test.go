package ledger

import "hash/crc32"

// Sealed gives the bytes as the chunk that follows the head chunk given, so that fuzzing gets past the checks.
func Sealed(chunk, head []byte) []byte {
	if len(chunk) < imageHeaderLen {
		return chunk
	}
	sealed := append([]byte(nil), chunk...)
	copy(sealed[:40], head)
	le.PutUint32(sealed[8:], uint32(len(sealed)))
	le.PutUint32(sealed[12:], 1)
	le.PutUint32(sealed[4:], crc32.Checksum(sealed[8:], castagnoli))
	return sealed
}
