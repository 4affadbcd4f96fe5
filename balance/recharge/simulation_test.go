package recharge

import (
	"context"
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/tollgate/tollgate/balance/ledger"
	"github.com/tollgate/tollgate/balance/posting"
	"github.com/tollgate/tollgate/rater/entry"
	"github.com/tollgate/tollgate/rater/money"
)

var seeds = flag.Int("recharge.seeds", 200, "seeds of the simulation of recharging")

// run plays one seed: a time of traffic and faults, then a time in which everything heals, then the invariants.
func (w *world) run() {
	w.spawnWorker()
	w.spawnReconciler()
	for range 2500 {
		w.event()
		w.step()
	}
	w.faults = false
	for _, p := range w.processes {
		p.zombie = 0
	}
	for limit := w.now.Add(5 * time.Hour); w.now.Before(limit) && (w.unsettled() || w.now.Sub(w.lastNews()) < 10*time.Minute); {
		w.step()
	}
	for _, p := range w.processes {
		p.kill()
	}
	w.check()
	w.t.Cleanup(func() { _ = w.gateway.Close() })
}

// event is what happens besides the processes: usage, the debit stage at work, and misfortune.
func (w *world) event() {
	if w.IntN(25) == 0 {
		a := uint32(1 + w.IntN(accounts))
		id := uint64(len(w.log)) + 1
		w.append(&entry.Entry{Kind: entry.Usage, Account: a, AmountUnits: -money.Amount(w.IntN(70)) * unit, EventMs: w.now.UnixMilli(), IDHash: id})
	}
	switch n := w.IntN(400); {
	case n == 0: // another master, which lacks the newest entries
		if len(w.past) > 0 {
			w.counts["failovers"]++
			old := w.past[max(0, len(w.past)-1-w.IntN(20))]
			state, _ := w.fold(int(old.state.WM) + 1)
			w.redis = standing{state, old.base}
		}
	case n == 1: // a worker that hangs, and another in its place
		w.counts["zombies"]++
		p := w.processes[w.IntN(len(w.processes))]
		if p.zombie == 0 {
			p.zombie = 2 + w.IntN(300)
			p.respawn()
		}
	case n == 2:
		w.counts["crashes"]++
		i := w.IntN(len(w.processes))
		p := w.processes[i]
		p.kill()
		w.processes = append(w.processes[:i], w.processes[i+1:]...)
		if p.zombie == 0 {
			p.respawn()
		}
	}
}

// step lets time pass, messages arrive, the debit stage and one process go on.
func (w *world) step() {
	w.now = w.now.Add(time.Duration(w.IntN(1000)) * time.Millisecond)
	rest := w.network[:0]
	for _, m := range w.network {
		if m.due.After(w.now) {
			rest = append(rest, m)
			continue
		}
		m.arrives()
	}
	w.network = rest
	w.debit()
	p := w.processes[w.IntN(len(w.processes))]
	if p.wakeAt.After(w.now) || p.zombie > 0 && w.IntN(p.zombie) > 0 {
		return
	}
	if _, alive := p.resume(); !alive {
		w.t.Error("a process ended by itself")
	}
}

// debit applies entries, ships postings and moves the base, each at its own pace.
func (w *world) debit() {
	if wm := w.redis.state.WM; w.IntN(3) == 0 && wm+1 < int64(len(w.log)) {
		w.past = append(w.past, standing{&ledger.Shard{WM: wm}, w.redis.base})
		w.apply(w.redis.state, int(wm)+1)
	}
	if w.IntN(4) == 0 {
		w.shipped = max(w.shipped, w.redis.state.WM)
	}
	if w.IntN(4) == 0 {
		w.redis.base = max(w.redis.base, min(w.shipped, w.redis.state.WM))
	}
}

// unsettled tells whether something is still to be done.
func (w *world) unsettled() bool {
	if len(w.network) > 0 || w.redis.state.WM+1 < int64(len(w.log)) || w.redis.base < w.redis.state.WM {
		return true
	}
	for _, a := range w.redis.state.Accounts {
		if a.WantsAttention(w.redis.state.Params[ledger.GiveUpAfter]) {
			return true
		}
	}
	return false
}

