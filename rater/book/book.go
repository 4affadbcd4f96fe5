package book

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/tollgate/tollgate/rater/decode"
	"github.com/tollgate/tollgate/rater/money"
	"github.com/tollgate/tollgate/rater/price"
)

// Book is everything that the log has decided up to an offset. It never changes, and any number of goroutines may read
// it. What it says of times up to its frontier is what every later Book says of them. Lookups do not allocate.
type Book struct {
	offset       int64
	frontierMs   int64
	installation string
	shards       int32 // 0 before the Open record

	numbers  table[history[uint32]] // by number: its owner, 0 while it has none
	accounts table[held]
	plans    []*Plan
	tariffs  []*tariff
	versions []*Version // by number, from 1
	formats  map[string]*history[*Format]
	zones    []*Zone // by number
	closed   []int32 // by zone: the last closed day, noDay before the first
	decided  []decided
}

// held is an account as the table has it, with what nearly every record wants of it at hand: each look elsewhere is a
// cache miss.
type held struct {
	account    *Account
	fromMs     int64  // when the last change of plan or zone took effect
	plan, zone uint32 // since then
}

func hold(a *Account) held {
	return held{a, max(a.plans.newest.fromMs, a.zones.newest.fromMs), a.plans.newest.value, a.zones.newest.value}
}

// Account is an account as it was opened, with the plans and zones that it had. Its balance and its thresholds of today
// are the shard's. It never changes.
type Account struct {
	Number       uint32
	plans, zones history[uint32] // indexes into Book.plans and Book.zones

	Currency money.Currency
	// OpenedMs is the frontier of the record that opened it, milliseconds since 1970 UTC.
	OpenedMs                                    int64
	BalanceUnits, ThresholdUnits, RechargeUnits money.Amount // as opened; RechargeUnits is the recharge target
}

// Plan says by which tariff its accounts are charged. It never changes.
type Plan struct {
	Name     string
	Currency money.Currency
	Tariff   string

	tariff uint32 // index into Book.tariffs
}

// tariff is a name with its versions; it begins with the first.
type tariff struct {
	name     string
	currency money.Currency
	versions history[*Version]
}

// Format says how the records of a carrier topic are written, from a time on. It never changes.
type Format struct {
	Topic string
	// Format and Version say how rater/decode reads the records. A newer build may have put in what this one does not
	// know: Format.Knows tells, Name names it.
	Format  decode.Format
	Name    string
	Version uint16
	Mapping decode.Mapping
	// SourceName is the name within which the carrier's record ids are unique.
	SourceName string
	// FromMs is from when on, by the append time of messages less Margin.
	FromMs int64

	voiceSeed, messageSeed uint64 // what ids of the source are hashed with
}

// decided is a record of the book that becomes an entry.
type decided struct {
	offset, frontierMs int64
	account            uint32
}

// Offset is the offset of the first record of the log that the Book does not hold.
func (b *Book) Offset() int64 { return b.offset }

// FrontierMs is the running maximum of the append times, milliseconds since 1970 UTC: the time that the Book knows all
// about. It is math.MinInt64 before the first record.
func (b *Book) FrontierMs() int64 { return b.frontierMs }

// Opened tells whether the Open record was read. Before, nothing can be rated.
func (b *Book) Opened() bool { return b.shards > 0 }

// Empty tells whether the Book says nothing of anybody yet: its installation is not open, and nothing was loaded for it.
func (b *Book) Empty() bool {
	return !b.Opened() && b.accounts.count == 0 && len(b.versions)+len(b.formats)+len(b.decided) == 0
}

// Installation is the name that the Open record gave, "" before.
func (b *Book) Installation() string { return b.installation }

// Shards is the number of shards, 0 before the Open record.
func (b *Book) Shards() int32 { return b.shards }

// Shard gives the shard of an account. The Book must be open.
func (b *Book) Shard(account uint32) int32 { return int32(account % uint32(b.shards)) }

// Owner gives the account that owned a number at a time.
func (b *Book) Owner(number uint64, atMs int64) (account uint32, ok bool) {
	if h := b.numbers.get(number); h != nil {
		account, _ = h.at(atMs)
	}
	return account, account != 0
}

// Account gives an account, nil if there is none of that number.
func (b *Book) Account(number uint32) *Account {
	if h := b.accounts.get(uint64(number)); h != nil {
		return h.account
	}
	return nil
}

// termsAt gives the plan and the zone that an account, which there must be, had at a time.
func (b *Book) termsAt(account uint32, atMs int64) (*Plan, *Zone) {
	h := b.accounts.get(uint64(account))
	if atMs >= h.fromMs {
		return b.plans[h.plan], b.zones[h.zone]
	}
	return b.PlanAt(h.account, atMs), b.ZoneAt(h.account, atMs)
}

// PlanAt gives the plan that an account had at a time. Before its opening that is the plan it was opened with.
func (b *Book) PlanAt(a *Account, atMs int64) *Plan {
	plan, _ := a.plans.at(atMs)
	return b.plans[plan]
}

// ZoneAt gives the zone that an account had at a time. Before its opening that is the zone it was opened with.
func (b *Book) ZoneAt(a *Account, atMs int64) *Zone {
	zone, _ := a.zones.at(atMs)
	return b.zones[zone]
}

