package recharge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tollgate/tollgate/balance/ledger"
	"github.com/tollgate/tollgate/balance/lua"
	"github.com/tollgate/tollgate/rater/stream"
)

// Reconciler compares the gateway's report of captured charges with the accounts of a few shards, and appends a Payment
// for each capture that its account still waits for. It finds what no worker sees any more: a decline that was captured
// after the recharge was given up, a charge sent by a worker that died while another one gave up.
//
// Whether a capture was paid is asked of the account: an attempt stays in its list of tokens from the moment it may be
// charged until it is paid. So nothing has to be remembered, and what is appended twice is credited once.
type Reconciler struct {
	Deps
	cfg     Config
	topicID stream.TopicID
	ids     []int32
	heads   []lua.Head
	since   time.Time // everything captured before is compared
	out     appender
}

// NewReconciler makes a reconciler for the given shards. The error is that of NewWorker.
func NewReconciler(deps Deps, cfg Config, shards []int32) (*Reconciler, error) {
	if err := cfg.check(deps.Gateway.KeyLife()); err != nil {
		return nil, err
	}
	return &Reconciler{
		Deps: deps, cfg: cfg, ids: shards, heads: make([]lua.Head, len(shards)),
		out: appender{writer: deps.Writer, topic: cfg.EntriesTopic},
	}, nil
}

// Run reconciles until ctx ends, which is no error.
func (r *Reconciler) Run(ctx context.Context) error {
	retry := stream.Retry{Loop: "reconcile", Min: r.cfg.RetryMin, Max: r.cfg.RetryMax, Clock: r.Clock, Logger: r.Logger, Count: r.Metrics.Retries.Inc}
	return retry.Rounds(ctx, r.cfg.ReconcileEvery, r.round)
}

// round compares one report. Only when all of it could be compared does the next one begin later.
func (r *Reconciler) round(ctx context.Context) error {
	began := r.Clock.Now()
	if r.topicID == (stream.TopicID{}) {
		id, err := r.Topics.TopicID(ctx, r.cfg.EntriesTopic)
		if err != nil {
			return fmt.Errorf("cannot find topic %s: %w", r.cfg.EntriesTopic, err)
		}
		r.topicID = id
	}
	from := began.Add(-r.cfg.ReconcileBack)
	if !r.since.IsZero() {
		from = r.since.Add(-r.cfg.ReconcileOverlap)
	}
	var charges []Charge
	complete := true
	for c, err := range r.Gateway.Captured(ctx, from) {
		if err != nil {
			return fmt.Errorf("cannot list what the gateway captured since %s: %w", from.Format(time.RFC3339), err)
		}
		if c.Intent.Installation != r.cfg.Installation || !slices.Contains(r.ids, c.Intent.Shard) || began.Sub(c.At) < r.cfg.ReconcileAfter {
			continue
		}
		if charges = append(charges, c); len(charges) < r.cfg.ChargesPerRead {
			continue
		}
		whole, err := r.compare(ctx, charges)
		if err != nil {
			return err
		}
		charges, complete = charges[:0], complete && whole
	}
	whole, err := r.compare(ctx, charges)
	if err != nil {
		return err
	}
	if complete && whole {
		r.since = began
	}
	return nil
}

// compare appends a Payment for each of the charges that its account waits for. It is not whole if the state of some
// account cannot be known now. An error of some does not keep the others from being appended: all are compared again soon.
func (r *Reconciler) compare(ctx context.Context, charges []Charge) (whole bool, err error) {
	if len(charges) == 0 {
		return true, nil
	}
	if err := r.Shards.Heads(ctx, r.ids, r.heads); err != nil {
		return false, fmt.Errorf("cannot read the heads of shards %v: %w", r.ids, err)
	}
	r.out.reset()
	whole = true
	var failure error
	for i, id := range r.ids {
		var own []Charge
		for _, c := range charges {
			if c.Intent.Shard != id {
				continue
			}
			if h := &r.heads[i]; !usable(h, r.topicID, r.cfg.Installation) || h.WM < c.Intent.Offset {
				whole = false
				continue
			}
			own = append(own, c)
		}
		known, err := r.compareShard(ctx, id, own)
		failure = errors.Join(failure, r.heads[i].Err, err)
		whole = whole && known
	}
	if err := r.out.send(ctx); err != nil {
		return false, err
	}
	r.Metrics.Reconciled.Add(float64(len(r.out.places)))
	r.Metrics.Payments.Add(float64(len(r.out.places)))
	return whole, failure
}

// compareShard gathers a Payment for each of the charges, all of one shard, whose token is still in its account's list.
// It is not whole if an account stands, after a failover, before the moment at which the token came into its list.
func (r *Reconciler) compareShard(ctx context.Context, id int32, charges []Charge) (whole bool, err error) {
	if len(charges) == 0 {
		return true, nil
	}
	numbers := make([]uint32, len(charges))
	for i := range charges {
		numbers[i] = charges[i].Account
	}
	slices.Sort(numbers)
	found, err := r.Shards.Accounts(ctx, id, slices.Compact(numbers))
	if err != nil {
		return false, err
	}
	accounts := make(map[uint32]*ledger.Account, len(found))
	for i := range found {
		accounts[found[i].ID] = &found[i].State
	}
	whole = true
	for i := range charges {
		c := &charges[i]
		a := accounts[c.Account]
		if a == nil || before(a, c) {
			whole = false
			continue
		}
		if !slices.Contains(a.Tokens, ledger.Token{Offset: c.Intent.Offset, Ix: c.Intent.Ix, Attempt: c.Attempt}) {
			continue
		}
		r.Logger.Warn("reconcile: a capture was not credited, its payment is appended", "account", c.Account, "intent", c.Intent, "attempt", c.Attempt, "charge", c.ID)
		e := result(c, r.Clock.Now().UnixMilli(), r.Book)
		if err := r.out.add(id, &e); err != nil {
			return false, err
		}
	}
	return whole, nil
}

// before tells whether an account stands at an earlier attempt of the charge's intent.
func before(a *ledger.Account, c *Charge) bool {
	return a.HasIntent && a.Intent.Offset == c.Intent.Offset && a.Intent.Ix == c.Intent.Ix && a.Intent.Attempt < c.Attempt
}
