package book

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestTableIsAMapWithCheapCopies(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var table table[int]
		want := map[uint64]int{}
		var frozen []struct {
			got  func() map[uint64]int
			want map[uint64]int
		}
		keys := rapid.Uint64Range(1, rapid.SampledFrom([]uint64{20, 3000}).Draw(t, "keys"))
		for i := range rapid.IntRange(0, 2000).Draw(t, "steps") {
			key := keys.Draw(t, "key")
			table.put(key, i)
			want[key] = i
			if i%97 == 0 {
				copied := table.freeze()
				frozen = append(frozen, struct {
					got  func() map[uint64]int
					want map[uint64]int
				}{func() map[uint64]int { return contents(&copied) }, maps.Clone(want)})
			}
		}
		if got := contents(&table); !maps.Equal(got, want) || table.count != len(want) {
			t.Fatalf("the table holds %v, want %v", got, want)
		}
		for _, f := range frozen {
			if got := f.got(); !maps.Equal(got, f.want) {
				t.Fatalf("a frozen table changed to %v, was %v", got, f.want)
			}
		}
	})
}

func contents(t *table[int]) map[uint64]int {
	all := map[uint64]int{}
	keys := t.keys()
	for _, key := range keys {
		all[key] = *t.get(key)
	}
	if !slices.IsSorted(keys) || t.get(1<<40) != nil {
		panic("keys are not sorted, or one is there that was never put")
	}
	return all
}

func TestHistoryIsTheGreatestTimeNotAfter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		times := rapid.SliceOfN(rapid.Int64Range(-5, 5), 1, 8).Draw(t, "times")
		h := since(times[0], 0)
		for i := 1; i < len(times); i++ {
			before, snapshot := h, h.changes()
			h = h.with(times[i], i)
			if !slices.Equal(before.changes(), snapshot) {
				t.Fatal("with changed the history that it was called on")
			}
		}
		for at := int64(-6); at <= 6; at++ {
			best, found := 0, false
			for i, from := range times {
				if from <= at && (!found || from >= times[best]) {
					best, found = i, true
				}
			}
			if got, ok := h.at(at); ok != found || got != best {
				t.Fatalf("at %d: %d, %v; want %d, %v of %v", at, got, ok, best, found, times)
			}
		}
	})
}

// One change among a million numbers must not copy them.
func BenchmarkBookAfterOneChange(b *testing.B) {
	builder := NewBuilder()
	for n := range uint64(1_000_000) {
		builder.book.numbers.put(14_000_000_000+n, since(always, uint32(n%1000)+1))
	}
	b.ReportAllocs()
	n := uint64(0)
	for b.Loop() {
		n += 7919
		builder.book.numbers.put(14_000_000_000+n%1_000_000, since(always, uint32(5)))
		builder.Book()
	}
}

func BenchmarkOwner(b *testing.B) {
	builder := NewBuilder()
	for n := range uint64(1_000_000) {
		builder.book.numbers.put(14_000_000_000+n, since(always, uint32(n%1000)+1))
	}
	book := builder.Book()
	n := uint64(0)
	for b.Loop() {
		n += 611_953
		if _, ok := book.Owner(14_000_000_000+n%1_000_000, 5); !ok {
			b.Fatal("a number without an owner")
		}
	}
}
