// Package workload makes the traffic and the installation that the demo, the tests, the chaos runs and the benchmark
// share: accounts with numbers, plans and tariffs, and the carrier records that they cause.
//
// Everything is a pure function of Config: the same seed gives the same accounts and the same bytes on every run, so a
// failure or a figure can be reproduced. The package stands before the flow: it imports none of the product's code, and
// each record comes with what the product must make of it, so that an oracle can count. It never reads a clock,
// produces to Kafka or prices a record.
package workload

import (
	"fmt"
	"iter"
	"math"
	"math/bits"
	"math/rand/v2"

	"github.com/shopspring/decimal"
)

// FirstAccount is the number of the first account; the others follow without a gap.
const FirstAccount uint32 = 1001

// NumbersLimit bounds Accounts × NumbersPerAccount: beyond it, numbers of a country could meet.
const NumbersLimit = 10_000_000

// Format is the carrier format in which records are written.
type Format uint8

// The formats.
const (
	// Tollgate is the product's own JSON, about 284 bytes a record.
	Tollgate Format = iota
	// DIDWW is that carrier's inbound CDR: every record is an inbound call, whatever the shares say.
	DIDWW
	// TwilioCall is that carrier's Call resource: no record is a message.
	TwilioCall
	// TwilioMessage is that carrier's Message resource: every record is a message.
	TwilioMessage
)

// String gives the name by which rater/decode knows the format.
func (f Format) String() string {
	return [...]string{Tollgate: "tollgate", DIDWW: "didww-voice-in", TwilioCall: "twilio-call", TwilioMessage: "twilio-message"}[f]
}

// Config says what to make. Shares are fractions from 0 to 1; the shares of refused records exclude one another, so
// their sum is at most 1. The zero value of a share or of Zipf means none of it: Default fills in the usual mix.
type Config struct {
	// Seed decides every draw.
	Seed uint64
	// Accounts and NumbersPerAccount give the size of the installation. Both are at least 1.
	Accounts, NumbersPerAccount int
	// Zipf is the exponent of the skew over accounts; 0 is uniform. With 1.1 the busiest of 10⁵ accounts has 13 % of the traffic.
	Zipf float64
	// WhaleShare is the share of all records that belong to account FirstAccount, whatever the skew over the others.
	WhaleShare float64
	// TypicalBalanceCents is the balance that an account of average traffic is topped up to; busier ones hold more.
	TypicalBalanceCents int64
	// DeckRows is the number of rows for single exchanges (NPA-NXX) in the outbound part of each tariff.
	DeckRows int

	// Format is how records are written.
	Format Format
	// MessageShare is the share of text messages among the records.
	MessageShare float64
	// AnsweredShare is the share of calls that are answered; the others last 0 seconds.
	AnsweredShare float64
	// OutboundShare is the share of calls that the account's number makes (forwarded legs), and of messages that it sends.
	OutboundShare float64

	// DuplicateShare is the share of exact copies of earlier valid records, half of them of the latest 64.
	DuplicateShare float64
	// DuplicateReach is how many valid records back a copy may go.
	DuplicateReach int
	// LateHourShare and LateDayShare are the shares of records that ended 1 to 12 hours, and 24 to 60 hours, ago.
	LateHourShare, LateDayShare float64

	// UnknownNumberShare is the share of records of numbers that no account owns.
	UnknownNumberShare float64
	// MalformedShare is the share of records that cannot be decoded.
	MalformedShare float64
	// NoPriceShare is the share of outbound calls to satellite phones, which no tariff prices.
	NoPriceShare float64
	// OutOfBoundsShare is the share of calls of more than a day (in TwilioMessage, of messages of more than 255 segments).
	OutOfBoundsShare float64
	// TooFarAheadShare is the share of records dated 5 to 60 minutes into the future.
	TooFarAheadShare float64
}

// Default gives the mix that domain research suggests for call tracking: Zipf 1.1, 30 % messages, 75 % of calls
// answered, 0.75 % duplicates, 1.5 % late by hours and 0.1 % by days, 0.5 % of unknown numbers, 0.1 % malformed.
func Default(seed uint64, accounts int) Config {
	return Config{
		Seed:                seed,
		Accounts:            accounts,
		NumbersPerAccount:   3,
		Zipf:                1.1,
		TypicalBalanceCents: 2500,
		MessageShare:        0.3,
		AnsweredShare:       0.75,
		OutboundShare:       0.2,
		DuplicateShare:      0.0075,
		DuplicateReach:      1 << 16,
		LateHourShare:       0.015,
		LateDayShare:        0.001,
		UnknownNumberShare:  0.005,
		MalformedShare:      0.001,
		NoPriceShare:        0.0005,
		OutOfBoundsShare:    0.00002,
	}
}

