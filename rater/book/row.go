package book

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/tollgate/tollgate/rater/money"
	"github.com/tollgate/tollgate/rater/price"
)

// Row is one line of a tariff as people write it: in the book log, in YAML and in CSV. Money is decimal strings of the
// tariff's currency; what a service does not have is left out.
type Row struct {
	Service string `json:"service" yaml:"service"` // voice-in, voice-out, message-in or message-out
	// Prefix is the digits that the number begins with, without "+": the account's own number for inbound services, the
	// other party's for outbound ones. "" is every number.
	Prefix string `json:"prefix,omitempty" yaml:"prefix"`
	// Connect is the fee of every answered call, Rate the price of PerSeconds of billed time (0 is 60).
	Connect    string `json:"connect,omitempty" yaml:"connect"`
	Rate       string `json:"rate,omitempty" yaml:"rate"`
	PerSeconds uint32 `json:"per_seconds,omitempty" yaml:"per_seconds"`
	// Initial is the least billed time of a call, in seconds; beyond it, time counts in steps of Increment.
	Initial   uint32 `json:"initial,omitempty" yaml:"initial"`
	Increment uint32 `json:"increment,omitempty" yaml:"increment"`
	// Minimum is the least charge of an answered call.
	Minimum string `json:"minimum,omitempty" yaml:"minimum"`
	// Segment is the price of one segment of a message.
	Segment string `json:"segment,omitempty" yaml:"segment"`
}

// Price reads the row in the tariff's currency. The error names the column that is wrong.
func (r *Row) Price(currency money.Currency) (price.Row, error) {
	p := price.Row{RateSeconds: r.PerSeconds, InitialSeconds: r.Initial, IncrementSeconds: r.Increment}
	var err error
	if p.Service, err = price.ParseService(r.Service); err != nil {
		return p, &columnError{"service", err}
	}
	if p.Service.Voice() && p.RateSeconds == 0 {
		p.RateSeconds = 60
	}
	if p.Prefix, p.PrefixDigits, err = parsePrefix(r.Prefix); err != nil {
		return p, &columnError{"prefix", err}
	}
	for _, c := range []struct {
		name, text string
		to         *money.Amount
	}{{"connect", r.Connect, &p.ConnectUnits}, {"rate", r.Rate, &p.RateUnits}, {"minimum", r.Minimum, &p.MinimumUnits},
		{"segment", r.Segment, &p.SegmentUnits}} {
		if *c.to, err = parseAmount(currency, c.text); err != nil {
			return p, &columnError{c.name, err}
		}
	}
	if needed, text := r.needed(p.Service); text == "" {
		return p, &columnError{needed, fmt.Errorf("%s has no price: write 0 if it is free", p.Service)}
	}
	return p, p.Validate()
}

// needed gives the column that the service cannot do without, and what it holds.
func (r *Row) needed(s price.Service) (column, text string) {
	if s.Voice() {
		return "rate", r.Rate
	}
	return "segment", r.Segment
}

// columnError says which column of a row is wrong.
type columnError struct {
	column string
	err    error
}

func (e *columnError) Error() string { return e.column + ": " + e.err.Error() }
func (e *columnError) Unwrap() error { return e.err }

// parseAmount reads an amount that may be left out.
func parseAmount(currency money.Currency, text string) (money.Amount, error) {
	if text == "" {
		return 0, nil
	}
	return currency.Parse(text)
}

// parsePrefix reads the digits that numbers begin with.
func parsePrefix(text string) (prefix uint64, digits uint8, err error) {
	if text == "" {
		return 0, 0, nil
	}
	prefix, err = strconv.ParseUint(text, 10, 64)
	if err != nil || len(text) > price.MaxPrefixDigits || text[0] == '0' {
		return 0, 0, fmt.Errorf("%q is no prefix: use up to %d digits without a leading 0 or +", text, price.MaxPrefixDigits)
	}
	return prefix, uint8(len(text)), nil
}

// ParseNumber reads a number as E.164 writes it, such as "+14155550100": a plus, then up to 15 digits, no leading 0.
func ParseNumber(text string) (uint64, error) {
	digits, plus := strings.CutPrefix(text, "+")
	n, count, err := parsePrefix(digits)
	if err != nil || !plus || count < minNumberDigits {
		return 0, fmt.Errorf("%q is no number: write it as E.164 does, such as +14155550100", text)
	}
	return n, nil
}

// minNumberDigits is that of rater/decode: shorter ones are short codes, which no carrier record can name.
const minNumberDigits = 7

// FormatNumber writes a number as ParseNumber reads it.
func FormatNumber(number uint64) string { return "+" + strconv.FormatUint(number, 10) }
