package entry

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/tollgate/tollgate/rater/money"
	"github.com/tollgate/tollgate/rater/price"
)

// Block is a run of entries of one source for one shard: one Kafka message of `entries`. In memory and on the wire
// it is columns, those of the wire as narrow as their values allow. A loop owns its blocks for life and refills them.
type Block struct {
	// Source is where the records came from; the zero Source for payments, API entries and the like.
	Source Source
	// Prev is the position that the first entry follows in this source for this shard, as far as the writer knows;
	// None at the writer's start. A shard that has not seen Prev has lost data.
	Prev Position

	Kind            []Kind
	Service         []price.Service
	Reason          []Reason
	Account         []uint32
	Number          []uint64
	AmountUnits     []money.Amount
	Offset          []int64
	Ix              []uint32
	EventMs         []int64
	LocalDay        []int32
	DurationSeconds []uint32
	Billed          []uint32
	Tariff          []uint32
	Row             []uint32
	IDHash          []uint64

	id, peer text
	// Entries other than Usage have arguments and free bytes: args and extra are indexed by detail[i], which is -1
	// for Usage.
	detail []int32
	args   [][ArgCount]int64
	extra  text

	lengths []uint8 // of ids or peers, while a block is encoded or decoded
}

// text is a column of byte strings: the bytes of all, and where each ends.
type text struct {
	bytes []byte
	end   []uint32
}

func (t *text) reset() { t.bytes, t.end = t.bytes[:0], t.end[:0] }

func (t *text) add(s []byte) {
	t.bytes = append(t.bytes, s...)
	t.end = append(t.end, uint32(len(t.bytes)))
}

func (t *text) at(i int) []byte {
	start := uint32(0)
	if i > 0 {
		start = t.end[i-1]
	}
	return t.bytes[start:t.end[i]:t.end[i]]
}

// Reset empties the block for entries of the given source that follow prev.
func (b *Block) Reset(source Source, prev Position) {
	b.Source, b.Prev = source, prev
	b.Kind, b.Service, b.Reason = b.Kind[:0], b.Service[:0], b.Reason[:0]
	b.Account, b.Number, b.AmountUnits = b.Account[:0], b.Number[:0], b.AmountUnits[:0]
	b.Offset, b.Ix, b.EventMs, b.LocalDay = b.Offset[:0], b.Ix[:0], b.EventMs[:0], b.LocalDay[:0]
	b.DurationSeconds, b.Billed = b.DurationSeconds[:0], b.Billed[:0]
	b.Tariff, b.Row, b.IDHash = b.Tariff[:0], b.Row[:0], b.IDHash[:0]
	b.detail, b.args = b.detail[:0], b.args[:0]
	b.id.reset()
	b.peer.reset()
	b.extra.reset()
}

// Len is the number of entries in the block.
func (b *Block) Len() int { return len(b.Kind) }

// Add appends a copy of e. Its ID and Peer must not be longer than 255 bytes; the decoders see to that.
func (b *Block) Add(e *Entry) {
	b.Kind = append(b.Kind, e.Kind)
	b.Service = append(b.Service, e.Service)
	b.Reason = append(b.Reason, e.Reason)
	b.Account = append(b.Account, e.Account)
	b.Number = append(b.Number, e.Number)
	b.AmountUnits = append(b.AmountUnits, e.AmountUnits)
	b.Offset = append(b.Offset, e.Position.Offset)
	b.Ix = append(b.Ix, e.Position.Ix)
	b.EventMs = append(b.EventMs, e.EventMs)
	b.LocalDay = append(b.LocalDay, e.LocalDay)
	b.DurationSeconds = append(b.DurationSeconds, e.DurationSeconds)
	b.Billed = append(b.Billed, e.Billed)
	b.Tariff = append(b.Tariff, e.Tariff)
	b.Row = append(b.Row, e.Row)
	b.IDHash = append(b.IDHash, e.IDHash)
	b.id.add(e.ID)
	b.peer.add(e.Peer)
	if e.Kind == Usage {
		b.detail = append(b.detail, -1)
		return
	}
	b.detail = append(b.detail, int32(len(b.args)))
	b.args = append(b.args, e.Args)
	b.extra.add(e.Extra)
}

