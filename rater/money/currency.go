package money

import (
	"fmt"
	"strings"
)

// Currency is an ISO 4217 currency: its code and the number of decimals of its minor unit. It is a small comparable
// value; two currencies are the same when they are ==. The zero Currency is none: only ParseCurrency makes one.
type Currency struct {
	code        string
	minorDigits uint8
}

// The active currencies of ISO 4217, by the decimals of their minor unit, as of the withdrawal of the Bulgarian lev
// in January 2026. Codes without a minor unit (metals, bond units, drawing rights, tests) cannot hold a balance and
// are left out. A code that is withdrawn later stays here, so that the logs that name it can still be read.
var codesByMinorDigits = [...]string{
	0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
	2: "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF CHW " +
		"CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF " +
		"IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK " +
		"MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP " +
		"SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XAD XCD XCG " +
		"YER ZAR ZMW ZWG",
	3: "BHD IQD JOD KWD LYD OMR TND",
	4: "CLF UYW",
}

// ParseCurrency reads an ISO 4217 code in capitals, such as "USD". Codes without a minor unit, such as "XAU", are
// refused with the unknown ones.
func ParseCurrency(code string) (Currency, error) {
	for digits, codes := range codesByMinorDigits {
		at := strings.Index(codes, code)
		if len(code) == 3 && at >= 0 && at%4 == 0 {
			return Currency{code: codes[at : at+3], minorDigits: uint8(digits)}, nil
		}
	}
	return Currency{}, fmt.Errorf("unknown currency %q: use an active ISO 4217 code in capitals, such as USD", code)
}

// String gives the ISO 4217 code, or "" for the zero Currency.
func (c Currency) String() string { return c.code }

// MinorDigits is the number of decimals of the currency's minor unit: 2 for USD, 0 for JPY, 3 for KWD.
func (c Currency) MinorDigits() int { return int(c.minorDigits) }

// scale is the number of decimals that the currency's unit of account resolves: 8 for USD.
func (c Currency) scale() int { return int(c.minorDigits) + unitDigits }
