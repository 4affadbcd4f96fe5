package book

import (
	"errors"
	"fmt"
	"slices"
	"testing"
)

// longLog has records for more than one chunk.
func longLog(t testing.TB, n int) *script {
	s := installation(t)
	for i := range n {
		s.must(&AssignNumber{Number: FormatNumber(13_000_000_000 + uint64(i)), Account: 5})
	}
	return s
}

func TestDamagedImagesAreRefused(t *testing.T) {
	chunks := longLog(t, 9000).b.Image()
	if len(chunks) < 3 || !Closes(chunks[len(chunks)-1]) || Closes(chunks[0]) {
		t.Fatalf("%d chunks", len(chunks))
	}
	if b, err := Restore(chunks); err != nil || b.Book().numbers.count != 9002 {
		t.Fatal(err)
	}
	damage := map[string][][]byte{
		"nothing": nil, "only the closing chunk": chunks[len(chunks)-1:], "no closing chunk": chunks[:len(chunks)-1],
		"a chunk twice": slices.Concat(chunks[:1], chunks[:1], chunks[2:]), "a chunk is missing": chunks[1:],
		"order": slices.Concat(chunks[1:2], chunks[:1], chunks[2:]),
	}
	for i, c := range chunks {
		for _, at := range []int{0, 5, 9, 17, len(c) - 1} {
			bad := slices.Clone(chunks)
			bad[i] = slices.Clone(c)
			bad[i][at] ^= 1
			damage[fmt.Sprintf("chunk %d, byte %d", i, at)] = bad
		}
		bad := slices.Clone(chunks)
		bad[i] = c[:len(c)-1]
		damage[fmt.Sprintf("chunk %d cut short", i)] = bad
	}
	for name, chunks := range damage {
		if _, err := Restore(chunks); !errors.Is(err, ErrImage) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzRestore(f *testing.F) {
	image := longLog(f, 20).b.Image()
	f.Add(image[0], image[1])
	f.Add([]byte(chunkMagic), []byte(closingMagic))
	f.Fuzz(func(t *testing.T, chunk, closing []byte) {
		if b, err := Restore([][]byte{chunk, closing}); err == nil {
			b.Book()
		} else if !errors.Is(err, ErrImage) && !errors.Is(err, ErrNewer) {
			t.Fatal(err)
		}
	})
}

func BenchmarkApply(b *testing.B) {
	s := longLog(b, 100_000)
	b.ReportAllocs()
	for b.Loop() {
		builder := NewBuilder()
		for i, m := range s.log {
			builder.Apply(int64(i), m.appendMs, m.value)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(s.log)), "ns/record")
}

func BenchmarkRestore(b *testing.B) {
	s := longLog(b, 100_000)
	image := s.b.Image()
	size := 0
	for _, c := range image {
		size += len(c)
	}
	for b.Loop() {
		if _, err := Restore(image); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(s.log)), "ns/record")
	b.ReportMetric(float64(size)/float64(len(s.log)), "bytes/record")
}