// Get reads entry i into e. The byte slices alias the block: they are valid until it is reset or decoded again.
func (b *Block) Get(i int, e *Entry) {
	*e = Entry{
		Kind: b.Kind[i], Service: b.Service[i], Reason: b.Reason[i], Account: b.Account[i], Number: b.Number[i],
		AmountUnits: b.AmountUnits[i], Position: Position{b.Offset[i], b.Ix[i]}, EventMs: b.EventMs[i],
		LocalDay: b.LocalDay[i], DurationSeconds: b.DurationSeconds[i], Billed: b.Billed[i],
		Tariff: b.Tariff[i], Row: b.Row[i], IDHash: b.IDHash[i], ID: b.id.at(i), Peer: b.peer.at(i),
	}
	if d := b.detail[i]; d >= 0 {
		e.Args, e.Extra = b.args[d], b.extra.at(int(d))
	}
}

// ID gives the id of entry i; it aliases the block.
func (b *Block) ID(i int) []byte { return b.id.at(i) }

// Peer gives the other party of entry i; it aliases the block.
func (b *Block) Peer(i int) []byte { return b.peer.at(i) }

// ExtraBytes is the length of all raw records and free texts of the block.
func (b *Block) ExtraBytes() int { return len(b.extra.bytes) }

// Extra gives the raw record or free text of entry i, nil for Usage; it aliases the block.
func (b *Block) Extra(i int) []byte {
	if d := b.detail[i]; d >= 0 {
		return b.extra.at(int(d))
	}
	return nil
}

// Args gives the arguments of entry i, all 0 for Usage.
func (b *Block) Args(i int) [ArgCount]int64 {
	if d := b.detail[i]; d >= 0 {
		return b.args[d]
	}
	return [ArgCount]int64{}
}

// The layout, little endian, version 1 (README.md draws it):
//
//	header      64 bytes: "TGE1", CRC-32C of the bytes from 8 on, length, count, source topic id and partition,
//	            prev index and offset, number of details, bytes of ids, peers and extras
//	columns     17, each a width, a least value and that many bytes an entry (column.go)
//	details     32 bytes of arguments and 4 of the extra's length for each entry that is not Usage
//	text        ids, peers, extras
const (
	headerLen      = 64
	detailLen      = ArgCount*8 + 4
	maxBlockLen    = 64 << 20
	maxPositionLen = 1<<53 - 1 // Redis scripts hold offsets in doubles

	// columnsOfOthers is how many columns the fold does not look at. They stand behind those that it does.
	columnsOfOthers = 7

	// MaxEntries bounds the entries of a block: a column may have no byte for each, so a block's length does not.
	MaxEntries = 1 << 16
)

var (
	magic      = [4]byte{'T', 'G', 'E', '1'}
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	le         = binary.LittleEndian
)

// ErrCorrupt is what Decode's errors wrap: the bytes are no whole block, or a checksum does not match.
var ErrCorrupt = errors.New("corrupt block")

