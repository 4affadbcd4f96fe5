package money

import "math/bits"

// Valid tells whether the amount keeps within Limit, in either sign.
func (a Amount) Valid() bool { return -Limit <= a && a <= Limit }

// Add gives a + b. It is not ok when either of them or the sum passes Limit.
func Add(a, b Amount) (sum Amount, ok bool) {
	if !a.Valid() || !b.Valid() {
		return 0, false
	}
	sum = a + b // at most 1.8·10¹⁶: no overflow
	return sum, sum.Valid()
}

// RoundUpToMinor gives the smallest whole number of minor units that is not less than a, which must be valid: what a
// card can be charged to cover a. Amounts below zero round towards zero.
func RoundUpToMinor(a Amount) Amount {
	rest := a % UnitsPerMinor
	if rest > 0 {
		a += UnitsPerMinor
	}
	return a - rest
}

// Prorate gives fixed + rate·count/per, computed exactly and then rounded once, half away from zero. It is the only
// place where prices are rounded. It is not ok when per is 0 or the result passes Limit.
func Prorate(fixed, rate Amount, count, per uint32) (total Amount, ok bool) {
	// (fixed·per + rate·count) / per, the numerator in 128 bits: |int64|·uint32 twice is below 2⁹⁶.
	fixedHigh, fixedLow := multiply(fixed, per)
	rateHigh, rateLow := multiply(rate, count)
	low, carry := bits.Add64(fixedLow, rateLow, 0)
	high := fixedHigh + rateHigh + carry
	negative := int64(high) < 0
	if negative {
		var borrow uint64
		low, borrow = bits.Sub64(0, low, 0)
		high = -high - borrow
	}
	divisor := uint64(per)
	if high >= divisor { // per is 0, or the quotient needs more than 64 bits
		return 0, false
	}
	quotient, rest := bits.Div64(high, low, divisor)
	if quotient > uint64(Limit) {
		return 0, false
	}
	total = Amount(quotient)
	if 2*rest >= divisor { // rest is below 2³²
		total++
	}
	if !total.Valid() {
		return 0, false
	}
	if negative {
		total = -total
	}
	return total, true
}

// multiply gives a·n as a 128-bit two's complement number.
func multiply(a Amount, n uint32) (high, low uint64) {
	high, low = bits.Mul64(uint64(a), uint64(n))
	if a < 0 { // uint64(a) is a + 2⁶⁴
		high -= uint64(n)
	}
	return high, low
}
