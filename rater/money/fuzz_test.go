package money

import (
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"
)

// FuzzProrate holds the only place where prices are rounded to math/big.
func FuzzProrate(f *testing.F) {
	f.Add(int64(5), int64(-1), uint32(1), uint32(2))
	f.Add(int64(Limit), int64(1), uint32(1), uint32(60))
	f.Add(int64(0), int64(math.MinInt64), uint32(math.MaxUint32), uint32(1))
	f.Add(int64(0), int64(7), uint32(30), uint32(0))
	f.Fuzz(func(t *testing.T, fixed, rate int64, count, per uint32) {
		want, fits := prorateExactly(Amount(fixed), Amount(rate), count, per)
		got, ok := Prorate(Amount(fixed), Amount(rate), count, per)
		if ok != fits || ok && int64(got) != want.Int64() {
			t.Fatalf("Prorate(%d, %d, %d, %d) = %d, %v; want %v, %v", fixed, rate, count, per, got, ok, want, fits)
		}
	})
}

// FuzzDecimal holds that a text means the same in every currency, but for its digits: 1.50 is never 150.
func FuzzDecimal(f *testing.F) {
	for _, text := range []string{"12.50", "-0.00725", "90000000000", "0.000000001", "00.10", "-0"} {
		f.Add(text)
	}
	jpy, usd, kwd := currency(f, "JPY"), currency(f, "USD"), currency(f, "KWD")
	f.Fuzz(func(t *testing.T, text string) {
		a, err := usd.Parse(text)
		if err != nil {
			return
		}
		want := usd.Decimal(a)
		for _, c := range []Currency{jpy, kwd} {
			if other, err := c.Parse(text); err == nil && !c.Decimal(other).Equal(want) {
				t.Fatalf("%q is %s in USD and %s in %s", text, want, c.Decimal(other), c)
			}
		}
	})
}

// TestAddInAnyOrder holds that a sum does not depend on how it is split or ordered, as long as no partial sum passes the
// limit.
func TestAddInAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOfN(rapid.Int64Range(-int64(Limit)/16, int64(Limit)/16), 1, 16).Draw(t, "parts")
		add := func(parts []int64) (sum Amount) {
			for _, p := range parts {
				var ok bool
				if sum, ok = Add(sum, Amount(p)); !ok {
					t.Fatalf("%v: the sum %d does not fit", parts, sum)
				}
			}
			return sum
		}
		want := new(big.Int)
		for _, p := range parts {
			want.Add(want, big.NewInt(p))
		}
		at := rapid.IntRange(0, len(parts)).Draw(t, "at")
		halves, ok := Add(add(parts[:at]), add(parts[at:]))
		if shuffled := add(rapid.Permutation(parts).Draw(t, "shuffled")); !ok || halves != shuffled || int64(halves) != want.Int64() {
			t.Fatalf("%v: %d in two halves, %d shuffled, %s exactly", parts, halves, shuffled, want)
		}
	})
}

// TestProrateIsMonotoneAndOdd holds that more of a thing never costs less, nor a higher rate, and that a credit is a charge
// turned round.
func TestProrateIsMonotoneAndOdd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fixed, rate := Amount(rapid.Int64Range(0, 1e12).Draw(t, "fixed")), Amount(rapid.Int64Range(0, 1e9).Draw(t, "rate"))
		count, per := rapid.Uint32Range(0, 1e6).Draw(t, "count"), rapid.Uint32Range(1, 1e5).Draw(t, "per")
		cost, ok := Prorate(fixed, rate, count, per)
		more, moreOK := Prorate(fixed, rate, count+rapid.Uint32Range(0, 1e6).Draw(t, "more"), per)
		dearer, dearerOK := Prorate(fixed, rate+Amount(rapid.Int64Range(0, 1e9).Draw(t, "dearer")), count, per)
		credit, creditOK := Prorate(-fixed, -rate, count, per)
		if !ok || !moreOK || !dearerOK || !creditOK || more < cost || dearer < cost || credit != -cost {
			t.Fatalf("%d; for more %d, at a higher rate %d, as a credit %d", cost, more, dearer, credit)
		}
	})
}
