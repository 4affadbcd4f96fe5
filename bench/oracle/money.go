package oracle

import (
	"fmt"
	"math/big"
	"strings"
)

// minorDigits lists the active currencies whose minor unit is not a hundredth.
var minorDigits = map[string]int{
	"BIF": 0, "CLP": 0, "DJF": 0, "GNF": 0, "ISK": 0, "JPY": 0, "KMF": 0, "KRW": 0, "PYG": 0, "RWF": 0, "UGX": 0, "UYI": 0,
	"VND": 0, "VUV": 0, "XAF": 0, "XOF": 0, "XPF": 0,
	"BHD": 3, "IQD": 3, "JOD": 3, "KWD": 3, "LYD": 3, "OMR": 3, "TND": 3, "CLF": 4, "UYW": 4,
}

// unitDigits is the decimals that one unit of a currency has: six beyond its minor unit.
func unitDigits(currency string) int {
	if digits, special := minorDigits[currency]; special {
		return digits + 6
	}
	return 2 + 6
}

// mostUnits bounds every amount: beyond it a record is out of bounds.
var mostUnits = big.NewInt(9_000_000_000_000_000)

// parseMoney reads a plain decimal such as "-12.50"; "" is nothing.
func parseMoney(text string) (*big.Rat, error) {
	if text == "" {
		return new(big.Rat), nil
	}
	digits := strings.TrimPrefix(strings.TrimPrefix(text, "-"), "+")
	whole, fraction, _ := strings.Cut(digits, ".")
	if strings.Trim(whole+fraction, "0123456789") != "" || whole+fraction == "" {
		return nil, fmt.Errorf("%q is no amount: write it as 12.50", text)
	}
	amount, ok := new(big.Rat).SetString(text)
	if !ok {
		return nil, fmt.Errorf("%q is no amount: write it as 12.50", text)
	}
	return amount, nil
}

// toUnits turns an amount of a currency into units, rounded once, half away from zero.
func toUnits(amount *big.Rat, currency string) *big.Int {
	scaled := new(big.Rat).Mul(amount, new(big.Rat).SetInt(powerOfTen(unitDigits(currency))))
	// floor(|x| + 1/2) is (2·numerator + denominator) / (2·denominator).
	numerator := new(big.Int).Abs(scaled.Num())
	numerator.Lsh(numerator, 1).Add(numerator, scaled.Denom())
	rounded := numerator.Quo(numerator, new(big.Int).Lsh(scaled.Denom(), 1))
	if scaled.Sign() < 0 {
		rounded.Neg(rounded)
	}
	return rounded
}

// exactUnits is toUnits for amounts that people wrote: an amount finer than a unit is an error.
func exactUnits(text, currency string) (int64, error) {
	amount, err := parseMoney(text)
	if err != nil {
		return 0, err
	}
	units := toUnits(amount, currency)
	if back := new(big.Rat).SetFrac(units, powerOfTen(unitDigits(currency))); back.Cmp(amount) != 0 || !units.IsInt64() {
		return 0, fmt.Errorf("%q is no amount of %s: it is finer than a unit, or too great", text, currency)
	}
	return units.Int64(), nil
}

// formatUnits writes units as a decimal of the currency.
func formatUnits(units *big.Int, currency string) string {
	digits := unitDigits(currency)
	return new(big.Rat).SetFrac(units, powerOfTen(digits)).FloatString(digits)
}

func formatInt(units int64, currency string) string { return formatUnits(big.NewInt(units), currency) }

func powerOfTen(n int) *big.Int { return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil) }
