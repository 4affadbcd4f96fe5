package posting

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/tollgate/tollgate/rater/entry"
)

// FuzzBlock puts anything behind a right header and checksum. A block that is accepted must encode to itself, and what is
// refused must say that it is corrupt.
func FuzzBlock(f *testing.F) {
	var entries entry.Block
	entries.Reset(entry.Source{Partition: 3}, entry.None)
	entries.Add(&entry.Entry{Kind: entry.Usage, ID: []byte("call-1"), Peer: []byte("+15551230000"), AmountUnits: -5})
	entries.Add(&entry.Entry{Kind: entry.Credit, ID: []byte("key"), Extra: []byte("a note"), AmountUnits: 700})
	entries.Add(&entry.Entry{Kind: entry.Rejected, Reason: entry.Undecodable, Extra: []byte("{oops")})
	outcomes := AppendOutcomes(nil, []Outcome{
		{Result: Charged, AmountUnits: -5, Flags: OpenedIntent | Low, IntentUnits: 9}, {Result: Applied, AmountUnits: 700}, {Result: Rejected},
	})
	f.Add(int64(4), int64(1_790_000_000_000), 3, outcomes, entries.AppendTo(nil))
	f.Add(int64(-1), int64(-1), 0, []byte{}, []byte("TGE1"))
	f.Fuzz(func(t *testing.T, offset, appendMs int64, count int, outcomes, entries []byte) {
		wire := AppendTo(nil, offset, appendMs, count, outcomes, entries)
		var b Block
		found, anyErr := Any(wire, func(r Result, _ Flags) bool { return r == Charged })
		if err := b.Decode(wire); err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, entry.ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		var e entry.Entry
		for i := range b.Entries.Len() {
			b.Entries.Get(i, &e)
		}
		charged := slices.ContainsFunc(b.Outcomes, func(o Outcome) bool { return o.Result == Charged })
		if anyErr != nil || found != charged {
			t.Fatalf("Any finds a charge: %v, %v; there is one: %v", found, anyErr, charged)
		}
		if b.EntryOffset != offset || b.AppendMs != appendMs || b.Entries.Len() != len(b.Outcomes) {
			t.Fatalf("offset %d, append time %d, %d entries, %d outcomes", b.EntryOffset, b.AppendMs, b.Entries.Len(), len(b.Outcomes))
		}
		if again := AppendOutcomes(nil, b.Outcomes); !bytes.Equal(again, outcomes) {
			t.Fatalf("outcomes %x encode to %x", outcomes, again)
		}
	})
}