// AppendTo appends the block's bytes to dst.
func (b *Block) AppendTo(dst []byte) []byte {
	start, n := len(dst), b.Len()
	dst = append(dst, make([]byte, headerLen)...)
	dst = appendColumn(dst, b.Kind)
	dst = appendColumn(dst, b.Account)
	dst = appendColumn(dst, b.AmountUnits)
	dst = appendColumn(dst, b.Offset)
	dst = appendColumn(dst, b.Ix)
	dst = appendColumn(dst, b.EventMs)
	dst = appendColumn(dst, b.LocalDay)
	dst = appendColumn(dst, b.IDHash)
	dst = appendColumn(dst, b.id.lengths(b))
	dst = appendColumn(dst, b.peer.lengths(b))
	dst = appendColumn(dst, b.Service)
	dst = appendColumn(dst, b.Reason)
	dst = appendColumn(dst, b.Number)
	dst = appendColumn(dst, b.DurationSeconds)
	dst = appendColumn(dst, b.Billed)
	dst = appendColumn(dst, b.Tariff)
	dst = appendColumn(dst, b.Row)
	for i, args := range b.args {
		for _, arg := range args {
			dst = le.AppendUint64(dst, uint64(arg))
		}
		dst = le.AppendUint32(dst, uint32(len(b.extra.at(i))))
	}
	dst = append(dst, b.id.bytes...)
	dst = append(dst, b.peer.bytes...)
	dst = append(dst, b.extra.bytes...)

	h := dst[start:]
	copy(h, magic[:])
	le.PutUint32(h[8:], uint32(len(h)))
	le.PutUint32(h[12:], uint32(n))
	copy(h[16:32], b.Source.TopicID[:])
	le.PutUint32(h[32:], uint32(b.Source.Partition))
	le.PutUint32(h[36:], b.Prev.Ix)
	le.PutUint64(h[40:], uint64(b.Prev.Offset))
	le.PutUint32(h[48:], uint32(len(b.args)))
	le.PutUint32(h[52:], uint32(len(b.id.bytes)))
	le.PutUint32(h[56:], uint32(len(b.peer.bytes)))
	le.PutUint32(h[60:], uint32(len(b.extra.bytes)))
	le.PutUint32(h[4:], crc32.Checksum(h[8:], castagnoli))
	return dst
}

// Decode refills the block from src, which it copies; src must hold one block and nothing else. The error wraps
// ErrCorrupt; the block is then empty.
func (b *Block) Decode(src []byte) error {
	if err := b.check(src); err != nil {
		return err
	}
	return b.DecodeVouched(src)
}

// DecodeVouched is Decode for bytes that a checksum around them has vouched for, such as those inside a posting.
func (b *Block) DecodeVouched(src []byte) error {
	c, err := b.decodeFacts(src)
	if err != nil {
		return err
	}
	readColumn(&c, &b.Service)
	readColumn(&c, &b.Reason)
	readColumn(&c, &b.Number)
	readColumn(&c, &b.DurationSeconds)
	readColumn(&c, &b.Billed)
	readColumn(&c, &b.Tariff)
	readColumn(&c, &b.Row)
	at, err := b.decodeDetails(&c)
	if err != nil {
		return err
	}
	for _, t := range []*text{&b.id, &b.peer, &b.extra} {
		t.bytes = append(t.bytes[:0], src[at:at+t.size()]...)
		at += t.size()
	}
	return nil
}

// DecodeForFold is Decode of what decides what becomes of entries: kinds, accounts, amounts, positions, times, days, id
// hashes and arguments. The other columns and the texts, which make most of the bytes, stay empty: Get is not to be used.
func (b *Block) DecodeForFold(src []byte) error {
	if err := b.check(src); err != nil {
		return err
	}
	c, err := b.decodeFacts(src)
	if err != nil {
		return err
	}
	for range columnsOfOthers {
		c.skip()
	}
	_, err = b.decodeDetails(&c)
	return err
}

// check makes sure of the checksum.
func (b *Block) check(src []byte) error {
	if len(src) >= headerLen && crc32.Checksum(src[8:], castagnoli) != le.Uint32(src[4:]) {
		return b.corrupt("checksum does not match")
	}
	return nil
}

// corrupt empties the block and gives the reason.
func (b *Block) corrupt(format string, args ...any) error {
	b.Reset(Source{}, None)
	return fmt.Errorf("%w: "+format, append([]any{ErrCorrupt}, args...)...)
}

// decodeFacts reads the header, the columns that the fold looks at, and the lengths of ids and peers.
func (b *Block) decodeFacts(src []byte) (c columns, err error) {
	b.Reset(Source{}, None)
	n, err := b.decodeHeader(src)
	if err != nil {
		return c, err
	}
	c = columns{src: src, at: headerLen, n: n}
	readColumn(&c, &b.Kind)
	readColumn(&c, &b.Account)
	readColumn(&c, &b.AmountUnits)
	readColumn(&c, &b.Offset)
	readColumn(&c, &b.Ix)
	readColumn(&c, &b.EventMs)
	readColumn(&c, &b.LocalDay)
	readColumn(&c, &b.IDHash)
	readColumn(&c, &b.lengths)
	b.id.setLengths(b.lengths)
	readColumn(&c, &b.lengths)
	b.peer.setLengths(b.lengths)
	return c, nil
}

