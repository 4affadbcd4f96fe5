package price

import (
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"github.com/tollgate/tollgate/rater/money"
)

// FuzzCompute holds the price of a call to rationals, for every row that is valid.
func FuzzCompute(f *testing.F) {
	f.Add(int64(0), int64(850_000), uint32(60), uint32(30), uint32(6), int64(0), uint32(45))
	f.Add(int64(5_000_000), int64(1_000_000), uint32(60), uint32(60), uint32(60), int64(10_000_000), uint32(61))
	f.Add(int64(0), int64(money.Limit), uint32(1), uint32(1), uint32(MaxDurationSeconds), int64(0), uint32(2))
	f.Fuzz(func(t *testing.T, connect, rate int64, per, initial, increment uint32, minimum int64, duration uint32) {
		row := Row{Service: VoiceIn, ConnectUnits: money.Amount(connect), RateUnits: money.Amount(rate), RateSeconds: per,
			InitialSeconds: initial, IncrementSeconds: increment, MinimumUnits: money.Amount(minimum)}
		got, ok := Compute(&row, duration, 0)
		if row.Validate() != nil {
			return // it has no price, or any
		}
		if duration > MaxDurationSeconds {
			if ok {
				t.Fatalf("a call of %d s costs %+v", duration, got)
			}
			return
		}
		cost, billed := exactly(row, duration)
		fits := cost.Cmp(big.NewInt(int64(money.Limit))) <= 0
		if ok != fits || ok && (int64(got.AmountUnits) != cost.Int64() || int64(got.Billed) != billed) {
			t.Fatalf("%+v: %d s cost %+v, %v; want %v for %d s", row, duration, got, ok, cost, billed)
		}
	})
}

// TestLongerMessagesNeverCostLess is for segments what TestLongerCallsNeverCostLess is for seconds.
func TestLongerMessagesNeverCostLess(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		row := Row{Service: MessageIn, SegmentUnits: money.Amount(rapid.Int64Range(0, int64(money.Limit)).Draw(t, "segment"))}
		fewer := rapid.Uint32Range(0, MaxSegments).Draw(t, "fewer")
		more := rapid.Uint32Range(fewer, MaxSegments).Draw(t, "more")
		a, aOK := Compute(&row, 0, fewer)
		b, bOK := Compute(&row, 0, more)
		if bOK && !aOK || aOK && bOK && (a.AmountUnits > b.AmountUnits || a.Billed > b.Billed) || a.AmountUnits < 0 {
			t.Fatalf("%d segments: %+v, %v; %d: %+v, %v", fewer, a, aOK, more, b, bOK)
		}
	})
}

// TestDearerRowsNeverCostLess raises one price of a row, which must not make any call cheaper, nor change what is billed.
func TestDearerRowsNeverCostLess(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		row, duration := rows().Draw(t, "row"), rapid.Uint32Range(0, MaxDurationSeconds).Draw(t, "duration")
		dearer := row
		which := rapid.SampledFrom([]*money.Amount{&dearer.ConnectUnits, &dearer.RateUnits, &dearer.MinimumUnits}).Draw(t, "which")
		*which = money.Amount(rapid.Int64Range(int64(*which), int64(money.Limit)).Draw(t, "raised"))
		a, aOK := Compute(&row, duration, 0)
		b, bOK := Compute(&dearer, duration, 0)
		if bOK && !aOK || aOK && bOK && (a.AmountUnits > b.AmountUnits || a.Billed != b.Billed) {
			t.Fatalf("%+v, %v; dearer %+v, %v", a, aOK, b, bOK)
		}
	})
}

// TestBilledTimeIsTheLeastThatCovers holds that a call is billed for what it lasted, and for less than an increment, or
// the initial time, more.
func TestBilledTimeIsTheLeastThatCovers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		row, duration := rows().Draw(t, "row"), rapid.Uint32Range(1, MaxDurationSeconds).Draw(t, "duration")
		charge, ok := Compute(&row, duration, 0)
		if !ok {
			return
		}
		excess := charge.Billed - duration
		if charge.Billed < duration || charge.Billed > row.InitialSeconds && excess >= row.IncrementSeconds || charge.Billed < row.InitialSeconds {
			t.Fatalf("%d s are billed as %d s by %+v", duration, charge.Billed, row)
		}
	})
}
