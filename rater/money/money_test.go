package money

import (
	"math"
	"math/big"
	"strings"
	"testing"

	"github.com/shopspring/decimal"
	"pgregory.net/rapid"
)

func currency(t testing.TB, code string) Currency {
	t.Helper()
	c, err := ParseCurrency(code)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func allCurrencies() []Currency {
	var all []Currency
	for digits, codes := range codesByMinorDigits {
		for _, code := range strings.Fields(codes) {
			all = append(all, Currency{code: code, minorDigits: uint8(digits)})
		}
	}
	return all
}

func amounts() *rapid.Generator[Amount] {
	small := rapid.Map(rapid.Int64Range(-3_000_000, 3_000_000), func(n int64) Amount { return Amount(n) })
	whole := rapid.Map(rapid.Int64Range(int64(-Limit), int64(Limit)), func(n int64) Amount { return Amount(n) })
	return rapid.OneOf(small, whole, rapid.SampledFrom([]Amount{0, 1, -1, Limit, -Limit, Limit - 1}))
}

func TestCurrencyTable(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range allCurrencies() {
		parsed, err := ParseCurrency(c.String())
		if err != nil || parsed != c {
			t.Errorf("ParseCurrency(%q) = %v, %v", c, parsed, err)
		}
		if len(c.String()) != 3 || seen[c.String()] {
			t.Errorf("code %q is malformed or twice in the table", c)
		}
		seen[c.String()] = true
	}
	for code, digits := range map[string]int{"USD": 2, "EUR": 2, "JPY": 0, "KWD": 3, "CLF": 4, "ISK": 0, "HUF": 2, "TND": 3} {
		if got := currency(t, code).MinorDigits(); got != digits {
			t.Errorf("%s has %d minor digits, want %d", code, got, digits)
		}
	}
	for _, code := range []string{"", "usd", "US", "USDX", "XAU", "XXX", "DEM", "SD ", " US", "D A", "AED AFN"} {
		if c, err := ParseCurrency(code); err == nil {
			t.Errorf("ParseCurrency(%q) = %v, want an error", code, c)
		}
	}
}

func TestParseAndFormat(t *testing.T) {
	cases := []struct {
		code, text string
		units      Amount
		formatted  string
	}{
		{"USD", "12.5", 1_250_000_000, "12.50"},
		{"USD", "0.00725", 725_000, "0.00725"},
		{"USD", "-3", -300_000_000, "-3.00"},
		{"USD", "0.00000001", 1, "0.00000001"},
		{"USD", "0.000000010000", 1, "0.00000001"},
		{"USD", "-0", 0, "0.00"},
		{"USD", "000012.50", 1_250_000_000, "12.50"},
		{"USD", "90000000", Limit, "90000000.00"},
		{"JPY", "150", 150_000_000, "150"},
		{"JPY", "0.000001", 1, "0.000001"},
		{"KWD", "1.5", 1_500_000_000, "1.500"},
		{"KWD", "0.000000001", 1, "0.000000001"},
	}
	for _, c := range cases {
		cur := currency(t, c.code)
		units, err := cur.Parse(c.text)
		if err != nil || units != c.units {
			t.Errorf("%s %q parses to %d, %v; want %d", c.code, c.text, units, err, c.units)
		}
		if got := cur.Format(units); got != c.formatted {
			t.Errorf("%s %q formats as %q, want %q", c.code, c.text, got, c.formatted)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	usd := currency(t, "USD")
	for _, text := range []string{"", "-", ".", ".5", "5.", "+1", "1e3", "1,5", "1 ", " 1", "--1", "1.2.3", "0x1", "١",
		"0.000000001", "90000000.00000001", "-90000001", "99999999999999999999999999", "NaN", "Inf"} {
		if a, err := usd.Parse(text); err == nil {
			t.Errorf("Parse(%q) = %d, want an error", text, a)
		}
	}
}

func TestFormatParsesBackAndEqualsDecimal(t *testing.T) {
	all := allCurrencies()
	rapid.Check(t, func(t *rapid.T) {
		c, a := rapid.SampledFrom(all).Draw(t, "currency"), amounts().Draw(t, "amount")
		text := c.Format(a)
		back, err := c.Parse(text)
		if err != nil || back != a {
			t.Fatalf("%s %d formats as %q, which parses to %d, %v", c, a, text, back, err)
		}
		if d := decimal.RequireFromString(text); !d.Equal(c.Decimal(a)) {
			t.Fatalf("%s %d formats as %q, but Decimal gives %s", c, a, text, c.Decimal(a))
		}
		if _, fraction, _ := strings.Cut(text, "."); len(fraction) < c.MinorDigits() {
			t.Fatalf("%q has fewer decimals than the minor unit of %s", text, c)
		}
	})
}

func TestParseEqualsDecimal(t *testing.T) {
	all := allCurrencies()
	rapid.Check(t, func(t *rapid.T) {
		c := rapid.SampledFrom(all).Draw(t, "currency")
		text := rapid.StringMatching(`-?[0-9]{1,12}(\.[0-9]{1,12})?`).Draw(t, "text")
		want := decimal.RequireFromString(text).Shift(int32(c.scale()))
		fits := want.IsInteger() && want.Abs().LessThanOrEqual(decimal.NewFromInt(int64(Limit)))
		got, err := c.Parse(text)
		if (err == nil) != fits || fits && int64(got) != want.IntPart() {
			t.Fatalf("%s %q parses to %d, %v; the decimal is %s units", c, text, got, err, want)
		}
	})
}

func TestAdd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := amounts().Draw(t, "a"), amounts().Draw(t, "b")
		want := new(big.Int).Add(big.NewInt(int64(a)), big.NewInt(int64(b)))
		fits := want.CmpAbs(big.NewInt(int64(Limit))) <= 0
		got, ok := Add(a, b)
		if ok != fits || ok && int64(got) != want.Int64() {
			t.Fatalf("Add(%d, %d) = %d, %v", a, b, got, ok)
		}
	})
	if _, ok := Add(math.MaxInt64, math.MaxInt64); ok {
		t.Error("amounts beyond the limit were added")
	}
}

