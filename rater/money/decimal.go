package money

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/shopspring/decimal"
)

// unitDigits is the decimals that a unit adds below the minor unit: UnitsPerMinor = 10^unitDigits.
const unitDigits = 6

// Parse reads a decimal such as "12.50", "-3" or "0.00725" as an amount of the currency. It is exact or an error: a
// value that needs more decimals than the units resolve, or that passes Limit, is refused, never rounded. The form is
// plain: digits, optionally a minus before and a fraction after; no exponent, plus or separators.
func (c Currency) Parse(text string) (Amount, error) {
	digits, negative := strings.CutPrefix(text, "-")
	whole, fraction, pointed := strings.Cut(digits, ".")
	if !allDigits(whole) || pointed && !allDigits(fraction) {
		return 0, fmt.Errorf("cannot read %q as an amount of %s: write a plain decimal, such as 12.50", text, c)
	}
	fraction = strings.TrimRight(fraction, "0")
	if len(fraction) > c.scale() {
		return 0, fmt.Errorf("cannot hold %q exactly: amounts of %s have at most %d decimals", text, c, c.scale())
	}
	padded := strings.TrimLeft(whole+fraction+strings.Repeat("0", c.scale()-len(fraction)), "0")
	if padded == "" {
		return 0, nil
	}
	units, err := strconv.ParseInt(padded, 10, 64)
	if err != nil || Amount(units) > Limit {
		return 0, fmt.Errorf("amount %q is out of bounds: at most %s %s in either sign", text, c.Format(Limit), c)
	}
	if negative {
		units = -units
	}
	return Amount(units), nil
}

func allDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// Decimal gives the amount as an exact decimal of the currency, for arithmetic at the edges.
func (c Currency) Decimal(a Amount) decimal.Decimal { return decimal.New(int64(a), -int32(c.scale())) }

// Format writes the amount as the shortest exact decimal of the currency that has at least the decimals of its minor
// unit: "12.50", "0.00725", "-3.00". Parse reads it back to the same amount.
func (c Currency) Format(a Amount) string {
	text, sign := strconv.FormatInt(int64(a), 10), ""
	if a < 0 {
		text, sign = text[1:], "-"
	}
	if missing := c.scale() + 1 - len(text); missing > 0 {
		text = strings.Repeat("0", missing) + text
	}
	point := len(text) - c.scale()
	whole, fraction := text[:point], text[point:]
	fraction = fraction[:c.MinorDigits()] + strings.TrimRight(fraction[c.MinorDigits():], "0")
	if fraction == "" {
		return sign + whole
	}
	return sign + whole + "." + fraction
}