// validate says what is wrong with the configuration, if anything.
func (c *Config) validate() error {
	if c.Accounts < 1 || c.NumbersPerAccount < 1 || c.Accounts > NumbersLimit/c.NumbersPerAccount {
		return fmt.Errorf("workload of %d accounts with %d numbers each: use at least 1 of both, and at most %d numbers in all",
			c.Accounts, c.NumbersPerAccount, NumbersLimit)
	}
	if c.Zipf < 0 || c.Zipf > 4 || math.IsNaN(c.Zipf) {
		return fmt.Errorf("workload with a Zipf exponent of %v: use 0 (uniform) to 4", c.Zipf)
	}
	if c.TypicalBalanceCents < 0 || c.TypicalBalanceCents > 1e8 {
		return fmt.Errorf("workload with a typical balance of %d cents: use 0 to 100000000", c.TypicalBalanceCents)
	}
	if c.DeckRows < 0 || c.DeckRows > exchangeCount {
		return fmt.Errorf("workload with %d deck rows: use 0 to %d", c.DeckRows, exchangeCount)
	}
	if c.Format > TwilioMessage {
		return fmt.Errorf("workload in format %d: use Tollgate, DIDWW, TwilioCall or TwilioMessage", c.Format)
	}
	if c.DuplicateShare > 0 && (c.DuplicateReach < 1 || c.DuplicateReach > 1<<24) {
		return fmt.Errorf("workload with a duplicate reach of %d records: use 1 to %d", c.DuplicateReach, 1<<24)
	}
	refused := c.UnknownNumberShare + c.MalformedShare + c.NoPriceShare + c.OutOfBoundsShare + c.TooFarAheadShare
	for _, share := range []float64{c.WhaleShare, c.MessageShare, c.AnsweredShare, c.OutboundShare, c.DuplicateShare,
		c.LateHourShare, c.LateDayShare, c.LateHourShare + c.LateDayShare, c.UnknownNumberShare, c.MalformedShare,
		c.NoPriceShare, c.OutOfBoundsShare, c.TooFarAheadShare, refused} {
		if !(share >= 0 && share <= 1) {
			return fmt.Errorf("workload with a share, or a sum of shares, of %v: use 0 to 1", share)
		}
	}
	return nil
}

// Workload is an installation and the law of its traffic. It is immutable and may be shared by many generators.
type Workload struct {
	config  Config
	weights []float64 // traffic by account; their mean is 1
	busy    sampler   // draws accounts by weight
	tariffs []Tariff
}

// New makes the workload that the configuration asks for, or says what is wrong with it.
func New(c Config) (*Workload, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	tariffs, err := readTariffs(c.DeckRows)
	if err != nil {
		return nil, err
	}
	weights := trafficWeights(&c)
	return &Workload{config: c, weights: weights, busy: newSampler(weights), tariffs: tariffs}, nil
}

// trafficWeights gives each account its share of the traffic, times the number of accounts. Ranks are shuffled over the
// accounts, so that neighbours do not share a fate.
func trafficWeights(c *Config) []float64 {
	d := newDice(c.Seed^saltRanks, 0)
	weights := make([]float64, c.Accounts)
	for i := range weights {
		weights[i] = math.Pow(float64(i+1), -c.Zipf)
	}
	for i := len(weights) - 1; i > 0; i-- {
		j := d.below(uint64(i + 1))
		weights[i], weights[j] = weights[j], weights[i]
	}
	mean := 1.0
	if c.WhaleShare > 0 {
		weights[0], mean = 0, 1-c.WhaleShare
	}
	if others := sum(weights); others > 0 {
		scale := mean * float64(c.Accounts) / others
		for i := range weights {
			weights[i] *= scale
		}
	}
	if c.WhaleShare > 0 {
		weights[0] = float64(c.Accounts) - sum(weights)
	}
	return weights
}

func sum(values []float64) float64 {
	total := 0.0
	for _, v := range values {
		total += v
	}
	return total
}

// Account is one prepaid customer. Amounts are decimals of the plan's currency.
type Account struct {
	// Number identifies the account.
	Number uint32
	// Zone is its IANA time zone.
	Zone string
	// Plan is the name of its plan.
	Plan string
	// OpeningBalance is what it starts with.
	OpeningBalance decimal.Decimal
	// Threshold is its low-balance limit.
	Threshold decimal.Decimal
	// RechargeTo is the balance that a recharge brings it to; 0 means that it has no automatic recharge.
	RechargeTo decimal.Decimal
	// TrafficShare is the share of all records that are expected to be its own.
	TrafficShare float64
}

