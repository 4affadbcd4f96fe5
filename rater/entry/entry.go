// Package entry is what the rate stage writes: the entry, one fact about one account in the order of its shard,
// and the block, the binary layout in which entries travel as one Kafka message of the `entries` log.
//
// An entry carries everything that the debit stage needs: the price is in it, nothing is ever priced twice.
// The package is pure. It never touches Kafka or Redis and never decides what an entry does to a balance
// (balance/ledger does).
package entry

import (
	"encoding/binary"

	"github.com/tollgate/tollgate/rater/money"
	"github.com/tollgate/tollgate/rater/price"
)

// Kind says what fact an entry states. The numbers are part of the log's format and never change meaning.
type Kind uint8

// The kinds of entries.
const (
	// Usage is one priced carrier record. AmountUnits is minus the charge.
	Usage Kind = 1
	// Rejected is a carrier record that could not be rated. Reason says why; Extra holds its raw bytes.
	Rejected Kind = 2
	// Account opens an account. AmountUnits is its opening balance; Args are ArgZone, ArgThreshold, ArgRechargeTo.
	Account Kind = 3
	// Number assigns a number to the account (Args[0] = 1) or releases it (0). AmountUnits is a fee, or 0.
	Number Kind = 4
	// Zone moves the account to another time zone: Args[ArgZone].
	Zone Kind = 5
	// Close closes a day of a zone, in every shard: Args are ArgZone, ArgDay. It has no account.
	Close Kind = 6
	// Param sets a parameter of the fold, in every shard: Args are ArgParam, ArgValue. It has no account.
	Param Kind = 7
	// FoldVersion raises the version of the fold, in every shard: Args[0]. It has no account.
	FoldVersion Kind = 8
	// Release is a Usage entry once found late, sent again after the look-up in ClickHouse: Args[ArgSeenMs].
	Release Kind = 9
	// Payment is a captured card charge: Args are ArgIntentOffset, ArgIntentIx, ArgAttempt.
	Payment Kind = 10
	// PaymentFailed is a definitive failure of one attempt: Args as Payment, and ArgFailure.
	PaymentFailed Kind = 11
	// Wake states nothing: it only has the account's levels evaluated again, after a grace or a back-off.
	Wake Kind = 12
	// Credit is a one-time payment taken outside (bank transfer, cash, voucher): Args[ArgBody].
	Credit Kind = 13
	// Adjustment corrects a balance by a signed amount: Args[ArgBody]. Extra holds the reason.
	Adjustment Kind = 14
	// Settings sets thresholds: Args are ArgBody, ArgThreshold, ArgRechargeTo.
	Settings Kind = 15
)

var kindNames = [...]string{Usage: "usage", Rejected: "rejected", Account: "account", Number: "number", Zone: "zone",
	Close: "close", Param: "param", FoldVersion: "fold-version", Release: "release", Payment: "payment",
	PaymentFailed: "payment-failed", Wake: "wake", Credit: "credit", Adjustment: "adjustment", Settings: "settings"}

// String gives the kind's name as tables and pages show it.
func (k Kind) String() string {
	if int(k) < len(kindNames) && kindNames[k] != "" {
		return kindNames[k]
	}
	return "unknown"
}

// FromAPI tells whether entries of this kind come from a caller with an idempotency key: they are never late,
// they expire, and their outcome is kept for the caller to read.
func (k Kind) FromAPI() bool { return k >= Credit && k <= Settings }

// Indexes into Entry.Args, by kind.
const (
	ArgZone         = 0 // Account, Zone, Close: the zone's number in the book
	ArgThreshold    = 1 // Account, Settings: low-balance limit, units
	ArgRechargeTo   = 2 // Account, Settings: balance that a recharge brings the account to, units; 0 = no recharge
	ArgDay          = 1 // Close: the closed day, days since 1970-01-01
	ArgParam        = 0 // Param: the parameter's number (balance/ledger names them)
	ArgValue        = 1 // Param: its new value
	ArgSeenMs       = 0 // Release: append time of the newest entry of the shard that ClickHouse holds with all before it
	ArgIntentOffset = 0 // Payment, PaymentFailed: offset of the entry that decided the intent
	ArgIntentIx     = 1 // ... its index in the block
	ArgAttempt      = 2 // ... the attempt, from 0
	ArgFailure      = 3 // PaymentFailed: see FailureDeclined and FailureAuthentication
	ArgBody         = 0 // Credit, Adjustment, Settings: hash of the request's body
)

