// Package posting is what the debit stage writes: the outcome of each entry, and the block in which the outcomes
// travel, together with the entries that they belong to, as one Kafka message of the `postings` log.
//
// The outcome bytes are made by the Lua script in Redis, kept in its journal, and copied into the posting as they
// are; the Go fold of balance/ledger makes the same bytes. The package is pure and decides nothing.
package posting

import (
	"encoding/binary"
	"fmt"

	"github.com/tollgate/tollgate/rater/money"
)

// Result says what became of an entry. The numbers are part of the log's format and never change meaning.
type Result uint8

// The results.
const (
	// Repeated is an entry whose position in its source the shard had seen before: a late or repeated append.
	Repeated Result = 1
	// Charged is a record that was charged, if only with 0.
	Charged Result = 2
	// Duplicate is a record or API entry whose id the shard had applied before.
	Duplicate Result = 3
	// Rejected is an entry that says that a record could not be rated.
	Rejected Result = 4
	// Late is a record too old for the window in which duplicates are known; the late worker decides it.
	Late Result = 5
	// Applied is an entry of any other kind that took effect.
	Applied Result = 6
	// Refused is an entry that would pass a limit on amounts or settings; nothing was done.
	Refused Result = 7
	// Expired is an API entry that reached the shard too long after it was accepted; nothing was done.
	Expired Result = 8
	// Unmatched is a card result of an attempt that the account does not wait for; nothing was done.
	Unmatched Result = 9
)

var resultNames = [...]string{Repeated: "repeated", Charged: "charged", Duplicate: "duplicate", Rejected: "rejected",
	Late: "late", Applied: "applied", Refused: "refused", Expired: "expired", Unmatched: "unmatched"}

// String gives the result's name as tables and metrics show it.
func (r Result) String() string {
	if int(r) < len(resultNames) && resultNames[r] != "" {
		return resultNames[r]
	}
	return "unknown"
}

// Flags say how the account stood after an entry, and what the entry changed.
type Flags uint8

// The flags.
const (
	// Suspended: the account is suspended after the entry.
	Suspended Flags = 1 << iota
	// Low: the balance is below the threshold after the entry.
	Low
	// BecameSuspended: this entry suspended the account.
	BecameSuspended
	// BecameRestored: this entry lifted the suspension.
	BecameRestored
	// BecameLow: this entry brought the balance below the threshold.
	BecameLow
	// BecameFunded: this entry brought the balance back to the threshold or above.
	BecameFunded
	// OpenedIntent: this entry decided a recharge, of IntentUnits.
	OpenedIntent
	// GaveUp: this entry was the last failed attempt of a recharge.
	GaveUp
)

// Outcome is what became of one entry.
type Outcome struct {
	Result Result
	Flags  Flags
	// StatementDay is the day of the statement that shows the entry, days since 1970-01-01.
	StatementDay int32
	// AmountUnits is what was added to the balance: 0 unless the entry took effect.
	AmountUnits money.Amount
	// BalanceUnits is the account's balance after the entry; 0 for entries without an account.
	BalanceUnits money.Amount
	// IntentUnits is the amount of the recharge that the entry decided; 0 unless Flags has OpenedIntent.
	IntentUnits money.Amount
}

// The layout of outcomes, little endian: for each entry a row of
//
//	u8 result, u8 flags, i32 statement day, i64 amount, i64 balance
//
// then for each row with OpenedIntent, in order, the i64 amount of the intent. The script writes the same bytes.
const (
	rowLen    = 22
	intentLen = 8
)

// OutcomesLen tells how many bytes the rows of n entries take, without intents.
func OutcomesLen(n int) int { return n * rowLen }

// AppendOutcomes appends the bytes of the outcomes of one block of entries.
func AppendOutcomes(dst []byte, outcomes []Outcome) []byte {
	for i := range outcomes {
		o := &outcomes[i]
		dst = append(dst, byte(o.Result), byte(o.Flags))
		dst = binary.LittleEndian.AppendUint32(dst, uint32(o.StatementDay))
		dst = binary.LittleEndian.AppendUint64(dst, uint64(o.AmountUnits))
		dst = binary.LittleEndian.AppendUint64(dst, uint64(o.BalanceUnits))
	}
	for i := range outcomes {
		if outcomes[i].Flags&OpenedIntent != 0 {
			dst = binary.LittleEndian.AppendUint64(dst, uint64(outcomes[i].IntentUnits))
		}
	}
	return dst
}

// DecodeOutcomes reads the outcomes of count entries from src into dst, which it refills, and gives it back. The
// error wraps ErrCorrupt.
func DecodeOutcomes(dst []Outcome, src []byte, count int) ([]Outcome, error) {
	dst = dst[:0]
	if count < 0 || len(src) < count*rowLen {
		return dst, fmt.Errorf("%w: %d bytes of outcomes for %d entries", ErrCorrupt, len(src), count)
	}
	intents := src[count*rowLen:]
	for i := range count {
		row := src[i*rowLen : (i+1)*rowLen]
		o := Outcome{
			Result: Result(row[0]), Flags: Flags(row[1]),
			StatementDay: int32(binary.LittleEndian.Uint32(row[2:])),
			AmountUnits:  money.Amount(binary.LittleEndian.Uint64(row[6:])),
			BalanceUnits: money.Amount(binary.LittleEndian.Uint64(row[14:])),
		}
		if o.Flags&OpenedIntent != 0 {
			if len(intents) < intentLen {
				return dst[:0], fmt.Errorf("%w: an intent without its amount", ErrCorrupt)
			}
			o.IntentUnits = money.Amount(binary.LittleEndian.Uint64(intents))
			intents = intents[intentLen:]
		}
		dst = append(dst, o)
	}
	if len(intents) != 0 {
		return dst[:0], fmt.Errorf("%w: %d bytes after the outcomes", ErrCorrupt, len(intents))
	}
	return dst, nil
}

// Peek reads the result and the flags of the i-th of the outcomes in src, which must have that many rows.
func Peek(src []byte, i int) (Result, Flags) { return Result(src[i*rowLen]), Flags(src[i*rowLen+1]) }
