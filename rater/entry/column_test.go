package entry

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// Every column is read back, from wherever it stands, and takes no more than its values differ by.
func TestColumnsAreReadBack(t *testing.T) {
	for name, test := range map[string]func(*rapid.T){
		"int64": testColumn(rapid.OneOf(rapid.Int64(), rapid.Int64Range(-3, 300), rapid.Just[int64](math.MinInt64), rapid.Just[int64](math.MaxInt64))),
		"int32": testColumn(rapid.Int32()), "uint32": testColumn(rapid.OneOf(rapid.Uint32(), rapid.Uint32Range(0, 70_000))),
		"uint64": testColumn(rapid.OneOf(rapid.Uint64(), rapid.Uint64Range(14_155_550_000, 14_155_559_999))), "uint8": testColumn(rapid.Uint8()),
	} {
		t.Run(name, rapid.MakeCheck(test))
	}
}

func testColumn[T integer](value *rapid.Generator[T]) func(*rapid.T) {
	return func(t *rapid.T) {
		column, after := rapid.SliceOfN(value, 0, 40).Draw(t, "column"), rapid.SliceOfN(value, 0, 3).Draw(t, "after")
		wire := appendColumn([]byte("before"), column)
		width, room := int(wire[6]), len(wire)
		for range len(after) { // something for the last word to reach into
			wire = append(wire, 0xff)
		}
		var got []T
		c := columns{src: wire, at: 6, n: len(column)}
		if readColumn(&c, &got); c.broken || c.at != room || !slices.Equal(got, column) {
			t.Fatalf("%v is read back as %v, broken %t", column, got, c.broken)
		}
		if len(column) > 0 {
			if spread := uint64(slices.Max(column)) - uint64(slices.Min(column)); width < 8 && spread>>(8*width) != 0 || width > 0 && spread>>(8*(width-1)) == 0 {
				t.Fatalf("%d bytes for a spread of %d", width, spread)
			}
		}
		c = columns{src: wire[:room-1], at: 6, n: len(column)}
		if readColumn(&c, &got); !c.broken && len(column)*width > 0 {
			t.Fatal("a column that is cut short is read")
		}
	}
}

func TestAnAbsurdNumberOfEntriesIsRefused(t *testing.T) {
	b := usageBlock(3)
	wire := b.AppendTo(nil)
	le.PutUint32(wire[12:], MaxEntries+1)
	if b.DecodeVouched(wire) == nil || b.Len() != 0 {
		t.Errorf("%d entries", b.Len())
	}
}
