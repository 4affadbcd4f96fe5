package oracle

import (
	"strconv"
	"strings"
)

// Lengths of numbers that belong to somebody, with the calling code.
const (
	shortestNumber     = 7
	longestNumber      = 15
	longestInThePlan   = 10 // digits that are taken for a national number without a trunk prefix
	trunkPrefix        = "0"
	internationalZeros = "00"
)

// parseNumber reads a telephone number as carriers write it. Country is the calling code of national numbers, or "".
func parseNumber(written []byte, country string) (number uint64, ok bool) {
	bare := strings.Map(func(r rune) rune {
		if strings.ContainsRune(" -.()", r) {
			return -1
		}
		return r
	}, string(written))
	digits, plus := strings.CutPrefix(bare, "+")
	if strings.Trim(digits, "0123456789") != "" {
		return 0, false
	}
	significant := strings.TrimLeft(digits, "0")
	zeros := digits[:len(digits)-len(significant)]
	if len(significant) < shortestNumber || len(significant) > longestNumber {
		return 0, false
	}
	switch {
	case plus && zeros == "", !plus && zeros == internationalZeros:
		return toNumber(significant)
	case plus || zeros != "" && zeros != trunkPrefix:
		return 0, false
	case country == "":
		if zeros != "" {
			return 0, false
		}
		return toNumber(significant)
	}
	national := zeros == trunkPrefix || len(significant) <= longestInThePlan && !strings.HasPrefix(significant, country)
	if !national {
		return toNumber(significant)
	}
	if zeros == trunkPrefix && country == "1" || len(country)+len(significant) > longestNumber {
		return 0, false
	}
	return toNumber(country + significant)
}

func toNumber(digits string) (uint64, bool) {
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, err == nil
}
