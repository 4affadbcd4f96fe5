package stream

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"pgregory.net/rapid"
)

// compressors are other people's encoders of what Kafka's producers may send.
var compressors = map[string]struct {
	codec    Codec
	compress func(plain []byte) []byte
}{
	"gzip": {CodecGzip, func(plain []byte) []byte {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		return finish(&b, w, plain)
	}},
	"snappy": {CodecSnappy, func(plain []byte) []byte { return snappy.Encode(nil, plain) }},
	"snappy framed by Java": {CodecSnappy, func(plain []byte) []byte {
		b := append(bytes.Clone(xerial), 0, 0, 0, 1, 0, 0, 0, 1)
		for len(plain) > 0 {
			n := min(len(plain), 32<<10)
			block := snappy.Encode(nil, plain[:n])
			b = append(be.AppendUint32(b, uint32(len(block))), block...)
			plain = plain[n:]
		}
		return b
	}},
	"lz4 64 KiB":         lz4With(lz4.BlockSizeOption(lz4.Block64Kb), lz4.ChecksumOption(false)),
	"lz4 4 MiB, checked": lz4With(lz4.BlockSizeOption(lz4.Block4Mb), lz4.ChecksumOption(true), lz4.BlockChecksumOption(true)),
	"zstd": {CodecZstd, func(plain []byte) []byte {
		w, _ := zstd.NewWriter(nil)
		return w.EncodeAll(plain, nil)
	}},
	"zstd streamed": {CodecZstd, func(plain []byte) []byte {
		var b bytes.Buffer
		w, _ := zstd.NewWriter(&b)
		return finish(&b, w, plain)
	}},
}

func lz4With(options ...lz4.Option) struct {
	codec    Codec
	compress func(plain []byte) []byte
} {
	return struct {
		codec    Codec
		compress func(plain []byte) []byte
	}{CodecLZ4, func(plain []byte) []byte {
		var b bytes.Buffer
		w := lz4.NewWriter(&b)
		if err := w.Apply(options...); err != nil {
			panic(err)
		}
		return finish(&b, w, plain)
	}}
}

