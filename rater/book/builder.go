package book

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/tollgate/tollgate/rater/money"
	"github.com/tollgate/tollgate/rater/price"
)

const (
	// noDay is the day before all days: nothing is closed.
	noDay int32 = math.MinInt32
	// maxMs is later than every time; append times beyond latestMs, which no broker gives, count as latestMs.
	maxMs    int64 = math.MaxInt64
	latestMs int64 = 253_402_300_799_999 // the end of the year 9999

	// maxShards bounds the number of shards.
	maxShards = 1 << 16
	// maxNameBytes bounds names of plans, tariffs, revisions, topics and sources.
	maxNameBytes = 100
	// maxPendingRows bounds the rows of all versions that wait for their activation.
	maxPendingRows = 4 << 20
	// The ledger refuses settings and opening balances beyond these; so does the book.
	settingsLimit money.Amount = 1_000_000_000_000_000
	creditLimit   money.Amount = 4_000_000_000_000_000
)

// ErrNewer is what Builder.Err wraps when the log holds a record that this build cannot understand.
var ErrNewer = errNewer

// Decision is what became of a record of the log.
type Decision struct {
	// Kind and ID are the record's; empty if it is malformed.
	Kind, ID string
	// Accepted tells whether the record counts. Heartbeats always do.
	Accepted bool
	// Refusal says why the record does not count; "" if it does.
	Refusal string
	// Repeated tells that the record is another copy of one that was decided before; it is not accepted again.
	Repeated bool
	// EffectiveMs is from when on an accepted change holds, milliseconds since 1970 UTC; math.MinInt64 is always. Records
	// that are no dated change have the frontier.
	EffectiveMs int64
	// Account is the account that the record concerns, after a free number was chosen or an owner found; 0 if none.
	Account uint32
}

// Builder makes Books of the log. It is not safe for concurrent use; the Books it gives are. What it decides is a
// function of the log alone.
type Builder struct {
	book Book // the next one; what Books given out share with it is never written again
	err  error

	ids         map[uint64]struct{} // hashes of the ids seen
	replayed    map[uint64]struct{} // hashes of the record ids replayed
	zones       map[string]*Zone
	plans       map[string]uint32 // index by name
	tariffs     map[string]uint32 // index by name
	pending     map[revision]*pendingVersion
	pendingRows int
	activated   map[revision]struct{}
	foldVersion int64
	nextAccount uint32
	journal     journal
}

// revision identifies a version of a tariff before it has a number.
type revision struct{ tariff, name string }

// pendingVersion is the chunks of a version that was not activated yet.
type pendingVersion struct {
	currency money.Currency
	chunks   map[uint32][]price.Row
	rows     int
	why      error // why it can never be activated, nil while it may; then the chunks are there, but empty
}

// NewBuilder gives a Builder before the first record of the log.
func NewBuilder() *Builder {
	utc, err := newZone(0, "UTC")
	if err != nil {
		panic("BUG: there is no UTC: " + err.Error())
	}
	return &Builder{
		book: Book{frontierMs: always, zones: []*Zone{utc}, closed: []int32{noDay}, formats: map[string]*history[*Format]{}},
		ids:  map[uint64]struct{}{}, replayed: map[uint64]struct{}{}, zones: map[string]*Zone{"UTC": utc},
		plans: map[string]uint32{}, tariffs: map[string]uint32{}, pending: map[revision]*pendingVersion{},
		activated: map[revision]struct{}{}, foldVersion: 1, nextAccount: 1,
	}
}

// Err is nil, or wraps ErrNewer after a record that only a newer build understands. The Builder then stands still: the
// frontier does not move, so nothing is rated that the record might have changed.
func (b *Builder) Err() error { return b.err }

// Offset is the offset from which on the log is still to be applied.
func (b *Builder) Offset() int64 { return b.book.offset }

// Book gives the value of the log so far. It is cheap: what did not change since the last one is shared with it.
func (b *Builder) Book() *Book {
	frozen := b.book
	frozen.numbers, frozen.accounts = b.book.numbers.freeze(), b.book.accounts.freeze()
	return &frozen
}