// Plan says how accounts are charged.
type Plan struct {
	// Name identifies the plan.
	Name string
	// Currency is its ISO 4217 code.
	Currency string
	// Tariff is the name of the tariff that prices its usage.
	Tariff string
}

// The plans. Each has the tariff of its own name; europe is for accounts with European numbers.
const (
	standard = "standard"
	volume   = "volume"
	europe   = "europe"
)

// Plans gives the plans that accounts are on.
func (w *Workload) Plans() []Plan {
	return []Plan{
		{Name: standard, Currency: "USD", Tariff: standard},
		{Name: volume, Currency: "USD", Tariff: volume},
		{Name: europe, Currency: "EUR", Tariff: europe},
	}
}

// Zones of accounts, by how often they are drawn. The last ones are few but mean: half and three-quarter hours, a
// half-hour daylight saving, the edge of the date line.
var (
	americanZones = [...]string{"America/New_York", "America/New_York", "America/New_York", "America/Chicago", "America/Chicago",
		"America/Los_Angeles", "America/Los_Angeles", "America/Denver", "America/Phoenix", "America/Toronto", "America/St_Johns",
		"Pacific/Honolulu", "UTC", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Kiritimati"}
	europeanZones = [...]string{"Europe/London", "Europe/London", "Europe/Berlin", "Europe/Berlin", "Europe/Paris", "Europe/Rome"}
)

// Accounts gives every account, by ascending number.
func (w *Workload) Accounts() iter.Seq[Account] {
	return func(yield func(Account) bool) {
		for i := range w.weights {
			if !yield(w.account(i)) {
				return
			}
		}
	}
}

// account makes the account with index i. Seven in ten recharge by themselves and have money; the others have no
// automatic recharge, or hardly any money, or neither, so that recharges and suspensions happen soon.
func (w *Workload) account(i int) Account {
	d := newDice(w.config.Seed^saltAccounts, uint64(i))
	plan := drawPlan(&d)
	zone := americanZones[d.below(uint64(len(americanZones)))]
	if plan == europe {
		zone = europeanZones[d.below(uint64(len(europeanZones)))]
	}
	typical := float64(w.config.TypicalBalanceCents) * (0.5 + w.weights[i]) * (0.5 + d.fraction())
	opening, threshold, rechargeTo := typical*(0.3+0.7*d.fraction()), typical/5, typical
	switch class := d.fraction(); {
	case class < 0.05: // hardly any money and no recharge: soon suspended
		opening, rechargeTo = typical*0.03*d.fraction(), 0
	case class < 0.15: // soon recharged
		opening = threshold * (1 + 0.05*d.fraction())
	case class < 0.30: // pays by hand
		rechargeTo = 0
	}
	return Account{
		Number:         FirstAccount + uint32(i),
		Zone:           zone,
		Plan:           plan,
		OpeningBalance: cents(opening),
		Threshold:      cents(threshold),
		RechargeTo:     cents(rechargeTo),
		TrafficShare:   w.weights[i] / float64(len(w.weights)),
	}
}

func cents(amount float64) decimal.Decimal { return decimal.New(int64(amount), -2) }

// drawPlan must be the first draw of an account's dice: numbers ask for the plan alone.
func drawPlan(d *dice) string {
	switch f := d.fraction(); {
	case f < 0.6:
		return standard
	case f < 0.9:
		return volume
	}
	return europe
}

// Salts keep the draws of one purpose apart from those of another.
const (
	saltRanks    = 0x9e3779b97f4a7c15
	saltAccounts = 0xbf58476d1ce4e5b9
	saltNumbers  = 0x94d049bb133111eb
	saltRecords  = 0xd6e8feb86659fd93
)

// dice is a source of draws. It uses only the raw output of PCG, whose algorithm is fixed, and reduces it itself: the
// helpers of math/rand/v2 may change between Go versions.
type dice struct{ pcg rand.PCG }

func newDice(key, index uint64) (d dice) {
	d.seed(key, index)
	return d
}

// seed starts the draws of one index over. Indexes are mixed first, because PCG does not tell neighbouring seeds apart
// in its first output as well as it does later ones.
func (d *dice) seed(key, index uint64) { d.pcg.Seed(key, mix(index)) }

// fraction draws from [0, 1).
func (d *dice) fraction() float64 { return float64(d.pcg.Uint64()>>11) / (1 << 53) }

// below draws an integer from [0, n). The bias of at most n/2⁶⁴ is accepted.
func (d *dice) below(n uint64) uint64 {
	high, _ := bits.Mul64(d.pcg.Uint64(), n)
	return high
}

// between draws an integer from [low, high).
func (d *dice) between(low, high int64) int64 { return low + int64(d.below(uint64(high-low))) }

// mix is the finaliser of SplitMix64: a bijection in which every input bit moves every output bit.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
