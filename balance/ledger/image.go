package ledger

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"maps"
	"slices"

	"github.com/tollgate/tollgate/balance/posting"
	"github.com/tollgate/tollgate/rater/entry"
)

// Image is the whole state of a shard at State.WM.
type Image struct {
	State *Shard
	// NextPosting is the offset in `postings` from which the audit goes on.
	NextPosting int64
}

// The layout of an image, little endian, version 1. An image is a run of chunks; each is one Kafka message:
//
//	"TGI1", CRC-32C of the bytes from 8 on, u32 length, u32 sequence from 0, 16 bytes image id, i64 offset (WM),
//	u8 section, 3 zero bytes, u32 number of items, the items
//
// The head comes first, the closing chunk last. Items never span chunks and are sorted, so that equal states make
// equal bytes:
//
//	head      i64 version, now, generation, its start, covered since, next posting, then the parameters
//	source    20 bytes key, i64 offset, u32 index
//	closed    u32 zone, i32 day
//	account   u32 number, u16 length, the packed account
//	result    u64 id, i64 offset, i64 body hash, the outcome (22 bytes, and 8 with an intent); oldest first
//	id        u64; of the current generation, of the previous one
//	closing   SHA-256 over the bytes of all chunks before
const (
	imageHeaderLen  = 48
	chunkLimitLeast = 16 << 10

	// DefaultChunkLimit is the default bound on the bytes of one chunk of an image.
	DefaultChunkLimit = 512 << 10
)

type section uint8

const (
	sectionHead section = iota + 1
	sectionSources
	sectionClosed
	sectionAccounts
	sectionResults
	sectionCurrent
	sectionPrevious
	sectionClosing
)