// lastNews is when something last happened in the log or at the gateway, or is yet to happen by itself.
func (w *world) lastNews() time.Time {
	newest := w.log[len(w.log)-1].ms
	for i := range w.gateway.attempts {
		newest = max(newest, w.gateway.attempts[i].AtMs, w.gateway.attempts[i].ThenMs)
	}
	return time.UnixMilli(newest)
}

// check is I8 and what belongs to it.
func (w *world) check() {
	if w.unsettled() {
		w.violated("I9 something is left to be done")
	}
	_, outcomes := w.fold(len(w.log))
	var captured, credited [accounts + 1]money.Amount
	for offset := range outcomes {
		if w.log[offset].block.Kind[0] == entry.Payment && outcomes[offset].Result == posting.Applied {
			credited[w.log[offset].block.Account[0]] += outcomes[offset].AmountUnits
		}
		w.counts["intents"] += int(outcomes[offset].Flags / posting.OpenedIntent & 1)
		w.counts["given up"] += int(outcomes[offset].Flags / posting.GaveUp & 1)
	}
	for c := range w.gateway.Captured(context.Background(), time.Time{}) {
		captured[c.Account] += c.AmountUnits
		w.counts["captures"]++
	}
	if captured != credited {
		w.violated("I8 captured is not credited", captured, credited)
	}
	successes := map[Intent]int{}
	for i := range w.gateway.attempts {
		a := &w.gateway.attempts[i]
		w.counts["attempts"]++
		if reversed := a.Status == Declined && a.Then == Succeeded; !reversed && a.charge(w.now).Status == Succeeded {
			if successes[a.intent()]++; successes[a.intent()] == 2 {
				w.violated("I8 two captures of one intent", *a)
			}
		}
	}
}

// Whatever fails, gets lost, dies or goes on as a zombie: what is captured is credited once, no intent is captured
// twice, and nothing is charged that the log did not decide.
func TestSimulation(t *testing.T) {
	total := map[string]int{}
	for seed := range uint64(*seeds) {
		w := newWorld(t, seed, "")
		w.run()
		if len(w.broken) > 0 {
			t.Errorf("seed %d: %v", seed, w.broken)
		}
		for k, n := range w.counts {
			total[k] += n
		}
	}
	t.Logf("%d seeds: %v", *seeds, total)
	for _, rare := range []string{"failovers", "zombies", "crashes", "late requests", "lost answers", "given up", "captures"} {
		if total[rare] == 0 {
			t.Errorf("the simulation never saw %s", rare)
		}
	}
}

// A mutant takes one rule away. The simulation must notice each, or it proves nothing about the rule.
func TestSimulationCatchesMutants(t *testing.T) {
	for mutant, invariant := range map[string]string{
		"look-up":    "I8 two captures of one intent",
		"key":        "I8 two captures of one intent",
		"definitive": "stated what the gateway does not say",
		"deadline":   "I8 two captures of one intent",
		"amount":     "charged what no entry decided",
		"base":       "charged before the intent is in Kafka",
		"reconciler": "I8 captured is not credited",
	} {
		t.Run(mutant, func(t *testing.T) {
			for seed := range uint64(2000) {
				w := newWorld(t, seed, mutant)
				if mutant == "deadline" {
					w.cfg.ChargeWithin = 900 * time.Hour
				}
				if w.run(); w.broken[invariant] {
					t.Logf("seed %d: %v", seed, w.broken)
					return
				}
			}
			t.Error("not noticed")
		})
	}
}

// The same seed gives the same run, bit for bit.
func TestSimulationRepeats(t *testing.T) {
	trace := func() string {
		w := newWorld(t, 7, "")
		w.run()
		text := fmt.Sprint(w.counts, w.gateway.attempts)
		for i := range w.log {
			text += fmt.Sprintf("%x", w.log[i].block.AppendTo(nil))
		}
		return text
	}
	if a, b := trace(), trace(); a != b {
		t.Error("two runs of a seed differ")
	}
}