// decodeDetails reads what follows the columns, ties details to their entries, and gives where the texts begin. That all
// parts are as long as the header says is made sure of first.
func (b *Block) decodeDetails(c *columns) (texts int, err error) {
	src, details := c.src, uint64(le.Uint32(c.src[48:]))
	ids, peers, extras := uint64(le.Uint32(src[52:])), uint64(le.Uint32(src[56:])), uint64(le.Uint32(src[60:]))
	if c.broken || uint64(c.at)+details*detailLen+ids+peers+extras != uint64(len(src)) {
		return 0, b.corrupt("parts do not add up to %d bytes", len(src))
	}
	at := c.at
	for range details {
		var args [ArgCount]int64
		for k := range args {
			args[k] = int64(le.Uint64(src[at+8*k:]))
		}
		b.args = append(b.args, args)
		b.extra.grow(uint64(le.Uint32(src[at+8*ArgCount:])))
		at += detailLen
	}
	if uint64(b.id.size()) != ids || uint64(b.peer.size()) != peers || uint64(b.extra.size()) != extras {
		return 0, b.corrupt("lengths of text do not add up")
	}
	d := int32(0)
	for i, k := range b.Kind {
		if b.Offset[i] > maxPositionLen {
			return 0, b.corrupt("offset %d", b.Offset[i])
		}
		if k == Usage {
			b.detail = append(b.detail, -1)
			continue
		}
		b.detail = append(b.detail, d)
		d++
	}
	if uint64(d) != details {
		return 0, b.corrupt("%d details for %d entries that need them", details, d)
	}
	return at, nil
}

// decodeHeader checks the header and that src holds just what it announces, and gives the number of entries.
func (b *Block) decodeHeader(src []byte) (int, error) {
	if len(src) < headerLen || [4]byte(src) != magic {
		return 0, fmt.Errorf("%w: %d bytes that do not begin with %q", ErrCorrupt, len(src), magic[:])
	}
	if len(src) > maxBlockLen || int(le.Uint32(src[8:])) != len(src) {
		return 0, fmt.Errorf("%w: %d bytes, the header says %d", ErrCorrupt, len(src), le.Uint32(src[8:]))
	}
	n := le.Uint32(src[12:])
	if n > MaxEntries || le.Uint32(src[48:]) > n {
		return 0, fmt.Errorf("%w: %d entries, %d of them with details", ErrCorrupt, n, le.Uint32(src[48:]))
	}
	copy(b.Source.TopicID[:], src[16:32])
	b.Source.Partition = int32(le.Uint32(src[32:]))
	b.Prev = Position{Offset: int64(le.Uint64(src[40:])), Ix: le.Uint32(src[36:])}
	return int(n), nil
}

// size is the length of all strings.
func (t *text) size() int {
	if n := len(t.end); n > 0 {
		return int(t.end[n-1])
	}
	return 0
}

// lengths gives how long each string is, in a column that b lends.
func (t *text) lengths(b *Block) []uint8 {
	b.lengths = b.lengths[:0]
	start := uint32(0)
	for _, end := range t.end {
		b.lengths = append(b.lengths, uint8(end-start))
		start = end
	}
	return b.lengths
}

// setLengths makes room for strings of these lengths, whose bytes come later.
func (t *text) setLengths(lengths []uint8) {
	end := uint32(0)
	for _, length := range lengths {
		end += uint32(length)
		t.end = append(t.end, end)
	}
}

// grow adds the end of a string of the given length, whose bytes come later. Lengths that add up past 32 bits
// are kept wrong on purpose: they cannot match the header, and the block is refused.
func (t *text) grow(length uint64) {
	t.end = append(t.end, uint32(min(uint64(t.size())+length, 1<<32-1)))
}