var (
	imageMagic = [4]byte{'T', 'G', 'I', '1'}
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// ErrCorruptImage is what the errors of the Assembler wrap: the bytes are no whole chunk, or do not make sense.
var ErrCorruptImage = errors.New("corrupt image")

// Write encodes the image as chunks of at most limit bytes and passes each to send, in order; the bytes are valid
// until send returns. The id must be new for every image. It stops at the first error of send and returns it.
func (m Image) Write(id [16]byte, limit int, send func(chunk []byte) error) error {
	w := imageWriter{id: id, wm: m.State.WM, limit: max(limit, chunkLimitLeast), send: send, sum: sha256.New()}
	w.begin(sectionHead)
	w.chunk = m.appendHead(w.chunk)
	w.end()
	s := m.State
	w.begin(sectionSources)
	for _, source := range slices.SortedFunc(maps.Keys(s.Sources), compareSources) {
		p := s.Sources[source]
		w.chunk = le.AppendUint32(le.AppendUint64(source.AppendKey(w.chunk), uint64(p.Offset)), p.Ix)
		w.end()
	}
	w.begin(sectionClosed)
	for _, zone := range slices.Sorted(maps.Keys(s.Closed)) {
		w.chunk = le.AppendUint32(le.AppendUint32(w.chunk, zone), uint32(s.Closed[zone]))
		w.end()
	}
	w.begin(sectionAccounts)
	var packed []byte
	for _, number := range slices.Sorted(maps.Keys(s.Accounts)) {
		packed = s.Accounts[number].AppendPacked(packed[:0])
		w.chunk = append(le.AppendUint16(le.AppendUint32(w.chunk, number), uint16(len(packed))), packed...)
		w.end()
	}
	w.begin(sectionResults)
	for _, result := range s.ResultOrder {
		w.chunk = appendResult(w.chunk, result, s.Results[result])
		w.end()
	}
	w.ids(sectionCurrent, &s.Current)
	w.ids(sectionPrevious, &s.Previous)
	w.begin(sectionClosing)
	w.chunk = w.sum.Sum(w.chunk)
	w.end()
	w.flush()
	return w.err
}

func (m Image) appendHead(dst []byte) []byte {
	s := m.State
	for _, v := range [...]int64{s.Version, s.NowMs, s.Generation, s.GenerationStartMs, s.CoveredSinceMs, m.NextPosting} {
		dst = le.AppendUint64(dst, uint64(v))
	}
	for _, v := range s.Params {
		dst = le.AppendUint64(dst, uint64(v))
	}
	return dst
}

func appendResult(dst []byte, id uint64, r APIResult) []byte {
	dst = le.AppendUint64(dst, id)
	dst = le.AppendUint64(dst, uint64(r.Offset))
	dst = le.AppendUint64(dst, uint64(r.BodyHash))
	return posting.AppendOutcomes(dst, []posting.Outcome{r.Outcome})
}

func compareSources(a, b entry.Source) int { return bytes.Compare(a.AppendKey(nil), b.AppendKey(nil)) }

// imageWriter gathers items into chunks. After an error it does nothing more.
type imageWriter struct {
	id      [16]byte
	wm      int64
	limit   int
	send    func([]byte) error
	sum     hash.Hash
	section section
	seq     uint32
	chunk   []byte
	items   uint32
	err     error
}

// begin sends what was gathered and begins a chunk of the section.
func (w *imageWriter) begin(s section) {
	w.flush()
	w.section = s
	w.chunk = append(w.chunk[:0], make([]byte, imageHeaderLen)...)
}

// end ends an item, and the chunk with it when another item might not fit.
func (w *imageWriter) end() {
	const roomForItem = 2048
	if w.items++; len(w.chunk) > w.limit-roomForItem {
		w.begin(w.section)
	}
}

func (w *imageWriter) flush() {
	if w.items == 0 || w.err != nil {
		return
	}
	h := w.chunk
	copy(h, imageMagic[:])
	le.PutUint32(h[8:], uint32(len(h)))
	le.PutUint32(h[12:], w.seq)
	copy(h[16:32], w.id[:])
	le.PutUint64(h[32:], uint64(w.wm))
	h[40] = byte(w.section)
	le.PutUint32(h[44:], w.items)
	le.PutUint32(h[4:], crc32.Checksum(h[8:], castagnoli))
	w.sum.Write(h)
	w.err = w.send(h)
	w.seq, w.items = w.seq+1, 0
}

func (w *imageWriter) ids(s section, ids *IDs) {
	w.begin(s)
	for _, id := range ids.Sorted() {
		w.chunk = le.AppendUint64(w.chunk, id)
		w.end()
	}
}

// Assembler puts images together from their chunks. The zero value is ready.
type Assembler struct {
	parts  map[[16]byte]*partial
	newest *Image
}

// partial is an image of which some chunks are there.
type partial struct {
	image Image
	next  uint32
	sum   hash.Hash
	last  section
}

// Newest gives the whole image of the highest offset among those added, nil if there is none.
func (a *Assembler) Newest() *Image { return a.newest }

// Add takes the next chunk; those of several images may come mixed, each image's in order, some of them twice. An image
// with a chunk missing or a wrong hash is dropped silently: a writer died, or the log was cut. The error wraps
// ErrCorruptImage: the chunk itself is broken, and the images that are whole are not touched by it.
func (a *Assembler) Add(chunk []byte) error {
	if err := checkChunk(chunk); err != nil {
		return err
	}
	id, seq, s := [16]byte(chunk[16:32]), le.Uint32(chunk[12:]), section(chunk[40])
	p := a.parts[id]
	if p == nil && seq == 0 {
		p = &partial{image: Image{State: New()}, sum: sha256.New()}
		p.image.State.WM = int64(le.Uint64(chunk[32:]))
		if a.parts == nil {
			a.parts = map[[16]byte]*partial{}
		}
		a.parts[id] = p
	}
	if p == nil || seq < p.next {
		return nil
	}
	if seq != p.next || int64(le.Uint64(chunk[32:])) != p.image.State.WM || s < p.last || (s == sectionHead) != (seq == 0) {
		delete(a.parts, id)
		return nil
	}
	if s == sectionClosing {
		a.close(id, p, chunk[imageHeaderLen:])
		return nil
	}
	p.sum.Write(chunk)
	p.next, p.last = seq+1, s
	if err := p.image.read(s, int(le.Uint32(chunk[44:])), chunk[imageHeaderLen:]); err != nil {
		delete(a.parts, id)
		return fmt.Errorf("chunk %d of image %x: %w", seq, id, err)
	}
	return nil
}

func checkChunk(chunk []byte) error {
	switch {
	case len(chunk) < imageHeaderLen || [4]byte(chunk) != imageMagic:
		return fmt.Errorf("%w: %d bytes that do not begin with %q", ErrCorruptImage, len(chunk), imageMagic[:])
	case int(le.Uint32(chunk[8:])) != len(chunk):
		return fmt.Errorf("%w: %d bytes, the header says %d", ErrCorruptImage, len(chunk), le.Uint32(chunk[8:]))
	case crc32.Checksum(chunk[8:], castagnoli) != le.Uint32(chunk[4:]):
		return fmt.Errorf("%w: checksum does not match", ErrCorruptImage)
	}
	return nil
}

// close ends an image, and with it those that are older and not whole by now.
func (a *Assembler) close(id [16]byte, p *partial, sum []byte) {
	delete(a.parts, id)
	if !bytes.Equal(sum, p.sum.Sum(nil)) || a.newest != nil && p.image.State.WM < a.newest.State.WM {
		return
	}
	a.newest = &p.image
	maps.DeleteFunc(a.parts, func(_ [16]byte, other *partial) bool { return other.image.State.WM < p.image.State.WM })
}

// read puts the items of one chunk into the image.
func (m *Image) read(s section, items int, src []byte) error {
	r := itemReader{src: src}
	for range items {
		switch s {
		case sectionHead:
			m.readHead(&r)
		case sectionSources:
			m.readSource(&r)
		case sectionClosed:
			zone := r.uint32()
			m.State.Closed[zone] = int32(r.uint32())
		case sectionAccounts:
			m.readAccount(&r)
		case sectionResults:
			m.readResult(&r)
		case sectionCurrent:
			r.id(&m.State.Current)
		case sectionPrevious:
			r.id(&m.State.Previous)
		default:
			return fmt.Errorf("%w: section %d needs a newer build", ErrCorruptImage, s)
		}
		if r.err != nil {
			return r.err
		}
	}
	if len(r.src) > 0 {
		return fmt.Errorf("%w: %d bytes after the items of section %d", ErrCorruptImage, len(r.src), s)
	}
	return nil
}

func (m *Image) readHead(r *itemReader) {
	s := m.State
	for _, v := range [...]*int64{&s.Version, &s.NowMs, &s.Generation, &s.GenerationStartMs, &s.CoveredSinceMs, &m.NextPosting} {
		*v = int64(r.uint64())
	}
	for i := range s.Params {
		s.Params[i] = int64(r.uint64())
	}
}

func (m *Image) readSource(r *itemReader) {
	var source entry.Source
	key := r.take(entry.SourceLen)
	copy(source.TopicID[:], key)
	source.Partition = int32(key[16])<<24 | int32(key[17])<<16 | int32(key[18])<<8 | int32(key[19])
	m.State.Sources[source] = entry.Position{Offset: int64(r.uint64()), Ix: r.uint32()}
}

func (m *Image) readAccount(r *itemReader) {
	number := r.uint32()
	length := le.Uint16(r.take(2))
	packed := r.take(int(length))
	if r.err != nil {
		return
	}
	a, err := UnpackAccount(packed)
	if err != nil {
		r.err = fmt.Errorf("%w: account %d: %w", ErrCorruptImage, number, err)
		return
	}
	m.State.Accounts[number] = &a
}

func (m *Image) readResult(r *itemReader) {
	id := r.uint64()
	result := APIResult{Offset: int64(r.uint64()), BodyHash: int64(r.uint64())}
	row := r.take(posting.OutcomesLen(1))
	if posting.Flags(row[1])&posting.OpenedIntent != 0 {
		row = append(slices.Clone(row), r.take(8)...)
	}
	if r.err != nil {
		return
	}
	outcomes, err := posting.DecodeOutcomes(nil, row, 1)
	if _, again := m.State.Results[id]; err != nil || again {
		r.err = fmt.Errorf("%w: kept result %x", ErrCorruptImage, id)
		return
	}
	result.Outcome = outcomes[0]
	m.State.Results[id] = result
	m.State.ResultOrder = append(m.State.ResultOrder, id)
}

// itemReader reads items front to back. After an error it gives zeros.
type itemReader struct {
	src []byte
	err error
}

func (r *itemReader) take(n int) []byte {
	if len(r.src) < n {
		r.err = fmt.Errorf("%w: an item is cut short", ErrCorruptImage)
		r.src = nil
		return make([]byte, n)
	}
	b := r.src[:n]
	r.src = r.src[n:]
	return b
}

// id reads an id into a set.
func (r *itemReader) id(into *IDs) {
	id := r.uint64()
	if id == 0 && r.err == nil {
		r.err = fmt.Errorf("%w: 0 is no id", ErrCorruptImage)
	}
	into.Add(id)
}

func (r *itemReader) uint64() uint64 { return le.Uint64(r.take(8)) }
func (r *itemReader) uint32() uint32 { return le.Uint32(r.take(4)) }
