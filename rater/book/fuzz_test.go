package book

import (
	"errors"
	"testing"
	"time"
)

// FuzzChunk packs anything as the records of an image, with all hashes right, so that what lies behind them is reached. An
// image that is restored must give itself again.
func FuzzChunk(f *testing.F) {
	var records journal
	for i, m := range longLog(f, 12).log {
		records.add(int64(i), m.appendMs, m.value)
	}
	f.Add(records.records, records.count, int64(12))
	f.Add([]byte{0, 0, 2, '{', '}'}, uint32(1), int64(1))
	f.Add([]byte{}, uint32(0), int64(-1))
	f.Fuzz(func(t *testing.T, records []byte, count uint32, offset int64) {
		j := journal{records: records, count: count, total: uint64(count)}
		image := (&Builder{journal: j, book: Book{offset: offset}}).Image()
		b, err := Restore(image)
		if err != nil {
			if !errors.Is(err, ErrImage) && !errors.Is(err, ErrNewer) {
				t.Fatal(err)
			}
			return
		}
		again, err := Restore(b.Image())
		if err != nil || again.Offset() != b.Offset() || again.journal.total != b.journal.total {
			t.Fatalf("%d records up to %d come back as %d up to %d: %v", b.journal.total, b.Offset(), again.journal.total, again.Offset(), err)
		}
		b.Book()
	})
}

// FuzzTexts reads anything as the texts of records: what is accepted is written as it means.
func FuzzTexts(f *testing.F) {
	for _, text := range []string{"+14155550100", "2026-11-24", "0001-01-01", "+0", "1415", "2026-02-30", "9999-12-31", ""} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if number, err := ParseNumber(text); err == nil {
			if back, err := ParseNumber(FormatNumber(number)); err != nil || back != number {
				t.Fatalf("%q is %d, which comes back as %d, %v", text, number, back, err)
			}
		}
		if day, err := ParseDay(text); err == nil {
			if back := time.Unix(int64(day)*86_400, 0).UTC().Format(time.DateOnly); back != text {
				t.Fatalf("%q is day %d, which is %s", text, day, back)
			}
		}
		if prefix, digits, err := parsePrefix(text); err == nil && (prefix == 0) != (digits == 0) {
			t.Fatalf("%q is prefix %d of %d digits", text, prefix, digits)
		}
	})
}