// refused is the reason why a record does not count. It is not a failure: every reader of the log refuses it alike.
type refused string

func (r refused) Error() string { return string(r) }

func refusedf(format string, args ...any) error { return refused(fmt.Sprintf(format, args...)) }

// Apply applies the record at an offset of the log with its broker's append time, milliseconds since 1970 UTC. Offsets
// ascend, with or without gaps; a record below Offset was applied already and is not applied again. What is malformed
// or against the rules is refused, and moves the frontier like any other.
func (b *Builder) Apply(offset, appendMs int64, value []byte) Decision {
	if offset < b.book.offset {
		return Decision{Refusal: fmt.Sprintf("offset %d was applied already", offset), Repeated: true}
	}
	r, err := decodeRecord(value)
	if errors.Is(err, errNewer) && b.err == nil {
		b.err = fmt.Errorf("cannot read the book at offset %d: %w", offset, err)
	}
	if b.err != nil {
		return Decision{Refusal: b.err.Error()}
	}
	before := b.book.frontierMs
	b.book.frontierMs = max(before, min(max(appendMs, 0), latestMs))
	if err != nil {
		b.book.offset = offset + 1
		return Decision{Refusal: err.Error()}
	}
	d := b.decide(offset, value, r)
	if b.err != nil {
		b.book.frontierMs = before
	}
	return d
}

// decide applies a well-formed record.
func (b *Builder) decide(offset int64, value []byte, r Record) Decision {
	d := Decision{Kind: r.header().Kind, ID: r.header().ID, EffectiveMs: b.book.frontierMs}
	if _, beats := r.(*Heartbeat); beats {
		b.book.offset, d.Accepted = offset+1, true
		return d
	}
	id := xxhash.Sum64String(d.ID)
	if _, d.Repeated = b.ids[id]; d.Repeated {
		b.book.offset = offset + 1
		d.Refusal = fmt.Sprintf("a record with the id %q was decided before", d.ID)
		return d
	}
	err := b.change(r, &d)
	if errors.Is(err, errNewer) {
		b.err = fmt.Errorf("cannot read the book at offset %d: %w", offset, err)
		return Decision{Refusal: b.err.Error()}
	}
	b.ids[id] = struct{}{}
	b.book.offset = offset + 1
	// Refused records go into the images too: their ids are taken.
	b.journal.add(offset, b.book.frontierMs, value)
	if err != nil {
		d.Refusal, d.EffectiveMs = err.Error(), 0
		return d
	}
	d.Accepted = true
	if yieldsEntry(r) {
		b.book.decided = append(b.book.decided, decided{offset, b.book.frontierMs, d.Account})
	}
	return d
}

// change does what the record says, or gives the reason why not and changes nothing.
func (b *Builder) change(r Record, d *Decision) error {
	switch r := r.(type) {
	case *Open:
		return b.open(r)
	case *OpenAccount:
		return b.openAccount(r, d)
	case *ChangePlan:
		return b.changePlan(r, d)
	case *ChangeZone:
		return b.changeZone(r, d)
	case *AssignNumber:
		return b.assign(r, d)
	case *ReleaseNumber:
		return b.release(r, d)
	case *AddPlan:
		return b.addPlan(r)
	case *AddRows:
		return b.addRows(r)
	case *ActivateTariff:
		return b.activate(r, d)
	case *SetFormat:
		return b.setFormat(r, d)
	case *CloseDay:
		return b.closeDay(r)
	case *SetParam:
		_, err := findParam(r.Param, r.Value)
		return err
	case *RaiseFold:
		return b.raiseFold(r)
	case *Replay:
		return b.replay(r, d)
	}
	panic(fmt.Sprintf("BUG: a record of type %T passed the decoder", r))
}

// effective is when a dated change comes into force: its wish, but after Open not before the frontier has passed. So
// what a Book says of times up to its frontier stays true.
func (b *Builder) effective(wish time.Time) int64 {
	wishMs := always
	if !wish.IsZero() {
		wishMs = wish.UnixMilli()
	}
	if !b.book.Opened() {
		return wishMs
	}
	return max(wishMs, b.book.frontierMs+1)
}
