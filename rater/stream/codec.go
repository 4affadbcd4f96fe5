package stream

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Codec is how the records of a batch are compressed; the numbers are Kafka's.
type Codec int8

// The codecs that Kafka knows. All of them are read; gzip is not written, as it
// is by far the slowest.
const (
	CodecNone Codec = iota
	CodecGzip
	CodecSnappy
	CodecLZ4
	CodecZstd
)

var codecNames = [...]string{"none", "gzip", "snappy", "lz4", "zstd"}

// ParseCodec gives the codec of that name: none, snappy, lz4 or zstd.
func ParseCodec(name string) (Codec, error) {
	c := Codec(slices.Index(codecNames[:], name))
	if err := c.validate(); err != nil {
		return 0, fmt.Errorf("unknown codec %q: choose none, snappy, lz4 or zstd", name)
	}
	return c, nil
}

// String gives the codec's name.
func (c Codec) String() string {
	if c < 0 || int(c) >= len(codecNames) {
		return fmt.Sprintf("codec %d", int8(c))
	}
	return codecNames[c]
}

func (c Codec) validate() error {
	switch c {
	case CodecNone, CodecSnappy, CodecLZ4, CodecZstd:
		return nil
	}
	return fmt.Errorf("cannot produce with codec %s: choose none, snappy, lz4 or zstd", c)
}

var errTooLarge = errors.New("it decompresses to more than DecompressedMaxBytes")

// inflater decompresses the batches of one fetch into one buffer, one behind the
// other, so that messages stay valid until the next fetch. The buffer is as large
// as the largest fetch so far has needed.
type inflater struct {
	limit int
	used  int    // bytes that the batches of this fetch took
	want  int    // what the buffer should have been able to hold
	plain []byte // what is filled is lent out
	gzip  *gzip.Reader
	zstd  *zstd.Decoder
	src   bytes.Reader
}

func (z *inflater) reset() {
	if z.want > cap(z.plain) {
		z.plain = make([]byte, 0, z.want)
	}
	z.plain, z.used, z.want = z.plain[:0], 0, 0
}

// full says that this fetch has decompressed as much as it may.
func (z *inflater) full() bool { return z.used >= z.limit }

// inflate gives the records of a batch as plain bytes.
func (z *inflater) inflate(codec Codec, src []byte) ([]byte, error) {
	if codec == CodecNone {
		return src, nil
	}
	free := z.plain[len(z.plain):]
	var out []byte
	var err error
	switch codec {
	case CodecGzip:
		out, err = z.inflateGzip(free, src)
	case CodecSnappy:
		out, err = inflateSnappy(free, src, z.limit)
	case CodecLZ4:
		out, err = inflateLZ4(free, src, z.limit)
	case CodecZstd:
		out, err = z.inflateZstd(free, src)
	default:
		err = errors.New("unknown compression")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrCorrupt, codec, err)
	}
	if sameStart(out, free) {
		z.plain = z.plain[:len(z.plain)+len(out)]
	} else { // it moved: go on behind it; what came before stays where it is
		z.want = z.used + cap(out)
		z.plain = out
	}
	z.used += len(out)
	return out[:len(out):len(out)], nil
}

func sameStart(a, b []byte) bool {
	return cap(a) > 0 && cap(b) > 0 && &a[:1][0] == &b[:1][0]
}

// room makes sure that n more bytes fit behind out. It may move out.
func room(out []byte, n, limit int) ([]byte, error) {
	if n <= cap(out)-len(out) {
		return out, nil
	}
	if n > limit-len(out) {
		return nil, errTooLarge
	}
	return append(make([]byte, 0, min(limit, max(2*cap(out), len(out)+n, 256<<10))), out...), nil
}

func (z *inflater) inflateGzip(out, src []byte) (_ []byte, err error) {
	z.src.Reset(src)
	if z.gzip == nil {
		z.gzip, err = gzip.NewReader(&z.src)
	} else {
		err = z.gzip.Reset(&z.src)
	}
	for err == nil {
		// One byte of room beyond the limit tells a batch that is just as
		// large from one that is larger.
		if out, err = room(out, 1, z.limit+1); err != nil {
			break
		}
		var n int
		n, err = z.gzip.Read(out[len(out):cap(out)])
		out = out[:len(out)+n]
	}
	if err != io.EOF {
		return nil, err
	}
	if len(out) > z.limit {
		return nil, errTooLarge
	}
	return out, nil
}

// zstdMaxWindow is how far back a frame may refer: as far as zstd's own tool
// allows by default. The decoder wants a memory limit no less than that, so a
// smaller DecompressedMaxBytes is held to only after decompressing.
const zstdMaxWindow = 128 << 20

func (z *inflater) inflateZstd(out, src []byte) (_ []byte, err error) {
	if z.zstd == nil {
		z.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(zstdMaxWindow), zstd.WithDecoderMaxMemory(uint64(max(z.limit, zstdMaxWindow))))
		if err != nil {
			return nil, err
		}
	}
	out, err = z.zstd.DecodeAll(src, out)
	if errors.Is(err, zstd.ErrDecoderSizeExceeded) || len(out) > z.limit {
		return nil, errTooLarge
	}
	return out, err
}

// xerial is how the framing of Java's older snappy clients begins: blocks with a
// four-byte length each, after a header of 16 bytes.
var xerial = []byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0}

func inflateSnappy(out, src []byte, limit int) ([]byte, error) {
	if len(src) < 16 || !bytes.HasPrefix(src, xerial) {
		return snappyBlock(out, src, limit)
	}
	var err error
	for b := src[16:]; len(b) > 0; {
		if len(b) < 4 {
			return nil, io.ErrUnexpectedEOF
		}
		n := int64(be.Uint32(b))
		if n > int64(len(b)-4) {
			return nil, io.ErrUnexpectedEOF
		}
		if out, err = snappyBlock(out, b[4:4+n], limit); err != nil {
			return nil, err
		}
		b = b[4+n:]
	}
	return out, nil
}

