// Package ledger is the fold in Go: what an entry does to the state of its shard, and what becomes of it.
//
// It is the twin of balance/lua/apply.lua, which does the same in Redis; a differential test holds the two
// together on a real server. The audit stage folds with it, images are its state written down, and the
// simulator's Redis is made of it. The package is pure: the outcome is a function of the state and the entry with
// its append time. It never reads a clock, a configuration or a random number, and never ranges over a map where
// the order could show.
package ledger

import (
	"math"

	"github.com/tollgate/tollgate/rater/entry"
	"github.com/tollgate/tollgate/rater/money"

	"github.com/tollgate/tollgate/balance/posting"
)

// FoldVersion is the newest version of the fold that this build knows. A FoldVersion entry above it is refused,
// and with it the whole batch: the shard waits for a newer build.
const FoldVersion = 1

// Param is a parameter of the fold. Parameters change by Param entries only, so that every replay sees the same.
type Param int

// The parameters. Times are milliseconds.
const (
	// WindowMs is how long record ids are remembered, at least.
	WindowMs Param = iota
	// GraceMs is how long an account below zero stays in service while the first attempt of a recharge is undecided.
	GraceMs
	// BackOffMs is the pause after a recharge was given up.
	BackOffMs
	// Attempts is how many failed attempts end a recharge.
	Attempts
	// GiveUpAfter is how many recharges in a row may be given up before the account waits for its owner.
	GiveUpAfter
	// ResultsKept is how many outcomes of API entries a shard keeps for their callers.
	ResultsKept
	// ParamCount is the number of parameters that this build knows.
	ParamCount
)

// Defaults are the parameters of a new shard.
var Defaults = [ParamCount]int64{
	WindowMs:    72 * 3600 * 1000,
	GraceMs:     10 * 60 * 1000,
	BackOffMs:   24 * 3600 * 1000,
	Attempts:    3,
	GiveUpAfter: 5,
	ResultsKept: 1000,
}

// maxParams are the greatest values of parameters: times fit a double, an attempt's number fits a byte.
var maxParams = [ParamCount]int64{
	WindowMs: 1 << 52, GraceMs: 1 << 52, BackOffMs: 1 << 52, Attempts: 255, GiveUpAfter: 255, ResultsKept: 100_000,
}

const (
	// LateMarginMs is how much older than the window a record may not be: broker clocks may differ by that much.
	LateMarginMs = 2 * 60 * 1000
	// SettingsLimit bounds thresholds, recharge targets and the amount of one recharge.
	SettingsLimit money.Amount = 1_000_000_000_000_000
	// CreditLimit bounds the balance that a credit or an adjustment may lead to, so that room is left for every
	// captured card charge: money that was taken from a card is never refused for the limit.
	CreditLimit money.Amount = 4_000_000_000_000_000
	// TokensKept bounds the attempts of one account that may still turn out captured; the oldest go first.
	TokensKept = 64
	// maxDay is the last day that may be closed.
	maxDay = math.MaxInt32 - 1
	// NoDay is the day before all days: nothing is closed.
	NoDay int32 = math.MinInt32
	// msPerDay is the length of a UTC day, which dates the rows that no statement shows.
	msPerDay = 24 * 3600 * 1000
)

// Token is one attempt of a recharge that the gateway may still report as captured.
type Token struct {
	Offset  int64  // of the entry that decided the intent
	Ix      uint32 // its index in the block
	Attempt uint8
}

// Intent is a decided recharge that is not settled yet. (Offset, Ix) identify it in its shard.
type Intent struct {
	Offset      int64
	Ix          uint32
	Attempt     uint8
	AmountUnits money.Amount
	OpenedMs    int64
}

// Account is the state of one account.
type Account struct {
	Open      bool // an Account entry was seen
	Suspended bool
	Low       bool // below the threshold
	HasIntent bool
	// Failures counts the recharges given up since the last payment or change of settings.
	Failures        uint8
	Zone            uint32
	Floor           int32 // first statement day that may still get postings
	BalanceUnits    money.Amount
	ThresholdUnits  money.Amount
	RechargeToUnits money.Amount // 0: no automatic recharge
	DeclinedMs      int64        // when the last recharge was given up, 0 if it was not
	Intent          Intent       // while HasIntent
	Tokens          []Token      // oldest first
}

// WantsAttention tells whether the recharge worker has something to do or to wait for on this account: an open
// intent, a grace that will end, a back-off that will end. The script keeps the set of such accounts.
func (a *Account) WantsAttention(giveUpAfter int64) bool {
	return a.HasIntent || a.Open && (a.BalanceUnits < 0 && !a.Suspended || a.mayRecharge(giveUpAfter))
}

// mayRecharge tells whether the account lacks a recharge, be it that a back-off still runs.
func (a *Account) mayRecharge(giveUpAfter int64) bool {
	return a.Open && !a.HasIntent && a.RechargeToUnits > 0 && a.BalanceUnits < a.ThresholdUnits && int64(a.Failures) < giveUpAfter
}

// APIResult is the kept outcome of an API entry, for the caller who waits and for those who repeat the request.
type APIResult struct {
	Offset   int64
	BodyHash int64
	Outcome  posting.Outcome
}

// Shard is the state of one shard after all entries up to and with WM. The zero value is not usable; see New.
type Shard struct {
	Version int64
	Params  [ParamCount]int64
	WM      int64 // offset of the last folded block, -1 before the first
	NowMs   int64 // running maximum of append times

	// Generations of ids: Current holds those since GenerationStartMs, Previous those of the generation before, which
	// began at CoveredSinceMs. Every id applied since CoveredSinceMs is in one of them.
	Generation        int64
	GenerationStartMs int64
	CoveredSinceMs    int64
	Current, Previous IDs

	Sources  map[entry.Source]entry.Position
	Closed   map[uint32]int32 // last closed day by zone
	Accounts map[uint32]*Account

	Results     map[uint64]APIResult
	ResultOrder []uint64 // ids of Results, oldest first
}

// New gives the state of a shard before its first entry.
func New() *Shard {
	return &Shard{
		Version: 1, Params: Defaults, WM: -1,
		Sources: map[entry.Source]entry.Position{}, Closed: map[uint32]int32{},
		Accounts: map[uint32]*Account{}, Results: map[uint64]APIResult{},
	}
}
