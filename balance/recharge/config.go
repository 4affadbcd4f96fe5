package recharge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/tollgate/tollgate/balance/ledger"
	"github.com/tollgate/tollgate/balance/lua"
	"github.com/tollgate/tollgate/rater/money"
	"github.com/tollgate/tollgate/rater/stream"
)

// Shards is Redis as the worker and the reconciler see it: they only read.
type Shards interface {
	// Heads reads where each shard stands on the current master.
	Heads(ctx context.Context, shards []int32, heads []lua.Head) error
	// Params reads the parameters of a shard's fold.
	Params(ctx context.Context, shard int32) ([ledger.ParamCount]int64, error)
	// Attention lists the accounts of a shard for which ledger.Account.WantsAttention holds, by number.
	Attention(ctx context.Context, shard int32) ([]uint32, error)
	// Accounts reads those of the accounts that the shard knows.
	Accounts(ctx context.Context, shard int32, numbers []uint32) ([]lua.Found, error)
}

// Book tells what an entry needs to know of an account.
type Book interface {
	// Currency is that of the account, the zero Currency if the account is not known yet.
	Currency(account uint32) money.Currency
	// Day is the day in the account's zone at a time, in days since 1970-01-01.
	Day(account uint32, ms int64) int32
}

// Deps are the neighbours of a worker or a reconciler; each has a Writer of its own.
type Deps struct {
	Shards  Shards
	Gateway Gateway
	Writer  stream.Writer
	Topics  stream.Topics
	Book    Book
	Clock   stream.Clock
	Metrics *Metrics
	Logger  *slog.Logger
}

// Config names the limits of recharging.
type Config struct {
	// Installation is the name that begins every intent and key.
	Installation string
	// EntriesTopic is the log to which results are appended.
	EntriesTopic string
	// Paused is the kill switch: no card is charged. Results of charges made before are still looked up and appended.
	Paused bool

	// PollEvery is how often the shards are asked for open intents.
	PollEvery time.Duration
	// AccountsPerRead bounds the accounts that one round reads of one shard, JobsPerRound the intents that it looks up.
	AccountsPerRead, JobsPerRound int
	// Concurrent bounds the gateway calls under way at once; with 1 everything happens in one goroutine.
	Concurrent int
	// CallTimeout bounds one call to the gateway.
	CallTimeout time.Duration
	// ChargeWithin is how long after the look-up began a charge may still be sent. With CallTimeout it must be less than
	// the life of the gateway's keys.
	ChargeWithin time.Duration
	// AskAgainMin and AskAgainMax bound the growing pause before an intent without a result is looked up again.
	AskAgainMin, AskAgainMax time.Duration
	// AttemptPause is the least time between two attempts of one intent.
	AttemptPause time.Duration

	// ChargesPerSecond and ChargesBurst bound the charges sent by this worker.
	ChargesPerSecond float64
	ChargesBurst     int
	// FailuresToRest is how many calls in a row must fail for the gateway to be left alone for RestFor; after that one
	// call at a time is tried until one succeeds. Declines are no failures.
	FailuresToRest int
	RestFor        time.Duration

	// WakeMargin is how long after the end of a grace or a back-off, by the local clock, a Wake entry is appended, and
	// WakeEvery the least time between two for one account.
	WakeMargin, WakeEvery time.Duration

	// ReconcileEvery is how often the gateway's report is compared with the accounts. The first report reaches back
	// ReconcileBack, each other one ReconcileOverlap behind the one before. Captures younger than ReconcileAfter are left
	// to the worker and the next report.
	ReconcileEvery, ReconcileBack, ReconcileOverlap, ReconcileAfter time.Duration
	// ChargesPerRead bounds the charges of a report that are compared at once.
	ChargesPerRead int

	// RetryMin and RetryMax bound the pause before what failed is tried again.
	RetryMin, RetryMax time.Duration
}

// DefaultConfig is the configuration for a gateway of the size of a card processor's; Installation is left to be set.
func DefaultConfig() Config {
	return Config{
		EntriesTopic: "entries",
		PollEvery:    500 * time.Millisecond, AccountsPerRead: 4096, JobsPerRound: 64, Concurrent: 16,
		CallTimeout: 20 * time.Second, ChargeWithin: 5 * time.Minute,
		AskAgainMin: time.Second, AskAgainMax: time.Minute, AttemptPause: 10 * time.Minute,
		ChargesPerSecond: 25, ChargesBurst: 50, FailuresToRest: 10, RestFor: 30 * time.Second,
		WakeMargin: 2 * time.Second, WakeEvery: time.Minute,
		ReconcileEvery: 10 * time.Minute, ReconcileBack: 7 * 24 * time.Hour, ReconcileOverlap: time.Hour,
		ReconcileAfter: 2 * time.Minute, ChargesPerRead: 500,
		RetryMin: 50 * time.Millisecond, RetryMax: 5 * time.Second,
	}
}

// check refuses a configuration that could charge a card twice, or do nothing for ever.
func (c *Config) check(keyLife time.Duration) error {
	switch {
	case c.Installation == "":
		return errors.New("cannot recharge: Installation is empty, and it begins every idempotency key")
	case c.ChargeWithin <= 0 || c.CallTimeout <= 0 || c.ChargeWithin+c.CallTimeout >= keyLife:
		return fmt.Errorf("cannot recharge: ChargeWithin %s and CallTimeout %s must be above 0 and together less than the life of the gateway's keys, %s", c.ChargeWithin, c.CallTimeout, keyLife)
	case min(c.AccountsPerRead, c.JobsPerRound, c.Concurrent, c.ChargesPerRead, c.FailuresToRest, c.ChargesBurst) < 1 || c.ChargesPerSecond <= 0:
		return errors.New("cannot recharge: AccountsPerRead, JobsPerRound, Concurrent, ChargesPerRead, FailuresToRest, ChargesBurst and ChargesPerSecond must be above 0")
	case c.ReconcileOverlap <= c.ReconcileAfter:
		return fmt.Errorf("cannot recharge: ReconcileOverlap %s must be more than ReconcileAfter %s, or captures between two reports are never compared", c.ReconcileOverlap, c.ReconcileAfter)
	}
	return nil
}
