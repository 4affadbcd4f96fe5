package oracle

import (
	"fmt"
	"math/big"
	"sort"
	"strconv"
)

// service is what a record is charged for, by the numbers that ClickHouse's column has.
type service uint8

const (
	voiceIn service = iota + 1
	voiceOut
	messageIn
	messageOut
)

var serviceNames = map[string]service{"voice-in": voiceIn, "voice-out": voiceOut, "message-in": messageIn, "message-out": messageOut}

func (s service) voice() bool   { return s == voiceIn || s == voiceOut }
func (s service) inbound() bool { return s == voiceIn || s == messageIn }

func (s service) String() string {
	for name, of := range serviceNames {
		if of == s {
			return name
		}
	}
	return "no service"
}

// Bounds of what a record may claim.
const (
	mostSeconds  = 24 * 60 * 60
	mostSegments = 255
)

// rateRow is a line of a tariff, in exact decimals of its currency.
type rateRow struct {
	connect, rate, minimum, segment *big.Rat
	perSeconds, initial, increment  int64
}

// charge prices a record by counting: of a call its billed seconds, of a message its segments.
func (r *rateRow) charge(s service, count uint32) (cost *big.Rat, billed uint32) {
	n := int64(count)
	if !s.voice() {
		return new(big.Rat).Mul(r.segment, big.NewRat(n, 1)), count
	}
	if n == 0 {
		return new(big.Rat), 0
	}
	seconds := r.initial
	if n > r.initial {
		steps := (n - r.initial) / r.increment
		if steps*r.increment < n-r.initial {
			steps++
		}
		seconds += steps * r.increment
	}
	cost = new(big.Rat).Mul(r.rate, big.NewRat(seconds, r.perSeconds))
	if cost.Add(cost, r.connect); cost.Cmp(r.minimum) < 0 {
		cost.Set(r.minimum)
	}
	return cost, uint32(seconds)
}

// tariff is the versions of one tariff, each from a time on.
type tariff struct {
	currency string
	versions []version // ascending
}

type version struct {
	fromMs int64
	rows   map[prefix]*rateRow
}

// prefix is the digits with which the numbers of a row begin, "" for all numbers.
type prefix struct {
	service service
	digits  string
}

// longestPrefix is as long as a number may be.
const longestPrefix = 15

// at gives the version in force, nil if there is none yet.
func (t *tariff) at(ms int64) *version {
	i := sort.Search(len(t.versions), func(i int) bool { return t.versions[i].fromMs > ms })
	if i == 0 {
		return nil
	}
	return &t.versions[i-1]
}

// row gives the row of the longest prefix of a number; 0 is a party without a number.
func (v *version) row(s service, number uint64) *rateRow {
	digits := ""
	if number != 0 {
		digits = strconv.FormatUint(number, 10)
	}
	for n := min(len(digits), longestPrefix); n >= 0; n-- {
		if row := v.rows[prefix{s, digits[:n]}]; row != nil {
			return row
		}
	}
	return nil
}

// pricer prices in units, and remembers: the same row and count have the same price.
type pricer struct {
	known map[priceKey]priced
}

type priceKey struct {
	row      *rateRow
	currency string
	service  service
	count    uint32
}

type priced struct {
	units  int64
	billed uint32
	ok     bool // false where the charge is beyond all bounds
}

// mostRemembered bounds the prices that a pricer remembers.
const mostRemembered = 1 << 20

func (p *pricer) price(key priceKey) priced {
	if found, ok := p.known[key]; ok {
		return found
	}
	if p.known == nil || len(p.known) >= mostRemembered {
		p.known = map[priceKey]priced{}
	}
	cost, billed := key.row.charge(key.service, key.count)
	units := toUnits(cost, key.currency)
	result := priced{billed: billed, ok: units.CmpAbs(mostUnits) <= 0}
	if result.ok {
		result.units = units.Int64()
	}
	p.known[key] = result
	return result
}

// newRow reads a row as people wrote it.
func newRow(f *rowShape) (prefix, *rateRow, error) {
	s := serviceNames[f.Service.text]
	if s == 0 {
		return prefix{}, nil, fmt.Errorf("%q is no service", f.Service.text)
	}
	row := &rateRow{}
	for _, money := range []struct {
		text string
		to   **big.Rat
	}{{f.Connect.text, &row.connect}, {f.Rate.text, &row.rate}, {f.Minimum.text, &row.minimum}, {f.Segment.text, &row.segment}} {
		var err error
		if *money.to, err = parseMoney(money.text); err != nil {
			return prefix{}, nil, err
		}
	}
	for _, seconds := range []struct {
		text     string
		fallback int64
		to       *int64
	}{{f.PerSeconds.text, 60, &row.perSeconds}, {f.Initial.text, 0, &row.initial}, {f.Increment.text, 0, &row.increment}} {
		*seconds.to = seconds.fallback
		if seconds.text == "" {
			continue
		}
		n, err := strconv.ParseInt(seconds.text, 10, 64)
		if err != nil {
			return prefix{}, nil, fmt.Errorf("%q is no number of seconds", seconds.text)
		}
		if *seconds.to = n; n == 0 {
			*seconds.to = seconds.fallback
		}
	}
	if s.voice() && (row.perSeconds < 1 || row.initial < 1 || row.increment < 1) {
		return prefix{}, nil, fmt.Errorf("a row of %s needs initial and increment", s)
	}
	return prefix{s, f.Prefix.text}, row, nil
}