func finish(b *bytes.Buffer, w io.WriteCloser, plain []byte) []byte {
	_, err := w.Write(plain)
	if err := errors.Join(err, w.Close()); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// compressible makes n bytes that repeat as much as records do.
func compressible(n int, seed uint64) []byte {
	random := rand.New(rand.NewPCG(seed, 0))
	b := make([]byte, 0, n+300)
	for len(b) < n {
		switch at := random.IntN(len(b) + 1); {
		case len(b) > 300 && random.IntN(8) > 0:
			at = min(at, len(b)-200)
			b = append(b, b[at:at+20+random.IntN(180)]...)
		default:
			for range 30 {
				b = append(b, byte(random.Uint32()))
			}
		}
	}
	return b[:n]
}

// TestInflate decompresses what others compressed, several batches into one
// buffer: none may overwrite another, and the limit holds to the byte.
func TestInflate(t *testing.T) {
	for name, other := range compressors {
		t.Run(name, func(t *testing.T) {
			z := inflater{limit: 1 << 30}
			for round := range 3 {
				z.reset()
				var plains, outs [][]byte
				for i, n := range []int{1, 100, 60_000, 70_000, 1_500_000, 0, 300_000} {
					plain := compressible(n, uint64(round*10+i))
					out, err := z.inflate(other.codec, other.compress(plain))
					if err != nil {
						t.Fatalf("%d bytes: %v", n, err)
					}
					plains, outs = append(plains, plain), append(outs, out)
				}
				for i := range plains {
					if !bytes.Equal(plains[i], outs[i]) {
						t.Fatalf("round %d: batch %d of %d bytes differs", round, i, len(plains[i]))
					}
				}
			}
			plain := compressible(300_000, 1)
			small := inflater{limit: len(plain)}
			if out, err := small.inflate(other.codec, other.compress(plain)); err != nil || !bytes.Equal(out, plain) {
				t.Fatalf("at its limit: %v", err)
			}
			if !small.full() {
				t.Fatal("it should be full")
			}
			small = inflater{limit: len(plain) - 1}
			if _, err := small.inflate(other.codec, other.compress(plain)); !errors.Is(err, errTooLarge) {
				t.Fatalf("beyond its limit: %v", err)
			}
		})
	}
}

// TestLinkedLZ4 reads a frame whose second block copies from the first, as some
// encoders write: the writers above do not.
func TestLinkedLZ4(t *testing.T) {
	first := []byte("the first block is stored as it is, and the second refers to it.")
	frame := []byte{0x04, 0x22, 0x4D, 0x18, 0x48, 0x40, 81, 0, 0, 0, 0, 0, 0, 0, 0} // linked, size 81
	frame = append(frame, byte(len(first)), 0, 0, 0x80)
	frame = append(frame, first...)
	frame = append(frame, 9, 0, 0, 0, 0x08, byte(len(first)), 0, 0x50, 'e', 'n', 'd', '.', '.', 0, 0, 0, 0)
	z := inflater{limit: 1000}
	for _, n := range []int{1, 2} {
		out, err := z.inflate(CodecLZ4, bytes.Repeat(frame, n))
		want := bytes.Repeat([]byte(string(first)+string(first[:12])+"end.."), n)
		if err != nil || !bytes.Equal(out, want) {
			t.Fatalf("%q: %v", out, err)
		}
	}
}

// TestDeflate holds our compression to other people's decoders.
func TestDeflate(t *testing.T) {
	decoders := map[Codec]func([]byte) ([]byte, error){
		CodecSnappy: func(b []byte) ([]byte, error) { return snappy.Decode(nil, b) },
		CodecLZ4:    func(b []byte) ([]byte, error) { return io.ReadAll(lz4.NewReader(bytes.NewReader(b))) },
		CodecZstd: func(b []byte) ([]byte, error) {
			r, _ := zstd.NewReader(nil)
			return r.DecodeAll(b, nil)
		},
	}
	for codec, decode := range decoders {
		var d deflater
		for i, n := range []int{0, 1, 100, 1 << 16, 1<<16 + 1, 1_000_000} {
			for _, plain := range [][]byte{compressible(n, uint64(i)), incompressible(n)} {
				out, err := d.deflate(codec, []byte("head"), plain)
				if err != nil {
					t.Fatal(err)
				}
				got, err := decode(out[4:])
				if err != nil || !bytes.Equal(got, plain) || string(out[:4]) != "head" {
					t.Fatalf("%s, %d bytes: %v", codec, n, err)
				}
			}
		}
	}
}

func incompressible(n int) []byte {
	random := rand.New(rand.NewPCG(9, 9))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}

// TestBatchProperty: any messages, any codec, any position; what goes in comes
// out, in order, with its offsets.
func TestBatchProperty(t *testing.T) {
	field := rapid.Custom(func(t *rapid.T) []byte {
		if rapid.IntRange(0, 5).Draw(t, "null") == 0 {
			return nil
		}
		return rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "bytes")
	})
	rapid.Check(t, func(t *rapid.T) {
		codec := rapid.SampledFrom([]Codec{CodecNone, CodecSnappy, CodecLZ4, CodecZstd}).Draw(t, "codec")
		base := rapid.Int64Range(0, 1<<40).Draw(t, "base")
		keys := rapid.SliceOfN(field, 1, 100).Draw(t, "keys")
		from := rapid.Int64Range(max(0, base-3), base+int64(len(keys))+3).Draw(t, "from")
		var b Batch
		b.Reset()
		for i, key := range keys {
			b.Append(key, keys[len(keys)-1-i])
		}
		out, err := b.Seal(codec, 77)
		if err != nil {
			t.Fatal(err)
		}
		stamped := rapid.Bool().Draw(t, "stamped")
		want := Message{AppendTime: 77}
		be.PutUint64(out, uint64(base))
		if stamped {
			Stamp(out, base, 88)
			want.AppendTime, want.AppendTimeSet = 88, true
		}
		var f Fetched
		f.Open(Position{Offset: from}, out)
		var m Message
		next := max(from, base)
		for ; f.Next(&m); next++ {
			i := next - base
			if m.Offset != next || m.AppendTime != want.AppendTime || m.AppendTimeSet != stamped || !same(m.Key, keys[i]) || !same(m.Value, keys[len(keys)-1-int(i)]) {
				t.Fatalf("message %d of %d: %+v", i, len(keys), m)
			}
		}
		if end := max(from, base+int64(len(keys))); f.Err != nil || next != end || f.NextOffset != end {
			t.Fatalf("ended at %d, next %d, want %d: %v", next, f.NextOffset, end, f.Err)
		}
	})
}

func same(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }

// TestDecompressionBudget fetches more than may be decompressed at once: it comes
// in portions, and none is lost.
func TestDecompressionBudget(t *testing.T) {
	var log []byte
	for batch := range 10 {
		log = append(log, sealed(t, CodecLZ4, int64(batch*20), 20)...)
	}
	z := &inflater{limit: 3000}
	var f Fetched
	offset, fetches := int64(0), 0
	for ; offset < 200; fetches++ {
		z.reset()
		f.reset(Position{Offset: offset}, z)
		f.rest = log
		var m Message
		for ; f.Next(&m); offset++ {
			if m.Offset != offset {
				t.Fatalf("offset %d, want %d", m.Offset, offset)
			}
		}
		if f.Err != nil || f.NextOffset != offset {
			t.Fatal(f.NextOffset, f.Err)
		}
	}
	if fetches != 5 {
		t.Fatalf("%d fetches", fetches)
	}
}
