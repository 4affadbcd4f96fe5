// Package recharge is everything between an open intent, decided by the fold, and the Payment or PaymentFailed entry
// that settles it, in the log of the account's shard.
//
// It is a half of the act stage (balance/notify is the other). Protocol rule 13 is this package: it is driven by the
// level that it reads, not by a position, so it remembers nothing that a restart could lose, and any number of workers
// may do the same at once. It acts only on intents whose postings are in Kafka, looks up all attempts before it charges,
// and takes nothing but a definitive answer for a failure. In doubt it does nothing that costs. It decides no amount and
// changes no balance.
package recharge

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tollgate/tollgate/balance/ledger"
	"github.com/tollgate/tollgate/balance/lua"
	"github.com/tollgate/tollgate/rater/money"
	"github.com/tollgate/tollgate/rater/stream"
)

// Worker settles the open intents of a few shards.
type Worker struct {
	Deps
	cfg     Config
	topicID stream.TopicID
	shards  []*shard
	ids     []int32
	heads   []lua.Head
	jobs    []*job          // of this round, in the order in which they are treated
	wakes   []wake          // of this round
	paces   map[token]*pace // of the intents seen lately
	woken   map[uint32]time.Time
	swept   time.Time
	bucket  bucket
	breaker breaker
	out     appender
}

// shard is where the worker stands with one shard.
type shard struct {
	id       int32
	after    uint32 // the accounts up to here were read in earlier rounds
	open     int    // intents seen since the first account
	oldestMs int64  // when the oldest of them was opened
	params   [ledger.ParamCount]int64
	paramsAt time.Time // when they were read, zero if never
}

type wake struct {
	shard   int32
	account uint32
}

// NewWorker makes a worker for the given shards. The error is a configuration that could charge a card twice.
func NewWorker(deps Deps, cfg Config, shards []int32) (*Worker, error) {
	if err := cfg.check(deps.Gateway.KeyLife()); err != nil {
		return nil, err
	}
	w := &Worker{
		Deps: deps, cfg: cfg, ids: shards, heads: make([]lua.Head, len(shards)),
		paces: map[token]*pace{}, woken: map[uint32]time.Time{},
		bucket:  newBucket(cfg.ChargesPerSecond, cfg.ChargesBurst),
		breaker: breaker{limit: cfg.FailuresToRest, rest: cfg.RestFor},
		out:     appender{writer: deps.Writer, topic: cfg.EntriesTopic},
	}
	for _, id := range shards {
		w.shards = append(w.shards, &shard{id: id})
	}
	return w, nil
}

// Run recharges until ctx ends, which is no error. A charge that is under way then is looked up by whoever comes next.
func (w *Worker) Run(ctx context.Context) error {
	retry := stream.Retry{Loop: "recharge", Min: w.cfg.RetryMin, Max: w.cfg.RetryMax, Clock: w.Clock, Logger: w.Logger, Count: w.Metrics.Retries.Inc}
	return retry.Rounds(ctx, w.cfg.PollEvery, w.round)
}

// round takes every intent that is due as far as it goes. Shards that cannot be read do not hinder the others.
func (w *Worker) round(ctx context.Context) error {
	if w.topicID == (stream.TopicID{}) {
		id, err := w.Topics.TopicID(ctx, w.cfg.EntriesTopic)
		if err != nil {
			return fmt.Errorf("cannot find topic %s: %w", w.cfg.EntriesTopic, err)
		}
		w.topicID = id
	}
	unread := w.read(ctx)
	w.look(ctx)
	w.charge(ctx)
	if err := w.settle(ctx); err != nil {
		return err
	}
	return unread
}

// read finds the intents to be looked up and the accounts to be woken.
func (w *Worker) read(ctx context.Context) error {
	w.jobs, w.wakes = w.jobs[:0], w.wakes[:0]
	w.sweep()
	if err := w.Shards.Heads(ctx, w.ids, w.heads); err != nil {
		return fmt.Errorf("cannot read the heads of shards %v: %w", w.ids, err)
	}
	var unread error
	for i, s := range w.shards {
		if err := w.heads[i].Err; err != nil {
			unread = err
		}
		if !usable(&w.heads[i], w.topicID, w.cfg.Installation) {
			continue
		}
		if err := w.readShard(ctx, s, &w.heads[i]); err != nil {
			unread = err
		}
	}
	slices.SortStableFunc(w.jobs, func(a, b *job) int { return a.pace.notBefore.Compare(b.pace.notBefore) })
	w.jobs = w.jobs[:min(len(w.jobs), w.breaker.allowed(w.cfg.JobsPerRound, w.Clock.Now()))]
	return unread
}

