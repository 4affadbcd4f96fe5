package posting

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/tollgate/tollgate/rater/entry"
	"github.com/tollgate/tollgate/rater/money"
	"pgregory.net/rapid"
)

func drawOutcome(t *rapid.T) Outcome {
	o := Outcome{
		Result: Result(rapid.IntRange(1, 9).Draw(t, "result")), Flags: Flags(rapid.Byte().Draw(t, "flags")),
		StatementDay: rapid.Int32().Draw(t, "day"), AmountUnits: money.Amount(rapid.Int64().Draw(t, "amount")),
		BalanceUnits: money.Amount(rapid.Int64().Draw(t, "balance")),
	}
	if o.Flags&OpenedIntent != 0 {
		o.IntentUnits = money.Amount(rapid.Int64().Draw(t, "intent"))
	}
	return o
}

func TestBlockRoundTrip(t *testing.T) {
	var decoded Block
	rapid.Check(t, func(t *rapid.T) {
		outcomes := rapid.SliceOfN(rapid.Custom(drawOutcome), 0, 30).Draw(t, "outcomes")
		entries := entry.Block{}
		entries.Reset(entry.Source{Partition: 7}, entry.None)
		for i := range outcomes {
			entries.Add(&entry.Entry{Kind: entry.Wake, Account: uint32(i), Extra: []byte{byte(i)}})
		}
		offset, appendMs := rapid.Int64().Draw(t, "offset"), rapid.Int64().Draw(t, "time")
		wire := AppendTo(nil, offset, appendMs, len(outcomes), AppendOutcomes(nil, outcomes), entries.AppendTo(nil))
		if err := decoded.Decode(wire); err != nil {
			t.Fatal(err)
		}
		if decoded.EntryOffset != offset || decoded.AppendMs != appendMs || !slices.Equal(decoded.Outcomes, outcomes) {
			t.Fatalf("decoded %+v", decoded)
		}
		if head, err := EntryOffset(wire); err != nil || head != offset {
			t.Fatalf("entry offset %d, %v", head, err)
		}
		at := rapid.IntRange(0, len(wire)-1).Draw(t, "at")
		wire[at] ^= byte(rapid.IntRange(1, 255).Draw(t, "flip"))
		if err := decoded.Decode(wire); !errors.Is(err, ErrCorrupt) && !errors.Is(err, entry.ErrCorrupt) {
			t.Fatalf("byte %d changed: %v", at, err)
		}
	})
}

func FuzzDecodeOutcomes(f *testing.F) {
	f.Add(AppendOutcomes(nil, []Outcome{{Result: Charged, AmountUnits: -7}, {Result: Applied, Flags: OpenedIntent, IntentUnits: 9}}), 2)
	f.Fuzz(func(t *testing.T, wire []byte, count int) {
		outcomes, err := DecodeOutcomes(nil, wire, count)
		if err == nil && !bytes.Equal(AppendOutcomes(nil, outcomes), wire) {
			t.Fatal("outcomes that were accepted do not encode to themselves")
		}
	})
}

func FuzzSplit(f *testing.F) {
	f.Add(AppendTo(nil, 1, 2, 0, nil, nil))
	f.Fuzz(func(t *testing.T, wire []byte) {
		var b Block
		_ = b.Decode(wire)
	})
}
