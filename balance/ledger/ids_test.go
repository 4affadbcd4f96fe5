package ledger_test

import (
	"maps"
	"math/bits"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tollgate/tollgate/balance/ledger"
)

// home0 is an id whose hash is n: the set looks for it in the slot that n's top bits name.
func home0(n uint64) uint64 {
	const multiplier = 0x9e3779b97f4a7c15
	inverse := uint64(multiplier) // by Newton's iteration, which doubles the right bits
	for range 6 {
		inverse *= 2 - multiplier*inverse
	}
	return n * inverse
}

// A set is a map of ids, also where all of them want the same slot, the last one included.
func TestIDsAreASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var set ledger.IDs
		want := map[uint64]struct{}{}
		draw := rapid.OneOf(
			rapid.Uint64(), rapid.Uint64Range(0, 20),
			rapid.Map(rapid.Uint64Range(0, 40), func(n uint64) uint64 { return home0(n) }),
			rapid.Map(rapid.Uint64Range(0, 40), func(n uint64) uint64 { return home0(bits.Reverse64(n) | 7<<60) }),
		)
		for _, id := range rapid.SliceOfN(draw, 0, 200).Draw(t, "ids") {
			if _, known := want[id]; set.Has(id) != known {
				t.Fatalf("%x is in the set: %t", id, !known)
			}
			if set.Add(id); id != 0 {
				want[id] = struct{}{}
			}
		}
		if got := set.Sorted(); set.Len() != len(want) || !slices.Equal(got, slices.Sorted(maps.Keys(want))) {
			t.Fatalf("%d ids %x, want %x", set.Len(), got, want)
		}
		clone := set.Clone()
		for id := range uint64(100) {
			clone.Add(id)
		}
		if got := set.Sorted(); !slices.Equal(got, slices.Sorted(maps.Keys(want))) {
			t.Fatalf("after a change of its clone the set has %x, want %x", got, want)
		}
		for id := range want {
			if !set.Has(id) {
				t.Fatalf("%x was lost", id)
			}
		}
	})
}