func snappyBlock(out, src []byte, limit int) ([]byte, error) {
	n, err := s2.DecodedLen(src)
	if err != nil {
		return nil, err
	}
	if out, err = room(out, n, limit); err != nil {
		return nil, err
	}
	at := len(out)
	block, err := s2.Decode(out[at:at+n], src)
	if err != nil {
		return nil, err
	}
	return out[:at+len(block)], nil
}

// The parts of an LZ4 frame that a reader of blocks must know.
const (
	lz4Magic           = 0x184D2204
	lz4Independent     = 0x20
	lz4BlockChecksum   = 0x10
	lz4ContentSize     = 0x08
	lz4ContentChecksum = 0x04
	lz4DictionaryID    = 0x01
	lz4Stored          = 1 << 31
	lz4Window          = 64 << 10
)

var errLZ4 = errors.New("malformed lz4 frame")

// inflateLZ4 decodes LZ4 frames block by block, straight into place. The frame's
// own checksums are passed over: the batch's covers them.
func inflateLZ4(out, src []byte, limit int) ([]byte, error) {
	var err error
	for len(src) > 0 {
		if out, src, err = inflateLZ4Frame(out, src, limit); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func inflateLZ4Frame(out, src []byte, limit int) (_, rest []byte, err error) {
	if len(src) < 7 || binary.LittleEndian.Uint32(src) != lz4Magic {
		return nil, nil, errLZ4
	}
	flags, blockMax := src[4], 1<<(8+2*(src[5]>>4&7))
	head := 7
	if flags&lz4ContentSize != 0 {
		head += 8
	}
	if flags&lz4DictionaryID != 0 {
		head += 4
	}
	r := reader{b: src}
	r.take(head)
	frame := len(out)
	for {
		size := binary.LittleEndian.Uint32(r.fixed(4))
		if size == 0 || r.short {
			break
		}
		block := r.take(int(size &^ lz4Stored))
		if flags&lz4BlockChecksum != 0 {
			r.take(4)
		}
		if r.short {
			break
		}
		var window []byte
		if flags&lz4Independent == 0 {
			window = out[max(frame, len(out)-lz4Window):]
		}
		if size&lz4Stored != 0 {
			out, err = room(out, len(block), limit)
			out = append(out, block...)
		} else {
			out, err = lz4Block(out, block, window, blockMax, limit)
		}
		if err != nil {
			return nil, nil, err
		}
	}
	if flags&lz4ContentChecksum != 0 {
		r.take(4)
	}
	if r.short {
		return nil, nil, errLZ4
	}
	return out, r.b, nil
}

// lz4Block decodes one block behind out. How large it gets is not known before,
// so the room for it grows until it fits; once warm there is enough.
func lz4Block(out, block, window []byte, blockMax, limit int) ([]byte, error) {
	for want := min(4*len(block)+64, blockMax); ; want = min(4*want, blockMax) {
		var err error
		if out, err = room(out, min(want, max(limit-len(out), 1)), limit); err != nil {
			return nil, err
		}
		at := len(out)
		n, err := lz4.UncompressBlockWithDict(block, out[at:cap(out)], window)
		if err == nil {
			if n > limit-at {
				return nil, errTooLarge
			}
			return out[:at+n], nil
		}
		switch {
		case !errors.Is(err, lz4.ErrInvalidSourceShortBuffer):
			return nil, err
		case cap(out)-at >= blockMax:
			return nil, errLZ4
		case cap(out)-at >= limit-at:
			return nil, errTooLarge
		}
	}
}

// deflater compresses batches for a Producer, whose buffers it uses.
type deflater struct {
	lz4  lz4.Compressor
	zstd *zstd.Encoder
}

// lz4FrameHeader announces independent blocks of at most 64 KiB and no checksums
// but its own, the last byte.
var lz4FrameHeader = []byte{0x04, 0x22, 0x4D, 0x18, 0x60, 0x40, 0x82}

// deflate appends the compressed src to out.
func (d *deflater) deflate(codec Codec, out, src []byte) ([]byte, error) {
	switch codec {
	case CodecSnappy: // one raw block: Java's reader takes it as well as framed ones
		at := len(out)
		out = slices.Grow(out, s2.MaxEncodedLen(len(src)))
		return out[:at+len(s2.EncodeSnappy(out[at:cap(out)], src))], nil
	case CodecLZ4:
		return d.deflateLZ4(out, src)
	case CodecZstd:
		if d.zstd == nil {
			var err error
			d.zstd, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
			if err != nil {
				return nil, err
			}
		}
		return d.zstd.EncodeAll(src, out), nil
	}
	return append(out, src...), nil
}

func (d *deflater) deflateLZ4(out, src []byte) ([]byte, error) {
	out = append(out, lz4FrameHeader...)
	for len(src) > 0 {
		block := src[:min(len(src), lz4Window)]
		src = src[len(block):]
		at := len(out)
		out = slices.Grow(out, 4+lz4.CompressBlockBound(len(block)))
		n, err := d.lz4.CompressBlock(block, out[at+4:cap(out)])
		if err != nil {
			return nil, err
		}
		if n == 0 || n >= len(block) { // it does not shrink
			n = copy(out[at+4:cap(out)], block) | lz4Stored
		}
		binary.LittleEndian.PutUint32(out[at:at+4:cap(out)], uint32(n))
		out = out[:at+4+n&^lz4Stored]
	}
	return append(out, 0, 0, 0, 0), nil
}
