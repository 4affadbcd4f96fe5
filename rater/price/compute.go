package price

import (
	"math"

	"github.com/tollgate/tollgate/rater/money"
)

// Charge is the price of one record.
type Charge struct {
	// AmountUnits is what the record costs; ≥ 0 for every valid row.
	AmountUnits money.Amount
	// Billed is the billed seconds of a call, or the segments of a message.
	Billed uint32
}

// Compute prices a call of durationSeconds, or a message of segments, by a row; the row's service says which of the
// two counts. A call of 0 seconds costs nothing: neither the fee nor the minimum. Any other costs
//
//	max(ConnectUnits + RateUnits·billed/RateSeconds, MinimumUnits)
//
// where billed is InitialSeconds, and beyond them whole increments. The sum is rounded once, half away from zero. It
// is not ok when the duration or the segments pass their maximum, the charge passes money.Limit, or the row is not valid
// in a way that leaves no price; such a record must be rejected as out of bounds.
func Compute(row *Row, durationSeconds, segments uint32) (Charge, bool) {
	if !row.Service.Voice() {
		return computeMessage(row, segments)
	}
	if durationSeconds == 0 {
		return Charge{}, true
	}
	billed, ok := billedSeconds(row, durationSeconds)
	if !ok {
		return Charge{}, false
	}
	cost, ok := money.Prorate(row.ConnectUnits, row.RateUnits, billed, row.RateSeconds)
	// The minimum is a whole number of units, so it makes no difference whether it is applied before the rounding.
	return Charge{AmountUnits: max(cost, row.MinimumUnits), Billed: billed}, ok
}

func computeMessage(row *Row, segments uint32) (Charge, bool) {
	if segments > MaxSegments {
		return Charge{}, false
	}
	cost, ok := money.Prorate(0, row.SegmentUnits, segments, 1)
	return Charge{AmountUnits: cost, Billed: segments}, ok
}

// billedSeconds rounds a duration of more than 0 seconds up to what is billed.
func billedSeconds(row *Row, durationSeconds uint32) (uint32, bool) {
	if durationSeconds > MaxDurationSeconds || row.IncrementSeconds == 0 {
		return 0, false
	}
	if durationSeconds <= row.InitialSeconds {
		return row.InitialSeconds, true
	}
	increment := uint64(row.IncrementSeconds)
	increments := (uint64(durationSeconds-row.InitialSeconds) + increment - 1) / increment
	billed := uint64(row.InitialSeconds) + increments*increment
	return uint32(billed), billed <= math.MaxUint32
}