func TestRoundUpToMinor(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := amounts().Draw(t, "amount")
		want := decimal.New(int64(a), -6).Ceil().IntPart() * UnitsPerMinor
		if got := RoundUpToMinor(a); int64(got) != want {
			t.Fatalf("RoundUpToMinor(%d) = %d, want %d", a, got, want)
		}
	})
}

// prorateExactly is Prorate by math/big alone: floor(|x| + 1/2) with the sign of x.
func prorateExactly(fixed, rate Amount, count, per uint32) (*big.Int, bool) {
	if per == 0 {
		return nil, false
	}
	x := new(big.Rat).SetFrac(new(big.Int).Mul(big.NewInt(int64(rate)), big.NewInt(int64(count))), big.NewInt(int64(per)))
	x.Add(x, new(big.Rat).SetInt64(int64(fixed)))
	sign := x.Sign()
	x.Abs(x).Add(x, big.NewRat(1, 2))
	rounded := new(big.Int).Quo(x.Num(), x.Denom())
	fits := rounded.Cmp(big.NewInt(int64(Limit))) <= 0
	return rounded.Mul(rounded, big.NewInt(int64(sign))), fits
}

func TestProrateIsExactAndRoundsOnce(t *testing.T) {
	any64 := rapid.Map(rapid.Int64(), func(n int64) Amount { return Amount(n) })
	side := rapid.OneOf(amounts(), any64)
	factor := rapid.OneOf(rapid.Uint32Range(0, 100), rapid.Uint32(), rapid.SampledFrom([]uint32{0, 1, 2, 60, math.MaxUint32}))
	rapid.Check(t, func(t *rapid.T) {
		fixed, rate := side.Draw(t, "fixed"), side.Draw(t, "rate")
		count, per := factor.Draw(t, "count"), factor.Draw(t, "per")
		want, fits := prorateExactly(fixed, rate, count, per)
		got, ok := Prorate(fixed, rate, count, per)
		if ok != fits || ok && int64(got) != want.Int64() {
			t.Fatalf("Prorate(%d, %d, %d, %d) = %d, %v; want %v, %v", fixed, rate, count, per, got, ok, want, fits)
		}
	})
}

func TestProrateEqualsDecimal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.Int64Range(-1_000_000_000, 1_000_000_000).Draw(t, "rate")
		count := rapid.Uint32Range(0, 86_400).Draw(t, "count")
		// shopspring rounds half away from zero too, and divisions by these end within 16 decimals.
		per := rapid.SampledFrom([]uint32{1, 2, 5, 8, 10, 64, 125, 1000}).Draw(t, "per")
		want := decimal.NewFromInt(rate).Mul(decimal.NewFromInt(int64(count))).Div(decimal.NewFromInt(int64(per))).Round(0)
		if got, ok := Prorate(0, Amount(rate), count, per); !ok || int64(got) != want.IntPart() {
			t.Fatalf("Prorate(0, %d, %d, %d) = %d, %v; want %s", rate, count, per, got, ok, want)
		}
	})
}

func TestProrateTies(t *testing.T) {
	cases := []struct {
		fixed, rate Amount
		count, per  uint32
		want        Amount
	}{
		{0, 1, 1, 2, 1}, {0, -1, 1, 2, -1}, {0, 1, 29, 60, 0}, {0, 1, 30, 60, 1}, {0, 1, 31, 60, 1},
		{5, -1, 1, 2, 5},  // 4.5 goes away from zero as a whole; rounding the part alone would give 4
		{-5, 1, 1, 2, -5}, // and the mirror image
		{Limit, -1, 1, 3, Limit},
		{0, 1, math.MaxUint32 / 2, math.MaxUint32, 0}, {0, 1, math.MaxUint32/2 + 1, math.MaxUint32, 1},
	}
	for _, c := range cases {
		if got, ok := Prorate(c.fixed, c.rate, c.count, c.per); !ok || got != c.want {
			t.Errorf("Prorate(%d, %d, %d, %d) = %d, %v; want %d", c.fixed, c.rate, c.count, c.per, got, ok, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{"12.50", "-0.00725", "90000000", "1e5", "", "-.", "0.000000001"} {
		f.Add(text)
	}
	usd := currency(f, "USD")
	f.Fuzz(func(t *testing.T, text string) {
		a, err := usd.Parse(text)
		if err != nil {
			return
		}
		if back, err := usd.Parse(usd.Format(a)); err != nil || back != a || !a.Valid() {
			t.Fatalf("%q parses to %d, which comes back as %d, %v", text, a, back, err)
		}
	})
}

func BenchmarkProrate(b *testing.B) {
	for b.Loop() {
		Prorate(1_000_000, 850_000, 61, 60)
	}
}
