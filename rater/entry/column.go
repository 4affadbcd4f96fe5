package entry

import (
	"encoding/binary"
	"math/bits"
	"slices"
)

// A column on the wire is the width in bytes of each value, 0 to 8; the least value, as a varint; then of each value what
// it has more than the least, in that many bytes, little endian. What is alike in all entries of a block takes nothing.

// integer is what columns are made of.
type integer interface {
	~uint8 | ~int32 | ~uint32 | ~int64 | ~uint64
}

const wordLen = 8

// appendColumn appends a column's bytes.
func appendColumn[T integer](dst []byte, column []T) []byte {
	least, most := T(0), T(0)
	if len(column) > 0 {
		least, most = column[0], column[0]
	}
	for _, v := range column {
		least, most = min(least, v), max(most, v)
	}
	width := (bits.Len64(uint64(most)-uint64(least)) + 7) / 8
	dst = append(dst, byte(width))
	dst = binary.AppendVarint(dst, int64(least))
	if width == 0 {
		return dst
	}
	at, end := len(dst), len(dst)+width*len(column)
	// Each value is written as a whole word, of which the next one overwrites what is too much.
	dst = slices.Grow(dst, width*len(column)+wordLen)[:end+wordLen]
	for _, v := range column {
		le.PutUint64(dst[at:], uint64(v)-uint64(least))
		at += width
	}
	return dst[:end]
}

// columns reads columns one after the other, of n values each. After something that is no column it is broken.
type columns struct {
	src    []byte
	at     int
	n      int
	broken bool
}

// readColumn refills the column with the next one.
func readColumn[T integer](c *columns, column *[]T) {
	width, least, ok := c.head()
	if !ok {
		*column = (*column)[:0]
		return
	}
	values := slices.Grow((*column)[:0], c.n)[:c.n]
	*column = values
	src, at := c.src[c.at:], 0
	c.at += width * c.n
	if width == 0 {
		for i := range values {
			values[i] = T(least)
		}
		return
	}
	mask := ^uint64(0) >> (64 - 8*width)
	i := 0
	for ; i < len(values) && at+wordLen <= len(src); i++ {
		values[i] = T(least + le.Uint64(src[at:])&mask)
		at += width
	}
	for ; i < len(values); i++ { // the last ones of a block with hardly any text
		var word [wordLen]byte
		copy(word[:width], src[at:])
		values[i] = T(least + le.Uint64(word[:]))
		at += width
	}
}

// skip passes over a column.
func (c *columns) skip() {
	if width, _, ok := c.head(); ok {
		c.at += width * c.n
	}
}

// head reads what a column begins with, and tells whether the values are all there.
func (c *columns) head() (width int, least uint64, ok bool) {
	if c.broken || c.at >= len(c.src) {
		c.broken = true
		return 0, 0, false
	}
	width = int(c.src[c.at])
	value, n := binary.Varint(c.src[c.at+1:])
	c.at += 1 + max(n, 0)
	c.broken = width > wordLen || n <= 0 || width*c.n > len(c.src)-c.at
	return width, uint64(value), !c.broken
}
