package book

import (
	"fmt"

	"github.com/tollgate/tollgate/rater/money"
	"github.com/tollgate/tollgate/rater/price"
)

// Version is one activated version of a tariff. It never changes.
type Version struct {
	// Number counts the activations of the book from 1; entries name the version by it.
	Number   uint32
	Tariff   string
	Revision string // the writer's name of the version
	Currency money.Currency
	// FromMs is when it comes into force, milliseconds since 1970 UTC.
	FromMs int64
	// Rows are in the order in which they came; entries name a row by its index. Nobody may write to them.
	Rows []price.Row

	services [price.MessageOut + 1]prefixes
}

// Find gives the index of the row with the longest prefix that the digits begin with, be it the row without a prefix.
// Digits 0 stand for a party that has no number: only the row without a prefix is for it.
func (v *Version) Find(service price.Service, digits uint64) (row uint32, ok bool) {
	if !service.Valid() {
		return 0, false
	}
	return v.services[service].find(digits)
}

// newVersion indexes the rows. Two rows for the same prefix are an error.
func newVersion(rows []price.Row) (*Version, error) {
	v := &Version{Rows: rows}
	var counts [len(v.services)]int
	for i := range rows {
		counts[rows[i].Service]++
	}
	for s, n := range counts {
		v.services[s] = newPrefixes(n)
	}
	for i := range rows {
		if r := &rows[i]; !v.services[r.Service].add(r.Prefix, r.PrefixDigits, uint32(i)) {
			return nil, fmt.Errorf("row %d is the second for %s with prefix %q", i, r.Service, prefixText(r.Prefix))
		}
	}
	return v, nil
}

func prefixText(prefix uint64) string {
	if prefix == 0 {
		return ""
	}
	return fmt.Sprint(prefix)
}

// prefixes finds the longest prefix: one open-addressed table of all (length, prefix), probed for each length that
// occurs, the longest first.
type prefixes struct {
	lengths uint32 // bit n: there are prefixes of n digits
	slots   []prefixSlot
	shift   uint8 // 64 − log₂(len(slots))
	whole   int64 // the row without a prefix, -1 if there is none
}

type prefixSlot struct {
	key uint64 // prefix·16 + length; 0 is empty
	row uint32
}

func newPrefixes(rows int) prefixes {
	bits := uint8(1)
	for 1<<bits < 2*rows {
		bits++
	}
	return prefixes{slots: make([]prefixSlot, 1<<bits), shift: 64 - bits, whole: -1}
}

// add puts a row in; false if its prefix is there already.
func (p *prefixes) add(prefix uint64, digits uint8, row uint32) bool {
	if digits == 0 {
		isNew := p.whole < 0
		p.whole = int64(row)
		return isNew
	}
	p.lengths |= 1 << digits
	s := p.slot(prefix<<4 | uint64(digits))
	if s.key != 0 {
		return false
	}
	*s = prefixSlot{prefix<<4 | uint64(digits), row}
	return true
}

// slot gives the slot of a key, or the empty one where it belongs.
func (p *prefixes) slot(key uint64) *prefixSlot {
	mask := uint64(len(p.slots) - 1)
	i := hashKey(key) >> p.shift
	for p.slots[i].key != key && p.slots[i].key != 0 {
		i = (i + 1) & mask
	}
	return &p.slots[i]
}

func (p *prefixes) find(digits uint64) (row uint32, ok bool) {
	length := countDigits(digits)
	for ; length > price.MaxPrefixDigits; length-- {
		digits /= 10
	}
	for ; length > 0 && p.lengths<<(31-length) != 0; length-- {
		if p.lengths>>length&1 != 0 {
			if s := p.slot(digits<<4 | uint64(length)); s.key != 0 {
				return s.row, true
			}
		}
		digits /= 10
	}
	return uint32(p.whole), p.whole >= 0
}

var powersOfTen = [20]uint64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19}

// countDigits gives the number of decimal digits, 0 for 0.
func countDigits(n uint64) int {
	count := 0
	for count < len(powersOfTen) && n >= powersOfTen[count] {
		count++
	}
	return count
}