// What made an attempt fail for good: Args[ArgFailure] of a PaymentFailed entry.
const (
	// FailureDeclined is a card that was declined.
	FailureDeclined = 1
	// FailureAuthentication is a charge that wants the customer to be present (3-D Secure).
	FailureAuthentication = 2
)

// ArgCount is the number of arguments that an entry may carry besides its columns.
const ArgCount = 4

// Reason says why a record was rejected. The numbers are part of the log's format.
type Reason uint8

// The reasons.
const (
	// NoReason is that of an entry that is not Rejected.
	NoReason Reason = 0
	// Undecodable is a record that is not what its topic's format says.
	Undecodable Reason = 1
	// NoFormat is a record of a topic that had no format at the time.
	NoFormat Reason = 2
	// UnknownNumber is a record of a number that no account owned at the time.
	UnknownNumber Reason = 3
	// NoPrice is a record for which the account's tariff had no row at the time.
	NoPrice Reason = 4
	// TooFarAhead is a record dated more than a minute after the broker received it.
	TooFarAhead Reason = 5
	// OutOfBounds is a record with an absurd duration, or one whose charge passes the limit on amounts.
	OutOfBounds Reason = 6
)

var reasonNames = [...]string{"", "undecodable", "no-format", "unknown-number", "no-price", "too-far-ahead", "out-of-bounds"}

// Reasons lists every reason, for metrics.
var Reasons = []Reason{Undecodable, NoFormat, UnknownNumber, NoPrice, TooFarAhead, OutOfBounds}

// String gives the reason's name as metrics and tables show it.
func (r Reason) String() string {
	if int(r) < len(reasonNames) {
		return reasonNames[r]
	}
	return "unknown"
}

// Position is where in its source a record came from: the offset of the message, and the index of the record
// among those that the message yields. Positions of one source are ordered by offset, then index.
type Position struct {
	Offset int64
	Ix     uint32
}

// None is the position before the first of any source.
var None = Position{Offset: -1}

// Less tells whether p comes before q.
func (p Position) Less(q Position) bool {
	return p.Offset < q.Offset || p.Offset == q.Offset && p.Ix < q.Ix
}

// Source identifies a partition of a carrier topic, or the book. A topic that was made anew has another id and
// so is another source. The zero Source is that of entries that no log feeds (payments, API entries).
type Source struct {
	TopicID   [16]byte
	Partition int32
}

// SourceLen is the length of a Source's key in bytes.
const SourceLen = 20

// AppendKey appends the source's binary key: topic id, then the partition big-endian.
func (s Source) AppendKey(b []byte) []byte {
	b = append(b, s.TopicID[:]...)
	return binary.BigEndian.AppendUint32(b, uint32(s.Partition))
}

// Entry is one fact about one account: a row of a Block. The byte slices alias the block or the caller's buffers.
type Entry struct {
	Kind    Kind
	Service price.Service // usage only
	Reason  Reason        // rejected only
	Account uint32        // 0 where the entry has none
	// Number is the account's own number that the record belongs to, as its E.164 digits; 0 where there is none.
	Number uint64
	// AmountUnits is what the entry adds to the balance when it is applied: negative for charges.
	AmountUnits money.Amount
	// Position is where the record came from; meaningless in a block without a source.
	Position Position
	// EventMs is when the fact happened, milliseconds since 1970 UTC: the start of a call, the sending of a message,
	// the moment an API entry was accepted.
	EventMs int64
	// LocalDay is EventMs as a day in the account's zone, days since 1970-01-01.
	LocalDay int32
	// DurationSeconds is the stated duration of a call.
	DurationSeconds uint32
	// Billed is the billed seconds of a call, or the segments of a message.
	Billed uint32
	// Tariff and Row say what priced it: the tariff version's number in the book, and the row in it.
	Tariff, Row uint32
	// IDHash is the hash by which duplicates are found: of (source name, service kind, record id) for records, of
	// (principal, idempotency key) for API entries. 0 means that the entry has no id.
	IDHash uint64
	// ID is the carrier's id of the record, or the idempotency key; at most 255 bytes.
	ID []byte
	// Peer is the other party's number or name as the carrier wrote it; at most 255 bytes.
	Peer []byte
	// Args are the arguments of kinds other than Usage and Rejected; see the Arg constants.
	Args [ArgCount]int64
	// Extra is the raw record of Rejected entries and free text of others.
	Extra []byte
}