// LocalDay gives the day of an event in the zone that the account had at a time, as days since 1970-01-01.
func (b *Book) LocalDay(a *Account, eventMs, atMs int64) int32 { return b.ZoneAt(a, atMs).Day(eventMs) }

// Price finds what a service costs the account at a time: the row with the longest prefix of digits, in the version
// that was in force of the tariff of its plan. The digits are those of its own number for inbound services, else those
// of the other party, or 0 if it has none.
func (b *Book) Price(a *Account, service price.Service, digits uint64, atMs int64) (v *Version, row uint32, ok bool) {
	return b.priceOf(b.PlanAt(a, atMs), service, digits, atMs)
}

func (b *Book) priceOf(p *Plan, service price.Service, digits uint64, atMs int64) (v *Version, row uint32, ok bool) {
	if v, ok = b.tariffs[p.tariff].versions.at(atMs); ok {
		row, ok = v.Find(service, digits)
	}
	return v, row, ok
}

// FormatAt says how a message of a topic is to be read. It is not ready before the Book knows all about the append time
// less Margin. A topic that has no format at that time gives nil; its message is to be rejected (see Reject).
func (b *Book) FormatAt(topic string, appendMs int64) (f *Format, ready bool) {
	if atMs := appendMs - Margin; b.Opened() && b.frontierMs >= atMs {
		return b.format(topic, atMs), true
	}
	return nil, false
}

func (b *Book) format(topic string, atMs int64) (f *Format) {
	if h := b.formats[topic]; h != nil {
		f, _ = h.at(atMs)
	}
	return f
}

// Zone gives a zone by its number, nil if there is none.
func (b *Book) Zone(number uint32) *Zone {
	if int64(number) < int64(len(b.zones)) {
		return b.zones[number]
	}
	return nil
}

// ZoneNamed gives a zone by its IANA name, nil if no account ever used it.
func (b *Book) ZoneNamed(name string) *Zone {
	for _, z := range b.zones {
		if z.Name == name {
			return z
		}
	}
	return nil
}

// Zones lists all zones that accounts use or used, by number. UTC, number 0, is always there.
func (b *Book) Zones() iter.Seq[*Zone] { return slices.Values(b.zones) }

// Closed gives the last closed day of a zone; ok is false if none is.
func (b *Book) Closed(zone uint32) (day int32, ok bool) {
	if int64(zone) < int64(len(b.closed)) {
		day = b.closed[zone]
		return day, day != noDay
	}
	return 0, false
}

// VersionAt gives the version of a tariff that is in force at a time, nil if there is none.
func (b *Book) VersionAt(name string, atMs int64) (v *Version) {
	for _, t := range b.tariffs {
		if t.name == name {
			v, _ = t.versions.at(atMs)
		}
	}
	return v
}

// Version gives an activated version of a tariff by the number that entries carry, nil if there is none.
func (b *Book) Version(number uint32) *Version {
	if number >= 1 && int64(number) <= int64(len(b.versions)) {
		return b.versions[number-1]
	}
	return nil
}

// Versions lists all activated versions of tariffs by number.
func (b *Book) Versions() iter.Seq[*Version] { return slices.Values(b.versions) }

// Plans lists all plans in the order of their making.
func (b *Book) Plans() iter.Seq[*Plan] { return slices.Values(b.plans) }

// Accounts lists all accounts by number.
func (b *Book) Accounts() iter.Seq[*Account] {
	return func(yield func(*Account) bool) {
		for _, number := range b.accounts.keys() {
			if !yield(b.Account(uint32(number))) {
				return
			}
		}
	}
}

// Ownership is a span of time in which an account owned a number; UntilMs is math.MaxInt64 while it goes on.
type Ownership struct {
	Number          uint64
	Account         uint32
	FromMs, UntilMs int64
}

// Ownerships lists who owned which numbers when: by number, then by time.
func (b *Book) Ownerships() iter.Seq[Ownership] {
	return func(yield func(Ownership) bool) {
		for _, number := range b.numbers.keys() {
			changes := b.numbers.get(number).changes()
			for i, c := range changes {
				o := Ownership{number, c.value, c.fromMs, maxMs}
				if i+1 < len(changes) {
					o.UntilMs = changes[i+1].fromMs
				}
				if o.Account != 0 && o.FromMs < o.UntilMs && !yield(o) {
					return
				}
			}
		}
	}
}

// Formats lists the formats of all topics: by topic, then by time.
func (b *Book) Formats() iter.Seq[*Format] {
	return func(yield func(*Format) bool) {
		for _, topic := range slices.SortedFunc(maps.Keys(b.formats), cmp.Compare[string]) {
			for _, c := range b.formats[topic].changes() {
				if !yield(c.value) {
					return
				}
			}
		}
	}
}

// ResolveAccount finds the account that an operator means: its number, or a telephone number such as "+14155550100"
// that it owns at the frontier.
func (b *Book) ResolveAccount(text string) (*Account, error) {
	if strings.HasPrefix(text, "+") {
		number, err := ParseNumber(text)
		if err != nil {
			return nil, err
		}
		owner, ok := b.Owner(number, b.frontierMs)
		if !ok {
			return nil, fmt.Errorf("no account owns %s now", text)
		}
		return b.Account(owner), nil
	}
	number, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("%q names no account: use its number, or a telephone number of it, such as +14155550100", text)
	}
	if a := b.Account(uint32(number)); a != nil {
		return a, nil
	}
	return nil, fmt.Errorf("there is no account %d", number)
}
