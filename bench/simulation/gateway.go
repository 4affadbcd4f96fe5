package simulation

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/tollgate/tollgate/balance/recharge"
)

// payment is one attempt in the book of the card gateway.
type payment struct {
	recharge.Charge
	key      string
	madeMs   int64
	final    recharge.Status // from finalMs on
	finalMs  int64
	reversed bool // a decline that was captured later
}

// at is the attempt as the gateway shows it at a time.
func (p *payment) at(nowMs int64) recharge.Charge {
	c := p.Charge
	if p.finalMs != 0 && nowMs >= p.finalMs {
		c.Status, c.At = p.final, time.UnixMilli(p.finalMs)
	}
	return c
}

// gateway is the card gateway as a task sees it.
type gateway struct{ t *task }

// KeyLife is how long idempotency keys are kept.
func (g gateway) KeyLife() time.Duration {
	if g.t.w.mutation.lateCharge {
		return 1000 * time.Hour
	}
	return time.Duration(g.t.w.keyLifeMs) * time.Millisecond
}

// Attempts lists the attempts of an intent.
func (g gateway) Attempts(ctx context.Context, account uint32, intent recharge.Intent) (list []recharge.Charge, err error) {
	w := g.t.w
	err = g.t.call(ctx, "attempts", int64(account), intent.Offset, func() error {
		if w.gatewayDown && !w.mutation.noLookUp {
			w.count("look-up while the gateway is away")
			return errDown
		}
		for _, p := range w.payments {
			if p.Account == account && p.Intent == intent && !w.mutation.noLookUp {
				list = append(list, p.at(w.nowMs))
			}
		}
		return nil
	})
	if w.faults && w.r.IntN(2) == 0 { // the answer takes its time
		delay := w.latency(g.t)
		if w.r.IntN(12) == 0 {
			delay = w.r.Int64N(90 * minuteMs)
		}
		g.t.wakeMs = w.nowMs + delay
		g.t.pause()
	}
	return list, err
}

// Charge makes an attempt. One that gets lost on its way may arrive later all the same.
func (g gateway) Charge(ctx context.Context, r recharge.Request) (c recharge.Charge, err error) {
	w := g.t.w
	if change := w.mutation.charge; change != nil {
		change(w, &r)
	}
	g.t.urgent = true // a request that is on its way is not held up for longer than a key lives
	if r.Intent.Offset > w.postedTo(r.Intent.Shard) {
		w.violate("I8", "account %d is charged for %v, of which no posting is in Kafka yet", r.Account, r.Intent)
	}
	if w.gatewayDown {
		w.count("charge while the gateway is away")
	}
	f, err := g.t.enter(ctx, "charge", int64(r.Account), r.Intent.Offset)
	g.t.urgent = false
	if err == nil && w.faults && (w.gatewayDown || w.r.IntN(6) == 0) {
		if f = mute; w.r.IntN(2) == 0 {
			err = errLost
		}
	}
	if err != nil {
		if err == errLost && w.r.IntN(2) == 0 {
			w.count("late charge request")
			w.requests = append(w.requests, lateRequest{w.nowMs + w.r.Int64N(2*minuteMs), r})
		}
		return c, err
	}
	p := w.charge(r)
	return p.at(w.nowMs), g.t.leave(f, nil)
}

// lateRequest is a request that arrives at the gateway after its sender gave up.
type lateRequest struct {
	dueMs   int64
	request recharge.Request
}

// charge makes an attempt, or finds the one that was made under the same key.
func (w *world) charge(r recharge.Request) *payment {
	for _, p := range w.payments {
		if p.key == r.IdempotencyKey && w.nowMs-p.madeMs < w.keyLifeMs {
			w.count("idempotency key hit")
			return p
		}
	}
	p := &payment{
		Charge: recharge.Charge{Intent: r.Intent, Attempt: r.Attempt, Account: r.Account, AmountUnits: r.AmountUnits,
			Status: recharge.Succeeded, ID: fmt.Sprintf("ch_%d", len(w.payments)), At: time.UnixMilli(w.nowMs)},
		key: r.IdempotencyKey, madeMs: w.nowMs,
	}
	w.payments = append(w.payments, p)
	if !w.faults {
		return p
	}
	result := recharge.Succeeded
	switch x := w.r.IntN(100); {
	case x < w.rates.decline:
		result = recharge.Declined
	case x < w.rates.decline+w.rates.decline/2:
		result = recharge.NeedsAuthentication
		w.count("charge wants the customer")
	}
	p.Status = result
	switch w.r.IntN(8) {
	case 0:
		w.count("late gateway result")
		p.Status, p.final, p.finalMs = recharge.Pending, result, w.nowMs+w.r.Int64N(20*minuteMs)
	case 1:
		if result != recharge.Succeeded {
			w.count("decline captured later")
			p.final, p.finalMs, p.reversed = recharge.Succeeded, w.nowMs+minuteMs+w.r.Int64N(3*hourMs), true
		}
	}
	return p
}

// Captured lists what was captured since.
func (g gateway) Captured(ctx context.Context, since time.Time) iter.Seq2[recharge.Charge, error] {
	w := g.t.w
	return func(yield func(recharge.Charge, error) bool) {
		if err := g.t.call(ctx, "captured", 0, 0, func() error {
			if w.gatewayDown {
				return errDown
			}
			return nil
		}); err != nil {
			yield(recharge.Charge{}, err)
			return
		}
		for _, p := range w.payments {
			if c := p.at(w.nowMs); c.Status == recharge.Succeeded && !c.At.Before(since) && !yield(c, nil) {
				return
			}
		}
	}
}
