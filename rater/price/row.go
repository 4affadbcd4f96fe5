package price

import (
	"fmt"

	"github.com/tollgate/tollgate/rater/money"
)

// MaxDurationSeconds bounds the duration of a call, and every length of time in a row: 24 hours. Real calls stay below
// (the longest of a month of 42,078 was 10 hours); a longer one is an error of the carrier that must not be debited.
const MaxDurationSeconds = 86_400

// MaxSegments bounds the segments of a message: the count in the header of a concatenated message is one byte.
const MaxSegments = 255

// MaxPrefixDigits is the length of the longest number of ITU-T E.164.
const MaxPrefixDigits = 15

// Row is one line of a tariff: what a service costs for the numbers that begin with a prefix. Amounts are units of the
// tariff's currency, all of them ≥ 0; a credit is never a price. A row that Validate accepts can always be computed.
type Row struct {
	Service Service
	// Prefix is the digits that the number must begin with, as a number, and PrefixDigits their count; no number of
	// E.164 begins with 0. With PrefixDigits 0 the row is for every number.
	Prefix       uint64
	PrefixDigits uint8
	// ConnectUnits is the fee of every call of more than 0 seconds.
	ConnectUnits money.Amount
	// RateUnits is the price of RateSeconds (mostly 60) of billed time.
	RateUnits   money.Amount
	RateSeconds uint32
	// InitialSeconds is the least billed time of a call; beyond it, time is billed in steps of IncrementSeconds. 60/6
	// in a rate deck is an initial 60 and an increment of 6.
	InitialSeconds, IncrementSeconds uint32
	// MinimumUnits is the least charge of a call of more than 0 seconds.
	MinimumUnits money.Amount
	// SegmentUnits is the price of one segment of a message.
	SegmentUnits money.Amount
}

// Validate says what is wrong with the row, if anything: a service that is unknown, a prefix that is not the digits it
// claims, a length of time or an amount out of bounds, a price that belongs to the other kind of service.
func (r *Row) Validate() error {
	if !r.Service.Valid() {
		return fmt.Errorf("price row of %s: use voice-in, voice-out, message-in or message-out", r.Service)
	}
	if r.PrefixDigits > MaxPrefixDigits || countDigits(r.Prefix) != int(r.PrefixDigits) {
		return fmt.Errorf("price row of %s: prefix %d is not a number of %d digits", r.Service, r.Prefix, r.PrefixDigits)
	}
	if r.Service.Voice() {
		return r.validateVoice()
	}
	return r.validateMessage()
}

func (r *Row) validateVoice() error {
	for _, t := range []struct {
		name    string
		seconds uint32
	}{{"rate", r.RateSeconds}, {"initial", r.InitialSeconds}, {"increment", r.IncrementSeconds}} {
		if t.seconds < 1 || t.seconds > MaxDurationSeconds {
			return fmt.Errorf("price row of %s, prefix %d: %s seconds are %d: use 1 to %d",
				r.Service, r.Prefix, t.name, t.seconds, MaxDurationSeconds)
		}
	}
	if r.SegmentUnits != 0 {
		return fmt.Errorf("price row of %s, prefix %d: a call has no segments: leave their price out", r.Service, r.Prefix)
	}
	for _, a := range []money.Amount{r.ConnectUnits, r.RateUnits, r.MinimumUnits} {
		if a < 0 || !a.Valid() {
			return fmt.Errorf("price row of %s, prefix %d: %d units are out of bounds: use 0 to %d", r.Service, r.Prefix, a, money.Limit)
		}
	}
	return nil
}

func (r *Row) validateMessage() error {
	bare := Row{Service: r.Service, Prefix: r.Prefix, PrefixDigits: r.PrefixDigits, SegmentUnits: r.SegmentUnits}
	if *r != bare {
		return fmt.Errorf("price row of %s, prefix %d: a message has only a price per segment: leave the rest out", r.Service, r.Prefix)
	}
	if r.SegmentUnits < 0 || !r.SegmentUnits.Valid() {
		return fmt.Errorf("price row of %s, prefix %d: %d units are out of bounds: use 0 to %d",
			r.Service, r.Prefix, r.SegmentUnits, money.Limit)
	}
	return nil
}

func countDigits(n uint64) int {
	count := 0
	for ; n > 0; n /= 10 {
		count++
	}
	return count
}
