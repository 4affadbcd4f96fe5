package recharge

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/tollgate/tollgate/rater/money"
)

// Intent is the identity of one decided recharge: the place of the entry that decided it. It never comes back.
type Intent struct {
	Installation string
	Shard        int32
	Offset       int64
	Ix           uint32
}

// String gives the intent as keys and gateways' notes show it: installation/shard-offset-index.
func (i Intent) String() string {
	return fmt.Sprintf("%s/%d-%d-%d", i.Installation, i.Shard, i.Offset, i.Ix)
}

// Key gives the idempotency key of an attempt: the intent, # and the attempt's number.
func (i Intent) Key(attempt uint8) string { return fmt.Sprintf("%s#%d", i, attempt) }

// Status is what a gateway says of an attempt.
type Status uint8

// The statuses. Only Succeeded, Declined and NeedsAuthentication are definitive answers.
const (
	// Unknown is an attempt of which the gateway cannot say what became of it.
	Unknown Status = iota
	// Pending is an attempt that is under way.
	Pending
	// Succeeded is money captured.
	Succeeded
	// Declined is a refusal by the card's issuer, or no card at all.
	Declined
	// NeedsAuthentication is a refusal until the customer is present (3-D Secure).
	NeedsAuthentication
)

var statusNames = [...]string{"unknown", "pending", "succeeded", "declined", "authentication-required"}

// String gives the status as metrics and logs show it.
func (s Status) String() string {
	if int(s) < len(statusNames) {
		return statusNames[s]
	}
	return statusNames[Unknown]
}

// Charge is one attempt as the gateway knows it.
type Charge struct {
	Intent  Intent
	Attempt uint8
	Account uint32
	// AmountUnits is what was, or is to be, captured.
	AmountUnits money.Amount
	Status      Status
	// ID is the gateway's own name for the charge.
	ID string
	// At is when the status was reached: for Succeeded when the money was captured.
	At time.Time
}

// Request asks for one attempt.
type Request struct {
	Account uint32
	Intent  Intent
	Attempt uint8
	// AmountUnits is a whole number of the currency's minor units, frozen with the intent.
	AmountUnits money.Amount
	Currency    money.Currency
	// IdempotencyKey is Intent.Key(Attempt): for as long as the gateway keeps the key, the same request is one charge.
	IdempotencyKey string
}

// Gateway is the card gateway. Its calls may come from several goroutines, and must end with their context.
type Gateway interface {
	// Attempts lists all attempts of an intent of an account, by a read that sees every charge that was answered before:
	// a list of the customer's payments, never a search index.
	Attempts(ctx context.Context, account uint32, intent Intent) ([]Charge, error)
	// Charge makes one attempt and gives what became of it. An error means that nothing is known: it may be captured.
	Charge(ctx context.Context, request Request) (Charge, error)
	// Captured lists what was captured since, by the time of the capture, in any order and of any installation.
	Captured(ctx context.Context, since time.Time) iter.Seq2[Charge, error]
	// KeyLife is how long the gateway keeps an idempotency key, at least.
	KeyLife() time.Duration
}
