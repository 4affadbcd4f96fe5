package recharge

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tollgate/tollgate/rater/entry"
)

// token names one attempt.
type token struct {
	Intent
	attempt uint8
}

// pace is what is remembered of an attempt from round to round. To forget it costs a look-up, no more.
type pace struct {
	notBefore time.Time     // when to look it up again
	pause     time.Duration // the last pause before that, which doubles
	settledAt int64         // offset of the entry that states its result, -1 without
	seen      time.Time
}

// job is one open intent in one round: it is looked up, perhaps charged, and perhaps settled.
type job struct {
	Request
	pace     *pace
	phase    phase
	lookedAt time.Time // when the look-up began
	attempts []Charge  // what the last call gave: all attempts, or the one just made
	err      error     // why it gave nothing
	results  []Charge  // what is to be stated in the log: every success, or one failure
}

// phase is what a job needs next in its round.
type phase int

const (
	looking  phase = iota // its attempts must be looked up
	charging              // the attempt was not made yet
	settling              // its results must be stated in the log
	waiting               // nothing more in this round
)

// look looks up all attempts of each intent.
func (w *Worker) look(ctx context.Context) {
	w.call(ctx, looking, func(ctx context.Context, j *job) {
		j.lookedAt = w.Clock.Now()
		j.attempts, j.err = w.Gateway.Attempts(ctx, j.Account, j.Intent)
	})
	for _, j := range w.jobs {
		w.Metrics.Lookups.Inc()
		if w.heard(ctx, j) {
			w.conclude(j)
		}
	}
}

// conclude decides what the attempts mean: every success is paid; otherwise anything undecided is waited for; otherwise
// the current attempt has failed, or was not made yet.
func (w *Worker) conclude(j *job) {
	var current *Charge
	var newest time.Time
	undecided := false
	for i := range j.attempts {
		c := &j.attempts[i]
		switch {
		case c.Status == Succeeded:
			j.results = append(j.results, *c)
		case c.Status != Declined && c.Status != NeedsAuthentication:
			undecided = true
		case c.Attempt == j.Attempt:
			current = c
		case c.Attempt > j.Attempt:
			undecided = true // the state that was read is an old one, from before this attempt was decided
		}
		if c.At.After(newest) {
			newest = c.At
		}
	}
	next := newest.Add(w.cfg.AttemptPause)
	switch {
	case len(j.results) > 0:
		j.phase = settling
	case undecided:
		w.postpone(j)
	case current != nil:
		j.phase, j.results = settling, append(j.results, *current)
	case len(j.attempts) > 0 && w.Clock.Now().Before(next):
		j.phase, j.pace.notBefore = waiting, next
	default:
		j.phase = charging
	}
}

// charge makes the attempts that were not made yet, as far as the limits allow.
func (w *Worker) charge(ctx context.Context) {
	now := w.Clock.Now()
	for _, j := range w.jobs {
		if j.phase == charging && (w.cfg.Paused || w.breaker.allowed(1, now) == 0 || !w.bucket.take(now)) {
			w.Metrics.Held.Inc()
			w.postpone(j)
		}
	}
	w.call(ctx, charging, func(ctx context.Context, j *job) {
		if w.Clock.Now().Sub(j.lookedAt) > w.cfg.ChargeWithin {
			j.err = errTooLate
			return
		}
		var c Charge
		c, j.err = w.Gateway.Charge(ctx, j.Request)
		j.attempts = []Charge{c}
	})
	for _, j := range w.jobs {
		if j.phase == charging && w.heard(ctx, j) {
			w.Metrics.charges[min(j.attempts[0].Status, NeedsAuthentication)].Inc()
			w.conclude(j)
		}
	}
}

var (
	// errTooLate says that a charge was not sent: the look-up is so old that it proves nothing any more.
	errTooLate = errors.New("the look-up is too old to charge by")
	// errOther says that the gateway speaks of something that was not asked for.
	errOther = errors.New("BUG: the gateway answered with another intent's charge, or captured nothing")
)

// call makes one gateway call for each job of the phase, several at once; each ends within its time.
func (w *Worker) call(ctx context.Context, p phase, do func(context.Context, *job)) {
	one := func(j *job) {
		limited, cancel := context.WithTimeout(ctx, w.cfg.CallTimeout)
		defer cancel()
		do(limited, j)
	}
	var group errgroup.Group
	group.SetLimit(w.cfg.Concurrent)
	for _, j := range w.jobs {
		switch {
		case j.phase != p:
		case w.cfg.Concurrent == 1: // no goroutine at all: the simulator wants one
			one(j)
		default:
			group.Go(func() error { one(j); return nil })
		}
	}
	_ = group.Wait() // the calls keep their errors in their jobs
}

// heard tells whether the gateway gave an answer that makes sense. If not, the intent is looked up again after a while,
// and a gateway that fails again and again is left alone.
func (w *Worker) heard(ctx context.Context, j *job) bool {
	for i := range j.attempts {
		c := &j.attempts[i]
		if j.err == nil && (c.Intent != j.Intent || c.Account != j.Account || c.Status == Succeeded && c.AmountUnits <= 0) {
			j.err = fmt.Errorf("%w: %+v", errOther, *c)
		}
	}
	if j.err == nil {
		w.breaker.note(nil, w.Clock.Now())
		return true
	}
	w.postpone(j)
	if ctx.Err() != nil || errors.Is(j.err, errTooLate) {
		return false
	}
	w.Metrics.Failures.Inc()
	if w.breaker.note(j.err, w.Clock.Now()) || errors.Is(j.err, errOther) {
		w.Logger.Error("recharge: the gateway fails, and is left alone for a while if it goes on so", "intent", j.Intent, "failures", w.breaker.failures, "error", j.err)
	}
	return false
}

// postpone has the intent looked up again after a pause that grows.
func (w *Worker) postpone(j *job) {
	j.phase = waiting
	j.pace.pause = min(max(2*j.pace.pause, w.cfg.AskAgainMin), w.cfg.AskAgainMax)
	j.pace.notBefore = w.Clock.Now().Add(j.pace.pause)
}

// settle appends the results and the wakes, and remembers where they are. What cannot be appended now is found again in
// another round.
func (w *Worker) settle(ctx context.Context) error {
	w.out.reset()
	nowMs := w.Clock.Now().UnixMilli()
	failure := w.gather(nowMs)
	if err := w.out.send(ctx); err != nil {
		failure = err
	}
	n := 0 // the results and wakes were gathered in this order
	for _, j := range w.jobs {
		for _, c := range j.results {
			if at := w.out.offset(n); at >= 0 {
				w.Metrics.stated(c.Status)
				w.postpone(j)
				j.pace.settledAt = at
			}
			n++
		}
	}
	for _, k := range w.wakes {
		if w.out.offset(n) >= 0 {
			w.Metrics.Wakes.Inc()
			w.woken[k.account] = w.Clock.Now()
		}
		n++
	}
	return failure
}

// gather hands the results and the wakes of the round to the writer, in order, until it takes no more.
func (w *Worker) gather(nowMs int64) error {
	for _, j := range w.jobs {
		for i := range j.results {
			e := result(&j.results[i], nowMs, w.Book)
			if err := w.out.add(j.Intent.Shard, &e); err != nil {
				return err
			}
		}
	}
	for _, k := range w.wakes {
		e := entry.Entry{Kind: entry.Wake, Account: k.account, EventMs: nowMs, LocalDay: w.Book.Day(k.account, nowMs)}
		if err := w.out.add(k.shard, &e); err != nil {
			return err
		}
	}
	return nil
}