// usable tells whether a shard's state is that of this installation's log, and in order. If not, nothing is known of its
// accounts, and nothing is charged.
func usable(h *lua.Head, topicID stream.TopicID, installation string) bool {
	return h.Initialized && h.Halted == "" && h.TopicID == topicID && h.Installation == installation
}

// readShard reads the next accounts of a shard that want attention; the first follow the last.
func (w *Worker) readShard(ctx context.Context, s *shard, h *lua.Head) error {
	numbers, err := w.Shards.Attention(ctx, s.id)
	if err != nil {
		return err
	}
	from, found := slices.BinarySearch(numbers, s.after)
	if found {
		from++
	}
	if from >= len(numbers) || s.after == 0 {
		from = 0
		w.Metrics.openIntents(s.id, s.open, w.age(s).Seconds())
		s.open, s.oldestMs = 0, 0
	}
	numbers = numbers[from:min(len(numbers), from+w.cfg.AccountsPerRead)]
	s.after = 0
	if len(numbers) == 0 {
		return nil
	}
	s.after = numbers[len(numbers)-1]
	accounts, err := w.Shards.Accounts(ctx, s.id, numbers)
	if err != nil {
		return err
	}
	for i := range accounts {
		a := &accounts[i]
		if a.State.HasIntent {
			w.addJob(s, h, a.ID, &a.State)
		}
		if err := w.addWake(ctx, s, a.ID, &a.State); err != nil {
			return err
		}
	}
	return nil
}

func (w *Worker) age(s *shard) time.Duration {
	if s.open == 0 {
		return 0
	}
	return max(0, w.Clock.Now().Sub(time.UnixMilli(s.oldestMs)))
}

// addJob makes a job of an open intent, if its postings are in Kafka and it is time to look it up. The intent may be
// newer than h or older, after a failover: base only ever counts postings that are in the log, whoever says it, and an
// intent that is settled already is found settled by the look-up.
func (w *Worker) addJob(s *shard, h *lua.Head, account uint32, a *ledger.Account) {
	if s.open == 0 || a.Intent.OpenedMs < s.oldestMs {
		s.oldestMs = a.Intent.OpenedMs
	}
	s.open++
	if a.Intent.Offset > h.Base {
		return
	}
	intent := Intent{Installation: w.cfg.Installation, Shard: s.id, Offset: a.Intent.Offset, Ix: a.Intent.Ix}
	now, t := w.Clock.Now(), token{intent, a.Intent.Attempt}
	p := w.paces[t]
	if p == nil {
		p = &pace{notBefore: now, settledAt: -1}
		w.paces[t] = p
	}
	p.seen = now
	currency := w.Book.Currency(account)
	if h.WM < p.settledAt || now.Before(p.notBefore) || currency == (money.Currency{}) {
		return
	}
	w.jobs = append(w.jobs, &job{pace: p, Request: Request{
		Account: account, Intent: intent, Attempt: a.Intent.Attempt, AmountUnits: a.Intent.AmountUnits,
		Currency: currency, IdempotencyKey: intent.Key(a.Intent.Attempt),
	}})
}

// addWake notes an account whose grace or back-off has ended by the local clock. A Wake entry decides nothing: the fold
// looks at its own time, and one that comes too early comes again.
func (w *Worker) addWake(ctx context.Context, s *shard, account uint32, a *ledger.Account) error {
	inGrace := a.HasIntent && a.Intent.Attempt == 0 && a.BalanceUnits < 0 && !a.Suspended
	now := w.Clock.Now()
	if !a.Open || a.HasIntent && !inGrace || now.Sub(w.woken[account]) < w.cfg.WakeEvery {
		return nil
	}
	if s.paramsAt.IsZero() || now.Sub(s.paramsAt) >= w.cfg.WakeEvery {
		params, err := w.Shards.Params(ctx, s.id)
		if err != nil {
			return err
		}
		s.params, s.paramsAt = params, now
	}
	endMs := a.DeclinedMs + s.params[ledger.BackOffMs]
	if inGrace {
		endMs = a.Intent.OpenedMs + s.params[ledger.GraceMs]
	}
	if a.WantsAttention(s.params[ledger.GiveUpAfter]) && now.Sub(time.UnixMilli(endMs)) > w.cfg.WakeMargin {
		w.wakes = append(w.wakes, wake{s.id, account})
	}
	return nil
}

// sweep forgets, once in a while, what was not seen lately.
func (w *Worker) sweep() {
	now := w.Clock.Now()
	keep := max(w.cfg.WakeEvery, 10*w.cfg.AskAgainMax)
	if now.Sub(w.swept) < keep {
		return
	}
	w.swept = now
	for t, p := range w.paces {
		if now.Sub(p.seen) > keep && now.Sub(p.notBefore) > keep {
			delete(w.paces, t)
		}
	}
	for account, at := range w.woken {
		if now.Sub(at) > keep {
			delete(w.woken, account)
		}
	}
}
